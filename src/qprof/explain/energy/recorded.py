"""The windows of a run's blocks, and what each sensor showed in and around them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.stats.energy import UpdatePeriod, update_period
from qprof.store.run import Run

#: Readings of one channel in one block: t_ns int64[n], increasing, and values float64[n].
Trace = tuple[NDArray[np.int64], NDArray[np.float64]]


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
        self.windows = [_window(entry, starts) for entry in run.blocks() if _has_window(entry)]
        self._traces = _traces(run)
        self._periods: dict[str, UpdatePeriod] = {}

    @property
    def channels(self) -> list[str]:
        """Names of the channels that have any reading."""
        return sorted(self._traces)

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

    def trace(self, block: int, channel: str) -> Trace | None:
        """The readings of a channel in a block, `None` where there are none."""
        return self._traces.get(channel, {}).get(block)

    def total(self, block: int, channel: str) -> float | None:
        """The sum of a channel's readings in a block, `None` where there are none."""
        found = self.trace(block, channel)
        return None if found is None else float(found[1].sum())

    def period(self, channel: str) -> UpdatePeriod:
        """How often a channel's value is new, from all of its traces: the mean, weighted by the updates in each.

        Traces are not strung together: the jump from one to the next would count as an update.
        """
        if channel not in self._periods:
            found = [update_period(*trace) for trace in self._traces.get(channel, {}).values()]
            self._periods[channel] = _pooled(found)
        return self._periods[channel]


def _pooled(found: list[UpdatePeriod]) -> UpdatePeriod:
    known = [(each.period_ns, each) for each in found if each.period_ns is not None]
    if not known:
        return UpdatePeriod(None, False, 0, found[0].reason if found else "no readings")
    updates = sum(each.updates for _, each in known)
    mean = sum(period * each.updates for period, each in known) / updates
    return UpdatePeriod(mean, all(each.resolved for _, each in known), updates)


def _has_window(entry: dict[str, Any]) -> bool:
    window = entry.get("window_ns")
    return isinstance(window, (list, tuple)) and len(window) == 2 and window[1] > window[0]


def _window(entry: dict[str, Any], starts: dict[int, NDArray[np.int64]]) -> Window:
    number = int(entry["number"])
    kept = starts.get(number, np.empty(0, np.int64))
    return Window(
        block=number,
        round=int(entry["round"]),
        variant=str(entry["variant"]),
        kind=str(entry["kind"]),
        phase=str(entry["phase"]),
        start_ns=int(entry["window_ns"][0]),
        end_ns=int(entry["window_ns"][1]),
        repetitions=int(entry.get("repetitions", len(kept))),
        starts_ns=kept,
        when=entry.get("when"),
        spent_ns=entry.get("spent_ns"),
    )


def _starts(run: Run) -> dict[int, NDArray[np.int64]]:
    """Starts of the inferences that were kept, by block."""
    blocks = run.samples["block"].to_numpy()
    starts = run.samples["start_ns"].to_numpy()
    order = np.argsort(blocks, kind="stable")
    numbers, first = np.unique(blocks[order], return_index=True)
    return dict(zip(numbers.tolist(), np.split(starts[order], first[1:]), strict=True)) if len(numbers) else {}


def _traces(run: Run) -> dict[str, dict[int, Trace]]:
    """channel -> block -> readings in the order of their times, each time once."""
    table = run.readings.unify_dictionaries().combine_chunks()
    if not table.num_rows:
        return {}
    probes = table["probe"].chunk(0)
    names, codes = probes.dictionary.to_pylist(), probes.indices.to_numpy(zero_copy_only=False)
    block, t_ns, value = (table[name].to_numpy() for name in ("block", "t_ns", "value"))
    order = np.lexsort((t_ns, block, codes))
    codes, block, t_ns, value = codes[order], block[order], t_ns[order], value[order]
    new = np.flatnonzero((np.diff(codes) != 0) | (np.diff(block) != 0)) + 1
    found: dict[str, dict[int, Trace]] = {}
    for first, last in zip([0, *new.tolist()], [*new.tolist(), len(codes)], strict=True):
        once = np.concatenate([[True], np.diff(t_ns[first:last]) > 0])
        trace = (t_ns[first:last][once].astype(np.int64), value[first:last][once].astype(np.float64))
        found.setdefault(names[codes[first]], {})[int(block[first])] = trace
    return found
