"""Two variants of two runs: what differs around them, Welch's intervals, rows that add up."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from planted.world import Noise, PlantedOp, PlantedVariant, World
from qprof.cli.main import main
from qprof.errors import StoreError
from qprof.findings.across_runs import differ_across
from qprof.findings.op_costs import WORKERS
from qprof.record.machine import Machine
from qprof.report.across_runs import across_lines, across_table
from qprof.report.table import render
from qprof.store.run import Run


def recorded(folder: Path, us: float, seed: int = 0, extra: bool = False, cpu: str = "one", **changes: object) -> Run:
    ops = [PlantedOp("conv", "CONV_2D", us, kernel=f"kernel of {cpu}"), PlantedOp("add", "ADD", 20.0)]
    if extra:
        ops.append(PlantedOp("more", "MUL", 15.0))
    variants = [PlantedVariant("float32", ops), PlantedVariant("int8", [PlantedOp("conv", "CONV_2D", us / 2)])]
    manifest = {"machine": Machine(cpu_model=cpu), "packages": {"numpy": "1" if cpu == "one" else "2"}, **changes}
    return World(variants, rounds=10, inferences=20, seed=seed, noise=Noise(0.005), manifest=manifest).record(folder)


def test_the_difference_is_found_and_adds_up(tmp_path: Path) -> None:
    first, second = recorded(tmp_path / "a", 100.0), recorded(tmp_path / "b", 150.0, seed=5, extra=True, cpu="two")
    found = differ_across(first, "float32", second, "float32")
    assert found.difference_us.value == pytest.approx(65.0, abs=3.0)
    assert found.difference_us.low is not None and found.difference_us.high is not None
    assert found.difference_us.low < 65.0 < found.difference_us.high
    assert found.verdict == "worse"
    assert abs(found.closing_error_us) < 1e-9
    assert math.fsum(row.delta_us.value for row in found.rows) == pytest.approx(found.b_us - found.a_us)
    rows = {row.label: row for row in found.rows}
    assert rows["conv"].delta_us.value == pytest.approx(50.0, abs=3.0) and rows["conv"].flags == ("kernel changed",)
    assert rows["more"].kind == "inserted" and rows["more"].a_us is None
    assert rows["add"].delta_us.value == pytest.approx(0.0, abs=1.5)
    assert [row.kind for row in found.rows[-2:]] == ["outside ops", "instrumentation"]
    assert "processor: one (A), two (B)" in found.differs and "numpy: 1 (A), 2 (B)" in found.differs
    shown = render(across_table(found, top=1), width=None, color=False)
    assert "2 other ops" in shown and "Welch" in shown
    lines = list(across_lines(found))
    assert lines[:3] == ["A: float32 of a", "B: float32 of b", "not the same:"]


@pytest.mark.filterwarnings("error")
def test_two_inferences_a_block_are_enough(tmp_path: Path) -> None:
    ops = [PlantedOp("conv", "CONV_2D", 100.0)]
    runs = [
        World([PlantedVariant("float32", ops)], rounds=3, inferences=2, seed=seed).record(tmp_path / f"{seed}")
        for seed in (1, 2)
    ]
    found = differ_across(runs[0], "float32", runs[1], "float32")
    assert {row.label: row for row in found.rows}["conv"].a_us == pytest.approx(100.0, rel=0.2)
    assert math.fsum(row.delta_us.value for row in found.rows) == pytest.approx(found.b_us - found.a_us)


def test_the_interval_is_welch_s_and_more(tmp_path: Path) -> None:
    """Paired by round it would be far narrower: the noise of a round is common to the variants of a world."""
    stats = pytest.importorskip("scipy.stats")
    first, second = recorded(tmp_path / "a", 100.0), recorded(tmp_path / "b", 101.0, seed=3)
    found = differ_across(first, "float32", second, "int8")
    sides = []
    for run, name in ((first, "float32"), (second, "int8")):
        clean = run.latency(name)
        sides.append([np.log(np.median(clean.duration_ns[clean.round == n])) for n in np.unique(clean.round)])
    welch = stats.ttest_ind(sides[1], sides[0], equal_var=False)
    error = math.hypot((np.mean(sides[1]) - np.mean(sides[0])) / welch.statistic, WORKERS)
    half = stats.t.ppf(0.975, int(welch.df)) * error
    assert found.log_ratio.high is not None
    assert found.log_ratio.high - found.log_ratio.value == pytest.approx(half, rel=1e-6)


def test_the_same_is_equivalent(tmp_path: Path) -> None:
    first, second = recorded(tmp_path / "a", 100.0), recorded(tmp_path / "b", 100.0, seed=9)
    found = differ_across(first, "float32", second, "float32")
    assert found.verdict == "equivalent" and found.differs == []
    assert "recorded as the same" in list(across_lines(found))[2]


def test_ops_that_were_not_timed(tmp_path: Path) -> None:
    first = recorded(tmp_path / "a", 100.0)
    second = recorded(tmp_path / "b", 100.0, profile={"protocol": {"rounds": 10, "profiled": False}})
    found = differ_across(first, "float32", second, "float32")
    assert found.rows == [] and found.untimed is not None and "not timed" in found.untimed
    assert "no ops" in render(across_table(found), width=None, color=False)


def test_a_phase_that_one_lacks(tmp_path: Path) -> None:
    run = recorded(tmp_path / "a", 100.0)
    with pytest.raises(StoreError, match="no phase 'decode'"):
        differ_across(run, "float32", run, "float32", "decode")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded(tmp_path / "a", 100.0)
    recorded(tmp_path / "b:1", 150.0, cpu="two")  # a colon in a path
    assert main(["diff", f"{tmp_path}/a:float32", f"{tmp_path}/b:1:int8", "--top", "1"]) == 0
    out = capsys.readouterr().out
    assert out.index("processor: one (A), two (B)") < out.index("end to end (p50)")
    assert main(["diff", f"{tmp_path}/a:float32", f"{tmp_path}/b:1:int8", "--json"]) == 0
    assert '"verdict": "better"' in capsys.readouterr().out
    for words, told in (
        ([f"{tmp_path}/a:float32", f"{tmp_path}/a:int8"], "whose rounds pair them"),
        ([f"{tmp_path}/a:nix", f"{tmp_path}/b:1:int8"], "no variant 'nix'"),
        ([f"{tmp_path}/c:nix", f"{tmp_path}/b:1:int8"], "no such run"),
        ([f"{tmp_path}/a:float32", f"{tmp_path}/b:1:int8", "--by", "type"], "a row for each op"),
    ):
        assert main(["diff", *words]) == 2
        err = capsys.readouterr().err
        assert told in err and err.count("\n") == 1
