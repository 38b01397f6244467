"""Some rounds of a run as tracks of slices, which is what trace viewers show.

A viewer holds some hundred MB, and a run may be longer by far; viewers cannot compare traces either. So a few rounds
are taken, every variant is a process of its own, and the blocks of one kind in one round begin at the same time in all
of them: B stands under A, and what takes longer is longer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qprof.errors import StoreError
from qprof.findings.measured import op_list
from qprof.record.blocks import BlockEntry
from qprof.record.ops import OpMeta
from qprof.report.exports.base import Wanted, chosen
from qprof.report.terminal import printable
from qprof.store.arrays import as_numpy
from qprof.store.run import Run

#: As many slices as a trace holds unless more rounds are asked for: a few MB, which any viewer opens in a moment.
USUAL_SLICES = 200_000
#: As many as it ever holds: some 60 MB of protobuf, some 200 MB of JSON. The Perfetto UI bears files of 300 MB.
MOST_SLICES = 1_000_000
#: Kinds of blocks that are shown, in their order within a round.
KINDS = ("clean", "profiled", "energy")
#: What stands between two blocks.
GAP_NS = 1_000_000
#: Clocks of delegates are read in microseconds; an end that far behind that of the holder is rounding.
_ROUNDING_NS = 2_000


class Slice(NamedTuple):
    """A span on a track, in ns since the trace began. `facts`: what a viewer shows beside it; texts are repeated."""

    name: str
    start_ns: int
    end_ns: int
    facts: tuple[tuple[str, str | int], ...] = ()


@dataclass(slots=True)
class Counter:
    """A figure over time: `t_ns` since the trace began."""

    name: str
    unit: str
    t_ns: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Process:
    """One variant: `tracks`, each of slices that nest or follow one another, outer ones first; the first is that of
    blocks, inferences and ops, others hold ops that overlap with those. `counters`: power."""

    name: str
    tracks: list[list[Slice]] = field(default_factory=list)
    counters: list[Counter] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Timeline:
    """The processes, `rounds` that are shown of `all_rounds`, and `notes` on what was left out."""

    processes: list[Process]
    rounds: list[int]
    all_rounds: int
    notes: list[str]

    @property
    def says(self) -> str:
        """What a trace shows, in a line."""
        names = ", ".join(process.name for process in self.processes)
        shown = f"{names}: {len(self.rounds)} of {self.all_rounds} rounds"
        return "; ".join([shown, "blocks of one kind and round begin together", *self.notes])


def timeline(run: Run, wanted: Wanted) -> Timeline:
    """The variants that are wanted (by default the baseline and the next) over some rounds, the first ones.

    Raises `StoreError` where there are no blocks of them.
    """
    names = chosen(run, wanted)[: None if wanted.variants else 2]
    blocks = [block for block in run.blocks() if block.variant in names and block.kind in KINDS and block.round >= 0]
    if wanted.phase is not None:
        phase = run.phase(wanted.phase)
        blocks = [block for block in blocks if block.phase == phase]
    if not blocks:
        raise StoreError(f"{run.folder}: no blocks of {', '.join(names)}; go on with qprof run --resume")
    known = sorted({block.round for block in blocks})
    events = _Events(run)
    rounds, notes = _rounds(known, blocks, events, wanted.rounds)
    processes = {name: Process(name, [[]]) for name in names}
    order = {phase.name: place for place, phase in enumerate(run.phases())}
    at = 0
    for number in rounds:
        groups: dict[tuple[int, int], list[BlockEntry]] = {}
        for block in blocks:
            if block.round == number:
                groups.setdefault((order.get(block.phase, 0), KINDS.index(block.kind)), []).append(block)
        for _, group in sorted(groups.items(), key=lambda item: item[0]):
            longest = 0
            for block in group:
                longest = max(longest, _add_block(processes[block.variant], block, events, at))
            at += longest + GAP_NS
    return Timeline(list(processes.values()), rounds, len(known), notes)


def _rounds(
    known: list[int], blocks: Sequence[BlockEntry], events: _Events, asked: int | None
) -> tuple[list[int], list[str]]:
    """The first rounds: as many as were asked for, or as many as fit; and what was left out though asked for."""
    limit = USUAL_SLICES if asked is None else MOST_SLICES
    taken: list[int] = []
    total = 0
    for number in known[:asked]:
        total += sum(events.count(block.number) + 1 for block in blocks if block.round == number)
        if taken and total > limit:
            note = f"more than {limit} slices are not shown" if asked is not None else None
            return taken, [note] if note else []
        taken.append(number)
    return taken, []


class _Events:
    """Inferences and op events of a run, found by block: both tables sorted once."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._samples, self._sample_at = _by_block(run.samples)
        self._ops, self._op_at = _by_block(run.op_events)
        self._meta: dict[tuple[str, str], dict[str, OpMeta]] = {}

    def count(self, block: int) -> int:
        return sum(len(at.get(block, ())) for at in (self._sample_at, self._op_at))

    def meta(self, variant: str, phase: str) -> dict[str, OpMeta]:
        if (variant, phase) not in self._meta:
            try:
                self._meta[variant, phase] = {op.op: op for op in op_list(self._run, variant, phase)}
            except StoreError:  # not timed: its blocks are shown without ops
                self._meta[variant, phase] = {}
        return self._meta[variant, phase]

    def inferences(self, block: int) -> Iterator[tuple[int, int, int]]:
        """Start, duration and sample of each."""
        rows = self._sample_at.get(block, np.empty(0, np.intp))
        yield from zip(
            *(self._samples[name][rows].tolist() for name in ("start_ns", "duration_ns", "sample")), strict=True
        )

    def ops(self, block: int) -> Iterator[tuple[int, int, str, str]]:
        """Start, duration, id and source of each op event."""
        rows = self._op_at.get(block, np.empty(0, np.intp))
        columns = (self._ops[name][rows].tolist() for name in ("start_ns", "duration_ns", "op", "source"))
        ids, sources = self._ops["op.names"], self._ops["source.names"]
        for start, duration, op, source in zip(*columns, strict=True):
            yield start, duration, ids[op], sources[source]

    def power(self, block: int) -> Iterator[tuple[str, NDArray[np.int64], NDArray[np.float64]]]:
        """Watts that sensors told: as they are, or the growth of a counter of joules over the time between readings."""
        channels = {channel.name: channel for channel in self._run.manifest.sensors.channels}
        for name, series in self._run.readings.of_block(block).items():
            channel = channels.get(name)
            if channel is None:
                continue
            what = f"{name} ({channel.provenance})"
            if channel.unit == "W":
                yield what, series.t_ns, series.values
            elif channel.unit == "J" and channel.kind == "counter" and len(series) > 1:
                once = series.each_time_once()
                watts = np.diff(once.values) / (np.diff(once.t_ns) * 1e-9)
                grown = watts >= 0.0  # a counter that wrapped tells nothing there
                yield what, once.t_ns[:-1][grown], watts[grown]


def _by_block(table: Any) -> tuple[dict[str, Any], dict[int, NDArray[np.intp]]]:
    import pyarrow as pa

    table = table.unify_dictionaries().combine_chunks()
    columns: dict[str, Any] = {}
    for name in table.column_names:
        if name not in ("block", "sample", "start_ns", "duration_ns", "op", "source"):
            continue
        column = table[name].chunk(0) if table[name].num_chunks else pa.array([], table[name].type)
        if pa.types.is_dictionary(column.type):
            columns[f"{name}.names"] = column.dictionary.to_pylist()
            column = column.indices
        elif pa.types.is_string(column.type):
            column = column.dictionary_encode()
            columns[f"{name}.names"] = column.dictionary.to_pylist()
            column = column.indices
        columns[name] = as_numpy(column)
    order = np.argsort(columns["block"], kind="stable")
    numbers, first = np.unique(columns["block"][order], return_index=True)
    parts = np.split(order, first[1:]) if len(numbers) else []
    return columns, dict(zip(numbers.tolist(), parts, strict=True))


def _add_block(process: Process, block: BlockEntry, events: _Events, at: int) -> int:
    """Put a block at a time of the trace; its length in ns."""
    inferences = list(events.inferences(block.number))
    starts = [start for start, _, _ in inferences]
    ends = [start + duration for start, duration, _ in inferences]
    window = block.window_ns or (min(starts, default=0), max(ends, default=0))
    begin, end = min([window[0], *starts]), max([window[1], *ends])
    meta = events.meta(block.variant, block.phase)
    name = f"{block.kind} block" if block.phase == "inference" else f"{block.kind} block, {block.phase}"
    facts: tuple[tuple[str, str | int], ...] = (("block", block.number), ("round", block.round), ("clock_ns", begin))
    slices = [Slice(name, 0, end - begin, facts)]
    slices += [
        Slice("inference", start - begin, start - begin + duration, (("sample", sample),))
        for start, duration, sample in inferences
    ]
    known: dict[tuple[str, str], tuple[str, tuple[tuple[str, str | int], ...]]] = {}
    for start, duration, op, source in events.ops(block.number):
        if (op, source) not in known:
            known[op, source] = (printable(meta[op].name) if op in meta else op, _op_facts(op, meta.get(op), source))
        label, told = known[op, source]
        slices.append(Slice(label, start - begin, start - begin + duration, told))
    _nest(process.tracks, slices, at)
    for label, t_ns, values in events.power(block.number):
        counter = next((one for one in process.counters if one.name == label), None)
        if counter is None:
            process.counters.append(counter := Counter(label, "W"))
        inside = (t_ns >= begin) & (t_ns <= end)
        counter.t_ns += (t_ns[inside] - begin + at).tolist()
        counter.values += values[inside].tolist()
    return end - begin


def _op_facts(op: str, meta: OpMeta | None, source: str) -> tuple[tuple[str, str | int], ...]:
    told = [("op", op), ("timed", source)]
    if meta is not None:
        pairs = (
            ("type", meta.type),
            ("kernel", meta.kernel),
            ("delegate", meta.delegate),
            ("stored", meta.quantization),
        )
        told += [(key, printable(value)) for key, value in pairs if value]
    return tuple(told)


def _nest(tracks: list[list[Slice]], slices: list[Slice], at: int) -> None:
    """Put slices on the first track in which they lie inside of what is open there, or behind it: viewers refuse those
    that overlap. What sticks out, or begins too early, by rounding alone is cut."""
    open_ends: list[list[int]] = [[] for _ in tracks]
    begun = [0] * len(tracks)
    for one in sorted(slices, key=lambda one: (one.start_ns, -one.end_ns)):
        place = 0
        while True:
            if place == len(tracks):
                tracks.append([])
                open_ends.append([])
                begun.append(0)
            stack, start, end = open_ends[place], max(one.start_ns, begun[place]), one.end_ns
            while stack and (stack[-1] <= start or _follows(stack[-1], start, end)):
                start = max(start, stack.pop())
            if not stack or end <= stack[-1] + _ROUNDING_NS:
                end = min(end, stack[-1]) if stack else end
                break
            place += 1
        end = max(start, end)
        stack.append(end)
        begun[place] = start
        tracks[place].append(Slice(one.name, start + at, end + at, one.facts))


def _follows(before: int, start: int, end: int) -> bool:
    """Whether a slice comes behind one that ends at `before`, and begins inside of it by rounding alone."""
    return before - start <= _ROUNDING_NS and end - before > before - start
