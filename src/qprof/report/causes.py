"""Where a difference went and why, in plain sentences: the rows that add up, then the causes and their tests."""

from __future__ import annotations

import math
from collections.abc import Iterator

from qprof.findings.causes.base import Evidence, Finding, Prediction
from qprof.findings.decomposition import Decomposition
from qprof.findings.effects import LATENCY, PERPLEXITY
from qprof.findings.explanation import ComparisonFindings, Unexplained
from qprof.report.units import duration, percent, significant
from qprof.stats.intervals import Interval

#: How a status is written; what nothing was run for is never in capitals.
_MARKS = {
    "confirmed": "CONFIRMED",
    "partial": "PARTLY",
    "consistent": "consistent",
    "refuted": "refuted",
    "inconclusive": "inconclusive",
    "hypothesis": "hypothesis",
}
#: Rows of a decomposition below this part of its largest are told together.
_SMALL = 0.01


def comparison_lines(comparison: ComparisonFindings, evidence: bool) -> Iterator[str]:
    """A variant against the baseline in one phase."""
    phase = "" if comparison.phase == "inference" else f", {comparison.phase}"
    difference = comparison.difference_us
    changed = "" if difference is None else f": p50 {_signed_interval(difference)}"
    yield f"{comparison.baseline} -> {comparison.variant}{phase}{changed}"
    if comparison.sameness is not None and not comparison.sameness.same:
        what = "NOT ONE GRAPH" if comparison.sameness.same_numbers else "NOT ONE MODEL"
        yield f"  {what}  {comparison.sameness.says}"
    if comparison.decomposition is not None:
        yield from decomposition_lines(comparison.decomposition)
    for finding in comparison.findings:
        yield from finding_lines(finding, evidence)
    for unexplained in comparison.unexplained:
        yield from _unexplained_lines(comparison, unexplained)
    yield ""


def decomposition_lines(found: Decomposition) -> Iterator[str]:
    """One row per mechanism, the largest first; they add up to the difference."""
    least = _SMALL * max(abs(row.delta_us.value) for row in found.rows)
    small = [row for row in found.rows if abs(row.delta_us.value) < least and row.mechanism != "unattributed"]
    for row in found.rows:
        if row not in small:
            value = _signed_duration(row.delta_us.value)
            yield f"  {value:>9} {_bounds(row.delta_us):<21} {row.mechanism}: {row.sentence}"
    if small:
        total = math.fsum(row.delta_us.value for row in small)
        yield f"  {_signed_duration(total):>9} {'':<21} {', '.join(row.mechanism for row in small)}"


def _bounds(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return ""
    return f"[{_signed_duration(interval.low)}, {_signed_duration(interval.high)}]"


def _unexplained_lines(comparison: ComparisonFindings, one: Unexplained) -> Iterator[str]:
    about = [f for f in comparison.findings if f.hypothesis.figure == one.figure and f.hypothesis.effect is not None]
    if not about:
        return
    figure = "latency" if one.figure == LATENCY else one.figure
    difference, claimed, left = (_effect(value, one.figure, False) for value in (one.difference, one.claimed, one.left))
    rest = one.difference - one.claimed
    beyond = rest * one.difference < 0.0 and _effect(rest, one.figure, False) != _effect(0.0, one.figure, False)
    told = f"the rest works against them: {_effect(rest, one.figure, False)}" if beyond else f"unexplained: {left}"
    yield f"    of {difference} of {figure}, confirmed causes account for {claimed}; {told}"


def finding_lines(finding: Finding, evidence: bool) -> Iterator[str]:
    """A claim, what it rests on, and what became of its test."""
    hypothesis = finding.hypothesis
    yield f"  {_MARKS[finding.status]:<12} {hypothesis.claim}"
    if evidence and finding.status != "inconclusive":
        for item in hypothesis.evidence:
            yield f"      evidence: {_evidence(item)}"
    intervention = hypothesis.intervention
    if intervention is None:
        yield f"      not tested: {finding.because}"
        return
    prediction = intervention.prediction
    yield f"      intervention: {intervention.does}; predicted {_predicted(prediction)}"
    if finding.measured is None:
        yield f"      not tested: {finding.because}"
        return
    measured = finding.measured
    value, low, high = (
        None if bound is None else _effect(bound, prediction.figure, prediction.relative)
        for bound in (measured.value, measured.low, measured.high)
    )
    bounds = "" if low is None or high is None else f" [{low}, {high}]"
    back = ""
    if finding.status == "partial":
        back = f"; {_effect(abs(measured.value), prediction.figure, prediction.relative).lstrip('+')} of "
        back += f"{_effect(abs(prediction.expected), prediction.figure, prediction.relative).lstrip('+')}"
    yield f"      measured {value}{bounds}: {finding.because}{back}"


def _predicted(prediction: Prediction) -> str:
    low, high = (_effect(bound, prediction.figure, prediction.relative) for bound in (prediction.low, prediction.high))
    if prediction.value is None:
        return f"{low} to {high}"
    return f"{_effect(prediction.value, prediction.figure, prediction.relative)} ({low} to {high})"


def _evidence(item: Evidence) -> str:
    value = significant(item.value) if item.unit != "us" else duration(item.value)
    unit = "" if item.unit in ("1", "us") else f" {item.unit}"
    return f"{item.what}: {value}{unit} ({item.source})"


def _effect(value: float, figure: str, relative: bool) -> str:
    if relative:
        return percent(math.expm1(value), signed=True)
    if figure == PERPLEXITY:
        return f"{value:+.3g}"
    return _signed_duration(value) if figure == LATENCY else f"{value * 100 + 0.0:+.2f} pt"  # no "-0.00"


def _signed_interval(interval: Interval) -> str:
    bounds = _bounds(interval)
    return f"{_signed_duration(interval.value)} {bounds}".rstrip()


def _signed_duration(us: float) -> str:
    return f"{'-' if us < 0 else '+'}{duration(abs(us))}"


#: For the page, which lays out the same words in other places.
effect_text, evidence_text, predicted_text = _effect, _evidence, _predicted
signed_duration, signed_interval, unexplained_lines = _signed_duration, _signed_interval, _unexplained_lines
