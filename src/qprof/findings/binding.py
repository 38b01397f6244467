"""What binds a variant's time as a whole: its ops under the roofline, on the scale of its clean latencies."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from qprof.errors import StoreError
from qprof.findings.comparison import Comparison
from qprof.findings.roofline import Bound, RooflineRow, roofline
from qprof.record.ceilings import Ceiling
from qprof.record.ops import OpMeta
from qprof.stats.midmean import conditional_midmean

#: Part of a variant's time that must be bound in one way before that is said of the variant.
MOST = 0.6

#: Ops that together beat their ceiling by more than this show that it was measured on a machine that was busy.
_BEATEN = 1.1

#: What the ceilings were measured with; a variant that runs otherwise is not held against them.
_MEASURED_WITH = ("threads", "delegate", "device", "provider")


@dataclass(frozen=True, slots=True)
class Binding:
    """The ops of a variant in a phase; `total_us` is its clean p50, of which the ops and the rest are parts."""

    rows: Sequence[RooflineRow]
    total_us: float

    def bound(self, kind: Bound) -> list[RooflineRow]:
        """The ops that are bound in one way."""
        return [row for row in self.rows if row.bound == kind]

    def most(self, kind: Literal["compute", "memory"]) -> bool:
        """Whether most of the time is bound in this way, by ceilings that the ops bear out."""
        ops = self.bound(kind)
        floor = self.part(ops, lambda row: row.compute_share if kind == "compute" else row.memory_share)
        return self.share(kind) >= MOST and floor <= _BEATEN * self.share(kind)

    def share(self, kind: Bound) -> float:
        """Part of the whole that ops take which are bound in one way."""
        return self.part(self.bound(kind), lambda row: 1.0)

    def part(self, rows: Sequence[RooflineRow], of_op: Callable[[RooflineRow], float | None]) -> float:
        """Part of the whole that is a share of the time of each of some ops; an unknown share counts nothing."""
        return math.fsum((row.time_us or 0.0) * (of_op(row) or 0.0) for row in rows) / self.total_us


def binding(comparison: Comparison) -> Binding | None:
    """What binds the variant; `None` where its ops were not timed, or no ceilings were recorded that it can be held
    against."""
    ceilings = ceilings_of(comparison)
    found = op_times(comparison)
    if not ceilings or found is None:
        return None
    ops, times_us, total_us = found
    return Binding(roofline(ops, times_us, ceilings), total_us)


def op_times(comparison: Comparison) -> tuple[Sequence[OpMeta], Sequence[float], float] | None:
    """The variant's ops that contain no other, their times on the scale of the clean p50, and that, all in
    microseconds; `None` where they were not timed. What instrumentation adds is taken off all ops alike."""
    try:
        measured = comparison.measured(comparison.variant)
    except StoreError:
        return None
    times = conditional_midmean(measured.op_us, measured.profiled_us, measured.profiled_round)
    total_us = float(np.median(measured.clean_us))
    return measured.ops, [float(mean) * total_us / times.total for mean in times.means], total_us


def ceilings_of(comparison: Comparison) -> list[Ceiling]:
    """Those of the variant's runtime, as the run recorded them with the first variant of it."""
    runtime = comparison.b.runtime
    first = next(entry for entry in comparison.run.variants if entry.runtime == runtime)
    with_first, own = ([entry.options.get(key) for key in _MEASURED_WITH] for entry in (first, comparison.b))
    return comparison.run.manifest.ceilings.get(str(runtime), []) if own == with_first else []
