"""Inputs of the samples that were run last, made once for all variants of a process that are given the same numbers."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from qprof.record.manifest import PreparedTask
from qprof.tasks.base import Task

Inputs = list[list[NDArray[Any]]]


@dataclass(slots=True)
class _Last:
    """`alike`: see `Task.inputs_alike`; `inputs`: of `samples`, in their order."""

    prepared: PreparedTask
    alike: Hashable
    samples: tuple[int, ...] = ()
    inputs: Inputs | None = None


class PreparedInputs:
    """Of several variants in one process; in a round all run the same samples, one behind the other.

    They are kept for the second pass of a block, for the block's profiled twin, and for the next variant. Nobody may
    write to them.
    """

    def __init__(self) -> None:
        self._last: list[_Last] = []

    def of(self, prepared: PreparedTask, task: Task) -> OfVariant:
        """Those of one variant, whose `task` was built as `prepared` says."""
        return OfVariant(self, prepared, task)

    def place(self, prepared: PreparedTask, alike: Hashable) -> _Last:
        """Where the inputs of these are kept."""
        found = next((one for one in self._last if one.alike == alike and one.prepared == prepared), None)
        if found is None:
            found = _Last(prepared, alike)
            self._last.append(found)
        return found


class OfVariant:
    """The inputs of one variant."""

    def __init__(self, shared: PreparedInputs, prepared: PreparedTask, task: Task) -> None:
        self._shared = shared
        self._prepared = prepared
        self._task = task
        self._own: _Last | None = None

    def inputs(self, samples: Sequence[int]) -> Inputs:
        """The arrays of each sample; those that were made last are there already. Needs the task to be bound."""
        last, wanted = self._place(), tuple(samples)
        if last.inputs is None or last.samples != wanted:
            last.inputs = None  # the old ones are let go of before there are new ones
            last.inputs = [self._task.inputs(sample) for sample in wanted]
            last.samples = wanted
        return last.inputs

    def _place(self) -> _Last:
        if self._own is None:
            alike = self._task.inputs_alike()
            # Where a task does not say, nobody has the same.
            self._own = _Last(self._prepared, None) if alike is None else self._shared.place(self._prepared, alike)
        return self._own
