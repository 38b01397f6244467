"""Linears whose kernel unpacks weights as it multiplies: faster or slower than a plain product, in one piece."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from qprof.findings.causes.base import Evidence, Hypothesis, Intervention, Prediction, row_refs
from qprof.findings.comparison import Comparison
from qprof.findings.difference_table import DifferenceRow
from qprof.findings.effects import LATENCY
from qprof.findings.op_costs import LEAST_SHARE, SURROUNDINGS, OpCosts, part_of
from qprof.findings.products_alone import UNPACKED, products_us
from qprof.runtimes.interventions import Impossible
from qprof.stats.intervals import Interval


class PackedKernels:
    """Evidence: the products' time before and after, in kernels that take packed weights. What must be refutable: that
    plain products of the same weights, unpacked when they are loaded, take what the baseline's take."""

    name = "packed_kernels"
    title = "products of packed weights"

    def hypotheses(self, comparison: Comparison) -> Iterator[Hypothesis]:
        if comparison.table is None or comparison.b.structure != "modules":
            return
        rows = [row for row in comparison.table.rows if _is_packed(row)]
        effect = part_of(comparison, "rate", rows) if rows else None
        if effect is None:
            return
        costs = OpCosts(comparison)
        gone = costs.difference(rows)
        if abs(gone.value) < LEAST_SHARE * max(costs.a_us, costs.b_us) or not _is_sure(gone.interval()):
            return
        before, after = costs.of_baseline(rows).interval(), costs.of_variant(rows).interval()
        changed = comparison.interventions.unpacked_once(comparison.b)
        value, error = costs.without(gone.value, gone, costs.b_us, SURROUNDINGS * before.value)
        plain_us = products_us(comparison, "a", UNPACKED)
        if plain_us is not None:  # the baseline unpacks its weights, and finds them elsewhere than plain products do
            now = costs.of_variant(rows)
            value, error = costs.without(now.value - plain_us, now, costs.b_us, SURROUNDINGS * plain_us)
        table = f"qprof diff {comparison.baseline} {comparison.variant} --phase {comparison.phase}"
        yield Hypothesis(
            cause=self.name,
            claim=f"{_claim(comparison, rows, gone.value)} of {costs.b_us:.0f} µs",
            figure=LATENCY,
            effect=effect,
            evidence=(
                Evidence("their time in the baseline", before.value, "us", table, before),
                Evidence("their time in the variant", after.value, "us", table, after),
            ),
            intervention=None
            if isinstance(changed, Impossible)
            else Intervention(
                does="unpack the same weights once, when they are loaded, and multiply by plain products",
                prediction=Prediction.point(LATENCY, comparison.variant, changed["name"], value, error, relative=True),
                variants=(changed,),
            ),
            untestable=changed.reason if isinstance(changed, Impossible) else None,
            mechanism="rate",
            ops=row_refs(rows),
        )


def _is_packed(row: DifferenceRow) -> bool:
    """Whether a product of the baseline's became one of packed weights, in a kernel that is not divided."""
    if row.a is None or row.b is None or not row.a.macs or not row.b.macs or row.b.parent is not None:
        return False
    return row.b.quantization is not None and row.a.quantization is None and row.a.kernel != row.b.kernel


def _is_sure(interval: Interval) -> bool:
    return interval.low is None or interval.high is None or not interval.low <= 0.0 <= interval.high


def _claim(comparison: Comparison, rows: Sequence[DifferenceRow], us: float) -> str:
    rates = []
    for macs, times in (
        ([row.a.macs or 0 for row in rows if row.a], [row.a_us or 0.0 for row in rows]),
        ([row.b.macs or 0 for row in rows if row.b], [row.b_us or 0.0 for row in rows]),
    ):
        rates.append(math.fsum(macs) / (math.fsum(times) or 1.0) / 1e3)
    kernels = sorted({row.b.kernel for row in rows if row.b and row.b.kernel})
    return (
        f"{len(rows)} layers of {comparison.variant} multiply packed weights in {', '.join(kernels)}, "
        f"{'slower' if us > 0.0 else 'faster'} than plain products ({rates[0]:.3g} -> {rates[1]:.3g} GMAC/s): "
        f"{us:+.0f} µs"
    )


CAUSE = PackedKernels()
