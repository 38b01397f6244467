"""When the older protocol changes the answer, by how much the counts foretell, and that it is silent elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from planted.cases_accuracy import Reader, readers
from planted.detector import Detector, DetectorWorld
from planted.world import World
from qprof.findings.causes.base import Finding, Hypothesis
from qprof.findings.causes.metric_protocol import CAUSE
from qprof.findings.comparison import Comparison
from qprof.findings.judgement import findings
from qprof.findings.verify import Claim
from qprof.store import tables
from qprof.store.run import Run


def found(world: World, folder: Path) -> list[Finding]:
    run = world.record(folder / "run")
    comparison = Comparison(run, world.variants[0].name, world.variants[1].name, run.phase())
    return findings([Claim(comparison, hypothesis) for hypothesis in CAUSE.hypotheses(comparison)], {})


def evidence(hypothesis: Hypothesis) -> dict[str, float]:
    return {one.what: one.value for one in hypothesis.evidence}


def test_next_token_protocol_costs_the_words_of_several_tokens(tmp_path: Path) -> None:
    world = readers([Reader(0.7, 0.6).variant("bfloat16"), Reader(0.68, 0.58).variant("gptq-4bit", 2)])
    (finding,) = found(world, tmp_path)
    scores = {name: world.variants[1].summary_scores[name] for name in ("accuracy", "naive_top1")}
    assert finding.status == "consistent"
    assert finding.measured is not None and finding.hypothesis.intervention is not None
    assert finding.measured.value == pytest.approx(scores["naive_top1"] - scores["accuracy"])  # type: ignore[operator]
    # Here nothing but the words of several tokens is lost, so the middle of the prediction is the effect.
    prediction = finding.hypothesis.intervention.prediction
    assert (prediction.low + prediction.high) / 2 == pytest.approx(finding.measured.value)
    assert f"{scores['naive_top1']:.1%}" in finding.hypothesis.claim
    assert evidence(finding.hypothesis)["right as the next token"] == scores["naive_top1"]


def test_a_naive_figure_that_is_low_for_another_reason_refutes(tmp_path: Path) -> None:
    world = readers([Reader(0.7, 0.6).variant("bfloat16"), Reader(0.7, 0.6).variant("gptq-4bit", 2)])
    hit = [0.0] * len(world.variants[1].sample_scores["naive_top1"])  # a decoder that never matches a string
    world.variants[1].sample_scores["naive_top1"] = hit  # type: ignore[index]
    statuses = [finding.status for finding in found(world, tmp_path)]
    assert statuses and set(statuses) == {"refuted"}


def test_words_of_one_token_are_the_same_by_both(tmp_path: Path) -> None:
    short = [
        Reader(0.7, 0.7, of_several=0.05).variant(name, seed) for seed, name in enumerate(("bfloat16", "gptq-4bit"))
    ]
    assert found(readers(short), tmp_path) == []


def test_old_precision_that_turns_the_verdict_of_ap(tmp_path: Path) -> None:
    world = DetectorWorld.of({"float32": Detector(), "int8": Detector(jitter=0.11, false=7)})
    (finding,) = found(world, tmp_path)
    assert finding.status == "consistent"
    assert "by AP int8 is worse" in finding.hypothesis.claim and "0.01 and score 0 better" in finding.hypothesis.claim
    values = evidence(finding.hypothesis)
    ap, precision = values["AP, int8 - float32"], values["precision at IoU 0.01 and score 0, int8 - float32"]
    assert ap < 0.0 < precision
    assert finding.measured is not None and finding.measured.value == pytest.approx(precision - ap)
    assert values["boxes of float32"] - values["boxes of int8"] == 180.0


def test_detectors_that_both_metrics_rank_alike(tmp_path: Path) -> None:
    assert found(DetectorWorld.of({"float32": Detector(), "int8": Detector(found=0.7)}), tmp_path / "worse") == []
    assert found(DetectorWorld.of({"float32": Detector(), "int8": Detector(seed=7)}), tmp_path / "equal") == []


def test_scores_are_explained_once_and_only_where_they_are(tmp_path: Path) -> None:
    world = readers([Reader(0.7, 0.6).variant("bfloat16"), Reader(0.68, 0.58).variant("gptq-4bit", 2)])
    run = world.record(tmp_path / "run")
    assert list(CAUSE.hypotheses(Comparison(run, "bfloat16", "gptq-4bit", "another phase"))) == []
    tables.write_table(run.folder / "scores.parquet", tables.scores_table([]))
    unscored = Run(run.folder)
    assert list(CAUSE.hypotheses(Comparison(unscored, "bfloat16", "gptq-4bit", unscored.phase()))) == []
