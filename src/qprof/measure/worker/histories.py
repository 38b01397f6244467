"""Models that keep a state: their outputs are only comparable after the same inferences from the same beginning."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.record.model import Model
from qprof.runtimes.base import ProfiledModel

Arrays = list[NDArray[Any]]

#: Inferences whose last is compared, of a model that keeps a state: the second finds what the first left.
_STEPS = 2


def timed_and_not(
    model: Model, profiled: ProfiledModel, load: Callable[[], Model], phase: str, inputs: Sequence[NDArray[Any]]
) -> tuple[Arrays, Arrays]:
    """Outputs of an inference without instrumentation, and of one whose ops are timed, both after the same history.

    `profiled` has run the one inference of its `discover`, on these inputs. Where no state can be reset, a clean model
    that is loaded anew (`load`) goes through the same.
    """
    if model.loaded.keeps_state and not model.loaded.resets_state:
        model = load()
        model.set_inputs(inputs)
        model.invoke()
    steps = _STEPS if model.loaded.keeps_state else 1
    model.enter(phase)
    for _ in range(steps):
        model.set_inputs(inputs)
        model.invoke()
    ours = model.outputs()
    profiled.enter(phase)
    for step in range(steps):
        profiled.set_inputs(inputs)
        profiled.begin(step)
        profiled.invoke()
        profiled.end()
    profiled.drain()
    return ours, profiled.outputs()


def same_outputs(ours: Arrays, theirs: Arrays) -> bool:
    """Whether they are the same to the last bit; what is no number on both sides is."""
    return all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in zip(ours, theirs, strict=True))


def outputs_from_the_start(model: Model, inputs: Iterable[Sequence[NDArray[Any]]]) -> Iterator[Arrays]:
    """Outputs of a model that was just loaded, one sample after the other, each going on from those before it."""
    for arrays in inputs:
        model.set_inputs(arrays)
        model.invoke()
        yield model.outputs()
