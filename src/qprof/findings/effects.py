"""The effect of one variant against another on a figure, as evidence that `qprof.stats.verdict.judge` decides on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError
from qprof.findings.latency import latency_difference_us, latency_ratio
from qprof.findings.rolling import rolling_effect
from qprof.record.distances import DECIDING
from qprof.record.perplexities import ROLLING
from qprof.stats.paired_outcomes import PairedOutcomes, paired_bootstrap
from qprof.stats.verdict import Effect, Known, NoGain, Replicates, Unbounded
from qprof.store.run import Run
from qprof.tasks import registry as tasks

LATENCY = "latency"
PERPLEXITY = "perplexity"

#: Summary metrics whose rows by sample have another name.
_BY_SAMPLE = {"accuracy": "correct", PERPLEXITY: "log_likelihood"}
_RESAMPLES = 2000
#: Draws of a bootstrap that are held at once.
_CHUNK_ELEMENTS = 2**22


def by_sample(metric: str) -> str:
    """The name that a summary metric's rows by sample have."""
    return _BY_SAMPLE.get(metric, metric)


def paired_scores(run: Run, a: str, b: str, metric: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A score by sample of both, over the samples that both have it of: float64[n] each; empty where none has."""
    (of_a, first), (of_b, second) = run.sample_column(a, metric), run.sample_column(b, metric)
    if np.array_equal(of_a, of_b) and np.all(of_a[1:] > of_a[:-1]):  # as a run writes them
        return first, second
    _, in_a, in_b = np.intersect1d(of_a, of_b, assume_unique=True, return_indices=True)
    return first[in_a], second[in_b]


def score_difference(run: Run, a: str, b: str, metric: str, relative: bool = False) -> Effect | None:
    """Score of b minus that of a, both of the whole data set, paired by sample; with `relative`, for perplexities
    alone, ln of their ratio.

    AP and AR are evaluated again on resampled images (see `qprof.tasks.coco.intervals`). `None` where one of the two
    has no such score; where it is known but cannot be paired, an effect without bounds whose interval says why.
    """
    if metric in ROLLING:
        return rolling_effect((run, a), (run, b), metric, relative)
    first, second = run.score(a, metric), run.score(b, metric)
    paired = paired_scores(run, a, b, _BY_SAMPLE.get(metric, metric))
    if metric == PERPLEXITY:
        # Undefined where a row has no finite likelihood; over the other rows it would be another figure.
        return None if first is None or second is None or not len(paired[0]) else _perplexity(*paired, relative)
    if first is not None and second is not None and _of_whole_set(run, metric):
        return _whole_set_difference((run, a), (run, b), metric, second - first)
    if len(paired[0]):
        return _near(run, a, b, _paired(*paired)) if metric in DECIDING else _paired(*paired)
    return None if first is None or second is None else Unbounded(second - first, f"{metric} is not known by sample")


def _near(run: Run, a: str, b: str, found: Effect) -> Effect:
    """Nothing is nearer to the baseline than itself, and the same file is as near, on whatever inputs."""
    if a != run.baseline:
        return found
    compared = run.variant(b).outputs_compared
    return Known(0.0) if compared is not None and compared.same and found.value == 0.0 else NoGain(found)


def _of_whole_set(run: Run, metric: str) -> bool:
    """Whether a metric is no mean over samples, so that the whole set must be evaluated again."""
    kind = tasks.of(run.manifest.task)
    return kind is not None and metric in kind.whole_set_metrics


def _whole_set_difference(before: tuple[Run, str], after: tuple[Run, str], metric: str, value: float) -> Effect | None:
    """That metric of one variant of a run minus that of another; `value`, where only this is known."""
    try:
        found = []
        for run, variant in (before, after):
            kind = tasks.of(run.manifest.task)
            if kind is None:
                raise DataError(f"{run.folder}: its task is not recorded, so {metric} cannot be evaluated again")
            found.append(kind.whole_set(run, variant))
        return found[0].to(found[1], metric)
    except DataError as error:
        return Unbounded(value, str(error))


def _paired(first: NDArray[np.float64], second: NDArray[np.float64]) -> Effect:
    if np.all(np.isin(first, (0.0, 1.0))) and np.all(np.isin(second, (0.0, 1.0))):
        return PairedOutcomes.of(first == 1.0, second == 1.0)
    return paired_bootstrap(first, second)


def _perplexity(first: NDArray[np.float64], second: NDArray[np.float64], relative: bool) -> Effect:
    """From log-likelihoods float64[n]: exp(-mean) of b minus that of a, or ln of their ratio."""
    if relative:
        return paired_bootstrap(-first, -second)
    rng = np.random.default_rng(0)
    step = max(1, _CHUNK_ELEMENTS // len(first))
    drawn = []
    for done in range(0, _RESAMPLES, step):
        rows = rng.integers(0, len(first), (min(step, _RESAMPLES - done), len(first)), np.int32)
        drawn.append(np.exp(-second[rows].mean(axis=1)) - np.exp(-first[rows].mean(axis=1)))
    value = float(np.exp(-second.mean()) - np.exp(-first.mean()))
    return Replicates(value, np.concatenate(drawn), len(first), "expanded")


def effect(run: Run, figure: str, a: str, b: str, phase: str | None = None, relative: bool = False) -> Effect | None:
    """The effect on a figure: "latency" (microseconds, or ln of the ratio if `relative`) or a score's name."""
    if figure != LATENCY:
        return score_difference(run, a, b, figure, relative)
    return latency_ratio(run, a, b, phase) if relative else latency_difference_us(run, a, b, phase)


def score_difference_between(first: Run, second: Run, variant: str, metric: str) -> Effect | None:
    """Score of a variant in the second run minus that in the first, paired by sample where both scored the same ones.

    `None` where one of them has no such score; without bounds where samples cannot be paired.
    """
    if metric in ROLLING:
        return rolling_effect((first, variant), (second, variant), metric, relative=False)
    values = first.score(variant, metric), second.score(variant, metric)
    if values[0] is None or values[1] is None:
        return None
    if _of_whole_set(first, metric):
        return _whole_set_difference((first, variant), (second, variant), metric, values[1] - values[0])
    name = _BY_SAMPLE.get(metric, metric)
    before_rows, after_rows = (run.sample_scores(variant, name) for run in (first, second))
    if metric in DECIDING:  # how many inputs there was time for is chance; they are the same ones
        common = before_rows.keys() & after_rows.keys()
        before_rows, after_rows = ({sample: rows[sample] for sample in common} for rows in (before_rows, after_rows))
    if not before_rows or before_rows.keys() != after_rows.keys():
        return Unbounded(values[1] - values[0], f"{metric}: the runs did not score the same samples")
    order = sorted(before_rows)
    earlier = np.array([before_rows[sample] for sample in order], np.float64)
    later = np.array([after_rows[sample] for sample in order], np.float64)
    return _perplexity(earlier, later, relative=False) if metric == PERPLEXITY else _paired(earlier, later)
