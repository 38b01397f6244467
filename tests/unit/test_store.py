"""The run directory: files whole or absent, blocks and tables read back as written, one writer at a time."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pytest

from qprof.errors import StoreError
from qprof.store import files, tables
from qprof.store.blocks import Block, Reading, SensorTrace, block_files, block_path, read_block, write_block
from qprof.store.files import read_json, write_atomic, write_json
from qprof.store.run import Run, find_run, list_runs, runs_folder
from qprof.store.writer import (
    SCHEMA_VERSION,
    RunWriter,
    read_manifest,
    save_predictions,
    save_scores,
    saved_predictions,
)

SOURCES = ("node", "kernel")
OPS = {"a": ["conv", "add"], "b": ["fc"]}
MANIFEST = {
    "status": "running",
    "created": "2026-01-01T00:00:00+00:00",
    "profile": {"protocol": {"profiled": True}},
    "machine": {"cpu_model": None},
    "op_sources": list(SOURCES),
    "variants": [{"name": name, "status": "ok", "reason": None, "notes": []} for name in OPS],
}


def samples(*rows: tuple[int, int, int]) -> dict[str, Any]:
    table = np.array(rows, np.int64).reshape(-1, 3)
    return {"sample": table[:, 0], "start_ns": table[:, 1], "duration_ns": table[:, 2]}


def events(*rows: tuple[int, int, int, int, int]) -> dict[str, Any]:
    table = np.array(rows, np.int64).reshape(-1, 5)
    return dict(zip(("inference", "op", "start_ns", "duration_ns", "source"), table.T, strict=True))


def clean_block(number: int = 0, variant: str = "a") -> Block:
    return Block(
        number=number,
        round=0,
        variant=variant,
        kind="clean",
        samples=samples((4, 100, 10), (5, 110, 11)),
        predictions={4: [{"score": 0.5}], 5: None},
        readings=[Reading("host.user_s", 200, 0.25, "s", "measured")],
        facts={"lead_in": 2},
        traces=[SensorTrace("nvml.0.energy", "mJ", "measured", np.array([190, 205]), np.array([5.0, 7.5]))],
    )


def profiled_block(number: int, variant: str, round_: int = 0) -> Block:
    ops = events((0, 0, 100, 6, 1), (0, 1, 106, 3, 0), (1, 0, 110, 7, 1)) if variant == "a" else events((0, 0, 5, 1, 0))
    return Block(number, round_, variant, "profiled", samples((7, 100, 10), (8, 110, 11)), ops)


def ops_rows(variant: str) -> list[dict[str, Any]]:
    return [
        {
            "phase": "inference",
            "op": op,
            "name": f"{op}/name",
            "type": op.upper(),
            "index": i,
            "inputs": ["f[1]"],
            "outputs": [],
            "macs": None,
        }
        for i, op in enumerate(OPS[variant])
    ]


def started(folder: Path) -> RunWriter:
    writer = RunWriter.create(folder, MANIFEST)
    for name in OPS:
        writer.save_ops(name, ops_rows(name))
    for block in (clean_block(), profiled_block(2, "a"), profiled_block(1, "b"), clean_block(3, "b")):
        writer.save_block(block)
    return writer


def blocked(tmp_path: Path) -> Path:
    """A place below a regular file, where nobody can write, root included."""
    (tmp_path / "file").write_text("x")
    return tmp_path / "file" / "below"


# -- atomic files -------------------------------------------------------------------------------------------------


def test_atomic_write_replaces_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "f"
    for content in (b"old", b"new"):
        write_atomic(path, lambda stream, content=content: stream.write(content))
        assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["f"]


class _PowerCutError(BaseException):
    """Stands for the end of the process."""


def test_crash_before_the_rename_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomic(tmp_path / "f", lambda stream: stream.write(b"old"))

    def crash(*_: object) -> None:
        raise _PowerCutError

    monkeypatch.setattr(files.os, "replace", crash)
    with pytest.raises(_PowerCutError):
        write_atomic(tmp_path / "f", lambda stream: stream.write(b"new"))
    assert (tmp_path / "f").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_interrupted_writer_leaves_no_temporary_file(tmp_path: Path, error: type[BaseException]) -> None:
    def write(stream: IO[bytes]) -> None:
        stream.write(b"half")
        raise error

    with pytest.raises(error):
        write_atomic(tmp_path / "f", write)
    assert os.listdir(tmp_path) == []


def fail_in(step: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    if step == "write":
        monkeypatch.setattr(files, "_write_flushed", lambda path, write: (path.write_bytes(b"half"), fail()))
    else:
        monkeypatch.setattr(files.os, step, fail)


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_full_disk_keeps_what_was_there(step: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_block(tmp_path, clean_block(0))
    before = block_path(tmp_path, 0).read_bytes()
    with monkeypatch.context() as patch:
        fail_in(step, code, patch)
        for number in (0, 1):
            with pytest.raises(StoreError, match="no space left to write; all blocks before it are kept") as caught:
                write_block(tmp_path, clean_block(number))
            assert str(block_path(tmp_path, number)) in str(caught.value)
            assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == ["block-000000.npz"]
    assert block_path(tmp_path, 0).read_bytes() == before
    write_block(tmp_path, clean_block(1))
    assert len(block_files(tmp_path)) == 2


@pytest.mark.parametrize(
    ("code", "says"),
    [(errno.EACCES, "choose another place"), (errno.EROFS, "choose another place"), (errno.EIO, "Input/output error")],
)
def test_other_failures_say_why(code: int, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_in("replace", code, monkeypatch)
    with pytest.raises(StoreError, match=says):
        write_json(tmp_path / "f", {})


def test_json_refuses_nan_and_reads_back(tmp_path: Path) -> None:
    value = {"a": [1, None, "µ"], "b": 0.1}
    write_json(tmp_path / "f", value)
    assert read_json(tmp_path / "f") == value
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "f", {"a": float("nan")})
    assert read_json(tmp_path / "f") == value


@pytest.mark.parametrize("content", [b"", b'{"a":', b"\xff", b"[" * 100_000])
def test_damaged_json(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(StoreError, match="damaged, not valid JSON"):
        read_json(tmp_path / "f")


def test_missing_json(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is this a qprof run directory"):
        read_json(tmp_path / "f")


# -- blocks -------------------------------------------------------------------------------------------------------


def same_arrays(a: dict[str, Any] | None, b: dict[str, Any] | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    "block",
    [
        clean_block(12),
        profiled_block(3, "a"),
        Block(0, -1, "v:1+x.y", "warmup", samples(), None),
        Block(1, 5, "b", "profiled", samples(), events(), {}, [], {"µ": [1.5, None, "x"]}),
    ],
)
def test_block_comes_back_as_it_was(block: Block, tmp_path: Path) -> None:
    write_block(tmp_path, block)
    back = read_block(block_path(tmp_path, block.number))
    assert same_arrays(back.samples, block.samples)
    assert same_arrays(back.ops, block.ops)
    for ours, theirs in zip(back.traces, block.traces, strict=True):
        assert (ours.probe, ours.unit, ours.provenance) == (theirs.probe, theirs.unit, theirs.provenance)
        assert ours.t_ns.tolist() == theirs.t_ns.tolist()
        assert ours.values.tolist() == theirs.values.tolist()
    for name in ("number", "round", "variant", "kind", "predictions", "readings", "facts"):
        assert getattr(back, name) == getattr(block, name), name
    assert back.samples["sample"].dtype == np.int32
    assert back.samples["start_ns"].dtype == np.int64


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"not a zip", b"\x93NUMPY\x01\x00", bytes(100)])
def test_damaged_block(content: bytes, tmp_path: Path) -> None:
    block_path(tmp_path, 7).write_bytes(content)
    with pytest.raises(
        StoreError, match=r"block-000007.npz: damaged block file \(.+\); delete it and resume"
    ) as caught:
        read_block(block_path(tmp_path, 7))
    assert "\n" not in str(caught.value)


def test_block_that_is_an_array_or_lacks_parts(tmp_path: Path) -> None:
    path = block_path(tmp_path, 0)
    for arrays in ({}, {"header": np.frombuffer(b"[]", np.uint8)}, {"header": np.frombuffer(b"{}", np.uint8)}):
        with open(path, "wb") as stream:
            np.savez(stream, **arrays)
        with pytest.raises(StoreError, match="damaged block file"):
            read_block(path)
    with open(path, "wb") as stream:
        np.save(stream, np.zeros(3))
    with pytest.raises(StoreError, match="damaged block file"):
        read_block(path)


def test_any_flipped_byte_or_cut_is_noticed_or_harmless(tmp_path: Path) -> None:
    write_block(tmp_path, profiled_block(0, "a"))
    path = block_path(tmp_path, 0)
    whole, original = path.read_bytes(), read_block(path)
    rng = random.Random(0)
    noticed = 0
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged if rng.random() < 0.8 else whole[: rng.randrange(len(whole))])
        try:
            back = read_block(path)
        except StoreError:
            noticed += 1
            continue
        assert same_arrays(back.samples, original.samples)
        assert same_arrays(back.ops, original.ops) or back.ops is None
    assert noticed > 150


# -- tables -------------------------------------------------------------------------------------------------------


def test_samples_table_cell_by_cell() -> None:
    second = replace(profiled_block(2, "b", round_=3), phase="decode")
    table = tables.samples_table([clean_block(0), second])
    assert table.to_pylist() == [
        dict(zip(table.column_names, row, strict=True))
        for row in [
            ("a", 0, 0, "clean", "inference", 0, 4, 100, 10),
            ("a", 0, 0, "clean", "inference", 1, 5, 110, 11),
            ("b", 2, 3, "profiled", "decode", 0, 7, 100, 10),
            ("b", 2, 3, "profiled", "decode", 1, 8, 110, 11),
        ]
    ]
    assert table.column_names[:6] == ["variant", "block", "round", "kind", "phase", "inference"]


def test_ops_table_cell_by_cell() -> None:
    table = tables.ops_table([clean_block(0), profiled_block(1, "b"), profiled_block(2, "a")], OPS, SOURCES)
    rows = [tuple(row.values()) for row in table.to_pylist()]
    assert table.column_names == [
        "variant",
        "block",
        "round",
        "kind",
        "phase",
        "inference",
        "sample",
        "op",
        "start_ns",
        "duration_ns",
        "source",
    ]
    assert rows == [
        ("b", 1, 0, "profiled", "inference", 0, 7, "fc", 5, 1, "node"),
        ("a", 2, 0, "profiled", "inference", 0, 7, "conv", 100, 6, "kernel"),
        ("a", 2, 0, "profiled", "inference", 0, 7, "add", 106, 3, "node"),
        ("a", 2, 0, "profiled", "inference", 1, 8, "conv", 110, 7, "kernel"),
    ]


def test_readings_table() -> None:
    """A trace's readings and single ones, each a row that says which block it is of."""
    block = {"variant": "a", "block": 9, "round": 0, "kind": "clean", "phase": "inference", "provenance": "measured"}
    assert tables.readings_table([clean_block(9)]).to_pylist() == [
        {**block, "probe": "nvml.0.energy", "t_ns": 190, "value": 5.0, "unit": "mJ"},
        {**block, "probe": "nvml.0.energy", "t_ns": 205, "value": 7.5, "unit": "mJ"},
        {**block, "probe": "host.user_s", "t_ns": 200, "value": 0.25, "unit": "s"},
    ]


@pytest.mark.parametrize("blocks", [[], [Block(0, 0, "a", "profiled", samples(), events())]])
def test_tables_without_rows_keep_their_columns(blocks: list[Block], tmp_path: Path) -> None:
    full = [clean_block(), profiled_block(1, "a")]
    makers: list[Callable[[list[Block]], Any]] = [
        tables.samples_table,
        lambda given: tables.ops_table(given, OPS, SOURCES),
        tables.readings_table,
    ]
    for number, make in enumerate(makers):
        table = make(blocks)
        assert table.num_rows == 0
        assert table.schema == make(full).schema
        tables.write_table(tmp_path / f"{number}", table)
        assert tables.read_table(tmp_path / f"{number}").schema.names == table.schema.names
    assert tables.rows_table([], tables.OP_META_COLUMNS).column_names == list(tables.OP_META_COLUMNS)


def test_missing_values_are_null() -> None:
    rows = tables.rows_table([{"variant": "a", "metric": "AP"}], tables.SCORE_COLUMNS).to_pylist()
    assert rows == [{"variant": "a", "metric": "AP", "sample": None, "value": None}]


def test_damaged_or_missing_parquet(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="missing"):
        tables.read_table(tmp_path / "x.parquet")
    (tmp_path / "x.parquet").write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(StoreError, match="damaged Parquet file") as caught:
        tables.read_table(tmp_path / "x.parquet")
    assert "\n" not in str(caught.value)


# -- runs ---------------------------------------------------------------------------------------------------------


def arrays_of(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = {"meta": run.op_meta, "readings": run.readings.to_pylist()}
    for name in OPS:
        for kind in ("clean", "profiled", "warmup"):
            latency = run.latency(name, kind)
            found[f"{name} {kind}"] = {column: getattr(latency, column).tolist() for column in latency.__slots__}
        times = run.ops(name)
        found[f"{name} ops"] = {column: getattr(times, column).tolist() for column in times.__slots__}
    return found


def test_finished_and_unfinished_runs_read_alike(tmp_path: Path) -> None:
    writer = started(tmp_path / "run")
    unfinished = Run(tmp_path / "run")
    assert not unfinished.complete
    before = arrays_of(unfinished)
    assert before["a clean"]["duration_ns"] == [10, 11]
    assert before["a ops"]["op"] == [0, 1, 0]
    assert before["a ops"]["duration_ns"] == [6, 3, 7]
    assert before["b ops"]["op"] == [0]
    assert before["a warmup"]["duration_ns"] == []
    save_predictions(tmp_path / "run", "a", [{"score": 1}])
    save_scores(tmp_path / "run", "a", [{"variant": "a", "metric": "AP", "sample": None, "value": 0.5}])
    writer.finalize(SOURCES)
    writer.close()
    finished = Run(tmp_path / "run")
    assert finished.complete
    after = arrays_of(finished)
    filled = {"variant", "phase", "name", "type", "index", "macs", "inputs", "outputs", "op"}
    after["meta"] = {v: [{k: r[k] for k in r if k in filled} for r in rows] for v, rows in after["meta"].items()}
    assert after == before
    assert not (tmp_path / "run/parts").exists()
    assert finished.score("a", "AP") == 0.5
    assert finished.score("b", "AP") is None
    assert finished.score("a", "AR") is None
    assert read_json(tmp_path / "run/predictions/a.json") == [{"score": 1}]
    assert [block["number"] for block in finished.manifest["blocks"]] == [0, 1, 2, 3]
    assert finished.manifest["blocks"][0]["lead_in"] == 2


def test_predictions_are_read_only_where_they_are_wanted(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    writer = RunWriter.create(folder, MANIFEST)
    arrays = {"sample": np.array([0, 1]), "start_ns": np.array([1, 2]), "duration_ns": np.array([1, 1])}
    for number, variant in enumerate(["a", "b", "a"]):
        found = {10 * number: [{"score": 0.5}], 10 * number + 1: []}
        writer.save_block(Block(number, number, variant, "clean", arrays, predictions=found))
    assert saved_predictions(folder, "a") == {0: [{"score": 0.5}], 1: [], 20: [{"score": 0.5}], 21: []}
    assert saved_predictions(folder, "c") == {}
    assert read_block(block_path(folder / "parts", 1), predictions=False).predictions == {}
    assert read_block(block_path(folder / "parts", 1)).predictions == {10: [{"score": 0.5}], 11: []}
    writer.close()


def test_op_meta_keeps_the_order_of_the_variants(tmp_path: Path) -> None:
    writer = started(tmp_path / "run")
    writer.finalize(SOURCES)
    writer.close()
    assert list(Run(tmp_path / "run").op_meta) == ["a", "b"]


def test_tables_of_several_row_groups_read_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.parquet as pq

    writer = started(tmp_path / "run")
    before = arrays_of(Run(tmp_path / "run"))
    whole = pq.write_table
    monkeypatch.setattr(pq, "write_table", lambda table, stream, **more: whole(table, stream, row_group_size=2, **more))
    writer.finalize(SOURCES)
    writer.close()
    assert pq.ParquetFile(tmp_path / "run/samples.parquet").num_row_groups > 1
    after = arrays_of(Run(tmp_path / "run"))
    for name in ("a clean", "a profiled", "b clean", "a ops", "b ops"):
        assert after[name] == before[name], name


def test_chunks_with_dictionaries_of_their_own_read_alike(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    started(folder).close()
    run = Run(folder)
    before = arrays_of(run)
    pieces = [tables.samples_table([block]) for block in run._blocks]
    other = Run(folder)
    other.__dict__["samples"] = pa.concat_tables(pieces)
    assert arrays_of(other)["a clean"] == before["a clean"]
    assert arrays_of(other)["b profiled"] == before["b profiled"]


@pytest.mark.parametrize("interrupt", [False, True], ids=["power cut", "Ctrl-C"])
def test_interrupted_finish_loses_nothing(interrupt: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the process ends while the tables are written, the run can be read and finished."""
    started(tmp_path / "template").close()
    expected = arrays_of(Run(tmp_path / "template"))["a clean"]
    calls = 0
    while True:
        folder = tmp_path / f"run{calls}"
        shutil.copytree(tmp_path / "template", folder)
        writer = RunWriter.resume(folder)
        count = 0
        with monkeypatch.context() as patch:
            for name in ("replace", "unlink"):
                real = getattr(os, name)

                def step(*arguments: Any, real: Any = real, limit: int = calls, **more: Any) -> None:
                    nonlocal count
                    count += 1
                    if count > limit:
                        raise _PowerCutError
                    real(*arguments, **more)

                patch.setattr(os, name, step)
            try:
                writer.finalize(SOURCES)
                ended = True
            except _PowerCutError:
                ended = False
        if interrupt and writer.manifest["status"] != "complete":  # as the run's handler of Ctrl-C does
            writer.manifest["status"] = "interrupted"
            writer.save_manifest()
        writer.close()
        assert arrays_of(Run(folder))["a clean"] == expected, f"after {calls} steps"
        if ended:
            break
        again = RunWriter.resume(folder)
        if again.manifest["status"] != "complete":
            again.finalize(SOURCES)
        again.close()
        assert Run(folder).complete
        assert arrays_of(Run(folder))["a clean"] == expected
        calls += 1
    assert calls >= 6


def test_unknown_variant(tmp_path: Path) -> None:
    started(tmp_path / "run").close()
    with pytest.raises(StoreError, match="no variant 'c' in this run; it has a, b"):
        Run(tmp_path / "run").latency("c")


def test_second_writer_is_refused(tmp_path: Path) -> None:
    writer = started(tmp_path / "run")
    with pytest.raises(StoreError, match="another qprof is writing this run"):
        RunWriter.resume(tmp_path / "run")
    writer.close()
    RunWriter.resume(tmp_path / "run").close()


def test_resume_finds_what_is_kept(tmp_path: Path) -> None:
    started(tmp_path / "run").close()
    writer = RunWriter.resume(tmp_path / "run")
    assert writer.finished_blocks() == {0, 1, 2, 3}
    assert writer.saved_ops("a") == ops_rows("a")
    assert writer.saved_ops("c") is None
    writer.close()


def test_resuming_a_finished_run_adds_nothing_to_it(tmp_path: Path) -> None:
    writer = started(tmp_path / "run")
    writer.finalize(SOURCES)
    writer.close()
    before = sorted(os.listdir(tmp_path / "run"))
    RunWriter.resume(tmp_path / "run").close()
    assert sorted(os.listdir(tmp_path / "run")) == before


def test_damaged_block_in_a_run_is_named(tmp_path: Path) -> None:
    started(tmp_path / "run").close()
    (tmp_path / "run/parts/block-000001.npz").write_bytes(b"")
    with pytest.raises(StoreError, match=r"block-000001\.npz: damaged"):
        _ = Run(tmp_path / "run").samples


@pytest.mark.parametrize("version", [0, 2, "3", None])
def test_other_schema_version_is_refused(version: object, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({**MANIFEST, "schema_version": version}))
    with pytest.raises(StoreError, match=rf"schema version {version}, this qprof reads 3"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("content", ["[]", "3", "null"])
def test_manifest_that_is_no_object(content: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(StoreError, match="schema version None"):
        Run(tmp_path)


@pytest.mark.parametrize("key", ["status", "variants", "profile"])
def test_manifest_that_lacks_what_readers_count_on(key: str, tmp_path: Path) -> None:
    manifest = {"schema_version": SCHEMA_VERSION, **MANIFEST}
    manifest.pop(key)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match=f"manifest.json: damaged, it has no '{key}'"):
        Run(tmp_path)


def test_places_where_no_run_can_be(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be written"):
        RunWriter.create(blocked(tmp_path), MANIFEST)
    with pytest.raises(StoreError, match="exists already"):
        RunWriter.create(tmp_path / "file", MANIFEST)
    (tmp_path / "link").symlink_to(tmp_path / "nowhere" / "else")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("link", "loop", "x" * 300):
        with pytest.raises(StoreError) as caught:
            RunWriter.create(tmp_path / name, MANIFEST)
        assert "\n" not in str(caught.value)


def test_existing_folder_is_taken_only_if_it_is_empty(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    RunWriter.create(tmp_path / "empty", MANIFEST).close()
    with pytest.raises(StoreError, match="exists already; continue it with --resume"):
        RunWriter.create(tmp_path / "empty", MANIFEST)


def test_no_run_to_resume_or_read(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such run directory"):
        RunWriter.resume(tmp_path / "none")
    with pytest.raises(StoreError, match="is this a qprof run directory"):
        Run(tmp_path)
    assert os.listdir(tmp_path) == []


# -- finding runs -------------------------------------------------------------------------------------------------


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QPROF_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    for age, name in enumerate(("20260101-a", "20260102-b", "20260102-c")):
        path = tmp_path / "runs" / name / "manifest.json"
        path.parent.mkdir(parents=True)
        path.write_text("{}")
        os.utime(path, (1000 + age, 1000 + age))
    (tmp_path / "runs" / "not-a-run").mkdir()
    return tmp_path / "runs"


def test_find_run(runs: Path) -> None:
    assert [path.name for path in list_runs()] == ["20260102-c", "20260102-b", "20260101-a"]
    assert find_run("latest") == runs / "20260102-c"
    assert find_run("20260101") == runs / "20260101-a"
    assert find_run("20260102-b") == runs / "20260102-b"
    assert find_run("runs/20260101-a") == Path("runs/20260101-a")
    assert find_run(str(runs / "20260101-a")) == runs / "20260101-a"


def test_exact_name_goes_before_longer_ones(runs: Path) -> None:
    (runs / "20260101-a-2").mkdir()
    (runs / "20260101-a-2" / "manifest.json").write_text("{}")
    assert find_run("20260101-a").name == "20260101-a"


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("20260102", r"means 2 runs \(20260102-c, 20260102-b\); say more"),
        ("20300101", "no such run here or in"),
        ("not-a-run", "no such run"),
        ("runs", "no such run"),
        ("x" * 300, "no such run"),
        ("a\0b", "no such run"),
    ],
)
def test_run_that_cannot_be_found(runs: Path, reference: str, says: str) -> None:
    with pytest.raises(StoreError, match=says):
        find_run(reference)


def test_no_runs_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPROF_RUNS", str(tmp_path / "none"))
    with pytest.raises(StoreError, match="no runs yet; make one with qprof run"):
        find_run("latest")
    monkeypatch.delenv("QPROF_RUNS")
    assert runs_folder() == Path("runs")
