"""Many tiny ops: what a variant's time goes into is starting them, not what they compute."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from qprof.findings.binding import MOST, Binding, binding, op_times
from qprof.findings.causes.base import Evidence, Hypothesis
from qprof.findings.comparison import Comparison
from qprof.findings.device import device_audits
from qprof.findings.effects import LATENCY
from qprof.findings.scaled_work import with_more_rows
from qprof.record.ops import OpMeta

#: Two phases tell an op's launch from its work where one has this many times the work of the other: an error of 1 % in
#: both times is then one of 1.4 % in what is left at no work (sqrt(4^2 + 1) / (4 - 1)), of twice the work 2.2 %.
_LEAST_RATIO = 4.0
#: No processor that is at work multiplies or moves less in a microsecond; an op so slow waits for something else. A
#: scalar unit at 1 GHz multiplies once in a nanosecond; 1 GB/s is a tenth of what one channel of DDR3-1333 moves
#: (JEDEC JESD79-3: 10.7 GB/s).
_IDLE_MACS, _IDLE_BYTES = 1000, 1000
#: Where neither phases nor ceilings tell, ops up to so long are taken for launches if they do next to nothing: five
#: times the 20 µs that launches of LiteRT and torch stay below as ceilings measure them (`tests/unit/test_ceilings_*`).
_TINY_US = 100.0
#: Its work is the same for any number of rows, and it has a cause of its own (dequantization).
_UNPACKING = "dequantize"


@dataclass(frozen=True, slots=True)
class _Launching:
    """`part` of the variant's `total_us` goes into starting `ops` ops; `how` that is known."""

    part: float
    total_us: float
    ops: int
    median_us: float
    cost_us: float | None
    source: str


class DispatchBound:
    """Evidence: each op's time against what starting it costs and what its work would take. What must be refutable:
    that eight times the work takes far less than eight times as long."""

    name = "dispatch_bound"
    title = "starting the ops takes longer than computing them"

    def hypotheses(self, comparison: Comparison) -> Iterator[Hypothesis]:
        found = _launching(comparison)
        if found is None or found.part < MOST:
            return
        intervention, untestable = with_more_rows(comparison, "with as many ops", found.part * found.total_us)
        yield Hypothesis(
            cause=self.name,
            claim=(
                f"{found.part:.0%} of the time of {comparison.variant} goes into starting its {found.ops} ops, of "
                f"{found.median_us:.0f} µs in the middle"
            ),
            figure=LATENCY,
            effect=None,
            evidence=tuple(_evidence(found)),
            intervention=intervention,
            untestable=untestable,
        )


def _evidence(found: _Launching) -> Iterator[Evidence]:
    yield Evidence("part of the time that goes into starting ops", 100 * found.part, "%", found.source)
    yield Evidence("ops", found.ops, "ops", "op_meta.parquet")
    yield Evidence("median time of an op", found.median_us, "us", "ops.parquet")
    if found.cost_us is not None:
        yield Evidence("what starting one operation costs at least", found.cost_us, "us", "manifest.json: ceilings")


def _launching(comparison: Comparison) -> _Launching | None:
    """By the surest of what the run holds: idle time of the device, another phase, ceilings, the ops' rates."""
    times = op_times(comparison)
    if times is None or not times[0]:
        return None
    ops, op_us, total_us = times
    bound = binding(comparison)
    part, source = _device_idle(comparison, total_us), "manifest.json: timing.kernels"
    if part is None:
        part, source = _by_phases(comparison, ops, op_us, total_us), "ops.parquet: both phases, extrapolated to no work"
    if part is None and bound is not None:
        part, source = _by_ceilings(bound), "manifest.json: ceilings"
    if part is None:
        part, source = _by_rates(ops, op_us, total_us), "ops.parquet, op_meta.parquet"
    median_us = sorted(op_us)[len(op_us) // 2]
    return _Launching(part, total_us, len(ops), median_us, None if bound is None else _cost_us(bound), source)


def _device_idle(comparison: Comparison, total_us: float) -> float | None:
    """Part of the time in which an accelerator had nothing to do."""
    audits = device_audits(comparison.run, {(comparison.variant, comparison.phase): total_us})
    ours = [a.idle_share for a in audits if (a.variant, a.phase) == (comparison.variant, comparison.phase)]
    return ours[0] if ours else None


def _by_phases(comparison: Comparison, ops: Sequence[OpMeta], op_us: Sequence[float], total_us: float) -> float | None:
    """What the ops would take with no work to do, from their times in two phases with more and with less of it."""
    others = [phase.name for phase in comparison.run.phases() if phase.name != comparison.phase]
    if not others:
        return None
    times = op_times(Comparison(comparison.run, comparison.baseline, comparison.variant, others[0]))
    if times is None:
        return None
    there = {(op.name, op.type): (op, us) for op, us in zip(times[0], times[1], strict=True)}
    launched_us = 0.0
    for op, us in zip(ops, op_us, strict=True):
        if (op.name, op.type) in there:
            launched_us += min(us, _at_no_work(op, us, *there[op.name, op.type]))
    return launched_us / total_us


def _at_no_work(op: OpMeta, us: float, twin: OpMeta, twin_us: float) -> float:
    """Microseconds on the line through both phases where there is no activation left, less what its weights, which any
    number of rows needs, take if they are moved as slowly as the activations; 0 where that is not known."""
    if not op.activation_bytes or not twin.activation_bytes or op.type == _UNPACKING:
        return 0.0
    (less, less_us), (more, more_us) = sorted(((op.activation_bytes, us), (twin.activation_bytes, twin_us)))
    ratio = more / less
    if ratio < _LEAST_RATIO:
        return 0.0
    us_per_byte = max(0.0, (more_us - less_us) / (more - less))
    return max(0.0, less_us - us_per_byte * (less + (op.weight_bytes or 0)))


def _by_ceilings(bound: Binding) -> float:
    """Each op's launch; of a layer of torch one, since it is not recorded how many it makes."""
    return bound.part(bound.rows, lambda row: min(1.0, row.dispatch_share or 0.0))


def _cost_us(bound: Binding) -> float | None:
    known = sorted(row.time_us / row.launches for row in bound.rows if row.time_us and row.launches)
    return known[len(known) // 2] if known else None


def _by_rates(ops: Sequence[OpMeta], op_us: Sequence[float], total_us: float) -> float:
    """Ops that are over soon and yet do next to nothing."""
    return math.fsum(us for op, us in zip(ops, op_us, strict=True) if _does_next_to_nothing(op, us)) / total_us


def _does_next_to_nothing(op: OpMeta, us: float) -> bool:
    us /= op.runs or 1.0  # each run of it is launched
    if us > _TINY_US or op.weight_bytes is None or op.activation_bytes is None:
        return False
    macs, activations = ((count or 0) / (op.runs or 1.0) for count in (op.macs, op.activation_bytes))
    return macs < _IDLE_MACS * us and op.weight_bytes + activations < _IDLE_BYTES * us


CAUSE = DispatchBound()
