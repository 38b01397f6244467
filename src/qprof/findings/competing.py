"""Of confirmed findings that are about one and the same part of a difference, at most one counts.

Of latency that part is the ops of one mechanism: the finding whose prediction came nearer counts. A score has no such
parts. Two findings are about the same points where their interventions together move it by more than was lost: what the
one gives back (or takes from the baseline), the other does too. Of those that move as much as any, the one that puts
the least in another's place counts: weights that are right again with other settings beside them were never wrong, and
a layer whose output mends the score is where the fault shows, if it is mended without touching the layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from qprof.findings.causes.base import Finding
from qprof.findings.effects import LATENCY, effect
from qprof.findings.op_costs import standard_error
from qprof.findings.verify import Claim


def competed(claims: Sequence[Claim], found: Sequence[Finding]) -> list[Finding]:
    """The findings in their order, with those that lost to another "inconclusive"."""
    return _about_scores(claims, _about_ops(claims, found))


def _about_ops(claims: Sequence[Claim], found: Sequence[Finding]) -> list[Finding]:
    """Of confirmed findings about the same ops and mechanism of one comparison, the one nearest to its prediction."""
    kept = list(found)
    rivals = [i for i, one in enumerate(found) if one.status == "confirmed" and one.hypothesis.mechanism is not None]
    for i in sorted(rivals, key=lambda i: _miss(found[i])):
        if kept[i].status != "confirmed":
            continue
        for j in rivals:
            if j != i and kept[j].status == "confirmed" and _overlap(claims[i], claims[j]):
                because = f"{found[i].hypothesis.cause} explains the same ops, and its prediction came nearer"
                kept[j] = replace(found[j], status="inconclusive", because=because)
    return kept


def _miss(finding: Finding) -> float:
    """How far the effect lies from its prediction, in standard errors of both."""
    assert finding.measured is not None and finding.hypothesis.intervention is not None  # it is confirmed
    prediction = finding.hypothesis.intervention.prediction
    spread = (prediction.high - prediction.low) / 4.0 + standard_error(finding.measured)
    return abs(finding.measured.value - prediction.expected) / max(spread, 1e-12)


def _overlap(one: Claim, other: Claim) -> bool:
    same = one.comparison is other.comparison and one.hypothesis.mechanism == other.hypothesis.mechanism
    # One cause claims no op twice. What went and what came in its place may have one name, and are not one op.
    by_type = one.hypothesis.cause == other.hypothesis.cause
    ops = [{(op.name, op.type if by_type else "") for op in claim.hypothesis.ops} for claim in (one, other)]
    return same and not ops[0].isdisjoint(ops[1])


def _about_scores(claims: Sequence[Claim], found: Sequence[Finding]) -> list[Finding]:
    kept = list(found)
    about: dict[tuple[int, str], list[int]] = {}
    for i, (claim, finding) in enumerate(zip(claims, found, strict=True)):
        if _moved(finding):
            about.setdefault((id(claim.comparison), finding.hypothesis.figure), []).append(i)
    for rivals in about.values():
        if len(rivals) > 1:
            for loser, (winner, does) in _losers({i: _share(claims[i], found[i]) for i in rivals}, found).items():
                hypothesis = found[winner].hypothesis
                because = f"{hypothesis.cause} is about the same points of {hypothesis.figure}, and {does}"
                kept[loser] = replace(found[loser], status="inconclusive", because=because)
    return kept


def _losers(back: dict[int, _Share], found: Sequence[Finding]) -> dict[int, tuple[int, str]]:
    """Position of a finding that is about the same points as another -> that other, and what it does better."""
    lost: dict[int, tuple[int, str]] = {}
    left = list(back)
    while left:
        most = max(left, key=lambda i: back[i].value)
        as_much = [i for i in left if back[i].high >= back[most].low]  # not surely less
        winner = min(as_much, key=lambda i: (_replaced(found[i]), -back[i].value))
        left.remove(winner)
        for i in [i for i in left if back[i].value + back[winner].value > 1.0]:
            left.remove(i)
            less = i in as_much and _replaced(found[winner]) < _replaced(found[i])
            lost[i] = winner, "puts less in another's place" if less else "accounts for more of them"
    return lost


def _moved(finding: Finding) -> bool:
    """Whether a run showed something of a lost score to be its cause's."""
    hypothesis, intervention = finding.hypothesis, finding.hypothesis.intervention
    ran = intervention is not None and intervention.rescored is None and finding.measured is not None
    return finding.status == "confirmed" and ran and hypothesis.figure != LATENCY and not hypothesis.remark


def _replaced(finding: Finding) -> int:
    assert finding.hypothesis.intervention is not None  # it was carried out
    return finding.hypothesis.intervention.replaces


@dataclass(frozen=True, slots=True)
class _Share:
    """By how much an intervention moved the score, as a share of what was lost, and the ends of its interval."""

    value: float
    low: float
    high: float


def _share(claim: Claim, finding: Finding) -> _Share:
    assert finding.measured is not None and finding.hypothesis.intervention is not None  # it moved the score
    prediction, comparison = finding.hypothesis.intervention.prediction, claim.comparison
    lost = effect(comparison.run, prediction.figure, comparison.baseline, comparison.variant, None, prediction.relative)
    if lost is None or not lost.value:  # nothing to be about the same points of
        return _Share(0.0, 0.0, 0.0)
    ends = (finding.measured.value, finding.measured.low, finding.measured.high)
    value, *others = (abs(end / lost.value) for end in ends if end is not None)
    return _Share(value, min(value, *others), max(value, *others)) if others else _Share(value, value, value)
