"""Effects on figures: which rows by sample a headline metric rests on, and how its difference is paired."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from planted.world import PlantedOp, PlantedVariant, World
from qprof.findings.effects import effect, paired_scores, score_difference
from qprof.stats.paired_outcomes import PairedOutcomes
from qprof.stats.verdict import Unbounded
from qprof.store import tables
from qprof.store.run import Run

OPS = [PlantedOp("linear", "LINEAR", 100.0)]
RIGHT_A, RIGHT_B = [1.0] * 30 + [0.0] * 10, [1.0] * 20 + [0.0] * 19 + [1.0]
RNG = np.random.default_rng(5)
LIKELY_A = RNG.normal(-1.0, 0.5, 40)
LIKELY_B = LIKELY_A - 0.3 + RNG.normal(0.0, 0.1, 40)


def variant(name: str, right: list[float], likely: np.ndarray, **summary: float | None) -> PlantedVariant:
    return PlantedVariant(
        name,
        OPS,
        runtime="torch_lm",
        section={"method": "gptq-4bit"},
        sample_scores={"correct": right, "naive_top1": right, "log_likelihood": likely.tolist()},
        summary_scores={
            "accuracy": float(np.mean(right)),
            "naive_top1": float(np.mean(right)),
            "perplexity": math.exp(-float(np.mean(likely))),
            "naive_ceiling": 0.9,
            **summary,
        },
    )


@pytest.fixture
def run(tmp_path: Path) -> Run:
    variants = [
        variant("bfloat16", RIGHT_A, LIKELY_A),
        variant("gptq-4bit", RIGHT_B, LIKELY_B),
        variant("overflown", RIGHT_B, LIKELY_B, perplexity=None),
    ]
    return World(variants, rounds=5).record(tmp_path / "run")


@pytest.mark.parametrize("metric", ["accuracy", "naive_top1"])
def test_accuracy_is_paired_by_what_was_right(run: Run, metric: str) -> None:
    assert score_difference(run, "bfloat16", "gptq-4bit", metric) == PairedOutcomes(40, a_only=10, b_only=1)


def test_perplexity_goes_through_the_likelihoods(run: Run) -> None:
    found = effect(run, "perplexity", "bfloat16", "gptq-4bit")
    ratio = effect(run, "perplexity", "bfloat16", "gptq-4bit", relative=True)
    assert found is not None and ratio is not None
    perplexities = [math.exp(-float(np.mean(likely))) for likely in (LIKELY_A, LIKELY_B)]
    assert found.value == pytest.approx(perplexities[1] - perplexities[0])
    assert ratio.value == pytest.approx(math.log(perplexities[1] / perplexities[0]))
    interval = found.interval()
    assert interval.low is not None and interval.high is not None
    # By hand: the delta method on the same rows.
    terms = -perplexities[1] * LIKELY_B + perplexities[0] * LIKELY_A
    half = 1.96 * float(np.std(terms, ddof=1)) / math.sqrt(40)
    assert interval.high - interval.low == pytest.approx(2 * half, rel=0.2)
    assert interval.low < found.value < interval.high


def test_perplexity_that_is_undefined_has_no_difference(run: Run) -> None:
    assert score_difference(run, "bfloat16", "overflown", "perplexity") is None


def test_a_score_of_the_whole_alone_has_a_value_and_no_bounds(run: Run) -> None:
    found = score_difference(run, "bfloat16", "gptq-4bit", "naive_ceiling")
    assert found == Unbounded(0.0, "naive_ceiling is not known by sample")
    assert found.p_above(0.0) is None


def test_what_nobody_scored_has_no_effect(run: Run) -> None:
    assert score_difference(run, "bfloat16", "gptq-4bit", "bleu") is None


def test_samples_that_one_lacks_are_left_out(tmp_path: Path) -> None:
    first = PlantedVariant("float32", OPS, sample_scores={"loss": [1.0, 2.0, 3.0]})
    second = PlantedVariant("int8", OPS, sample_scores={"loss": [1.0, 9.0]})
    run = World([first, second], rounds=5).record(tmp_path / "run")
    rows = [*run.scores[:-1], replace(run.scores[-1], value=None)]  # as a run keeps what is not finite
    tables.write_table(run.folder / "scores.parquet", tables.scores_table(rows))
    run = Run(run.folder)
    a, b = paired_scores(run, "float32", "int8", "loss")
    assert a.tolist() == b.tolist() == [1.0]
