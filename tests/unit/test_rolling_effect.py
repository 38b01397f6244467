"""Perplexities of running text between two variants: what is resampled, and what it comes to."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pytest

from qprof.findings.rolling import most_drop, rolling_effect, score_drop
from qprof.stats.intervals import Interval
from qprof.stats.verdict import Replicates, Unbounded
from qprof.store.run import Run


@dataclass
class Told:
    """As much of a run as is asked for: the windows of its variants."""

    windows: dict[str, dict[str, list[float]]]

    def sample_scores(self, variant: str, metric: str) -> dict[int, float]:
        return dict(enumerate(self.windows[variant][metric]))

    def score(self, variant: str, metric: str) -> float | None:
        columns = self.windows[variant]
        nats = -sum(columns["log_likelihood"]) / sum(columns["words" if metric == "word_perplexity" else "bytes"])
        return nats / math.log(2) if metric == "bits_per_byte" else math.exp(nats)


def windows(documents: int, each: int, worse: float = 0.0) -> dict[str, list[float]]:
    """Windows of documents of unlike difficulty; all a little worse."""
    rng = np.random.default_rng(3)
    hard = np.repeat(rng.uniform(20.0, 60.0, documents), each)
    return {
        "log_likelihood": (-(1.0 + worse) * hard - rng.normal(0.0, 0.1, len(hard))).tolist(),
        "document": np.repeat(np.arange(documents), each).astype(float).tolist(),
        "words": [10.0] * len(hard),
        "bytes": [50.0] * len(hard),
        "tokens": [16.0] * len(hard),
    }


def effect(a: Any, b: Any, metric: str = "word_perplexity", relative: bool = True) -> Any:
    run = cast(Run, Told({"a": a, "b": b}))
    return rolling_effect((run, "a"), (run, "b"), metric, relative)


def test_the_same_documents_are_drawn_for_both() -> None:
    """Documents differ by far more than the variants do: only a paired interval finds one twentieth."""
    found = effect(windows(40, 5), windows(40, 5, 0.05))
    assert isinstance(found, Replicates) and found.blocks == 40
    interval = found.interval()
    assert interval.low is not None and interval.high is not None
    mean = sum(-x for x in windows(40, 5)["log_likelihood"]) / 2000.0
    assert interval.low < 0.05 * mean < interval.high and interval.high - interval.low < 0.2 * 0.05 * mean


def test_windows_are_drawn_where_there_are_few_documents() -> None:
    assert effect(windows(3, 20), windows(3, 20, 0.05)).blocks == 60


def test_of_another_tokenizer_whole_documents_are_held_against_each_other() -> None:
    other = windows(12, 4)
    merged = {name: np.array(values).reshape(12, 2, 2).sum(axis=2).ravel().tolist() for name, values in other.items()}
    merged["document"] = np.repeat(np.arange(12.0), 2).tolist()
    found = effect(other, merged)
    assert isinstance(found, Replicates) and found.blocks == 12 and found.value == pytest.approx(0.0, abs=1e-12)


def test_other_text_has_no_interval() -> None:
    a, b = windows(12, 4), windows(11, 4)
    assert isinstance(effect(a, b), Unbounded)
    few = replace(Told({"a": windows(2, 4), "b": windows(2, 5)}))
    found = rolling_effect((cast(Run, few), "a"), (cast(Run, few), "b"), "bits_per_byte", False)
    assert found is not None and found.value is not None


def test_bits_are_no_exponentials() -> None:
    a, b = windows(20, 2), windows(20, 2, 0.1)
    nats = [-sum(one["log_likelihood"]) / sum(one["bytes"]) for one in (a, b)]
    assert effect(a, b, "bits_per_byte", False).value == pytest.approx((nats[1] - nats[0]) / math.log(2))
    assert effect(a, b, "byte_perplexity", False).value == pytest.approx(math.exp(nats[1]) - math.exp(nats[0]))


def test_a_perplexity_that_grows_is_a_loss() -> None:
    assert score_drop("word_perplexity", 10.0, 12.0) == pytest.approx(0.2)
    assert score_drop("accuracy", 0.7, 0.6) == pytest.approx(0.1)
    change = Interval(0.2, 0.1, 0.3, 0.95)
    assert (most_drop("bits_per_byte", change), most_drop("accuracy", change)) == (0.3, -0.1)
