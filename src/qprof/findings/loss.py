"""What a variant lost or won of its leading score or, where that holds or is a perplexity, of its perplexity."""

from __future__ import annotations

import math
from dataclasses import dataclass

from qprof.findings.causes.base import Evidence, Intervention, Prediction
from qprof.findings.comparison import Comparison
from qprof.findings.effects import PERPLEXITY, effect
from qprof.findings.float_layers import BACK, loses, lost_score
from qprof.findings.margins import LATENCY_MARGIN, SCORE_MARGIN
from qprof.record.distances import DECIDING
from qprof.record.perplexities import LOWER_IS_BETTER
from qprof.runtimes.interventions import Impossible, Section
from qprof.stats.intervals import Interval
from qprof.stats.verdict import judge


@dataclass(frozen=True, slots=True)
class Loss:
    """`value`: of a score its change, of a perplexity ln of its ratio (`relative`). `change`: in the figure's unit,
    `None` of a perplexity, whose parts do not add up. `says`: "x loses its accuracy"; `told`: by how much. `won`: the
    variant is better by it."""

    metric: str
    value: float
    relative: bool
    change: Interval | None
    says: str
    told: str
    won: bool = False

    @property
    def evidence(self) -> Evidence:
        if self.change is not None:
            return Evidence(
                f"{self.metric} {'won' if self.won else 'lost'}", self.change.value, "1", "scores.parquet", self.change
            )
        return Evidence(f"{self.metric} times", math.exp(self.value), "1", "scores.parquet")

    def intervention(
        self, does: str, variant: str, after: Section | Impossible, replaces: int = 0
    ) -> Intervention | None:
        """That at least half of it comes back in `after`; `None` where that cannot be made."""
        if isinstance(after, Impossible):
            return None
        low, high = sorted(-self.value * share for share in BACK)
        prediction = Prediction(self.metric, variant, str(after["name"]), low, high, self.relative)
        return Intervention(does=does, prediction=prediction, variants=(after,), replaces=replaces)


def loss_of(comparison: Comparison) -> Loss | None:
    """`None` where nothing was lost for certain that is more than what counts as none."""
    lost = lost_score(comparison)
    if lost is not None:
        metric, change = lost
        return Loss(metric, change.value, False, change, loses(comparison), f"{metric} {change.value:+.3f}")
    return _of_perplexity(comparison, "worse")


def change_of(comparison: Comparison) -> Loss | None:
    """What was lost, as `loss_of`, or else what was won: the variant may be the one that is as it should be."""
    lost = loss_of(comparison)
    if lost is not None or not comparison.leads:
        return lost
    metric = comparison.run.metric or ""
    if metric and metric not in LOWER_IS_BETTER and metric not in DECIDING:
        found = effect(comparison.run, metric, comparison.baseline, comparison.variant)
        verdict = judge(found, SCORE_MARGIN, lower_is_better=False) if found is not None else None
        if verdict is not None and verdict.kind == "better":
            told = f"{metric} {verdict.effect.value:+.3f}"
            says = f"{comparison.variant} gains {metric}"
            return Loss(metric, verdict.effect.value, False, verdict.effect, says, told, True)
    return _of_perplexity(comparison, "better")


def _of_perplexity(comparison: Comparison, kind: str) -> Loss | None:
    run = comparison.run
    if not comparison.leads:
        return None
    leading = run.metric or ""
    metric = leading if leading in LOWER_IS_BETTER else PERPLEXITY
    found = effect(run, metric, comparison.baseline, comparison.variant, relative=True)
    if found is None or judge(found, math.log1p(LATENCY_MARGIN), lower_is_better=True).kind != kind:
        return None
    says = f"{comparison.variant}'s {metric} {'grows' if kind == 'worse' else 'falls'}"
    told = f"{metric} {math.expm1(found.value) * 100:+.3g} %"
    return Loss(metric, found.value, True, None, says, told, kind == "better")
