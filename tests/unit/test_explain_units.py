"""Every figure in its own unit: no microseconds behind a claim about a score, no points behind a perplexity."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from planted.world import PlantedOp, PlantedVariant, World
from qprof.findings.causes.base import Finding, Hypothesis, Intervention, Prediction
from qprof.findings.check import check_against
from qprof.findings.explanation import Explanation, explain
from qprof.report.explain import explanation_lines, verdict_table
from qprof.stats.intervals import Interval

LIKELY = np.random.default_rng(5).normal(-1.0, 0.5, 60)


def variant(name: str, us: float, likely: np.ndarray, kernel: str | None = None) -> PlantedVariant:
    delegate = None if kernel == "builtin" else "XNNPACK"
    return PlantedVariant(
        name,
        [PlantedOp("conv", "CONV_2D", us, delegate=delegate, kernel=kernel)],
        section={"method": "int8" if kernel == "builtin" else "float32"},
        sample_scores={"log_likelihood": likely.tolist()},
        summary_scores={"perplexity": math.exp(-float(np.mean(likely)))},
    )


def world(loss: float, seed: int = 0) -> World:
    variants = [variant("base", 1000.0, LIKELY, "f32"), variant("slow", 3000.0, LIKELY - loss, "builtin")]
    return World(variants, manifest={"score_columns": ["perplexity"]}, seed=seed)


@pytest.fixture
def explanation(tmp_path: Path) -> Explanation:
    return explain(world(0.1).record(tmp_path / "run"))


@pytest.mark.parametrize(("figure", "text"), [("AP", "-2.42 pt [-3.10 pt, -1.70 pt]"), ("perplexity", "-0.0242 [-0.")])
def test_a_claim_on_a_score_has_no_microseconds(explanation: Explanation, figure: str, text: str) -> None:
    measured = Interval(-0.0242, -0.031, -0.017, 0.95)
    intervention = Intervention("do something", Prediction(figure, "base", "slow", -0.04, -0.01))
    hypothesis = Hypothesis("a cause", "a claim on a score", figure, None, (), intervention)
    finding = Finding(hypothesis, "confirmed", "it is as predicted", measured, 0.001)
    changed = replace(explanation, comparisons=(replace(explanation.comparisons[0], findings=(finding,)),))
    lines = list(explanation_lines(changed))
    start = next(i for i, line in enumerate(lines) if "a claim on a score" in line)
    said = "\n".join(lines[start : lines.index("", start)])
    assert text in said and "µs" not in said and "ms" not in said


def test_the_verdicts_tell_a_perplexity_by_its_ratio(explanation: Explanation) -> None:
    [row] = [row for row in verdict_table(explanation).rows if row["figure"] == "perplexity"]
    assert str(row["change"]).startswith("+10.5 %") and row["verdict"] == "worse"
    [verdict] = [one for one in explanation.verdicts if one.figure == "perplexity"]
    assert verdict.difference is not None and verdict.baseline is not None and verdict.value is not None
    assert verdict.difference.value == pytest.approx(verdict.value - verdict.baseline)


def test_a_gate_on_perplexity_has_no_points(tmp_path: Path) -> None:
    standard, worse = (world(loss, seed).record(tmp_path / f"{seed}") for loss, seed in ((0.1, 1), (0.5, 2)))
    checks = {check.name.split(" ")[0]: check for check in check_against(worse, standard, ["slow"], 0.05, 0.005)}
    assert checks["perplexity"].outcome == "failed"
    assert "points" not in checks["perplexity"].says and "%" not in checks["perplexity"].says
    assert checks["perplexity"].says.startswith("+1.") and checks["perplexity"].says.endswith("margin +0.005")
