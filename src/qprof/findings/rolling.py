"""The effect on a perplexity of running text: the same documents resampled for both, or windows where these are few."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qprof.record.perplexities import LOWER_IS_BETTER, ROLLING
from qprof.stats.intervals import Interval, resample_weights
from qprof.stats.verdict import Effect, Replicates, Unbounded
from qprof.store.run import Run

#: Of fewer documents an interval says little; then windows are resampled, each as if it were a text of its own.
_FEWEST_DOCUMENTS = 10
_RESAMPLES, _SEED = 2000, 0


@dataclass(frozen=True, slots=True)
class _Sums:
    """Of every window of a variant, by number."""

    likelihood: Mapping[int, float]
    whole: Mapping[int, float]
    document: Mapping[int, float]

    @classmethod
    def of(cls, run: Run, variant: str, metric: str) -> _Sums:
        names = ("log_likelihood", ROLLING[metric], "document")
        return cls(*(run.sample_scores(variant, name) for name in names))

    def by_document(self) -> dict[float, tuple[float, float]]:
        found: dict[float, tuple[float, float]] = {}
        for window, document in self.document.items():
            likelihood, whole = found.get(document, (0.0, 0.0))
            found[document] = likelihood + self.likelihood[window], whole + self.whole[window]
        return found

    def by_window(self) -> dict[float, tuple[float, float]]:
        return {window: (self.likelihood[window], self.whole[window]) for window in self.document}


def rolling_effect(first: tuple[Run, str], second: tuple[Run, str], metric: str, relative: bool) -> Effect | None:
    """A figure of `ROLLING` of the second run's variant minus that of the first's, or ln of their ratio. `None` where
    one is undefined."""
    values = [run.score(variant, metric) for run, variant in (first, second)]
    if values[0] is None or values[1] is None:
        return None
    a, b = (_Sums.of(run, variant, metric) for run, variant in (first, second))
    documents = [one.by_document() for one in (a, b)]
    units = documents
    same_windows = a.whole == b.whole  # another tokenizer has others
    if len(documents[0]) < _FEWEST_DOCUMENTS and same_windows:
        units = [one.by_window() for one in (a, b)]
    if units[0].keys() != units[1].keys() or not units[0]:
        value = math.log(values[1] / values[0]) if relative else values[1] - values[0]
        return Unbounded(value, f"{metric}: the two did not score the same text")
    order = sorted(units[0])
    columns = [np.array([one[unit] for unit in order], np.float64) for one in units]
    weights = resample_weights(len(order), _RESAMPLES, _SEED)
    drawn = [_figures(metric, weights @ column) for column in columns]
    whole = [float(_figures(metric, column.sum(axis=0, keepdims=True))[0]) for column in columns]
    if relative:
        return _replicates(math.log(whole[1] / whole[0]), np.log(drawn[1] / drawn[0]), len(order), metric)
    return _replicates(whole[1] - whole[0], drawn[1] - drawn[0], len(order), metric)


def _replicates(value: float, drawn: NDArray[np.float64], count: int, metric: str) -> Effect:
    if not np.isfinite(drawn).all():
        return Unbounded(value, f"{metric}: is beyond a float in some resamples")
    return Replicates(value, drawn, count, "expanded")


def _figures(metric: str, sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64[n] of sums float64[n, 2] of log-likelihood and what it is divided by."""
    nats = -sums[:, 0] / sums[:, 1]
    found: NDArray[np.float64] = nats / math.log(2.0) if metric == "bits_per_byte" else np.exp(nats)
    return found


def score_drop(metric: str | None, base: float | None, score: float | None) -> float | None:
    """What a score lost; by which part of it a perplexity grew."""
    if score is None or base is None:
        return None
    return score / base - 1.0 if metric in LOWER_IS_BETTER else base - score


def most_drop(metric: str | None, change: Interval) -> float | None:
    """The most that it may be, by the interval of its change (of a perplexity the relative one)."""
    bound = change.high if metric in LOWER_IS_BETTER else change.low
    return bound if bound is None or metric in LOWER_IS_BETTER else -bound
