"""All layers wrong alike, by far more than their bits: a checkpoint that is read wrongly, or a scale that is wrong
everywhere. No single layer is to blame then."""

from __future__ import annotations

import re
from collections.abc import Iterator
from statistics import median, mode

from qprof.findings.causes.base import Evidence, Hypothesis, OpRef
from qprof.findings.comparison import Comparison
from qprof.findings.float_layers import FEWEST_LAYERS, error_rows
from qprof.findings.loss import loss_of
from qprof.record.rows import LayerErrorRow
from qprof.runtimes.interventions import Impossible

#: Rounding to n bits leaves 6.02 n dB of a signal that fills the range (Bennett, 1948), less what a bell-shaped one
#: does not fill: weights of language models in groups of 32 to 128 keep 7 dB at 2 bits, 13 at 3, 20 at 4 and 44 at 8.
_DB_PER_BIT, _NOT_FILLED_DB = 6.02, 5.0
#: Below that by so much, the bits do not account for it: ten times their noise.
_BELOW_DB = 10.0
#: Layers are alike where the middle half of them lies within this.
_ALIKE_DB = 6.0
_WIDTH = re.compile(r"\b(?:u?int)?(\d+)(?:-bit|\b)")


class AllLayersAlike:
    """Evidence: the weights of all quantized layers, against the baseline's, far below what their bits leave, and none
    apart from the others. What must be refutable: that the weights are it, and not what is around them: with the
    baseline's in all of these layers the score comes back."""

    name = "all_layers_alike"
    title = "all layers are wrong alike"

    def hypotheses(self, comparison: Comparison) -> Iterator[Hypothesis]:
        lost = loss_of(comparison)
        if lost is None:
            return
        ops = {op.op: op for op in comparison.ops(comparison.variant)}
        rows = [
            row
            for row in error_rows(comparison.run, comparison.variant)
            if row.weight_sqnr_db is not None and row.op in ops and ops[row.op].quantization
        ]
        bits = _bits([ops[row.op].quantization or "" for row in rows])
        if bits is None or len(rows) < FEWEST_LAYERS:
            return
        errors = sorted(row.weight_sqnr_db for row in rows if row.weight_sqnr_db is not None)
        middle, spread = median(errors), errors[3 * len(errors) // 4] - errors[len(errors) // 4]
        expected = _DB_PER_BIT * bits - _NOT_FILLED_DB
        if middle > expected - _BELOW_DB or spread > _ALIKE_DB:
            return
        own = {row.op: row.name for row in rows}
        names = {op.op: op.name for op in comparison.run.op_meta.get(comparison.baseline, [])}
        pairs = [(ops[op].name, names[row.baseline_op]) for row in rows if (op := row.op) and row.baseline_op in names]
        after = comparison.interventions.constants_from(comparison.b, comparison.a, pairs)
        yield Hypothesis(
            cause=self.name,
            claim=(
                f"{lost.says} in all {len(rows)} quantized layers alike, not in one: their weights are "
                f"{middle:.1f} dB near {comparison.baseline}'s, and {bits} bits leave some {expected:.0f} dB. Such an "
                f"error everywhere is no rounding: {_reading(rows)}; {lost.told}"
            ),
            figure=lost.metric,
            effect=lost.change,
            evidence=(
                lost.evidence,
                Evidence("weights of the layer in the middle", middle, "dB", "layer_errors.parquet: weight_sqnr_db"),
                Evidence("spread of the middle half", spread, "dB", "layer_errors.parquet: weight_sqnr_db"),
                Evidence(f"what {bits} bits leave", expected, "dB", "6.02 dB a bit, less 5"),
            ),
            intervention=lost.intervention(
                f"put {comparison.baseline}'s weights into all {len(pairs)} of these layers, and leave the rest",
                comparison.variant,
                after,
                len(pairs),
            ),
            untestable=after.reason if isinstance(after, Impossible) else None,
            ops=tuple(OpRef(own[row.op], row.type) for row in rows),
        )


def _bits(formats: list[str]) -> int | None:
    widths = [int(found[1]) for text in formats if (found := _WIDTH.search(text))]
    return mode(widths) if widths else None


def _reading(rows: list[LayerErrorRow]) -> str:
    """What the outputs tell of its kind: in the baseline's direction, they are off by a factor; else by what was read
    wrongly.

    With outputs c times the reference and noise n beside it, the cosine is c / sqrt(c^2 + n^2), and the noise that is
    counted (c - 1)^2 + n^2: where the first is near 1, the second is the factor's.
    """
    known = [row for row in rows if row.own_cosine is not None and row.own_sqnr_db is not None]
    cosine = median(row.own_cosine or 0.0 for row in known) if known else 0.0
    if cosine > 0.98:
        off = 10.0 ** (-median(row.own_sqnr_db or 0.0 for row in known) / 20.0)
        factors = f"{1.0 + off:.2g}" if off >= 1.0 else f"{1.0 - off:.2g} or {1.0 + off:.2g}"
        return (
            f"outputs point the same way (cosine {cosine:.3f}) and are about {factors} times as large: look for a "
            "scale that was applied twice, or not at all"
        )
    return (
        f"outputs point elsewhere (cosine {cosine:.2f}): look whether the checkpoint's format is the one that it is "
        "read as (zero points, order of columns, another model's weights)"
    )


CAUSE = AllLayersAlike()
