"""What a reader of the report would stumble over: labels on top of each other, bars below zero, sums left open."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec.structs import replace

from planted.world import PlantedOp, PlantedVariant, World
from qprof.findings import mixed_precision
from qprof.findings.explanation import ComparisonFindings, Unexplained
from qprof.report.causes import unexplained_lines
from qprof.report.page.charts.base import place_labels
from qprof.report.page.charts.waterfall import waterfall
from qprof.report.page.data import MechanismRow
from qprof.report.page.data_tables import Amount
from report_pages import report_of


def test_labels_of_points_that_coincide_stand_in_one_block() -> None:
    values: list[dict[str, Any]] = [{"name": name} for name in ("float32", "float16", "int8-weight-only", "far")]
    points = [(100.0, 40.0), (100.5, 41.0), (99.0, 40.0), (300.0, 200.0)]
    place_labels(values, "name", points, points, (380.0, 230.0))
    block = values[:3]
    assert len({(one["align"], one["dx"]) for one in block}) == 1
    assert [b["dy"] - a["dy"] for a, b in pairwise(block)] == [13.0, 13.0]


def test_a_label_keeps_clear_of_intervals() -> None:
    values: list[dict[str, Any]] = [{"name": "int8"}]
    place_labels(values, "name", [(100.0, 100.0)], [(100.0, 100.0)], (380.0, 230.0))
    assert (values[0]["align"], values[0]["dy"]) == ("left", -9.0)
    place_labels(values, "name", [(100.0, 100.0)], [(100.0, 100.0)], (380.0, 230.0), [(110.0, 60.0, 116.0, 140.0)])
    assert values[0]["align"] == "right"


def test_bars_below_zero_are_within_the_axis() -> None:
    pair = report_of(("plain", "other")).runs[0].pairs[0]
    rows = [
        MechanismRow(mechanism="settings", delta_us=Amount(value=-130.0, text="-130 µs"), sentence="x"),
        MechanismRow(mechanism="unattributed", delta_us=Amount(value=160.0, text="+160 µs"), sentence="y"),
    ]
    spec = waterfall(replace(pair, rows=rows))
    assert spec is not None
    assert spec["layer"][0]["encoding"]["x"]["scale"]["domain"][0] == pytest.approx(-30.0)


@pytest.mark.parametrize(
    ("difference", "claimed", "told"),
    [
        (-683.0, -771.0, "the rest works against them: +88.0 µs"),
        (-683.0, -600.0, "unexplained: -83.0 µs"),
        (-683.0, -683.0, "unexplained: +0 µs"),
    ],
)
def test_what_confirmed_causes_leave_closes_the_sum(difference: float, claimed: float, told: str) -> None:
    claim = SimpleNamespace(hypothesis=SimpleNamespace(figure="latency", effect=SimpleNamespace(value=claimed)))
    comparison = cast(ComparisonFindings, SimpleNamespace(findings=(claim,)))
    (line,) = unexplained_lines(comparison, Unexplained("latency", "us", difference, claimed))
    assert line.endswith(told)


def test_a_layer_that_was_timed_in_parts_has_their_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ops = [
        PlantedOp("proj", "Linear", 100.0),
        PlantedOp("proj/dequantize", "dequantize", 60.0, parent="proj"),
        PlantedOp("proj/matmul", "Linear", 40.0, parent="proj"),
        PlantedOp("norm", "Norm", 100.0),
    ]
    run = World([PlantedVariant("float32", ops, outside_us=0.0), PlantedVariant("int8", ops, outside_us=0.0)]).record(
        tmp_path / "run"
    )
    whole = next(op for op in run.ops_of("int8") if op.name == "proj")
    error = SimpleNamespace(
        op=whole.op,
        name="proj",
        type="Linear",
        own_sqnr_db=9.0,
        sqnr_db=8.0,
        weight_sqnr_db=9.0,
        own_saturated_share=0.0,
    )
    monkeypatch.setattr(mixed_precision, "error_rows", lambda run, variant: [error])
    found = mixed_precision.layers(run, "int8")
    timed = [row for row in found.rows if row.meta is not None and row.meta.op != whole.op]
    monkeypatch.setattr(mixed_precision, "layers", lambda run, variant: SimpleNamespace(rows=timed))
    shares = {row.name: row.share for row in mixed_precision.layer_rows(run, "int8")}
    parts = [shares["proj/dequantize"], shares["proj/matmul"]]
    assert all(share is not None and share > 0.1 for share in parts)
    assert shares["proj"] == pytest.approx(sum(cast(list[float], parts)))
