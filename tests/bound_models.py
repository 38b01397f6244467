"""A model of which a task needs only what is told of it: tensors and ops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray

from qprof.record.model import Loaded
from qprof.record.tensors import TensorSpec


class DescribedModel:
    """Satisfies `qprof.record.model.Model`, but cannot run."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded
        self.run_once: Callable[[], None] = self.invoke

    def invoke(self) -> None:
        raise AssertionError("a model that is only described was run")

    def enter(self, phase: str) -> None:
        raise AssertionError(f"a model that is only described has entered {phase}")

    def set_inputs(self, arrays: Sequence[NDArray[Any]]) -> None:
        raise AssertionError("a model that is only described was given inputs")

    def outputs(self) -> list[NDArray[Any]]:
        raise AssertionError("a model that is only described was asked for outputs")

    def memory_bytes(self) -> dict[str, int]:
        return {}


def described(
    inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], op_types: Sequence[str] = ()
) -> DescribedModel:
    return DescribedModel(Loaded(list(inputs), list(outputs), list(op_types)))
