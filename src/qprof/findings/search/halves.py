"""Scores of one half of a data set: layers are chosen by one half, and what the choice is worth is told by the other.

Whoever picks the best of many trials picks those that were lucky on the samples that they were tried on (the winner's
curse; Cawley & Talbot, "On over-fitting in model selection", JMLR 11, 2010). The other half played no part in the
choice, so its figures are of a choice that was made before it was looked at, however many trials there were.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from qprof.findings.effects import PERPLEXITY, by_sample
from qprof.record.distances import DECIDING
from qprof.stats.paired_outcomes import PairedOutcomes, paired_bootstrap
from qprof.stats.verdict import Effect, Known
from qprof.store.run import Run
from qprof.tasks import registry as tasks
from qprof.tasks.base import PartOfSet, TaskKind

Half = Literal["selection", "report"]

#: A variant of a run.
Measured = tuple[Run, str]


def half_of(sample: int, seed: int) -> Half:
    """Which half a sample belongs to: of each two neighbours one falls to either, at random, so that data in the order
    of their classes are divided class by class."""
    bit = hashlib.sha256(f"{seed}:{sample // 2}".encode()).digest()[0] & 1
    return "selection" if sample % 2 == bit else "report"


def score_name(metric: str) -> str:
    """The score that stands for a run's metric, higher is better: of perplexity the log-likelihood."""
    return by_sample(metric) if metric == PERPLEXITY else metric


def is_in(half: Half, seed: int) -> Callable[[int], bool]:
    """Whether a sample is in that half."""
    return partial(_is_in, half, seed)


def _is_in(half: Half, seed: int, sample: int) -> bool:
    return half_of(sample, seed) == half


def score(of: Measured, metric: str, half: Half, seed: int) -> float | None:
    """A score of one half of the samples, `None` where it is not known. Raises `DataError` where predictions that it
    needs cannot be read."""
    run, variant = of
    kind = _whole_set_kind(run, metric)
    if kind is not None:
        return _part(kind, of, half, seed).figure(metric)
    rows = _rows(of, metric, half, seed)
    if not rows and metric in DECIDING and variant == run.baseline:
        return 1.0  # nothing is nearer to the baseline than itself
    return float(np.mean(list(rows.values()))) if rows else None


def change(a: Measured, b: Measured, metric: str, half: Half, seed: int) -> float | None:
    """As `difference`, without its distribution: over the samples that both have a score of, since of distances it is
    chance for how many there was time."""
    kind = _whole_set_kind(a[0], metric)
    if kind is not None:
        values = [_part(kind, of, half, seed).figure(metric) for of in (a, b)]
        return None if values[0] is None or values[1] is None else values[1] - values[0]
    before, after = _paired(a, b, metric, half, seed)
    return float(np.mean(after - before)) if len(before) else None


def difference(a: Measured, b: Measured, metric: str, half: Half, seed: int) -> Effect | None:
    """Score of `b` minus that of `a` on one half, paired by sample, whichever runs they are of; `None` where either is
    not known. Raises `DataError` as `score`."""
    kind = _whole_set_kind(a[0], metric)
    if kind is not None:
        return _part(kind, a, half, seed).to(_part(kind, b, half, seed), metric)
    before, after = _paired(a, b, metric, half, seed)
    if not len(before):
        return None
    if np.array_equal(before, after):
        return Known(0.0)
    if np.isin(before, (0.0, 1.0)).all() and np.isin(after, (0.0, 1.0)).all():
        return PairedOutcomes.of(before == 1.0, after == 1.0)
    return paired_bootstrap(before, after)


def _paired(
    a: Measured, b: Measured, metric: str, half: Half, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    first, second = _rows(a, metric, half, seed), _rows(b, metric, half, seed)
    if metric in DECIDING and a[1] == a[0].baseline and not first:
        first = dict.fromkeys(second, 1.0)
    common = sorted(first.keys() & second.keys())
    return np.array([first[s] for s in common], np.float64), np.array([second[s] for s in common], np.float64)


def _rows(of: Measured, metric: str, half: Half, seed: int) -> dict[int, float]:
    rows = of[0].sample_scores(of[1], by_sample(metric))
    return {sample: value for sample, value in rows.items() if half_of(sample, seed) == half}


def _whole_set_kind(run: Run, metric: str) -> TaskKind[Any] | None:
    kind = tasks.of(run.manifest.task)
    by_rows = any(run.sample_scores(entry.name, by_sample(metric)) for entry in run.variants)
    return kind if kind is not None and metric in kind.whole_set_metrics and not by_rows else None


def _part(kind: TaskKind[Any], of: Measured, half: Half, seed: int) -> PartOfSet:
    return kind.part_of_set(of[0], of[1], is_in(half, seed))
