"""Coarse input: a variant stores what it is given in steps, or within a range, that the samples do not fit."""

from __future__ import annotations

from collections.abc import Iterator

from qprof.findings.causes.base import Evidence, Hypothesis, Intervention, Prediction
from qprof.findings.comparison import Comparison
from qprof.findings.float_layers import (
    BACK,
    SATURATED_SHARE,
    SPOILED_DB,
    counterparts,
    error_rows,
    loses,
    lost_score,
)
from qprof.record.rows import INPUT, LayerErrorRow
from qprof.runtimes.interventions import Impossible, Section


class CoarseInput:
    """Claims where a score was lost, and a quantized input keeps little of the baseline's numbers, or cuts them off.

    The baseline's activations behind the first layers, in the running graph, take the input out of the variant: half of
    the loss or more must come back.
    """

    name = "coarse_input"
    title = "an input whose range or steps do not fit the samples"

    def hypotheses(self, comparison: Comparison) -> Iterator[Hypothesis]:
        lost = lost_score(comparison)
        unfit = [row for row in error_rows(comparison.run, comparison.variant) if row.type == INPUT and _is_unfit(row)]
        if lost is None or not unfit:
            return
        metric, change = lost
        listed = ", ".join(f"{row.name} ({_told(row)})" for row in unfit)
        after = _behind_the_first(comparison)
        low, high = (-change.value * share for share in BACK)
        yield Hypothesis(
            cause=self.name,
            claim=(
                f"{loses(comparison)} at its input, whose range and steps are not those of the "
                f"samples: {listed}; {metric} {change.value:+.3f}"
            ),
            figure=metric,
            effect=change,
            evidence=(
                Evidence(f"{metric} lost", change.value, "1", "scores.parquet", change),
                *(
                    Evidence(f"{what} of {row.name}", value, unit, f"layer_errors.parquet: {column}")
                    for row in unfit
                    for what, value, unit, column in (
                        ("SQNR", row.own_sqnr_db, "dB", "own_sqnr_db"),
                        ("numbers cut off", row.own_saturated_share, "1", "own_saturated_share"),
                    )
                    if value is not None
                ),
            ),
            intervention=None
            if isinstance(after, Impossible)
            else Intervention(
                does=f"put the baseline's activations in place of what the first layers of {comparison.variant} give",
                prediction=Prediction(metric, comparison.variant, after["name"], low, high),
                variants=(after,),
                replaces=len(unfit),
            ),
            untestable=after.reason if isinstance(after, Impossible) else None,
        )


def _is_unfit(row: LayerErrorRow) -> bool:
    return (row.own_sqnr_db is not None and row.own_sqnr_db < SPOILED_DB) or (
        row.own_saturated_share or 0.0
    ) >= SATURATED_SHARE


def _told(row: LayerErrorRow) -> str:
    kept = "keeps nothing" if row.own_sqnr_db is None else f"{row.own_sqnr_db:.1f} dB"
    return f"{kept}, {row.own_saturated_share or 0.0:.1%} cut off"


def _behind_the_first(comparison: Comparison) -> Section | Impossible:
    """The variant with the baseline's activations in place of what the layers give that read no other layer."""
    known = counterparts(comparison)
    sides = comparison.interventions.by_side(comparison.b)
    first = [known[op] for op, (before, _) in sides.items() if not before and op in known]
    if not first:
        return Impossible("which layers read the input is not known")
    return comparison.interventions.patched(comparison.b, comparison.a, first)


CAUSE = CoarseInput()
