"""Inferences one after the other: untimed ones first, and what is written down of the others."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from time import perf_counter_ns  # CLOCK_MONOTONIC on Linux, the timeline of every probe
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from qprof.record.blocks import Samples
from qprof.record.model import Model

#: Untimed inferences before a block, until both are reached: other workers have used the caches in between.
LEAD_IN_INFERENCES = 2
LEAD_IN_NS = 5_000_000

_Item = TypeVar("_Item")


class InferenceLog:
    """What is written down of each inference, and the time spent on all of them."""

    def __init__(self) -> None:
        self.samples: list[int] = []
        self.starts_ns: list[int] = []
        self.durations_ns: list[int] = []
        self.spent_ns = 0

    def add(self, sample: int, start_ns: int, end_ns: int) -> None:
        self.samples.append(sample)
        self.starts_ns.append(start_ns)
        self.durations_ns.append(end_ns - start_ns)

    @property
    def window_ns(self) -> tuple[int, int]:
        """From the first inference to the last, what lies between them included."""
        return self.starts_ns[0], self.starts_ns[-1] + self.durations_ns[-1]

    def arrays(self) -> Samples:
        return Samples(
            np.array(self.samples, np.int32), np.array(self.starts_ns, np.int64), np.array(self.durations_ns, np.int64)
        )


def repeated(items: Iterable[_Item], times: int) -> Iterator[_Item]:
    for item in items:
        yield from itertools.repeat(item, times)


def lead_in(model: Model, inputs: Sequence[NDArray[Any]]) -> int:
    begin_ns = perf_counter_ns()
    count = 0
    while count < LEAD_IN_INFERENCES or perf_counter_ns() - begin_ns < LEAD_IN_NS:
        model.set_inputs(inputs)
        model.run_once()
        count += 1
    return count


def not_numbers(model: Model) -> list[str]:
    """A remark on each output that an inference left without a number."""
    return [
        f"output {spec.name} holds NaN on the first inputs: its figures are those of a broken model, or of inputs that "
        "it cannot take"
        for spec, values in zip(model.loaded.outputs, model.outputs(), strict=False)
        if values.dtype.kind == "f" and np.isnan(values).any()
    ]
