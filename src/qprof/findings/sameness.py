"""Are two variants the same model? Their multiplications say so, whatever their ops are called."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from qprof.findings.comparison import Comparison
from qprof.findings.measured import leaves
from qprof.record.ops import OpMeta

#: A quantizer keeps every op that multiplies; a hundredth is left for what converters fold into constants.
_LEAST_COMMON = 0.99
#: Weights of the same model are its numbers, rounded: two bits leave some 7 dB. Below this they are others.
_LEAST_WEIGHT_SQNR_DB = 0.0


@dataclass(frozen=True, slots=True)
class Sameness:
    """Whether two variants are one model, and in a sentence why. `common`: part of all multiplications (of all numbers
    written, where nothing multiplies) that both do in ops of the same size; `None` for the same file."""

    same: bool
    says: str
    common: float | None = None


def sameness(comparison: Comparison) -> Sameness | None:
    """`None` where the ops of one are not known."""
    names = f"{comparison.baseline} and {comparison.variant}"
    if comparison.same_file:
        return Sameness(True, f"{names} are the same file")
    first, second = (_computing(comparison.ops(name)) for name in (comparison.baseline, comparison.variant))
    if not first or not second:
        return None
    common, ratio = _common(first, second)
    if common < _LEAST_COMMON:
        times = f"{ratio:.3g} times the work of {comparison.baseline}"
        return Sameness(
            False,
            f"{names} are not the same model: {comparison.variant} does {times}, and {common:.0%} of the work of both "
            "is done in ops of the same size",
            common,
        )
    sqnr_db = _weights(comparison)
    if sqnr_db is not None and sqnr_db < _LEAST_WEIGHT_SQNR_DB:
        return Sameness(
            False,
            f"{names} are not the same model: their ops do the same work with other weights ({sqnr_db:.0f} dB in the "
            "middle)",
            common,
        )
    return Sameness(
        True, f"{names} are the same model: {common:.0%} of the work is done in ops of the same size", common
    )


def _computing(ops: Sequence[OpMeta]) -> list[OpMeta]:
    return [op for op, is_leaf in zip(ops, leaves(list(ops)), strict=True) if is_leaf]


def _common(a: Sequence[OpMeta], b: Sequence[OpMeta]) -> tuple[float, float]:
    """Part of the work that both do in ops of the same size, and how many times the work of `a` that of `b` is."""
    first, second = (Counter(op.macs for op in ops if op.macs) for ops in (a, b))
    if not first and not second:
        types = [Counter(op.type for op in ops) for ops in (a, b)]
        counts = [counted.total() for counted in types]
        return (types[0] & types[1]).total() / max(counts), counts[1] / counts[0]
    shared = math.fsum(macs * count for macs, count in (first & second).items())
    totals = [math.fsum(macs * count for macs, count in counted.items()) for counted in (first, second)]
    return shared / max(totals), totals[1] / totals[0] if totals[0] else math.inf


def _weights(comparison: Comparison) -> float | None:
    """Middle of what the variant's weights keep of the baseline's, in dB; `None` where they were not compared."""
    rows = [row for row in comparison.run.layer_errors if row.variant == comparison.variant]
    known = [row.weight_sqnr_db for row in rows if row.weight_sqnr_db is not None]
    return median(known) if known else None
