"""Two variants that are run in two ways: with other threads, with another delegate."""

from __future__ import annotations

import math
from collections.abc import Iterator

from qprof.findings.causes.base import Evidence, Hypothesis, Intervention, Prediction, part_refs
from qprof.findings.comparison import Comparison
from qprof.findings.effects import LATENCY
from qprof.findings.op_costs import LEAST_SHARE, WORKERS, OpCosts, standard_error
from qprof.runtimes.interventions import Impossible, Section, changed, more_threads

#: What can be taken back; other settings belong to the model.
_THREADS, _DELEGATE = "threads", "delegate"
#: Keys of a variant's section that say how a model is run, by the value that its options have.
_KEYS = ("optimization", "provider", "batch")


class OtherSettings:
    """Evidence: the options, and the time of the ops that both have. What must be refutable: that the variant, run as
    the baseline is, loses that difference."""

    name = "other_settings"
    title = "the two are run with other settings"

    def hypotheses(self, comparison: Comparison) -> Iterator[Hypothesis]:
        found = comparison.decomposition
        row = found.row("settings") if found else None
        if found is None or row is None or comparison.settings.runtimes:
            return  # another runtime is no setting that could be taken back
        costs = OpCosts(comparison)
        if abs(row.delta_us.value) < LEAST_SHARE * min(costs.a_us, costs.b_us):
            return
        told = ", ".join(f"{name} {b} instead of {a}" for name, a, b in comparison.settings.changed)
        intervention, untestable = _intervention(comparison, costs)
        yield Hypothesis(
            cause=self.name,
            claim=(
                f"{comparison.variant} is run with {told}, which changes its ops' time by {row.delta_us.value:+.0f} µs"
            ),
            figure=LATENCY,
            effect=row.delta_us,
            evidence=(
                *(
                    Evidence(f"{name} of {who}", float(value), "", "manifest.json: options")
                    for name, a, b in comparison.settings.changed
                    for who, value in ((comparison.baseline, a), (comparison.variant, b))
                    if value.isdecimal()
                ),
                Evidence("ops of both whose time changes", len(row.ops), "ops", "qprof diff"),
                Evidence("by how much in all", row.delta_us.value, "us", "qprof diff", row.delta_us),
            ),
            intervention=intervention,
            untestable=untestable,
            mechanism="settings",
            ops=part_refs(row.ops),
        )


def _intervention(comparison: Comparison, costs: OpCosts) -> tuple[Intervention | None, str | None]:
    as_baseline = _as_baseline(comparison)
    if isinstance(as_baseline, Impossible):
        return None, as_baseline.reason
    if not comparison.same_file:
        return None, "the files differ as well, so what its ops would take as the baseline is run is not known"
    # The same file, run in the same way, is the baseline.
    before, after = costs.b_us, costs.a_us
    clean = comparison.latency.difference if comparison.latency else None
    error = math.hypot((standard_error(clean) if clean else 0.0) / after, WORKERS)
    value = math.log(after / before)
    return Intervention(
        does=f"run {comparison.variant} as {comparison.baseline} is run",
        prediction=Prediction.point(LATENCY, comparison.variant, as_baseline["name"], value, error, relative=True),
        variants=(as_baseline,),
    ), None


def _as_baseline(comparison: Comparison) -> Section | Impossible:
    section: Section = comparison.b.section
    for name, a, _ in comparison.settings.changed:
        if name == _THREADS:
            section = more_threads(section, int(a))
            continue
        if name in _KEYS and (value := comparison.a.options.get(name)) is not None:
            section = changed(section, f"{name}-{a}", **{name: value})
            continue
        if name != _DELEGATE:
            return Impossible(f"{name} cannot be changed without the model")
        flip = comparison.interventions.without_delegate if a == "none" else comparison.interventions.with_delegate
        flipped = flip(section)
        if isinstance(flipped, Impossible):
            return flipped
        section = flipped
    return section


CAUSE = OtherSettings()
