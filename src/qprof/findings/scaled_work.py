"""What a variant will take with more rows at once, or with the same numbers in other bytes: between two bounds.

How the shortest possible time of an op changes follows from its products, bytes and launch (`roofline`). What the op
takes beyond that stays (launches, waiting), or goes with the rows or bytes (a kernel that reaches a part of the
ceiling): somewhere between these two. Where the run holds the op in a second phase, with other rows, their line bounds
it once more: a time that is the launch and the larger of a constant and a part that grows with the rows is convex in
the rows, so it lies below the line between two points of it, and above that line beyond them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from qprof.errors import StoreError
from qprof.findings.binding import ceilings_of, op_times
from qprof.findings.causes.base import Intervention, Prediction, rectangular_error
from qprof.findings.comparison import Comparison
from qprof.findings.effects import LATENCY
from qprof.findings.margins import LATENCY_MARGIN
from qprof.findings.op_costs import WORKERS
from qprof.findings.roofline import RooflineRow, roofline
from qprof.record.ops import OpMeta
from qprof.runtimes.interventions import Impossible

#: Its work is the same for any number of rows.
_UNPACKING = "dequantize"
#: Numbers of rows to compute at once instead of one: no more than it takes to see a growth.
_FACTORS = (2, 4, 8)
#: A growth of which the half, by which a machine may have changed meanwhile (`control`), is beyond what counts as none.
_TOLD_FROM_NONE = 2.0 * math.log1p(LATENCY_MARGIN)


@dataclass(frozen=True, slots=True)
class Scaled:
    """A latency's change, as ln of its ratio: the point and its standard error."""

    value: float
    error: float

    def of(self, variant: str, changed: str) -> Prediction:
        """What is foretold of a variant that is changed in this way."""
        return Prediction.point(LATENCY, variant, changed, self.value, self.error, relative=True)


def with_more_rows(comparison: Comparison, does: str, part_us: float = 0.0) -> tuple[Intervention | None, str | None]:
    """Run the variant with several times the rows, so few times that its growth can be told from none. `does` says what
    else is to be known of that; `part_us` is known not to grow. Else why that cannot be done, or not be foretold."""
    for factor in _FACTORS:
        after = comparison.interventions.more_rows(comparison.b, factor)
        if isinstance(after, Impossible):
            # Not by more threads: those speed up whatever can be divided, so that they could not refute a bound.
            return None, after.reason
        found = _more_rows(comparison, factor, part_us)
        if found is not None and (found.value > _TOLD_FROM_NONE or factor == _FACTORS[-1]):
            says = f"compute {factor} times as many rows at once, {does}"
            return Intervention(says, found.of(comparison.variant, after["name"]), (after,)), None
    return None, "nothing is known that more rows would change"


def in_other_bytes(comparison: Comparison, dtype: str, factor: float) -> Scaled | None:
    """The variant with all that it keeps in `factor` times the bytes, as `dtype`; `None` where nothing is known to
    change."""

    def changed(op: OpMeta) -> OpMeta:
        return replace(
            op,
            inputs=[_retyped(text, dtype) for text in op.inputs],
            outputs=[_retyped(text, dtype) for text in op.outputs],
            weight_bytes=_times(op.weight_bytes, factor),
            activation_bytes=_times(op.activation_bytes, factor),
        )

    found = op_times(comparison)
    if found is None:
        return None
    ops, times_us, total_us = found
    least, most = min(1.0, factor), max(1.0, factor)
    bounds = [
        (max(low, least * us), min(high, most * us))
        for (low, high), us in zip(_bounds(comparison, ops, times_us, changed, factor), times_us, strict=True)
    ]
    return _scaled(bounds, times_us, total_us)


def _more_rows(comparison: Comparison, factor: int, part_us: float) -> Scaled | None:
    found = op_times(comparison)
    if found is None:
        return None
    ops, times_us, total_us = found

    def changed(op: OpMeta) -> OpMeta:
        return replace(op, macs=_times(op.macs, factor), activation_bytes=_times(op.activation_bytes, factor))

    twins = _other_phase(comparison)
    bounds = []
    for op, us, (low, high) in zip(ops, times_us, _bounds(comparison, ops, times_us, changed, factor), strict=True):
        if op.type == _UNPACKING:
            bounds.append((us, us))
            continue
        low, high = max(low, us), min(high, factor * us)
        if (op.name, op.type) in twins:
            low, high = _by_line(op, us, *twins[op.name, op.type], factor, (low, high))
        bounds.append((min(low, high), high))
    # What does not grow leaves this much that does.
    most_us = factor * total_us - (factor - 1) * part_us
    return _scaled(bounds, times_us, total_us, most_us)


def _bounds(
    comparison: Comparison,
    ops: Sequence[OpMeta],
    times_us: Sequence[float],
    changed: Callable[[OpMeta], OpMeta],
    factor: float,
) -> list[tuple[float, float]]:
    """For every op the least and the most that it takes once it is changed."""
    ceilings = ceilings_of(comparison)
    if not ceilings:
        return [(min(us, factor * us), max(us, factor * us)) for us in times_us]
    before = roofline(ops, times_us, ceilings)
    after = roofline([changed(op) for op in ops], times_us, ceilings)
    return [_between(one, other, us, factor) for one, other, us in zip(before, after, times_us, strict=True)]


def _between(before: RooflineRow, after: RooflineRow, us: float, factor: float) -> tuple[float, float]:
    """The shortest possible time changes as it must. What is beyond it stays, or changes with the factor at most; an op
    that beats its ceilings goes on doing so."""
    if not before.shortest_us or not after.shortest_us:
        return min(us, factor * us), max(us, factor * us)
    beyond_us = us - before.shortest_us
    if beyond_us < 0.0:
        return (us * after.shortest_us / before.shortest_us,) * 2
    low, high = sorted((beyond_us, factor * beyond_us))
    return after.shortest_us + low, after.shortest_us + high


def _other_phase(comparison: Comparison) -> Mapping[tuple[str, str], tuple[OpMeta, float]]:
    """The variant's ops in another phase of the run, by name and type, with their times there; empty without one."""
    others = [phase.name for phase in comparison.run.phases() if phase.name != comparison.phase]
    if not others:
        return {}
    try:
        found = op_times(Comparison(comparison.run, comparison.baseline, comparison.variant, others[0]))
    except StoreError:
        return {}
    return {} if found is None else {(op.name, op.type): (op, us) for op, us in zip(found[0], found[1], strict=True)}


def _by_line(
    op: OpMeta, us: float, twin: OpMeta, twin_us: float, factor: int, bounds: tuple[float, float]
) -> tuple[float, float]:
    """Bounds that hold the line through both phases as well: above it between them, below it beyond."""
    here, there = op.activation_bytes, twin.activation_bytes
    if not here or not there or here == there:
        return bounds
    low, high = bounds
    line_us = us + (twin_us - us) * (factor - 1) * here / (there - here)
    line_us = min(max(line_us, us), factor * us)
    return (low, max(us, min(high, line_us))) if factor * here <= there else (max(low, min(high, line_us)), high)


def _scaled(
    bounds: Sequence[tuple[float, float]], times_us: Sequence[float], total_us: float, most_us: float = math.inf
) -> Scaled | None:
    """All ops, with what lies between them, which stays as it is. One reason makes the kernels of a model better or
    worse than their bounds: their errors add up."""
    outside_us = total_us - math.fsum(times_us)
    low = outside_us + math.fsum(low for low, _ in bounds)
    high = min(most_us, outside_us + math.fsum(high for _, high in bounds))
    middle = (min(low, high) + high) / 2.0
    if middle <= 0.0 or middle == total_us:
        return None
    error_us = rectangular_error(min(low, high), high)
    return Scaled(math.log(middle / total_us), math.hypot(error_us / middle, WORKERS))


def _times(count: int | None, factor: float) -> int | None:
    return None if count is None else round(factor * count)


def _retyped(text: str, dtype: str) -> str:
    """A tensor's text with another float type."""
    return re.sub(r"^(float32|float16|bfloat16)\b", dtype, text)
