"""Tables larger than the memory: written part by part, and read no further than what is asked for."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qprof.errors import StoreError
from qprof.findings.measured import op_matrix
from qprof.record.blocks import Block, Samples
from qprof.record.machine import Machine
from qprof.record.manifest import Manifest, RecordedProfile, VariantEntry
from qprof.record.ops import SOURCES, OpEvents, OpMeta
from qprof.record.readings import SensorTrace
from qprof.record.rows import OP_COLUMNS, ScoreRow
from qprof.record.sections import ProtocolSection
from qprof.report.export import write_json, write_json_rows
from qprof.store import scores, table_stream, tables
from qprof.store.listing import listed
from qprof.store.op_scan import Names, scan
from qprof.store.run import Run
from qprof.store.writer import RunWriter

OPS = {"a": ["conv", "add", "fc"], "b": ["fc", "conv"]}
ROUNDS = 4


def block(number: int, round_: int, variant: str, kind: str, inferences: int) -> Block:
    """A block whose every op ran once in every inference, in a time that is its own."""
    rng = np.random.default_rng(number)
    count = len(OPS[variant])
    starts = 1000 * number + 10 * np.arange(inferences)
    op = np.tile(np.arange(count, dtype=np.int32), inferences)
    events = OpEvents(
        inference=np.repeat(np.arange(inferences, dtype=np.int32), count),
        op=op,
        start_ns=np.repeat(starts, count) + op,
        duration_ns=rng.integers(1, 1000, len(op)),
        source=np.where(op == 0, 0, 7).astype(np.uint8),
    )
    return Block(
        number=number,
        round=round_,
        variant=variant,
        kind=kind,
        samples=Samples(np.arange(inferences, dtype=np.int32), starts, np.full(inferences, 5000)),
        ops=None if kind == "clean" else events,
        traces=[SensorTrace("host.busy", "1", "measured", starts, np.linspace(0.0, 1.0, inferences))],
    )


def blocks(inferences: int = 5) -> list[Block]:
    """As runs record them: the variants take turns, round after round."""
    kinds = ("clean", "profiled", "reset")
    places = [(r, variant, kind) for r in range(ROUNDS) for variant in OPS for kind in kinds]
    return [block(number, *place, inferences) for number, place in enumerate(places)]


def op_meta() -> dict[str, list[OpMeta]]:
    return {name: [OpMeta(op, op, op.upper(), i) for i, op in enumerate(ops)] for name, ops in OPS.items()}


def started(folder: Path, recorded: Sequence[Block]) -> RunWriter:
    manifest = Manifest(
        created="2026-01-01T00:00:00+00:00",
        profile=RecordedProfile(name="p", protocol=ProtocolSection(profiled=True)),
        machine=Machine(cpu_model=None),
        op_sources=list(SOURCES),
        variants=[VariantEntry(name=name) for name in OPS],
    )
    writer = RunWriter.create(folder, manifest)
    for name, ops in op_meta().items():
        writer.save_ops(name, ops)
    for one in recorded:
        writer.save_block(one)
    return writer


def finished(folder: Path, recorded: Sequence[Block]) -> Run:
    writer = started(folder, recorded)
    writer.finalize(SOURCES)
    writer.close()
    return Run(folder)


def told(run: Run) -> dict[str, Any]:
    """All that a run tells of its op events."""
    found: dict[str, Any] = {"totals": run.op_totals()}
    for variant in OPS:
        found[f"{variant} sources"] = run.op_sources(variant)
        for kind in ("profiled", "reset"):
            times = run.ops(variant, kind=kind)
            found[f"{variant} {kind}"] = {name: getattr(times, name).tolist() for name in times.__slots__}
    return found


def test_runs_unfinished_finished_and_of_earlier_versions_tell_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_stream, "GROUP_ROWS", 20)
    recorded = blocks()
    unfinished = started(tmp_path / "unfinished", recorded)
    before = told(Run(unfinished.folder))
    unfinished.close()
    assert before["a profiled"]["block"] == sorted(before["a profiled"]["block"])
    assert before["a profiled"]["op"] == [0, 1, 2] * 5 * ROUNDS
    assert before["b sources"] == {"fc": "node", "conv": "clocked"}
    profiled = [one.ops for one in recorded if one.kind == "profiled" and one.variant == "a"]
    assert before["totals"]["a", "inference", "add"] == sum(int(ops.duration_ns[1::3].sum()) for ops in profiled if ops)

    run = finished(tmp_path / "run", recorded)
    assert told(run) == before
    assert pq.ParquetFile(run.folder / "ops.parquet").num_row_groups > 4

    # As versions wrote it that had all of it in memory: in the order of the blocks.
    whole = tables.ops_table(recorded, OPS, SOURCES)
    assert whole["block"].to_pylist() == sorted(whole["block"].to_pylist())
    tables.write_table(run.folder / "ops.parquet", whole)
    assert told(Run(run.folder)) == before


def test_one_variant_is_read_from_its_row_groups_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_stream, "GROUP_ROWS", 1000)  # room for all of them
    run = finished(tmp_path / "run", blocks())
    read: list[tuple[int, tuple[str, ...]]] = []
    real = pq.ParquetFile.read_row_group

    def noted(self: Any, group: int, columns: Sequence[str], **more: Any) -> Any:
        read.append((group, tuple(columns)))
        return real(self, group, columns=columns, **more)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", noted)
    rows = sum(len(chunk["op"]) for chunk in run.op_chunks("a", kind="reset", columns=("op", "duration_ns")))
    assert rows == 3 * 5 * ROUNDS
    assert {columns for _, columns in read} == {("op", "duration_ns")}, "the statistics settle the rest"
    with pq.ParquetFile(run.folder / "ops.parquet") as file:
        sizes = [file.metadata.row_group(group).num_rows for group, _ in read]
    assert sum(sizes) == rows


def test_a_row_group_of_several_variants_is_filtered(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", blocks())
    tables.write_table(run.folder / "ops.parquet", tables.ops_table(blocks(), OPS, SOURCES))
    (chunk,) = scan(run.folder / "ops.parquet", OP_COLUMNS, ["variant", "op"], {"variant": "b", "kind": "profiled"})
    assert len(chunk["op"].codes) == 2 * 5 * ROUNDS
    assert {chunk["variant"].names[code] for code in chunk["variant"].codes} == {"b"}
    assert not list(scan(run.folder / "ops.parquet", OP_COLUMNS, ["op"], {"variant": "zzz"}))
    assert not Names(np.array([], np.int32), []).is_name("a").size


def test_op_times_of_a_run_are_those_of_its_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from qprof.findings.measured import measured_variant

    monkeypatch.setattr(table_stream, "GROUP_ROWS", 7)  # inferences fall apart over row groups
    run = finished(tmp_path / "run", blocks())
    expected = op_matrix(run.latency("a", "profiled"), run.ops("a"), 3) / 1e3
    assert np.array_equal(measured_variant(run, "a").op_us, expected)
    assert expected.shape == (5 * ROUNDS, 3) and expected.min() > 0.0


def test_what_was_measured_is_read_once_for_all_comparisons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from qprof.findings import measured

    run = finished(tmp_path / "run", blocks())
    first = measured.measured_once(run, "a", "inference")
    assert measured.measured_once(run, "a", "inference", "reset") is not first
    monkeypatch.setattr(Run, "op_chunks", lambda *_: pytest.fail("read again"))
    assert measured.measured_once(run, "a", "inference") is first


def test_tables_of_a_long_run_are_written_in_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = blocks(inferences=4000)
    whole = sum(len(one.ops.op) for one in recorded if one.ops is not None) * 28
    writer = started(tmp_path / "run", recorded)
    del recorded
    monkeypatch.setattr(table_stream, "GROUP_ROWS", 12_000)
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    writer.finalize(SOURCES)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    writer.close()
    assert whole > 4_000_000 and peak < whole / 2
    assert pa.total_allocated_bytes() - before < whole / 10


@pytest.mark.parametrize("damage", ["unknown op", "empty cells", "another type", "no column", "cut"])
def test_a_damaged_table_is_said_in_one_line(tmp_path: Path, damage: str) -> None:
    run = finished(tmp_path / "run", blocks())
    path = run.folder / "ops.parquet"
    table = pq.read_table(path)
    place = table.column_names.index("duration_ns")
    if damage == "unknown op":
        renamed = pa.array(["nobody"] * len(table)).dictionary_encode()
        table = table.set_column(table.column_names.index("op"), "op", renamed)
    elif damage == "empty cells":
        table = table.set_column(place, "duration_ns", pa.array([None] * len(table), pa.int64()))
    elif damage == "another type":
        table = table.set_column(place, "duration_ns", pa.array(["x"] * len(table)))
    elif damage == "no column":
        table = table.drop_columns(["duration_ns"])
    tables.write_table(path, table)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(StoreError, match=r"ops\.parquet: damaged") as caught:
        Run(run.folder).ops("a")
    assert "\n" not in str(caught.value)


def test_latencies_are_read_once_and_not_to_be_written(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", blocks())
    found = run.latency("a")
    assert run.latency("a") is found and len(found.duration_ns) == 5 * ROUNDS
    with pytest.raises(ValueError, match="read-only"):
        found.duration_ns[0] = 1
    assert replace(found).block is found.block


# -- scores -------------------------------------------------------------------------------------------------------


def score_rows() -> list[ScoreRow]:
    """Rows of two variants in two passes, as scores and distances come, with gaps and doubles."""
    rows = [ScoreRow("a", "AP", None, 0.5), ScoreRow("a", "AP", None, 0.9)]
    rows += [ScoreRow("a", "correct", sample, float(sample % 2)) for sample in range(9, -1, -1)]
    rows += [ScoreRow("a", "correct", 3, None), ScoreRow("a", "correct", 4, 7.0)]
    rows += [ScoreRow("b", "correct", sample, 1.0) for sample in range(4)]
    return [*rows, ScoreRow("b", "AP", None, None), ScoreRow("a", "closeness", None, 0.25)]


@pytest.mark.parametrize("group_rows", [3, 1000])
def test_scores_are_read_as_they_were_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group_rows: int) -> None:
    monkeypatch.setattr(scores, "GROUP_ROWS", group_rows)
    path = tmp_path / "scores.parquet"
    scores.write_scores(path, iter(score_rows()))
    found = scores.Scores(path)
    assert list(found.rows()) == score_rows()
    assert found.whole == [row for row in score_rows() if row.sample is None]
    right = found.by_sample("a", "correct")
    assert list(right.items()) == [(s, 7.0 if s == 4 else float(s % 2)) for s in range(9, -1, -1)]
    assert found.by_sample("b", "correct") == dict.fromkeys(range(4), 1.0)
    assert found.by_sample("b", "AP") == {} == found.by_sample("nobody", "AP")
    assert found.by_sample("a", "correct") is right
    with pq.ParquetFile(path) as file:
        groups = [file.metadata.row_group(i).column(0).statistics for i in range(file.num_row_groups)]
    assert all(one.min == one.max for one in groups) and len(groups) >= 3
    # As versions wrote them that had all of them in memory.
    tables.write_table(path, tables.scores_table(score_rows()))
    assert list(scores.Scores(path).rows()) == score_rows()
    assert dict(scores.Scores(path).by_sample("a", "correct")) == dict(right)


def test_scores_that_are_kept_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "scores.parquet"
    scores.write_scores(path, score_rows())
    monkeypatch.setattr(scores, "_KEPT_SAMPLES", 11)
    monkeypatch.setattr(scores, "_KEPT_NUMBERS", 11)
    found = scores.Scores(path)
    first, column = found.by_sample("a", "correct"), found.column("a", "correct")
    assert found.column("a", "correct") is column
    assert found.by_sample("b", "correct") and found.by_sample("a", "correct") is not first
    assert found.by_sample("a", "correct") == first
    assert found.column("a", "correct") is not column


def test_what_was_asked_for_last_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "scores.parquet"
    scores.write_scores(path, [ScoreRow(name, "correct", s, 1.0) for name in "abc" for s in range(4)])
    monkeypatch.setattr(scores, "_KEPT_SAMPLES", 8)
    found = scores.Scores(path)
    first = found.by_sample("a", "correct")
    for other in "bc":
        found.by_sample(other, "correct")
        assert found.by_sample("a", "correct") is first


@pytest.mark.parametrize("group_rows", [3, 1000])
def test_a_column_of_scores_has_each_sample_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group_rows: int
) -> None:
    monkeypatch.setattr(scores, "GROUP_ROWS", group_rows)
    scores.write_scores(tmp_path / "scores.parquet", iter(score_rows()))
    samples, values = scores.Scores(tmp_path / "scores.parquet").column("a", "correct")
    assert samples.tolist() == list(range(9, -1, -1))
    assert values.tolist() == [7.0 if s == 4 else float(s % 2) for s in range(9, -1, -1)]
    with pytest.raises(ValueError, match="read-only"):
        values[0] = 2.0


def test_a_run_without_scores_has_none() -> None:
    none = scores.Scores(None)
    assert (list(none.rows()), none.whole, none.by_sample("a", "AP")) == ([], [], {})


@pytest.mark.parametrize(
    ("name", "values"), [("metric", [None] * 3), ("value", ["x"] * 3), ("sample", [2**40] * 3), ("variant", ...)]
)
def test_damaged_scores_are_said_in_one_line(tmp_path: Path, name: str, values: Any) -> None:
    path = tmp_path / "scores.parquet"
    table = tables.scores_table([ScoreRow("a", "AP", 1, 0.5)] * 3)
    column = None if values is ... else pa.array(values, pa.string() if name == "metric" else None)
    place = table.column_names.index(name)
    tables.write_table(path, table.drop_columns([name]) if column is None else table.set_column(place, name, column))
    with pytest.raises(StoreError, match=r"scores\.parquet: damaged") as caught:
        list(scores.Scores(path).rows())
    assert "\n" not in str(caught.value)


# -- what else goes part by part ----------------------------------------------------------------------------------


def test_rows_as_json_are_those_of_the_whole_list(tmp_path: Path) -> None:
    for rows in ([], [{"b": 1.5, "a": "x\ny", "c": None}, {"a": float("nan"), "d": [1, {"e": 2}]}]):
        write_json(tmp_path / "whole.json", rows)
        write_json_rows(tmp_path / "rows.json", iter(rows))
        assert (tmp_path / "rows.json").read_bytes() == (tmp_path / "whole.json").read_bytes()


def test_a_list_of_runs_says_what_their_manifests_say(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", blocks())
    found = listed(run.folder)
    assert (found.status, found.variants, found.created) == ("complete", ["a", "b"], "2026-01-01T00:00:00+00:00")
    manifest = run.folder / "manifest.json"
    whole = manifest.read_text()
    for damage in (whole[:-30], whole.replace('"status": "complete"', '"status": 7'), whole.replace('": 5', '": 999')):
        assert damage != whole
        manifest.write_text(damage)
        with pytest.raises(StoreError) as caught:
            listed(run.folder)
        with pytest.raises(StoreError) as expected:
            Run(run.folder)
        assert str(caught.value) == str(expected.value)
