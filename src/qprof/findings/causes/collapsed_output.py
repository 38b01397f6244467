"""Collapsed output: what a variant newly gets wrong is punctuation and pieces of words, and the right word is far."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from qprof.findings.causes.base import Evidence, Hypothesis, Intervention, Prediction
from qprof.findings.comparison import Comparison
from qprof.findings.effects import paired_scores
from qprof.runtimes.interventions import Impossible
from qprof.stats.intervals import Interval
from qprof.stats.paired_outcomes import PairedOutcomes
from qprof.stats.verdict import judge

#: Less than half of the baseline's right answers left: published 2-bit collapses keep 16 to 40 %, 3 bits 94 % or more.
_LEFT = 0.5
#: "Mostly": of what the variant gets wrong more often than the baseline.
_MOSTLY = 0.5
#: The middle place of the right token: ten times as far as the baseline's, and beyond the ten that a reader would call
#: near misses.
_FARTHER = 10.0
_FAR_PLACE = 10.0
#: At least half of the lost accuracy is to come back with the next width; more than all of it, and the scatter of one
#: in ten, cannot be what was lost.
_BACK = (0.5, 1.1)


class CollapsedOutput:
    """Claims where the last words that a variant gets wrong are no words any more."""

    name = "collapsed_output"
    title = "collapsed output"

    def hypotheses(self, comparison: Comparison) -> Iterator[Hypothesis]:
        run, a, b = comparison.run, comparison.baseline, comparison.variant
        if not comparison.leads:
            return
        right, ranks = paired_scores(run, a, b, "correct"), paired_scores(run, a, b, "first_rank")
        of_a, of_b = _misses(comparison, a), _misses(comparison, b)
        if not len(right[0]) or not len(ranks[0]) or of_a is None or of_b is None:
            return
        outcome = PairedOutcomes.of(right[0] == 1.0, right[1] == 1.0)
        lost, kept = judge(outcome, lower_is_better=False), float(right[1].mean())
        places = [float(np.median(one)) + 1.0 for one in ranks]
        far = places[1] >= max(_FAR_PLACE, _FARTHER * places[0])
        # A piece that the baseline puts first as well may be how its tokenizer begins a word: what is new counts.
        pieces = of_b[0] - of_a[0] >= _MOSTLY * (of_b[1] - of_a[1])
        if lost.kind != "worse" or kept > _LEFT * float(right[0].mean()) or not pieces or not far:
            return
        intervention, untestable = _next_width(comparison, outcome.value)
        yield Hypothesis(
            cause=self.name,
            claim=f"the output of {b} has collapsed: {kept:.1%} of the words are right instead of "
            f"{right[0].mean():.1%}, wrong punctuation or a piece of a word comes first in {of_b[0]:.1%} of the rows "
            f"instead of {of_a[0]:.1%}, and the right token stands at place {places[1]:.0f} in the middle instead "
            f"of {places[0]:.0f}",
            figure="accuracy",
            effect=lost.effect,
            evidence=_evidence((of_a[0], of_b[0]), places, lost.effect),
            intervention=intervention,
            untestable=untestable,
        )


def _misses(comparison: Comparison, variant: str) -> tuple[float, float] | None:
    """How often a variant puts punctuation or a piece of a word first, and anything wrong at all, as shares of all
    rows; `None` where this was not recorded."""
    found = [comparison.run.score(variant, f"miss_{kind}") for kind in ("punctuation", "fragment", "other")]
    known = [share for share in found if share is not None]
    return (known[0] + known[1], sum(known)) if len(known) == len(found) else None


def _evidence(pieces: tuple[float, float], places: list[float], lost: Interval) -> tuple[Evidence, ...]:
    misses, ranks = "scores.parquet: miss_punctuation, miss_fragment", "scores.parquet: first_rank"
    return (
        Evidence("accuracy lost", lost.value, "1", "scores.parquet: correct", lost),
        Evidence("rows with wrong punctuation or pieces first, baseline", pieces[0], "1", misses),
        Evidence("rows with wrong punctuation or pieces first, variant", pieces[1], "1", misses),
        Evidence("median place of the right token, baseline", places[0], "", ranks),
        Evidence("median place of the right token, variant", places[1], "", ranks),
    )


def _next_width(comparison: Comparison, change: float) -> tuple[Intervention | None, str | None]:
    """The same method one width up, and that at least half of the accuracy comes back; or why it cannot be made."""
    wider = comparison.interventions.next_width(comparison.b)
    if isinstance(wider, Impossible):
        return None, f"{comparison.variant} {wider.reason}"
    low, high = (-change * share for share in _BACK)
    does = f"quantize by the same method to {wider.bits} bits instead of {wider.before}"
    prediction = Prediction("accuracy", comparison.variant, wider.section["name"], low, high)
    return Intervention(does, prediction, variants=(wider.section,)), None


CAUSE = CollapsedOutput()
