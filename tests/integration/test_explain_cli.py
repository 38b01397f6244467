"""`qprof explain` and `qprof check` as commands."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from command_line import QUICK, CommandLine


def test_explain_prints_keeps_and_gives_json(qprof: CommandLine, small_run: Path) -> None:
    done = qprof("explain", small_run, "-q")
    assert done.code == 0, done.err
    for text in ("verdicts against a", "When does the trade-off make sense?", "Can the measurement be trusted?"):
        assert text in done.out
    kept = json.loads((small_run / "findings.json").read_text())
    assert kept["baseline"] == "a" and {verdict["variant"] for verdict in kept["verdicts"]} == {"b", "loop"}
    found = json.loads(qprof("explain", small_run, "-q", "--json").out)
    assert found["choice"] == kept["choice"] and found["audits"] == kept["audits"]


def test_limits_decide_what_to_deploy(qprof: CommandLine, small_run: Path) -> None:
    assert "deploy " in qprof("explain", small_run, "-q", "--max-p50", "10s").out
    done = qprof("explain", small_run, "-q", "--max-p50", "1ns")
    assert "no variant keeps the limits (p50 at most" in done.out and "µs, the limit is 0.001 µs" in done.out


def test_a_verified_run_keeps_its_interventions_inside_its_folder(qprof: CommandLine, models: Path) -> None:
    threads = [f"--set={key}" for key in ("protocol.threads=64", "protocol.rounds=5", "protocol.block_ms=5")]
    done = qprof("run", models / "a.tflite", models / "b.tflite", *QUICK, *threads, "-o", "r", "--verify", "-q")
    assert done.code == 0, done.err
    assert "When does the trade-off make sense?" in done.out
    assert (qprof.folder / "r" / "findings.json").exists()
    before = sorted((qprof.folder / "r").glob("verify/*/manifest.json"))
    again = qprof("explain", "r", "--verify", "-q")
    assert again.code == 0, again.err
    assert sorted((qprof.folder / "r").glob("verify/*/manifest.json")) == before


def test_the_gate(qprof: CommandLine, small_run: Path) -> None:
    assert qprof("check", small_run, "--max-p50", "10s", "--max-size", "1GB").code == 0
    done = qprof("check", small_run, "--max-size", "1B", "--junit", "j.xml", "--markdown", "c.md", "-v", "b")
    assert done.code == 1 and "failed" in done.out
    root = ElementTree.parse(qprof.folder / "j.xml").getroot()
    assert (root.get("tests"), root.get("failures")) == ("1", "1")
    assert "| b | size | failed |" in (qprof.folder / "c.md").read_text()
    assert qprof("check", small_run, "--against", small_run).code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["explain", "RUN", "--max-p50", "5"], "such as 5ms"),
        (["explain", "nowhere"], "no such run"),
        (["explain", "RUN", "--float-layers", "b"], "no errors of quantized layers of b"),
        (["check", "RUN"], "nothing to check"),
        (["check", "RUN", "--max-p50", "5ms", "-v", "x"], "no variant 'x'"),
        (["check", "RUN", "--against", "nowhere"], "no such run"),
        (["layers", "RUN", "--errors", "--by", "type"], "--errors goes with --top and --json alone"),
    ],
)
def test_bad_input(qprof: CommandLine, small_run: Path, words: list[str], said: str) -> None:
    done = qprof(*[str(small_run) if word == "RUN" else word for word in words])
    assert done.code == 2 and done.out == ""
    assert said in done.err and len(done.err.splitlines()) == 1


def test_costs_of_layers_without_errors(qprof: CommandLine, small_run: Path) -> None:
    done = qprof("layers", small_run, "-v", "b", "--errors", "--top", "3")
    assert done.code == 0 and "what each layer loses, takes and weighs" in done.out
    rows = json.loads(qprof("layers", small_run, "-v", "b", "--errors", "--json").out)
    assert {"op", "own_sqnr_db", "share", "bound"} <= set(rows[0])
