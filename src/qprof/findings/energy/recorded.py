"""The windows of a run's blocks, and what each sensor showed in and around them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qprof.record.blocks import BlockEntry
from qprof.stats.energy import UpdatePeriod, update_period
from qprof.store.arrays import as_numpy
from qprof.store.readings import Series
from qprof.store.run import Run


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """The measured part of one block: `starts_ns` int64[n] are those starts of its `repetitions` that were kept.

    `when`: of an idle block, "before" or "after". `spent_ns`: the part of the window that inferences took, where
    predictions were decoded between them.
    """

    block: int
    round: int
    variant: str
    kind: str
    phase: str
    start_ns: int
    end_ns: int
    repetitions: int
    starts_ns: NDArray[np.int64]
    when: str | None = None
    spent_ns: int | None = None

    @property
    def seconds(self) -> float:
        return (self.end_ns - self.start_ns) * 1e-9

    def repeated_starts(self) -> NDArray[np.int64]:
        """One start for each repetition: the kept ones over again, which adds no phase that was not seen."""
        kept = self.starts_ns if len(self.starts_ns) else np.array([self.start_ns], np.int64)
        return np.resize(kept, self.repetitions)


class Recorded:
    """Windows and traces of a run, as they were recorded."""

    def __init__(self, run: Run) -> None:
        starts = _starts(run)
        found = (_window(entry, starts) for entry in run.blocks())
        self.windows = [window for window in found if window is not None]
        self._readings = run.readings
        self._periods: dict[str, UpdatePeriod] = {}

    @property
    def channels(self) -> list[str]:
        """Names of the channels that have any reading."""
        return self._readings.channels

    def of(self, variant: str, kind: str, phase: str | None = None) -> list[Window]:
        """The windows of a variant's blocks of a kind, of one phase or of all."""
        return [
            window
            for window in self.windows
            if window.variant == variant and window.kind == kind and phase in (None, window.phase)
        ]

    def idle(self, when: str) -> Window | None:
        """The idle window "before" or "after" all blocks."""
        return next((window for window in self.windows if window.kind == "idle" and window.when == when), None)

    def series(self, block: int, channel: str) -> Series | None:
        """The readings of a channel in a block, `None` where there are none."""
        series = self._readings.series(block, channel)
        return None if series is None else series.each_time_once()

    def total(self, block: int, channel: str) -> float | None:
        """The sum of a channel's readings in a block, `None` where there are none."""
        found = self.series(block, channel)
        return None if found is None else float(found.values.sum())

    def period(self, channel: str) -> UpdatePeriod:
        """How often a channel's value is new, from all of its traces: the mean, weighted by the updates in each.

        Traces are not strung together: the jump from one to the next would count as an update.
        """
        if channel not in self._periods:
            series = (found.each_time_once() for found in self._readings.of_channel(channel).values())
            found = [update_period(each.t_ns, each.values) for each in series]
            self._periods[channel] = _pooled(found)
        return self._periods[channel]


def _pooled(found: list[UpdatePeriod]) -> UpdatePeriod:
    known = [(each.period_ns, each) for each in found if each.period_ns is not None]
    if not known:
        return UpdatePeriod(None, False, 0, found[0].reason if found else "no readings")
    updates = sum(each.updates for _, each in known)
    mean = sum(period * each.updates for period, each in known) / updates
    return UpdatePeriod(mean, all(each.resolved for _, each in known), updates)


def _window(entry: BlockEntry, starts: dict[int, NDArray[np.int64]]) -> Window | None:
    if entry.window_ns is None or entry.window_ns[1] <= entry.window_ns[0]:
        return None
    kept = starts.get(entry.number, np.empty(0, np.int64))
    return Window(
        block=entry.number,
        round=entry.round,
        variant=entry.variant,
        kind=entry.kind,
        phase=entry.phase,
        start_ns=entry.window_ns[0],
        end_ns=entry.window_ns[1],
        repetitions=len(kept) if entry.repetitions is None else entry.repetitions,
        starts_ns=kept,
        when=entry.when,
        spent_ns=entry.spent_ns,
    )


def _starts(run: Run) -> dict[int, NDArray[np.int64]]:
    """Starts of the inferences that were kept, by block."""
    blocks = as_numpy(run.samples["block"])
    starts = as_numpy(run.samples["start_ns"])
    order = np.argsort(blocks, kind="stable")
    numbers, first = np.unique(blocks[order], return_index=True)
    return dict(zip(numbers.tolist(), np.split(starts[order], first[1:]), strict=True)) if len(numbers) else {}
