"""A run of a simulated world explained: verdicts, findings, choice, and how they are told."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from planted.world import Noise, PlantedOp, PlantedVariant, World
from qprof.errors import StoreError
from qprof.findings.check import Check, check_against, check_limits
from qprof.findings.choice import Dominance, Limits
from qprof.findings.explanation import explain, save
from qprof.findings.verdicts import verdicts
from qprof.measure.progress import SilentProgress
from qprof.report.check import junit_xml, markdown
from qprof.report.explain import explanation_lines, verdict_table
from qprof.store.run import Run

RIGHT = ([1.0] * 9 + [0.0]) * 400
WRONG = ([1.0] * 7 + [0.0] * 3) * 400


def variant(name: str, us: float, correct: list[float] | None = None) -> PlantedVariant:
    scores = {} if correct is None else {"correct": correct}
    summary = {} if correct is None else {"accuracy": sum(correct) / len(correct)}
    ops, section = [PlantedOp("conv", "CONV_2D", us)], {"method": "float32"}
    return PlantedVariant(name, ops, section=section, sample_scores=scores, summary_scores=summary)


def world(*variants: PlantedVariant, **changes: object) -> World:
    manifest = {"score_columns": ["accuracy"]}
    return World(list(variants), manifest=manifest, **changes)  # type: ignore[arg-type]


def by_figure(run: Run) -> dict[tuple[str, str], str]:
    return {(found.variant, found.figure): found.kind for found in verdicts(run)}


def test_verdicts_of_every_figure(tmp_path: Path) -> None:
    run = world(variant("base", 1000.0, RIGHT), variant("fast", 700.0, WRONG), variant("same", 1000.0, RIGHT)).record(
        tmp_path / "run"
    )
    found = by_figure(run)
    assert found["fast", "latency"] == "better" and found["fast", "accuracy"] == "worse"
    assert found["same", "accuracy"] == "equivalent"
    assert found["same", "latency"] in ("equivalent", "inconclusive")


def test_an_inconclusive_latency_says_how_many_rounds_would_decide(tmp_path: Path) -> None:
    run = world(variant("base", 1000.0), variant("other", 1015.0), noise=Noise(relative=0.04), rounds=8).record(
        tmp_path / "run"
    )
    [latency] = [found for found in verdicts(run) if found.figure == "latency"]
    assert latency.kind == "inconclusive"
    assert latency.more_rounds is not None and latency.more_rounds > 0
    assert latency.detectable is not None and 0.01 < latency.detectable < 0.2
    assert (
        latency.change is not None and latency.change.low is not None and latency.change.low < 0 < latency.change.high
    )


def test_too_few_rounds_for_a_verdict(tmp_path: Path) -> None:
    run = world(variant("base", 1000.0), variant("fast", 500.0), rounds=3).record(tmp_path / "run")
    [latency] = [found for found in verdicts(run) if found.figure == "latency"]
    assert latency.kind == "inconclusive" and "at least 5" in str(latency.reason)


def test_an_explanation_is_told_and_kept(tmp_path: Path) -> None:
    run = world(variant("base", 1000.0, RIGHT), variant("fast", 700.0, RIGHT)).record(tmp_path / "run")
    explanation = explain(run)
    assert explanation.choice.variant == "fast"
    assert explanation.dominated == {"base": Dominance("fast", ("latency",), ("accuracy", "size"), ("peak memory",))}
    text = "\n".join(explanation_lines(explanation))
    assert "deploy fast: the fastest that keeps the limits (at most 1 point of accuracy lost)" in text
    assert "accuracy 0.900" in text and "base: fast is better in latency, and equal in accuracy, size" in text
    assert [row["verdict"] for row in verdict_table(explanation).rows if row["figure"] == "latency"] == ["better"]
    save(run, explanation)
    kept = json.loads((run.folder / "findings.json").read_text())
    assert kept["choice"]["variant"] == "fast" and kept["baseline"] == "base"
    assert json.loads(json.dumps(asdict(explanation), default=str))["run"] == run.name


def test_nobody_fits(tmp_path: Path) -> None:
    run = world(variant("base", 1000.0, RIGHT), variant("fast", 700.0, WRONG)).record(tmp_path / "run")
    text = "\n".join(explanation_lines(explain(run, limits=Limits(score_drop=0.01, latency_us=800.0))))
    assert "no variant keeps the limits (at most 1 point of accuracy lost, p50 at most 800 µs)" in text
    assert "base does not fit: p50 1.01" in text and "fast does not fit: loses 20.00 points" in text


def test_claims_are_not_tested_without_being_asked(tmp_path: Path) -> None:
    slow = PlantedVariant("slow", [PlantedOp("conv", "CONV_2D", 3000.0, kernel="builtin")], section={"method": "int8"})
    ops = [PlantedOp("conv", "CONV_2D", 1000.0, delegate="XNNPACK", kernel="f32")]
    base = PlantedVariant("base", ops, section={"method": "float32"})
    run = world(base, slow).record(tmp_path / "run")
    explanation = explain(run, progress=SilentProgress())
    statuses = {finding.status for part in explanation.comparisons for finding in part.findings}
    assert "confirmed" not in statuses
    assert not (run.folder / "verify").exists()


# -- the gate -----------------------------------------------------------------------------------------------------


def outcomes(checks: list[Check]) -> dict[tuple[str, str], str]:
    return {(check.variant, check.name.split(" against")[0]): check.outcome for check in checks}


def test_limits_are_checked_one_by_one(tmp_path: Path) -> None:
    run = world(variant("base", 1000.0, RIGHT), variant("fast", 700.0, WRONG)).record(tmp_path / "run")
    found = outcomes(check_limits(run, Limits(score_drop=0.01, latency_us=800.0), ["base", "fast"]))
    assert found == {
        ("base", "accuracy drop"): "passed",
        ("base", "p50"): "failed",
        ("fast", "accuracy drop"): "failed",
        ("fast", "p50"): "passed",
    }


def test_a_limit_inside_the_interval_is_doubtful(tmp_path: Path) -> None:
    run = world(variant("base", 1000.0), variant("fast", 700.0)).record(tmp_path / "run")
    p50 = next(c for c in explain(run).candidates if c.variant == "fast")
    assert p50.latency_us is not None and p50.most_latency_us is not None
    between = (p50.latency_us + p50.most_latency_us) / 2
    [check] = check_limits(run, Limits(latency_us=between), ["fast"])
    assert check.outcome == "doubtful" and "interval up to" in check.says


def test_what_is_not_known_fails(tmp_path: Path) -> None:
    run = world(variant("base", 1000.0), variant("fast", 700.0)).record(tmp_path / "run")
    [check] = check_limits(run, Limits(energy_j=1.0), ["fast"])
    assert (check.outcome, check.says) == ("failed", "is not known")


def test_against_a_run_that_is_the_standard(tmp_path: Path) -> None:
    standard = world(variant("base", 1000.0, RIGHT), variant("fast", 700.0, RIGHT)).record(tmp_path / "standard")
    same = world(variant("base", 1000.0, RIGHT), variant("fast", 700.0, RIGHT), seed=5).record(tmp_path / "same")
    slower = world(variant("base", 1000.0, RIGHT), variant("fast", 900.0, WRONG), seed=6).record(tmp_path / "slower")
    assert set(outcomes(check_against(same, standard, ["fast"], 0.05, 0.005)).values()) == {"passed"}
    assert outcomes(check_against(slower, standard, ["fast"], 0.05, 0.005)) == {
        ("fast", "p50 of inference"): "failed",
        ("fast", "accuracy"): "failed",
    }
    assert set(outcomes(check_against(slower, standard, ["fast"], 0.5, 0.5)).values()) == {"passed"}


def test_a_loss_that_may_be_chance_is_doubtful(tmp_path: Path) -> None:
    noise = Noise(relative=0.1)
    base = variant("base", 1000.0)
    standard = world(base, variant("fast", 700.0), noise=noise, rounds=6).record(tmp_path / "a")
    slower = world(base, variant("fast", 720.0), noise=noise, rounds=6, seed=4).record(tmp_path / "b")
    [check] = check_against(slower, standard, ["fast"], 0.01, 0.005)
    assert check.outcome == "doubtful" and "margin +1.00 %" in check.says


def test_no_variant_in_common(tmp_path: Path) -> None:
    run = world(variant("base", 1000.0), variant("fast", 700.0)).record(tmp_path / "run")
    other = world(variant("base", 1000.0), variant("x", 700.0)).record(tmp_path / "other")
    with pytest.raises(StoreError, match="none of the variants fast"):
        check_against(run, other, ["fast"], 0.05, 0.005)


def test_junit_and_markdown_hold_any_text() -> None:
    checks = [
        Check("a|b", "p50 <script>", "failed", "5 ms\x00, limit 4 ms"),
        Check("ok", "size", "doubtful", "near *it*"),
    ]
    root = ElementTree.fromstring(junit_xml(checks, "run\x1b"))
    assert (root.get("tests"), root.get("failures")) == ("2", "1")
    failure = root.find("testcase/failure")
    assert failure is not None and failure.get("message") == "5 ms�, limit 4 ms"
    assert root.findall("testcase")[1].findtext("system-out") == "doubtful: near *it*"
    table = markdown(checks)
    assert "a\\|b" in table and "&lt;script&gt;" in table and "near \\*it\\*" in table
    assert all(line.count(" | ") == 3 for line in table.splitlines()[2:])


def test_the_effect_of_seconds_is_not_lost_in_logs(tmp_path: Path) -> None:
    """The change is relative, the verdict's effect its logarithm."""
    run = world(variant("base", 1000.0), variant("slow", 3000.0)).record(tmp_path / "run")
    [latency] = [found for found in verdicts(run) if found.figure == "latency"]
    assert latency.change is not None and latency.verdict is not None
    assert latency.change.value == pytest.approx(math.expm1(latency.verdict.effect.value))
    assert latency.change.value == pytest.approx(3020.0 / 1020.0 - 1.0, rel=0.03)
    assert replace(latency, kind="worse") == latency
