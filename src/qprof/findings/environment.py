"""The machine while each clean block ran, and what a change in it did to the latency: for causes that lie around a
measurement, not in a variant.

Blocks are sorted by what a sensor says, never by their latency: so the two can contradict each other.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from qprof.findings.causes.base import Evidence
from qprof.findings.comparison import Comparison
from qprof.record.blocks import BlockEntry
from qprof.stats.intervals import Interval, PairedRounds, student_t_quantile
from qprof.stats.rounds import RoundDifference, RoundEffect, log_ratios_of
from qprof.store.readings import Series
from qprof.store.run import Run

#: Several causes look at every variant and phase, and what is rescored is not corrected for their number.
LEVEL = 0.99
#: Fewer blocks than these on either side give no interval worth having.
LEAST_DISTURBED, LEAST_CALM = 2, 3

#: A block is disturbed by a neighbour from this many cores above the calm ones on. Ticks of 10 ms over windows of
#: 200 ms, and the neighbouring blocks that lie in them in part, come to some 0.1 cores.
DISTURBED_CORES = 0.3
#: The calm level: a low quantile of the blocks, so that it holds where most of them are disturbed.
_CALM_QUANTILE = 0.2
#: A clock this far below its high level is slow: cores go by steps of 100 MHz, some 3 %, and back within a block.
_SLOW_CLOCK = 0.95
#: The high level: not the highest reading, which may be a moment's boost.
_HIGH_QUANTILE = 0.8


@dataclass(frozen=True, slots=True)
class CleanBlock:
    """A clean block: its p50 and what was read in its window, or next to it where nothing was read inside.

    `traces`: channel -> its readings. `waited`: part of its inferences in which the thread that runs them had no
    processor, `None` where that is not recorded.
    """

    round: int
    start_ns: int
    end_ns: int
    p50_us: float
    traces: Mapping[str, Series]
    waited: float | None = None

    def inside(self, channel: str) -> NDArray[np.float64]:
        """Readings of a channel in the block's window; those around it where there are none: float64[n]."""
        if channel not in self.traces:
            return np.empty(0)
        t_ns, values = self.traces[channel].t_ns, self.traces[channel].values
        within = (t_ns >= self.start_ns) & (t_ns <= self.end_ns)
        return values[within] if within.any() else values

    def gauge(self, channel: str) -> float | None:
        """Mean of a gauge, `None` where it was not read."""
        values = self.inside(channel)
        return float(values.mean()) if len(values) else None

    def rate(self, channel: str) -> float | None:
        """Growth of a counter per second between its first and last reading; `None` where it was read once."""
        if channel not in self.traces:
            return None
        t_ns, values = self.traces[channel].t_ns, self.traces[channel].values
        first, last = int(np.argmin(t_ns)), int(np.argmax(t_ns))
        seconds = float(t_ns[last] - t_ns[first]) / 1e9
        return float(values[last] - values[first]) / seconds if seconds > 0.0 else None


#: Blocks of a variant in a phase: several causes ask for them, and finding their readings is what takes time.
_BLOCKS: WeakKeyDictionary[Run, dict[tuple[str, str], list[CleanBlock]]] = WeakKeyDictionary()


def clean_blocks(comparison: Comparison, variant: str) -> list[CleanBlock]:
    """The clean blocks of a variant in the comparison's phase, in the order they ran."""
    return clean_blocks_of(comparison.run, variant, comparison.phase)


def clean_blocks_of(run: Run, variant: str, phase: str) -> list[CleanBlock]:
    """The clean blocks of a variant in a phase, in the order they ran."""
    known = _BLOCKS.setdefault(run, {})
    key = (variant, phase)
    if key not in known:
        known[key] = _clean_blocks(run, variant, phase)
    return known[key]


def _clean_blocks(run: Run, variant: str, phase: str) -> list[CleanBlock]:
    found = run.latency(variant, phase=phase)
    blocks = []
    facts = {fact.number: fact for fact in run.blocks()}
    for number in np.unique(found.block).tolist():
        own = found.block == number
        starts, durations = found.start_ns[own], found.duration_ns[own]
        blocks.append(
            CleanBlock(
                round=int(found.round[own][0]),
                start_ns=int(starts[0]),
                end_ns=int((starts + durations).max()),
                p50_us=float(np.median(durations)) / 1e3,
                traces=run.readings.of_block(number),
                waited=_waited(facts.get(number)),
            )
        )
    return sorted(blocks, key=lambda block: block.start_ns)


def _waited(fact: BlockEntry | None) -> float | None:
    if fact is None or not fact.spent_ns or fact.on_cpu_ns is None:
        return None
    return max(0.0, 1.0 - fact.on_cpu_ns / fact.spent_ns)


@dataclass(frozen=True, slots=True)
class Contrast:
    """Blocks of one variant in which a sensor shows something, against its other blocks."""

    variant: str
    disturbed: tuple[CleanBlock, ...]
    calm: tuple[CleanBlock, ...]

    @property
    def rounds(self) -> list[int]:
        """Rounds of the disturbed blocks."""
        return sorted({block.round for block in self.disturbed})

    @property
    def change(self) -> Interval:
        """ln of how much longer the disturbed blocks took; at `LEVEL`."""
        after, before = (np.array([block.p50_us for block in side]) for side in (self.disturbed, self.calm))
        return log_change(after, before)

    def latency_evidence(self) -> tuple[Evidence, Evidence]:
        """The two latencies behind `change`."""
        source = f"samples.parquet, clean blocks of {self.variant}"
        there, other = (float(np.median([b.p50_us for b in side])) for side in (self.disturbed, self.calm))
        where = rounds_text(self.rounds)
        return Evidence(f"p50 in {where}", there, "us", source), Evidence("p50 in the others", other, "us", source)


def contrast(
    variant: str, blocks: Sequence[CleanBlock], disturbed: Callable[[CleanBlock], bool | None]
) -> Contrast | None:
    """The blocks sorted by a sensor (`None`: it was not read then); `None` where one side has too few."""
    sides: dict[bool | None, list[CleanBlock]] = {True: [], False: [], None: []}
    for block in blocks:
        sides[disturbed(block)].append(block)
    if len(sides[True]) < LEAST_DISTURBED or len(sides[False]) < LEAST_CALM:
        return None
    return Contrast(variant, tuple(sides[True]), tuple(sides[False]))


def taken_cores(block: CleanBlock) -> float | None:
    """Cores that others used: what was busy, less the worker's own, plus what the hypervisor gave away.

    `None` where the machine's or the worker's CPU time was not read.
    """
    busy, own = block.rate("host.busy"), block.gauge("host.cpu_s")
    if busy is None or own is None:
        return None
    own_cores = own * 1e9 / (block.end_ns - block.start_ns)
    return max(0.0, busy - own_cores) + (block.rate("host.steal") or 0.0)


def neighbour_contrast(comparison: Comparison, variant: str) -> Contrast | None:
    """A variant's blocks beside which others used the processor, against its other blocks."""
    blocks = clean_blocks(comparison, variant)
    known = [cores for block in blocks if (cores := taken_cores(block)) is not None]
    least = float(np.quantile(known, _CALM_QUANTILE)) + DISTURBED_CORES if known else math.inf
    return contrast(variant, blocks, lambda block: None if (c := taken_cores(block)) is None else c >= least)


def clock_channels(comparison: Comparison, variant: str) -> list[str]:
    """Where the clock of what a variant runs on was read."""
    if not _on_gpu(comparison, variant):
        return ["host.frequency.max"]  # the fastest core is the one at work
    return gpu_channels(comparison, variant, "clock_sm")


def clock_mhz(block: CleanBlock, channels: Sequence[str]) -> float | None:
    """The lowest of some clocks in a block; `None` where none was read."""
    clocks = [clock for channel in channels if (clock := block.gauge(channel)) is not None and clock > 0.0]
    return min(clocks, default=None)


def clock_contrast(comparison: Comparison, variant: str) -> Contrast | None:
    """A variant's blocks that ran at a low clock, against its other blocks."""
    blocks, channels = clean_blocks(comparison, variant), clock_channels(comparison, variant)
    known = [clock for block in blocks if (clock := clock_mhz(block, channels)) is not None]
    slow = _SLOW_CLOCK * float(np.quantile(known, _HIGH_QUANTILE)) if known else 0.0
    return contrast(variant, blocks, lambda block: None if (c := clock_mhz(block, channels)) is None else c < slow)


def gpu_channels(comparison: Comparison, variant: str, figure: str) -> list[str]:
    """Channels of a figure ("clock_sm") of the GPU that a variant ran on, of every GPU where it is not known which;
    none where it ran on the processor."""
    if not _on_gpu(comparison, variant):
        return []
    sensors = comparison.run.manifest.sensors
    uuid = sensors.device_uuid
    others = {c.name for c in sensors.channels if uuid is not None and uuid not in c.sensor}
    there = {name for block in clean_blocks(comparison, variant) for name in block.traces}
    return sorted(name for name in there - others if re.fullmatch(rf"nvml\.\d+\.{figure}", name))


def _on_gpu(comparison: Comparison, variant: str) -> bool:
    return comparison.run.variant(variant).device.startswith("cuda")


def log_change(after: NDArray[np.float64], before: NDArray[np.float64], level: float = LEVEL) -> Interval:
    """ln(`after` / `before`), of geometric means, as relative effects are told: Student's t, one variance for both.

    The common variance is what holds where there is no effect, and a few blocks cannot tell two apart.
    """
    a, b = np.log(after), np.log(before)
    degrees = len(a) + len(b) - 2
    value = float(a.mean() - b.mean())
    variance = (float(((a - a.mean()) ** 2).sum()) + float(((b - b.mean()) ** 2).sum())) / degrees
    error = math.sqrt(variance * (1.0 / len(a) + 1.0 / len(b)))
    half = student_t_quantile((1.0 + level) / 2.0, degrees) * error
    return Interval(value, value - half, value + half, level)


def effect_on_difference(comparison: Comparison, rounds: Collection[int]) -> Interval | None:
    """How much of the difference b - a, in us, is gone without some rounds; no bounds. `None` where it cannot be told.

    What disturbs both variants of a round alike leaves the difference nearly as it is.
    """
    a, b = (comparison.run.latency(name, phase=comparison.phase) for name in (comparison.baseline, comparison.variant))
    if not np.intersect1d(a.round, b.round).size:
        return None
    pairs = PairedRounds.of(a.duration_ns, a.round, b.duration_ns, b.round)
    ratios, kept = log_ratios_of(pairs), ~np.isin(pairs.ids, list(rounds))
    if not kept.any():
        return None
    p50_us = float(np.median(a.duration_ns)) / 1e3
    whole, without = (RoundDifference(RoundEffect(part), p50_us).value for part in (ratios, ratios[kept]))
    return Interval(whole - without, None, None, LEVEL, "both differences come from the same rounds")


def rounds_text(rounds: Sequence[int]) -> str:
    """ "rounds 2 and 4 to 6", counted from 1 as the progress display does."""
    spans: list[list[int]] = []
    for number in sorted(rounds):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    parts = [f"{a + 1}" if a == b else f"{a + 1} to {b + 1}" for a, b in spans]
    listed = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    return f"round{'s' * (len(rounds) > 1)} {listed}"


def percent(log_change: float) -> str:
    """ "12 % higher", "12 % lower", from the logarithm of a ratio."""
    share = math.expm1(log_change)
    return f"{abs(share):.0%} {'higher' if share >= 0.0 else 'lower'}".replace("%", " %")
