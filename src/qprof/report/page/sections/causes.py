"""Causes as cards: a claim, what it costs, what it rests on, and what became of its test."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache

from qprof.findings.causes import all_causes
from qprof.findings.causes.base import Finding
from qprof.findings.effects import LATENCY
from qprof.findings.explanation import ComparisonFindings
from qprof.findings.size import MemoryDifference, SizeDifference
from qprof.report.causes import effect_text, evidence_text, predicted_text
from qprof.report.page.data import Cause, EvidenceItem, Figure
from qprof.report.page.data_tables import Amount
from qprof.report.page.sections.amounts import amount
from qprof.report.page.sections.commands import Commands
from qprof.report.sizes import signed_size
from qprof.report.units import size
from qprof.stats.intervals import Interval

#: Ops of a claim that are named.
_OPS_NAMED = 8
#: Rows of a size or a memory that are no card: less than this part of the whole difference.
_SMALL = 0.02


def cause_card(
    finding: Finding, commands: Commands, watts: float | None = None, names: Mapping[str, str] | None = None
) -> Cause:
    """`watts`: what the variant draws, where a sensor tells; a latency costs that much energy. `names`: the short ones
    of ops."""
    hypothesis, intervention = finding.hypothesis, finding.hypothesis.intervention
    prediction = intervention.prediction if intervention else None

    def text(found: Interval) -> str:
        assert prediction is not None  # nothing else is measured
        parts = [effect_text(found.value, prediction.figure, prediction.relative)]
        if found.low is not None and found.high is not None:
            low, high = (
                effect_text(bound, prediction.figure, prediction.relative) for bound in (found.low, found.high)
            )
            parts.append(f"[{low}, {high}]")
        return " ".join(parts)

    effect = hypothesis.effect
    return Cause(
        name=hypothesis.cause,
        title=_titles().get(hypothesis.cause, hypothesis.cause),
        status=finding.status,
        claim=hypothesis.claim,
        costs=_costs(finding, watts),
        effect=None if effect is None else effect_text(effect.value, hypothesis.figure, False),
        because=finding.because,
        evidence=[
            EvidenceItem(what=item.what, value=_value(evidence_text(item), item.what, item.source), source=item.source)
            for item in hypothesis.evidence
        ],
        intervention=intervention.does if intervention else None,
        scale="" if prediction is None else "relative" if prediction.relative else _scale(prediction.figure),
        predicted=None
        if prediction is None
        else Amount(
            value=prediction.expected, low=prediction.low, high=prediction.high, text=predicted_text(prediction)
        ),
        measured=amount(finding.measured, text) if prediction is not None else None,
        p_value=finding.p_value if finding.p_value is None or math.isfinite(finding.p_value) else None,
        mechanism=hypothesis.mechanism,
        ops=[(names or {}).get(op.name, op.name) for op in hypothesis.ops[:_OPS_NAMED]],
        more_ops=max(0, len(hypothesis.ops) - _OPS_NAMED),
        command=commands.of("explain"),
    )


@cache
def _titles() -> Mapping[str, str]:
    return {cause.name: cause.title for cause in all_causes()}


def not_applicable(comparison: ComparisonFindings, remarks: Sequence[Finding]) -> list[str]:
    """The causes for which the recorded run does not speak."""
    said = {one.hypothesis.cause for one in (*comparison.findings, *remarks)}
    return sorted(title for name, title in _titles().items() if name not in said)


def _scale(figure: str) -> str:
    return "us" if figure == LATENCY else "points"


def _value(text: str, what: str, source: str) -> str:
    return text.removeprefix(f"{what}: ").removesuffix(f" ({source})")


def _costs(finding: Finding, watts: float | None) -> dict[Figure, float]:
    effect, figure = finding.hypothesis.effect, finding.hypothesis.figure
    if effect is None or not math.isfinite(effect.value):
        return {}
    if figure != LATENCY:
        return {"accuracy": float(effect.value)}
    found: dict[Figure, float] = {"latency": float(effect.value)}
    if watts is not None:
        found["energy"] = float(effect.value) * 1e-6 * watts
    return found


def size_cards(found: SizeDifference, commands: Commands) -> Iterator[Cause]:
    """The rows of a difference in size: counted, so that nothing is to be tested."""
    for row in found.rows:
        if abs(row.delta_bytes) < _SMALL * abs(found.delta_bytes or 1):
            continue
        names = [part.name for part in row.parts[:_OPS_NAMED] if part.delta_bytes]
        yield Cause(
            name=f"size: {row.kind}",
            title="Size",
            status="counted",
            claim=f"{row.what}: {signed_size(row.delta_bytes)} ({size(row.a_bytes)} -> {size(row.b_bytes)})",
            costs={"size": float(row.delta_bytes)},
            effect=signed_size(row.delta_bytes),
            because="counted, byte by byte, in the files of both",
            ops=names,
            command=commands.of("explain"),
        )


def memory_cards(found: MemoryDifference, commands: Commands) -> Iterator[Cause]:
    """The same of the peak memory."""
    for row in found.rows:
        if abs(row.delta_bytes) < _SMALL * abs(found.delta_bytes or 1):
            continue
        yield Cause(
            name=f"memory: {row.what}",
            title="Memory",
            status="counted",
            claim=f"{row.what}: {signed_size(row.delta_bytes)}",
            costs={"memory": float(row.delta_bytes)},
            effect=signed_size(row.delta_bytes),
            because="what the others leave" if row.how == "rest" else row.how,
            command=commands.of("explain"),
        )
