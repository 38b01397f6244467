"""`qprof energy` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from energy_runs import TWO, Recording, Variant, a100
from qprof.cli.main import main


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = {"codecarbon.ram.energy": (8.0, "modelled")}
    return a100(models=models).write(tmp_path_factory.mktemp("runs") / "run").folder


def figures(value: Any) -> list[dict[str, Any]]:
    """Every figure of a JSON document."""
    if isinstance(value, list):
        return [found for item in value for found in figures(item)]
    if not isinstance(value, dict):
        return []
    own = [value] if {"value", "low", "high"} <= value.keys() else []
    return own + [found for item in value.values() for found in figures(item)]


def test_the_table(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["energy", str(recorded)]) == 0
    out, err = capsys.readouterr()
    assert err == "" and "# b, nvml.0 against a, per inference: -30." in out
    assert sum(line.startswith(("a ", "b ")) for line in out.splitlines()) == 4


def test_json_has_the_source_of_every_figure(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["energy", str(recorded), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {(row["variant"], row["scope"]) for row in document["rows"]} == {
        (name, scope) for name in TWO for scope in ("nvml.0", "codecarbon.ram")
    }
    found = figures(document)
    assert len(found) > 20
    for figure in found:
        assert {"value", "low", "high", "unit", "provenance", "sensor", "window_s", "reason"} <= figure.keys()
        assert figure["provenance"] in ("measured", "modelled") and figure["unit"] and figure["sensor"]
        assert figure["value"] is not None or figure["reason"]
        assert figure["window_s"] == pytest.approx(5.0, abs=0.1)
    gross = next(row["gross"] for row in document["rows"] if (row["variant"], row["scope"]) == ("b", "nvml.0"))
    assert gross["value"] == pytest.approx(TWO["b"].joules, rel=0.02)


def test_power_over_time(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["energy", str(recorded), "--trace", "b", "--phase", "inference"]) == 0
    out = capsys.readouterr().out
    assert out.count("b, round ") == 8 * 2 and "between the counter's updates" in out and "337 W" in out
    assert main(["energy", str(recorded), "--trace", "b", "--json"]) == 0
    traces = json.loads(capsys.readouterr().out)
    assert len(traces) == 8 * 2
    for trace in traces:
        assert len(trace["t_s"]) == len(trace["watts"]) > 40
        assert trace["provenance"] == "measured" and trace["window_s"] == pytest.approx(5.02, abs=0.01)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--trace", "z"], "no variant 'z' in this run; it has a, b"),
        (["--phase", "decode"], "no phase 'decode' in this run; it has inference"),
        (["--trace", "a", "--phase", "decode"], "no phase 'decode' in this run; it has inference"),
    ],
)
def test_bad_input_is_one_line(words: list[str], says: str, recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["energy", str(recorded), *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and says in err and err.count("\n") == 1


def test_no_such_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["energy", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_no_energy_blocks_to_draw(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Recording({"a": Variant(0.004)}, kind="clean", seconds=0.1, rounds=1).write(tmp_path / "run")
    assert main(["energy", str(run.folder), "--trace", "a"]) == 2
    assert "protocol.energy is off" in capsys.readouterr().err
    assert main(["energy", str(run.folder)]) == 0
    assert "# no rows" in capsys.readouterr().out
