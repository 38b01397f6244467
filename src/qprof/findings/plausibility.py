"""Whether the baseline is broken itself: what of its task's settings, changed, mends its score.

Variants are compared with the baseline. Where labels, boxes or preprocessing are wrong all of them fail alike, and the
comparison says nothing about quantization. `measure.worker.plausibility` has scored the baseline on a few samples with
each setting changed; here is decided which of the gains are sure, and large.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qprof.record.manifest import PlausibilityFacts
from qprof.record.rows import PlausibilityRow
from qprof.stats.intervals import Interval, resample_weights
from qprof.stats.multiplicity import holm
from qprof.stats.verdict import Replicates
from qprof.store.run import Run

#: What a change must gain for certain. A share: two points, twice the loss of score that a variant is granted by
#: default (`findings.explanation.DEFAULT_SCORE_DROP`): of a baseline that is further off than that, no such limit means
#: anything. In nats: perplexity a tenth lower, by which a model's rivals in quantization tables are told apart (GPTQ,
#: Frantar et al., arXiv 2210.17323, tables 2 and 3: 4 bits cost models below 3 billion parameters 4 to 13 %).
LEAST_GAIN = {"share": 0.02, "nats": -math.log(0.9)}
_LEVEL = 0.95
_RESAMPLES, _SEED = 2000, 0


@dataclass(frozen=True, slots=True)
class Mend:
    """A change of the task's settings that mends the baseline: `gain` with its interval, the samples resampled, in
    `unit`; `p_value` of a gain no larger than `least`, after Holm's correction for all changes that were `tried`."""

    setting: str
    says: str
    score: str
    unit: str
    configured: float
    changed: float
    gain: Interval
    least: float
    p_value: float
    tried: int
    samples: int


def plausibility(run: Run) -> list[Mend]:
    """The changes whose gain is larger than `LEAST_GAIN` for certain, the largest first; none for a sound baseline, for
    fewer samples than an interval needs, and for a run that tried none."""
    facts = run.manifest.baseline.plausibility
    return [] if facts is None else mends_of(run.plausibility, facts)


def mends_of(tried: Sequence[PlausibilityRow], facts: PlausibilityFacts) -> list[Mend]:
    """See `plausibility`."""
    least = LEAST_GAIN[facts.unit]
    judged = []
    for setting, says, before, after, effect, count in settings_tried(tried):
        p = effect.p_above(least)
        if p is not None:
            judged.append((setting, says, before, after, effect, p, count))
    corrected = holm([p for *_, p, _ in judged]).tolist()
    found = [
        Mend(
            setting, says, facts.score, facts.unit, before, after, effect.interval(_LEVEL), least, p, len(judged), count
        )
        for (setting, says, before, after, effect, _, count), p in zip(judged, corrected, strict=True)
        if p <= 1.0 - _LEVEL
    ]
    best: dict[str, Mend] = {}  # two ways may lead to one setting
    for mend in sorted(found, key=lambda mend: -mend.gain.value):
        best.setdefault(mend.setting, mend)
    return list(best.values())


def settings_tried(
    tried: Sequence[PlausibilityRow],
) -> Iterator[tuple[str, str, float, float, Replicates, int]]:
    """Every change of a setting: what it is, what it means, the score as configured and changed, what it gains, and on
    how many samples."""
    settings: dict[tuple[str, str], dict[int, PlausibilityRow]] = {}
    for row in tried:
        settings.setdefault((row.setting, row.says), {})[row.sample] = row
    as_configured = [key for key in settings if not key[0]]
    if not as_configured:
        return
    configured = settings.pop(as_configured[0])
    for (setting, says), rows in settings.items():
        samples = sorted(rows.keys() & configured.keys())
        before, after = (_parts(one, samples) for one in (configured, rows))
        yield setting, says, _score(before), _score(after), _gain(before, after), len(samples)


def _parts(rows: dict[int, PlausibilityRow], samples: Sequence[int]) -> NDArray[np.float64]:
    """float64[2, samples]: part and whole."""
    return np.array([[rows[sample].part, rows[sample].whole] for sample in samples], np.float64).reshape(-1, 2).T


def _score(parts: NDArray[np.float64]) -> float:
    part, whole = parts.sum(axis=1).tolist()
    return part / whole if whole else 0.0


def _gain(before: NDArray[np.float64], after: NDArray[np.float64]) -> Replicates:
    """Score after minus score before, the same samples resampled for both."""
    count = before.shape[1]
    weights = resample_weights(max(1, count), _RESAMPLES, _SEED)[:, :count]
    drawn = [_ratios(weights, parts) for parts in (before, after)]
    return Replicates(_score(after) - _score(before), drawn[1] - drawn[0], count, "expanded")


def _ratios(weights: NDArray[np.int64], parts: NDArray[np.float64]) -> NDArray[np.float64]:
    part, whole = parts @ weights.T
    ratios: NDArray[np.float64] = np.divide(part, whole, out=np.zeros(len(part)), where=whole != 0.0)
    return ratios
