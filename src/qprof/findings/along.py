"""Where along a model a score is lost: the variant with its first layers from the baseline, more and more of them.

The stages of a model follow one another. With the baseline's activations behind the first n of them, in the running
graph, only the rest is the variant's; what one more stage gives back is what the variant loses in it, given that all
behind it is the variant's. The first of these models is the variant itself and the last the baseline, so that the rows
add up to the difference, whatever the layers do to one another's errors. (In the opposite order, each stage given that
all before it is the variant's, the rows may be others: it is an order, and not the only one.)

Source of the method: activation patching, as `runtimes` have it (Vig et al., NeurIPS 2020; Meng et al., NeurIPS 2022).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from qprof.findings.comparison import Comparison
from qprof.findings.effects import score_difference
from qprof.findings.float_layers import counterparts, lost_score
from qprof.findings.verify import Verification, profile_again, scores_alone
from qprof.runtimes.interventions import Impossible, Section
from qprof.stats.intervals import Interval
from qprof.store.run import Run

#: Stages that a model is divided into, of equally many layers.
STAGES = 6


@dataclass(frozen=True, slots=True)
class Stage:
    """Layers of the variant that follow one another, by name, and what the score loses in them (`None` before it was
    measured)."""

    layers: tuple[str, ...]
    delta: Interval | None = None


@dataclass(frozen=True, slots=True)
class Along:
    """A score's difference by stages, whose deltas add up to `total`, variant less baseline."""

    variant: str
    metric: str
    stages: tuple[Stage, ...]
    total: float

    @property
    def rest(self) -> float:
        """What the rows leave of the total; rounding alone."""
        return self.total - math.fsum(stage.delta.value for stage in self.stages if stage.delta is not None)


_SUFFIX = "-along"


@dataclass(frozen=True, slots=True)
class AlongPlan:
    """The run that divides a variant's loss: `sections`, the variant with its first 1, 2, ... stages patched."""

    comparison: Comparison
    metric: str
    stages: tuple[Stage, ...]
    sections: tuple[Section, ...]
    verification: Verification


def plan_along(comparison: Comparison, number: int) -> AlongPlan | Impossible | None:
    """How to divide what a variant lost; `None` where it lost nothing for certain. `number`: of the run's name."""
    lost = lost_score(comparison)
    if lost is None:
        return None
    pairs = list(counterparts(comparison).values())
    if len(pairs) < STAGES:
        return Impossible(
            f"only {len(pairs)} of its layers were compared with the baseline's; run it anew with "
            "protocol.layer_errors above 0"
        )
    bounds = [round(position * len(pairs) / STAGES) for position in range(STAGES + 1)]
    stages = tuple(Stage(tuple(name for name, _ in pairs[low:high])) for low, high in pairwise(bounds))
    sections: list[Section] = []
    for high in bounds[1:-1]:
        section = comparison.interventions.begun_as(comparison.b, comparison.a, pairs[:high])
        if isinstance(section, Impossible):
            return section
        sections.append(section)
    profile = _profile(comparison, sections)
    return AlongPlan(comparison, lost[0], stages, tuple(sections), Verification(f"along-{number}", profile, ()))


def _profile(comparison: Comparison, sections: Sequence[Section]) -> dict[str, Any]:
    data = profile_again(comparison.run)
    own = {section["name"]: section for section in data["variants"]}
    data["name"] = f"{data['name']}{_SUFFIX}"
    data["variants"] = [own[comparison.baseline], own[comparison.variant], *map(dict, sections)]
    data["protocol"] = scores_alone(data["protocol"])
    return data


def divides(profile: Any) -> bool:
    """Whether a verification was made by such a plan: of its profile, as it was written."""
    return isinstance(profile, dict) and str(profile.get("name")).endswith(_SUFFIX)


def along(plan: AlongPlan, measured: Run) -> Along | None:
    """The rows, once the plan's run was made; `None` where one of its models could not be scored."""
    chain = [plan.comparison.variant, *(str(section["name"]) for section in plan.sections), plan.comparison.baseline]
    stages = []
    for stage, (before, after) in zip(plan.stages, pairwise(chain), strict=True):
        gives_back = score_difference(measured, after, before, plan.metric)
        if gives_back is None:
            return None
        stages.append(Stage(stage.layers, gives_back.interval()))
    whole = score_difference(measured, chain[-1], chain[0], plan.metric)
    return None if whole is None else Along(chain[0], plan.metric, tuple(stages), whole.interval().value)
