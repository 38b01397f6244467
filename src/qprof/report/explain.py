"""An explanation in plain sentences, each with its numbers and where the level below them is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qprof.findings.accuracy import AccuracyChange
from qprof.findings.along import Along
from qprof.findings.choice import Candidate, Dominance
from qprof.findings.doubts import NO_SCORE
from qprof.findings.explanation import Explanation
from qprof.findings.verdicts import FigureVerdict
from qprof.record.perplexities import LOWER_IS_BETTER
from qprof.report.causes import comparison_lines, finding_lines
from qprof.report.distance import distance_lines
from qprof.report.op_names import short_names
from qprof.report.ratio import change_text
from qprof.report.scores import score_text
from qprof.report.sizes import all_lines
from qprof.report.table import Column, Table
from qprof.report.units import duration, energy, percent, size
from qprof.stats.intervals import Interval


def verdict_table(explanation: Explanation) -> Table:
    """One row per variant and figure: the figure, its change with interval, the verdict, what would decide."""
    columns = [
        Column("variant", "variant", align="left"),
        Column("figure", "figure", align="left"),
        Column(explanation.baseline, "baseline"),
        Column("variant's", "value"),
        Column("change [interval]", "change"),
        Column("verdict", "verdict", align="left"),
        Column("would decide", "decides", align="left", priority=1),
        Column("detectable", "detectable", priority=2),
    ]
    rows = [_verdict_row(verdict) for verdict in explanation.verdicts]
    kinds = {verdict.kind for verdict in explanation.verdicts}
    notes = [
        "verdict: what the interval says; the intervals of a figure hold for all variants together at 95 %; "
        "equivalent: inside the margin (2 % of a latency or an energy, half a point of a score)",
        *(["withheld: the machine was not left alone"] if "withheld" in kinds else []),
        *dict.fromkeys(_basis(one) for one in explanation.verdicts if one.basis),
    ]
    reasons = {verdict.reason for verdict in explanation.verdicts if verdict.reason}
    return Table(
        columns,
        rows,
        title=f"{explanation.run}: verdicts against {explanation.baseline}",
        notes=[*notes, *sorted(reasons)],
    )


def _basis(verdict: FigureVerdict) -> str:
    """What a verdict rests on: the tolerance of a figure that is counted, the source of one that is not measured."""
    within = "equal within " if verdict.unit == "bytes" else ""
    return f"{verdict.figure}: {within}{verdict.basis}"


def _verdict_row(verdict: FigureVerdict) -> dict[str, str | None]:
    more = verdict.more_rounds
    return {
        "variant": verdict.variant,
        "figure": verdict.figure,
        "baseline": _value(verdict.baseline, verdict.unit),
        "value": _value(verdict.value, verdict.unit),
        "change": change_text(verdict.change, verdict.relative),
        "verdict": verdict.kind,
        "decides": None if more is None else f"{more} more rounds",
        "detectable": None if verdict.detectable is None else percent(verdict.detectable),
    }


def _value(value: float | None, unit: str) -> str | None:
    if value is None:
        return None
    if unit == "us":
        return duration(value)
    if unit == "J":
        return energy(value * 1e3)
    return size(value) if unit == "bytes" else score_text(value)


def explanation_lines(explanation: Explanation, evidence: bool = True, remarks: bool = False) -> Iterator[str]:
    """Where each difference went, its causes, and the answers to the three questions; with `remarks` also what would be
    seen by older metrics or without a warm-up."""
    for comparison in explanation.comparisons:
        yield from comparison_lines(comparison, evidence)
    yield from all_lines(explanation.sizes, explanation.memory)
    if explanation.remarks and remarks:
        yield "Measured otherwise"
        for finding in explanation.remarks:
            yield from finding_lines(finding, evidence)
        yield ""
    elif explanation.remarks:
        count = len(explanation.remarks)
        told = f"{count} remark{'s' * (count > 1)}"
        yield f"{told} on what older metrics or a timing without warm-up would show: qprof explain --remarks"
        yield ""
    if explanation.distances:
        yield from distance_lines(explanation.distances)
        yield ""
    divided = {one.variant: one for one in explanation.along}
    for change in explanation.accuracy:
        yield from _accuracy_lines(change)
        if change.variant in divided:
            yield from _along_lines(divided[change.variant])
        else:
            yield "    in which stages of the model: qprof explain --along"
        yield ""
    if explanation.audits:
        yield "Can the measurement be trusted?"
        yield from (f"  {'ok' if one.passed else 'DOUBT':<6} {one.name}: {one.says}" for one in explanation.audits)
    yield from _answers(explanation)
    for note in explanation.notes:
        yield f"note: {note}"


#: Classes, sizes and kinds of error that are told: those with the largest change.
_PARTS_TOLD = 3


def _accuracy_lines(change: AccuracyChange) -> Iterator[str]:
    """Where a score was lost: classes, sizes, kinds of error, and the samples that changed sides."""
    yield f"where {change.variant} is less accurate than {change.baseline}"
    for what, parts in (("classes", change.classes), ("sizes", change.sizes)):
        told = [f"{part.label} {change_text(part.change, False)}" for part in parts[:_PARTS_TOLD] if part.change]
        if told:
            more = f", {len(parts) - len(told)} more" if len(parts) > len(told) else ""
            yield f"    {what}: {'; '.join(told)}{more}"
    growing = sorted(change.errors, key=lambda error: (error.a_gain or 0.0) - (error.b_gain or 0.0))
    for error in growing[:_PARTS_TOLD]:
        if error.a_gain is not None and error.b_gain is not None and error.b_gain > error.a_gain:
            yield (
                f"    {error.kind} errors: {error.a} -> {error.b}; without them {error.of} would gain "
                f"{error.b_gain * 100:.2f} points, {error.a_gain * 100:.2f} in {change.baseline}"
            )
    if change.flips is not None:
        flips = change.flips
        yield (
            f"    {flips.of}: better in {change.baseline} alone on {len(flips.a_only)} samples, in {change.variant} "
            f"alone on {len(flips.b_only)}, of {flips.samples} (p = {flips.p_value:.2g}, McNemar)"
        )
    yield from _flip_lines(change)
    for what, why in change.reasons.items():
        yield f"    {what}: {why}"


def _along_lines(along: Along) -> Iterator[str]:
    """One row per stage of the model, in its order; they add up to what the score lost."""
    yield f"    along the model, {along.metric} {_points(along.total)} in all:"
    short = short_names(name for stage in along.stages for name in stage.layers)
    done = 0
    for stage in along.stages:
        first, last = (short[stage.layers[end]] for end in (0, -1))
        where = f"layers {done + 1} to {done + len(stage.layers)}: {first} … {last}"
        done += len(stage.layers)
        told = "" if stage.delta is None else change_text(stage.delta, False)
        yield f"      {told:<34} {where}"


def _points(value: float) -> str:
    return f"{value * 100:+.2f} pt"


def _flip_lines(change: AccuracyChange) -> Iterator[str]:
    """How answers changed, with some of the samples; and what changed beside the score."""
    for flip in change.flip_kinds:
        if flip.samples:
            pairs = "; ".join(f"{pair} {count}" for pair, count in flip.pairs)
            more = ", ..." if len(flip.places) > _PARTS_TOLD else ""
            yield f"    {flip.kind}: {len(flip.samples)} ({pairs}), e.g. {', '.join(flip.places[:_PARTS_TOLD])}{more}"
    if told := others_told(change):
        yield f"    beside it: {told}"


def others_told(change: AccuracyChange) -> str:
    """Figures that lead no table, before and after, with the interval of their change."""
    told = [
        f"{part.label} {part.a:.3f} -> {part.b:.3f} {_bounds(part.change)}"
        for part in change.others
        if part.a is not None and part.b is not None and part.change is not None
    ]
    return "; ".join(told)


def _bounds(change: Interval) -> str:
    if change.low is None or change.high is None:
        return f"({change.value:+.3f})"
    return f"({change.value:+.3f} [{change.low:+.3f}, {change.high:+.3f}])"


# -- the three questions ------------------------------------------------------------------------------------------


def _answers(explanation: Explanation) -> Iterator[str]:
    yield "When does the trade-off make sense?"
    for candidate in explanation.candidates:
        yield f"  {candidate.variant}: {_trade(explanation, candidate)}"
    yield "Which level is optimal?"
    front = [c.variant for c in explanation.candidates if c.variant not in explanation.dominated]
    yield f"  not beaten by another: {', '.join(front)}"
    for name, other in explanation.dominated.items():
        yield f"  {name}: {_beaten(other)}"
    yield "What does that mean for deployment?"
    yield from _deployment(explanation)


def _beaten(by: Dominance) -> str:
    rest = f", and equal in {', '.join(by.equal)}" if by.equal else ""
    unknown = f"; not known of both: {', '.join(by.unknown)}" if by.unknown else ""
    return f"{by.variant} is better in {', '.join(by.better)}{rest}{unknown}"


def _trade(explanation: Explanation, candidate: Candidate) -> str:
    if candidate.variant == explanation.baseline:
        return "the baseline"
    ours = [verdict for verdict in explanation.verdicts if verdict.variant == candidate.variant]
    gains = [_said(verdict) for verdict in ours if verdict.kind == "better"]
    costs = [_said(verdict) for verdict in ours if verdict.kind == "worse"]
    same = [verdict.figure for verdict in ours if verdict.kind == "equivalent"]
    open_ = [verdict.figure for verdict in ours if verdict.kind == "inconclusive"]
    doubted = [verdict.figure for verdict in ours if verdict.kind == "withheld"]
    parts = [
        f"gains {', '.join(gains)}" if gains else "gains nothing that was measured",
        f"costs {', '.join(costs)}" if costs else "costs nothing that was measured",
    ]
    if same:
        parts.append(f"equal in {', '.join(same)}")
    if open_:
        parts.append(f"undecided: {', '.join(open_)}")
    if doubted:
        parts.append(f"no verdict, for the doubts above: {', '.join(doubted)}")
    return "; ".join(parts)


def _said(verdict: FigureVerdict) -> str:
    return f"{verdict.figure} {change_text(verdict.change, verdict.relative)}"


def _deployment(explanation: Explanation) -> Iterator[str]:
    if explanation.plausibility:
        yield f"  nothing is recommended on a broken baseline: mend it first ({explanation.plausibility[0].setting})"
        return
    if any(doubt.what == NO_SCORE for doubt in explanation.doubts):
        yield f"  nothing is recommended where {explanation.baseline} scores next to nothing"
        return
    limits = _limits(explanation)
    choice = explanation.choice
    if all(candidate.score is None for candidate in explanation.candidates):
        yield "  no accuracy was scored: this goes by latency, size, memory and energy"
    if choice.variant is None:
        yield f"  no variant keeps the limits ({limits}):"
    else:
        chosen = next(c for c in explanation.candidates if c.variant == choice.variant)
        figures = _figures(explanation, chosen)
        yield f"  deploy {choice.variant}: {_why(explanation, limits)}: {figures}"
        yield from (f"  doubt: {doubt}" for doubt in choice.doubts)
    for name, broken in choice.misses.items():
        if broken:
            yield f"  {name} does not fit: {'; '.join(broken)}"


#: What a choice goes by, after the latency.
_LEAST = {"size": "the smallest", "peak memory": "the one with the least memory", "energy": "the most frugal"}


def _why(explanation: Explanation, limits: str) -> str:
    """ "the fastest that keeps the limits (...)", or what told it from those that are as fast."""
    by, keeps = explanation.choice.by, f"that keeps the limits ({limits})"
    if limits == "none given":
        keeps = "(no limits given)"
    then = ", of those ".join(_LEAST[figure] for figure in by if figure in _LEAST)
    if not by:
        others = len(explanation.candidates) - len(explanation.choice.misses)
        return f"the only one {keeps}" if others == 1 else f"as good as any {keeps}"
    if not then:
        return f"the fastest {keeps}"
    timed = any(candidate.latency_us is not None for candidate in explanation.candidates)
    return f"as fast as any {keeps}, and of those alike {then}" if timed else f"{then} {keeps}"


def _limits(explanation: Explanation) -> str:
    limits, parts = explanation.limits, []
    if limits.score_drop is not None:
        name = next((candidate.score_name for candidate in explanation.candidates), "accuracy")
        lost = limits.score_drop * 100
        points = f"at most {lost:g} point{'s' * (lost != 1)} of {name} lost"
        grown = f"{name} at most {limits.score_drop * 100:g} % higher"
        parts.append(grown if name in LOWER_IS_BETTER else points)
    if limits.latency_us is not None:
        parts.append(f"p50 at most {duration(limits.latency_us)}")
    if limits.size_bytes is not None:
        parts.append(f"size at most {size(limits.size_bytes)}")
    if limits.energy_j is not None:
        parts.append(f"energy at most {energy(limits.energy_j * 1e3)}")
    return ", ".join(parts) or "none given"


def _latency(explanation: Explanation, latency_us: float) -> str:
    """Of a model that runs in several phases a request is judged, which runs them all."""
    phases = {one.phase for one in explanation.comparisons}
    return f"{duration(latency_us)} a request" if len(phases) > 1 else f"p50 {duration(latency_us)}"


def _figures(explanation: Explanation, candidate: Candidate) -> str:
    parts: Sequence[str] = [
        *([f"{explanation.metric} {score_text(candidate.score)}"] if candidate.score is not None else []),
        *([_latency(explanation, candidate.latency_us)] if candidate.latency_us is not None else []),
        *([f"size {size(candidate.size_bytes)}"] if candidate.size_bytes is not None else []),
        *([f"peak memory {size(candidate.peak_memory_bytes)}"] if candidate.peak_memory_bytes is not None else []),
        *(
            [f"energy {energy(candidate.energy_j * 1e3)} a request ({candidate.energy_source})"]
            if candidate.energy_j is not None
            else []
        ),
    ]
    return ", ".join(parts)


#: For the page, which lays out the same words in other places.
accuracy_lines, along_lines, deployment_lines, trade_text, beaten_text = (
    _accuracy_lines,
    _along_lines,
    _deployment,
    _trade,
    _beaten,
)
