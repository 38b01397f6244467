"""SQL over a run: what it answers, and all that it must not reach."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from planted.world import PlantedOp, PlantedVariant, World
from qprof.errors import QprofError
from qprof.report.export import write_csv
from qprof.report.sql import described, names, query, result_table
from qprof.store.run import Run

pytest.importorskip("duckdb")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    variants = [
        PlantedVariant(name, [PlantedOp("<b>=1+1", "CONV_2D", us)], sample_scores={"correct": [1.0, 0.0]})
        for name, us in (("float32", 40.0), ("int8", 30.0))
    ]
    return World(variants, rounds=6, inferences=5).record(tmp_path_factory.mktemp("sql") / "run")


def test_a_query_is_answered_from_the_run(run: Run) -> None:
    found = query(run, "select variant, sum(duration_ns)::bigint ns from samples where kind = 'clean' group by 1")
    expected = {name: int(run.latency(name).duration_ns.sum()) for name in ("float32", "int8")}
    assert {row["variant"]: row["ns"] for row in found.to_pylist()} == expected
    joined = query(run, "select m.name, count(*) n from ops o join op_meta m using (variant, op) group by all")
    assert joined.to_pylist() == [{"name": "<b>=1+1", "n": len(run.op_events)}]
    assert query(run, "select max(latency_us) > 30 as slow from summary").to_pylist() == [{"slow": True}]
    assert query(run, "describe samples").num_rows == len(run.samples.column_names)
    assert query(run, "with a as (select 1 x) from a").to_pylist() == [{"x": 1}]


def test_every_table_can_be_queried(run: Run) -> None:
    for row, name in zip(described(run).rows, names(run), strict=True):
        assert row["table"] == name
        assert query(run, f"select count(*) n from {name}").to_pylist() == [{"n": int(str(row["rows"]))}]


@pytest.mark.parametrize(
    "statement",
    [
        "select * from read_csv('{file}')",
        "select * from '{file}'",
        "select * from read_text('{file}')",
        "select * from read_blob('{file}')",
        "select * from sniff_csv('{file}')",
        "select * from glob('{folder}/*')",
        "select * from read_text('https://example.com')",
        "copy samples to '{folder}/out.csv'",
        "export database '{folder}/out'",
        "attach '{folder}/out.db'",
        "install httpfs",
        "load httpfs",
        "set enable_external_access = true",
        "pragma database_list",
        "create table x as select 1",
        "drop table samples",
        "select 1; copy samples to '{folder}/out.csv'",
        "explain analyze copy samples to '{folder}/out.csv'",
        "select * from query('copy samples to ''{folder}/out.csv''')",
        "select getenv('HOME')",
        "select * from statement",  # a variable of this process
        "select * from nix",
        "select",
        "",
        "-- nothing",
    ],
)
def test_nothing_else_is_reached(run: Run, tmp_path: Path, statement: str) -> None:
    file = tmp_path / "secret.csv"
    file.write_text("a,b\n1,2\n")
    with pytest.raises(QprofError) as refused:
        query(run, statement.format(file=file, folder=tmp_path))
    assert "\n" not in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["secret.csv"]


def test_settings_are_locked(run: Run) -> None:
    settings = [
        "lock_configuration",
        "enable_external_access",
        "autoload_known_extensions",
        "autoinstall_known_extensions",
    ]
    told = query(run, f"select {', '.join(f'current_setting({name!r}) {name}' for name in settings)}").to_pylist()[0]
    assert told == dict(zip(settings, (True, False, False, False), strict=True))


def test_no_warning_is_printed(run: Run) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        query(run, "select 1")


def test_a_result_is_shown(run: Run) -> None:
    found = query(run, "select name, 1.5 x, null y, [1, 2] z from op_meta limit 1")
    table = result_table(found)
    assert [(column.title, column.align) for column in table.columns] == [
        ("name", "left"),
        ("x", "right"),
        ("y", "left"),
        ("z", "left"),
    ]
    assert list(table.rows[0].values()) == ["<b>=1+1", "1.5", None, "[1, 2]"]


def test_csv_disarms_what_a_query_gives(run: Run, tmp_path: Path) -> None:
    found = query(run, "select '=1+1' as \"=x\"")
    write_csv(tmp_path / "x.csv", found.column_names, found.to_pylist())
    assert (tmp_path / "x.csv").read_text() == "'=x\n'=1+1\n"
