"""What stands beside the weights differs, and is computed with: a configuration or a tokenizer that is not the
baseline's. The weights may be right to the last bit."""

from __future__ import annotations

from collections.abc import Iterator

from qprof.findings.causes.base import Evidence, Hypothesis
from qprof.findings.comparison import Comparison
from qprof.findings.loss import change_of
from qprof.runtimes.interventions import Impossible, OtherSettings

_MOST_TOLD = 4


class SettingsBesideWeights:
    """Evidence: the settings of both. What must be refutable: that the variant's own weights, run with the baseline's
    settings, have its score again, be that better or worse."""

    name = "settings_beside_weights"
    title = "the settings beside the weights differ"

    def hypotheses(self, comparison: Comparison) -> Iterator[Hypothesis]:
        lost = change_of(comparison)
        if lost is None:
            return
        found = comparison.interventions.settings_of(comparison.b, comparison.a)
        if isinstance(found, Impossible):
            return
        for other in found:
            does = f"run {comparison.variant}'s own weights with {comparison.baseline}'s {other.what}"
            yield Hypothesis(
                cause=self.name,
                claim=f"{lost.says}, and its {other.what} is another: {_told(other, comparison)}; {lost.told}",
                figure=lost.metric,
                effect=lost.change,
                evidence=(
                    lost.evidence,
                    Evidence("settings that differ", float(len(other.differs)), "", other.what),
                ),
                intervention=lost.intervention(does, comparison.variant, other.section),
                untestable=other.section.reason if isinstance(other.section, Impossible) else None,
            )


def _told(other: OtherSettings, comparison: Comparison) -> str:
    told = [f"{name} {b}, which is {a} in {comparison.baseline}" for name, a, b in other.differs[:_MOST_TOLD]]
    more = len(other.differs) - len(told)
    return "; ".join(told) + (f"; and {more} more" if more > 0 else "")


CAUSE = SettingsBesideWeights()
