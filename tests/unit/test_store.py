"""The run directory: files whole or absent, blocks and tables read back as written, one writer at a time."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qprof.errors import StoreError, WorkerError
from qprof.measure.profile import validate_recorded
from qprof.record import rows
from qprof.record.blocks import Block, BlockFacts, Samples
from qprof.record.columns import columns
from qprof.record.machine import Machine
from qprof.record.manifest import (
    SCHEMA_VERSION,
    ClockAudit,
    KernelFacts,
    LayersCompared,
    Making,
    Manifest,
    PreparedTask,
    RecordedProfile,
    SplitFacts,
    Timing,
    VariantEntry,
    Warmup,
)
from qprof.record.ops import OpEvents, OpMeta
from qprof.record.phases import Phase
from qprof.record.readings import Reading, SensorTrace
from qprof.record.rows import LayerErrorRow, PlausibilityRow, ScoreRow
from qprof.record.sections import ProtocolSection
from qprof.record.tensors import TensorSpec
from qprof.store import files, own, table_stream, tables
from qprof.store.blocks import block_files, block_path, read_block, write_block
from qprof.store.files import read_json, write_atomic, write_json
from qprof.store.manifests import read_manifest, write_manifest
from qprof.store.run import Run, find_run, list_runs, runs_folder
from qprof.store.writer import (
    RunWriter,
    plausibility_saved,
    save_layer_errors,
    save_output_distances,
    save_plausibility,
    save_predictions,
    save_scores,
    saved_predictions,
    write_tables,
)

SOURCES = ("node", "kernel")
OPS = {"a": ["conv", "add"], "b": ["fc"]}


def manifest() -> Manifest:
    return Manifest(
        created="2026-01-01T00:00:00+00:00",
        profile=RecordedProfile(name="p", protocol=ProtocolSection(profiled=True)),
        machine=Machine(cpu_model=None),
        op_sources=list(SOURCES),
        variants=[VariantEntry(name=name) for name in OPS],
    )


def written(**changes: Any) -> dict[str, Any]:
    """A manifest as it is on the disk, some of its keys changed; `...` takes one out."""
    plain = {**msgspec.to_builtins(manifest()), **changes}
    return {key: value for key, value in plain.items() if value is not ...}


def samples(*rows: tuple[int, int, int]) -> Samples:
    table = np.array(rows, np.int64).reshape(-1, 3)
    return Samples(sample=table[:, 0].astype(np.int32), start_ns=table[:, 1], duration_ns=table[:, 2])


def events(*rows: tuple[int, int, int, int, int]) -> OpEvents:
    table = np.array(rows, np.int64).reshape(-1, 5)
    inference, op, start_ns, duration_ns, source = table.T
    small = (inference.astype(np.int32), op.astype(np.int32))
    return OpEvents(*small, start_ns=start_ns, duration_ns=duration_ns, source=source.astype(np.uint8))


def clean_block(number: int = 0, variant: str = "a") -> Block:
    return Block(
        number=number,
        round=0,
        variant=variant,
        kind="clean",
        samples=samples((4, 100, 10), (5, 110, 11)),
        predictions={4: [{"score": 0.5}], 5: None},
        readings=[Reading("host.user_s", 200, 0.25, "s", "measured")],
        facts=BlockFacts(lead_in=2),
        traces=[SensorTrace("nvml.0.energy", "mJ", "measured", np.array([190, 205]), np.array([5.0, 7.5]))],
    )


def profiled_block(number: int, variant: str, round_: int = 0) -> Block:
    ops = events((0, 0, 100, 6, 1), (0, 1, 106, 3, 0), (1, 0, 110, 7, 1)) if variant == "a" else events((0, 0, 5, 1, 0))
    return Block(number, round_, variant, "profiled", samples((7, 100, 10), (8, 110, 11)), ops)


def ops_rows(variant: str) -> list[OpMeta]:
    return [
        OpMeta(op=op, name=f"{op}/name", type=op.upper(), index=i, inputs=["f[1]"], outputs=[], macs=None)
        for i, op in enumerate(OPS[variant])
    ]


def started(folder: Path) -> RunWriter:
    writer = RunWriter.create(folder, manifest())
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
        writes = {"write": lambda stream, content: (io.FileIO.write(stream, b"half"), fail())}
        monkeypatch.setattr(files, "_created", lambda path: type("FullDisk", (io.FileIO,), writes)(path, "xb"))
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


def same_arrays(a: Samples | OpEvents | None, b: Samples | OpEvents | None) -> bool:
    if a is None or b is None:
        return a is b
    return type(a) is type(b) and all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))


@pytest.mark.parametrize(
    "block",
    [
        clean_block(12),
        profiled_block(3, "a"),
        Block(0, -1, "v:1+x.y", "warmup", samples(), None),
        Block(1, 5, "b", "profiled", samples(), events(), {}, [], BlockFacts(window_ns=(1, 2**62), when="µ")),
        Block(2, 5, "b", "clean", samples(), predictions={3: {"µ": [1.5, None, "x"]}}, phase="decode"),
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
    for name in ("number", "round", "variant", "kind", "phase", "predictions", "readings", "facts"):
        assert getattr(back, name) == getattr(block, name), name
    assert back.samples.sample.dtype == np.int32
    assert back.samples.start_ns.dtype == np.int64


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
    found = [tuple(row.values()) for row in table.to_pylist()]
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
    assert found == [
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
    assert tables.op_meta_table({}).column_names == list(rows.OP_META_COLUMNS)
    assert tables.op_meta_table({}).schema == tables.op_meta_table({"a": ops_rows("a")}).schema


def whole_distance(given: dict[str, Any]) -> dict[str, Any]:
    known = {"baseline_output": "out", "meaning": "values", "elements": 4, "identical": False, "nonfinite": 0}
    return {**given, **known, "relative_error": 0.1, "signal": 2.0, "noise": 0.02}


def whole_layer_row(**changes: Any) -> LayerErrorRow:
    values = {name: None for name in columns(LayerErrorRow)}
    values |= {"variant": "a", "op": "conv", "name": "conv/name", "type": "CONV", "samples": 3, **changes}
    return LayerErrorRow(**values)


def plain_schema(table: Any) -> dict[str, str]:
    """Column -> its Arrow type as `qprof.record.columns` calls it; a dictionary column as what it stands for."""
    found = {}
    for field in table.schema:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        found[field.name] = {"list<element: string>": "list<string>", "double": "float64"}.get(str(kind), str(kind))
    return found


def test_columns_of_every_table_are_those_of_its_rows(tmp_path: Path) -> None:
    writer = started(tmp_path / "run")
    save_scores(tmp_path / "run", "a", [ScoreRow("a", "AP", 3, 0.5)])
    save_layer_errors(tmp_path / "run", "b", [whole_layer_row(variant="b", sqnr_db=20.0, identical=False)])
    save_plausibility(tmp_path / "run", "a", [PlausibilityRow("a", "", "as configured", 3, 1.0, 2.0)])
    blank = dict.fromkeys(columns(rows.OutputDistanceRow)) | {"variant": "b", "output": "out", "sample": 3}
    save_output_distances(tmp_path / "run", "b", [rows.OutputDistanceRow(**whole_distance(blank))])
    writer.finalize(SOURCES)
    writer.close()
    expected = {
        "samples": columns(rows.SampleRow),
        "ops": columns(rows.OpRow),
        "op_meta": {"variant": "string", **columns(OpMeta)},
        "readings": columns(rows.ReadingRow),
        "scores": columns(ScoreRow),
        "layer_errors": columns(LayerErrorRow),
        "plausibility": columns(PlausibilityRow),
        "output_distances": columns(rows.OutputDistanceRow),
    }
    assert {path.stem for path in (tmp_path / "run").glob("*.parquet")} == expected.keys()
    for name, kinds in expected.items():
        table = tables.read_table(tmp_path / "run" / f"{name}.parquet")
        assert table.num_rows > 0, name
        assert list(plain_schema(table).items()) == list(kinds.items()), name


def test_columns_are_derived_from_the_types_of_fields() -> None:
    assert columns(rows.SampleRow) == {
        **{"variant": "string", "block": "int32", "round": "int32", "kind": "string", "phase": "string"},
        **{"inference": "int32", "sample": "int32", "start_ns": "int64", "duration_ns": "int64"},
    }
    assert columns(ScoreRow) == {"variant": "string", "metric": "string", "sample": "int32", "value": "float64"}
    kinds = columns(OpMeta)
    assert (kinds["inputs"], kinds["macs"], kinds["partition"]) == ("list<string>", "int64", "int32")

    class Odd:
        value: complex

    with pytest.raises(TypeError, match=r"Odd\.value: no column holds <class 'complex'>"):
        columns(Odd)


def test_rows_come_back_as_the_types_that_were_saved(tmp_path: Path) -> None:
    writer = started(tmp_path / "run")
    scores = [ScoreRow("a", "AP", None, 0.5), ScoreRow("a", "AP", 3, None), ScoreRow("b", "AP", None, None)]
    layers = [whole_layer_row(sqnr_db=20.0, identical=True, nonfinite=0, count=7), whole_layer_row(op="add")]
    save_scores(tmp_path / "run", "a", scores[:2])
    save_scores(tmp_path / "run", "b", scores[2:])
    save_layer_errors(tmp_path / "run", "a", layers)
    tried = [PlausibilityRow("a", "", "as configured", 3, 1.0, 2.0), PlausibilityRow("a", "b = 1", "b", 3, -1.5, 1.0)]
    assert not plausibility_saved(tmp_path / "run", "a")
    save_plausibility(tmp_path / "run", "a", tried)
    assert plausibility_saved(tmp_path / "run", "a")
    writer.finalize(SOURCES)
    writer.close()
    run = Run(tmp_path / "run")
    assert run.scores == scores
    assert run.layer_errors == layers
    assert run.plausibility == tried
    (tmp_path / "run" / "plausibility.parquet").unlink()
    assert Run(tmp_path / "run").plausibility == []  # as in a run from before there was such a table
    assert run.op_meta == {"a": ops_rows("a"), "b": ops_rows("b")}
    assert run.ops_of("a") == ops_rows("a")


@pytest.mark.parametrize("content", ["3", '[{"op": "conv"}]', '[{"variant": 3}]'])
@pytest.mark.parametrize("what", ["ops", "scores", "layers"])
def test_saved_rows_of_another_form_are_named(what: str, content: str, tmp_path: Path) -> None:
    writer = started(tmp_path / "run")
    (tmp_path / f"run/parts/{what}-a.json").write_text(content)
    with pytest.raises(StoreError, match=rf"{what}-a\.json: damaged \(.+\); remove it and resume") as caught:
        writer.finalize(SOURCES)
    writer.close()
    assert "\n" not in str(caught.value)
    assert not Run(tmp_path / "run").complete


def test_missing_values_are_null() -> None:
    found = tables.rows_table([{"variant": "a", "metric": "AP"}], rows.SCORE_COLUMNS).to_pylist()
    assert found == [{"variant": "a", "metric": "AP", "sample": None, "value": None}]
    assert tables.scores_table([ScoreRow("a", "AP", None, None)]).to_pylist() == found


def test_damaged_or_missing_parquet(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="missing"):
        tables.read_table(tmp_path / "x.parquet")
    (tmp_path / "x.parquet").write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(StoreError, match="damaged Parquet file") as caught:
        tables.read_table(tmp_path / "x.parquet")
    assert "\n" not in str(caught.value)


# -- runs ---------------------------------------------------------------------------------------------------------


def arrays_of(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = {"meta": run.op_meta, "readings": run.readings_table.to_pylist()}
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
    save_scores(tmp_path / "run", "a", [ScoreRow("a", "AP", None, 0.5)])
    writer.finalize(SOURCES)
    writer.close()
    finished = Run(tmp_path / "run")
    assert finished.complete
    after = arrays_of(finished)
    assert after == before
    assert not (tmp_path / "run/parts").exists()
    assert finished.score("a", "AP") == 0.5
    assert finished.score("b", "AP") is None
    assert finished.score("a", "AR") is None
    assert read_json(tmp_path / "run/predictions/a.json") == [{"score": 1}]
    assert [block.number for block in finished.manifest.blocks] == [0, 1, 2, 3]
    assert finished.manifest.blocks[0].lead_in == 2
    assert finished.blocks() == unfinished.blocks() == finished.manifest.blocks


def test_predictions_are_read_only_where_they_are_wanted(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    writer = RunWriter.create(folder, manifest())
    arrays = samples((0, 1, 1), (1, 2, 1))
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
    monkeypatch.setattr(table_stream, "GROUP_ROWS", 2)
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
        if interrupt and not writer.manifest.complete:  # as the run's handler of Ctrl-C does
            writer.manifest.status = "interrupted"
            writer.save_manifest()
        writer.close()
        assert arrays_of(Run(folder))["a clean"] == expected, f"after {calls} steps"
        if ended:
            break
        again = RunWriter.resume(folder)
        if not again.manifest.complete:
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


def leave_temporaries(folder: Path) -> list[Path]:
    """What a writer that is killed leaves, in every folder that it writes to."""
    (folder / "predictions").mkdir(exist_ok=True)
    names = ("samples.parquet", "manifest.json", "findings.json", "parts/block-000001.npz", "predictions/a.json")
    ends = ("0123456789abcdef.tmp", "qprof-0123456789abcdef.tmp")  # of an earlier qprof, and of this one
    left = [(folder / name).with_name(f".{Path(name).name}.{end}") for name in names for end in ends]
    for path in left:
        path.write_bytes(b"half of it")
    return left


@contextlib.contextmanager
def others_files(folder: Path) -> Iterator[list[Path]]:
    """Files of that kind that are not the writer's to remove: a report in the making, and a user's own."""
    files = [folder / ".report.html.qprof-0123456789abcdef.tmp", folder / ".samples.parquet.tmp"]
    for path in files:
        path.write_bytes(b"in the making")
    with files[0].open("rb") as made:
        own.hold(made.fileno())
        yield files


def test_resuming_drops_what_a_killed_writer_left(tmp_path: Path) -> None:
    started(tmp_path / "run").close()
    left = leave_temporaries(tmp_path / "run")
    with others_files(tmp_path / "run") as others:
        RunWriter.resume(tmp_path / "run").close()
        assert [path for path in left if path.exists()] == []
        assert all(path.exists() for path in others)


@pytest.mark.parametrize("dies", [False, True], ids=["whole", "killed"])
def test_a_process_that_is_killed_while_it_writes_tables_leaves_nothing(dies: bool, tmp_path: Path) -> None:
    writer = started(tmp_path / "run")
    left: list[Path] = []

    def tabulate(folder: Path, variants: Any, sources: Any) -> Any:
        left.extend(leave_temporaries(folder))
        if dies:
            raise WorkerError("writing of the tables: the worker was killed by SIGKILL")
        return write_tables(folder, variants, sources)

    with pytest.raises(WorkerError) if dies else contextlib.nullcontext():
        writer.finalize(SOURCES, tabulate)
    writer.close()
    assert left and [path for path in left if path.exists()] == []


def test_damaged_block_in_a_run_is_named(tmp_path: Path) -> None:
    started(tmp_path / "run").close()
    (tmp_path / "run/parts/block-000001.npz").write_bytes(b"")
    with pytest.raises(StoreError, match=r"block-000001\.npz: damaged"):
        _ = Run(tmp_path / "run").samples


@pytest.mark.parametrize("version", [0, 1, 2, 6, True])
def test_other_schema_version_is_refused(version: object, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps(written(schema_version=version)))
    says = rf"manifest.json: written with schema version {version}, this qprof reads 3 to 5; use the"
    with pytest.raises(StoreError, match=says) as caught:
        read_manifest(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("version", ["3", 3.5, None])
def test_a_schema_version_that_is_no_number_is_damage(version: object, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps(written(schema_version=version)))
    with pytest.raises(StoreError, match=r"manifest.json: damaged \(schema_version is no number\)"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("content", ["[]", "3", "null"])
def test_manifest_that_is_no_object(content: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(StoreError, match=r"manifest.json: damaged \(schema_version is no number\)"):
        Run(tmp_path)


@pytest.mark.parametrize("key", ["status", "created", "machine", "variants", "profile"])
def test_manifest_that_lacks_what_readers_count_on(key: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps(written(**{key: ...})))
    with pytest.raises(StoreError, match=rf"manifest.json: damaged \(Object missing required field `{key}`\)"):
        Run(tmp_path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"variants": []}, "it has no variants"),
        ({"variants": None}, r"Expected `array`, got `null` - at `\$.variants`"),
        ({"status": "done"}, r"Invalid enum value 'done' - at `\$.status`"),
        ({"machine": {"cpu": "x"}}, r"Object contains unknown field `cpu` - at `\$.machine`"),
        ({"colour": "red"}, "Object contains unknown field `colour`"),
        ({"profile": {"name": "p", "colour": 1}}, r"Object contains unknown field `colour` - at `\$.profile`"),
        ({"variants": [{"name": "a", "colour": 1}]}, r"unknown field `colour` - at `\$.variants\[0\]`"),
        ({"blocks": [{"number": 0, "colour": 1}]}, r"`\$.blocks\[...\]`|unknown field `colour`"),
    ],
)
def test_manifest_of_another_form_is_refused_in_one_line(changes: Any, says: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps(written(**changes)))
    with pytest.raises(
        StoreError, match=rf"manifest\.json: damaged \(.*({says}).*\); restore it or run anew"
    ) as caught:
        Run(tmp_path)
    assert "\n" not in str(caught.value)


def full_manifest() -> Manifest:
    """One with something in every place that a run fills."""
    audit = ClockAudit(unsynchronized_us=1.0, synchronized_us=3.0, events_us=2.0, asynchronous_error=0.5)
    split = SplitFacts(how="in situ", linears=2, passes=3, shares={"matmul": 0.75}, in_situ_ms=1.5)
    kernels = KernelFacts(launches=12.0, busy_us=80.0, layers={"fc": {"gemm": (1.0, 40.0)}})
    entry = VariantEntry(
        name="b",
        section={"name": "b", "bits": 4},
        runtime="torch_lm",
        making=Making(method="gptq-4bit", tool="x", make_seconds=1.5, run={"kernel": "torch"}, facts={"bits": 4}),
        phases=[Phase("prefill", 64), Phase("decode", 1, 8)],
        structure="modules",
        options={"threads": 2, "device": "cuda:1"},
        warmup={"decode": Warmup(steady=True, reason="still", inferences=9)},
        timing=Timing(split={"decode": split}, clocks={"decode": audit}, kernels={"decode": kernels}, facts={"ops": 3}),
        layer_errors=LayersCompared(samples=[0, 4], seconds=0.5),
    )
    found = manifest()
    found.variants = [VariantEntry(name="a", status="failed", reason="no"), entry]
    found.task = PreparedTask(section={"kind": "lastword", "limit": 3}, skip=[1])
    found.blocks = [clean_block().entry(), profiled_block(1, "b").entry()]
    found.score_columns = ["accuracy", "perplexity"]
    return found


def test_a_manifest_comes_back_as_it_was(tmp_path: Path) -> None:
    write_manifest(tmp_path, full_manifest())
    found = read_manifest(tmp_path)
    assert found == full_manifest()
    assert found.schema_version == SCHEMA_VERSION == 5
    assert (found.baseline.name, found.metric, [entry.name for entry in found.living()]) == ("a", "accuracy", ["b"])
    assert (found.variants[0].threads, found.variants[0].device) == (None, "")
    assert (found.variants[1].threads, found.variants[1].device) == (2, "cuda:1")
    assert found.task is not None
    assert found.task.kind == "lastword"
    assert found.blocks[0].lead_in == 2


def test_figures_that_are_not_finite_are_null(tmp_path: Path) -> None:
    found = full_manifest()
    found.variants[1].making = Making(method="x", facts={"losses": {"fc": float("nan"), "fd": 0.5}})
    found.variants[1].inputs = [TensorSpec("in", (1,), "int8", float("inf"), 0)]
    write_manifest(tmp_path, found)
    text = (tmp_path / "manifest.json").read_text()
    json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    again = read_manifest(tmp_path).variants[1]
    assert again.making.facts["losses"] == {"fc": None, "fd": 0.5}
    assert again.inputs[0].scale is None


# -- manifests of version 3 ---------------------------------------------------------------------------------------

#: What version 3 wrote into every section, whichever runtime and task it was of.
V3_VARIANT = {
    **{"method": "", "file": "", "ops": [], "skip_ops": [], "skip_layers": [], "io": "float", "threads": None},
    **{"delegate": None, "bits": None, "group_size": None, "desc_act": False, "sym": True, "kernel": "", "dtype": ""},
    **{"library": "gptqmodel", "batch": None},
}
V3_TASK = {
    **{"dataset": "", "data": "", "config": "", "split": "test", "scoring": "lambada_openai", "bos": "auto"},
    **{"batch_tokens": 4096, "calibration_data": "", "calibration_split": "train", "calibration_tokens": 128},
    **{"prompt_tokens": 64, "generated_tokens": 16, "batch": 1, "annotations": "", "images": "", "limit": None},
    **{"calibration_annotations": "", "calibration_images": "", "calibration_samples": 100, "inputs": [], "samples": 8},
    "preprocess": {"resize": "stretch", "interpolation": "bilinear", "color": "rgb", "mean": 127.5, "std": 127.5},
    "head": {"kind": "auto", "variances": [10.0, 10.0, 5.0, 5.0], "strides": [8, 16, 32], "clip": True},
    "categories": {"rule": "order", "offset": 0, "ids": None},
}
V3_OPTIONS = {
    **{"threads": 1, "delegate": "xnnpack", "input_shapes": {}, "device": "cpu", "dtype": "", "kernel": "", "batch": 1},
    **{"prompt_tokens": 64, "generated_tokens": 8},
}


def v3_variant(name: str, runtime: str | None, **changes: Any) -> dict[str, Any]:
    section = {"name": name, **V3_VARIANT, **changes.pop("section", {})}
    entry = {"name": name, "section": section, "status": "ok", "reason": None, "notes": [], "runtime": runtime}
    if runtime is None:  # it failed as it was made
        return {**entry, "status": "failed", **changes}
    tensor = {"name": "in", "shape": [1, 64], "dtype": "int64", "scale": None, "zero_point": None}
    return {
        **entry,
        "path": "/cache/model",
        "sha256": "0" * 64,
        "bytes": 1000,
        "making": {"method": "float32", "tool": "none", "tool_version": "", "make_seconds": 0.5, "settings": {}},
        "inputs": [{**tensor, "shape_signature": None}],
        "outputs": [{**tensor, "shape_signature": [-1, 64]}],
        "phases": [{"name": "prefill", "tokens": 64, "steps": 1}, {"name": "decode", "tokens": 1, "steps": 8}],
        "facts": {"device": "cpu"},
        "memory": {"rss_above_runtime_bytes": 5, "runtime_rss_bytes": 6, "missing": {"pss": "no /proc"}},
        "scored": 3,
        "options": dict(V3_OPTIONS),
        "instrumented": True,
        "arena_bytes": None,
        "outputs_identical": True,
        "warmup": {"prefill": {"steady": True, "reason": "no trend", "inferences": 40}},
        "timing": {"timed_nodes": 1, "untimed_nodes": 0, "ops": 2},
        "layer_errors": {"samples": [0, 43], "seconds": 1.5},
        **changes,
    }


def v3_manifest() -> dict[str, Any]:
    """A finished run of a language model, as version 3 kept it."""
    task = {"kind": "lastword", "dataset": "passages", **{k: v for k, v in V3_TASK.items() if k != "dataset"}}
    task |= {"limit": 300, "generated_tokens": 8}
    protocol = {"threads": 1, "delegate": "xnnpack", "device": "cpu", "rounds": 10, "seed": 1, "energy": "auto"}
    ceiling = {"kind": "compute", "name": "matmul", "dtype": "float32", "unit": "GMAC/s", "how": "x", "value": 57.5}
    quantized = {"bits": 4, "kernel": "torch"}
    making = {"library": "gptqmodel", "method": "gptq-4bit", "tool": "gptqmodel", "tool_version": "7", **quantized}
    making |= {"make_seconds": 4.5, "losses": {"fc": 2e-9}, "run": {"dtype": "bfloat16", "kernel": "torch"}}
    timing = {"timer": "compiled", "timed_layers": 58, "lost_calls": 0}
    timing |= {
        "split": {"prefill": {"how": "in situ", "reason": None, "linears": 2, "passes": 3, "shares": {"matmul": 0.5}}},
        "clocks": {
            "prefill": {
                **{"unsynchronized_us": 1.0, "synchronized_us": 2.0, "events_us": 2.0, "asynchronous_error": 0.5}
            }
        },
        "kernels": {"prefill": {"launches": 3.0, "busy_us": 2.0, "span_us": 2.5, "idle_share": 0.2, "layers": {}}},
    }
    variants = [
        v3_variant("bfloat16", "gptq"),
        v3_variant("gptq-4bit", "gptq", section=quantized, making=making, timing=timing),
        v3_variant("gptq-8bit", "autogptq", section={"library": "autogptq", "group_size": 64}, timing=None),
        v3_variant("gptq-2bit", None, reason="out of memory"),
    ]
    return {
        "schema_version": 3,
        "status": "complete",
        "name": "lm",
        "description": "",
        "created": "2026-11-28T22:26:36+00:00",
        "qprof": "0.1.0",
        "profile": {
            "name": "lm",
            "description": "",
            "model": {"path": "embedded:passages_lm", "input_shapes": {}, "batch": 1},
            "variants": [entry["section"] for entry in variants],
            "task": task,
            "protocol": protocol,
        },
        "machine": {"cpu_model": "AMD EPYC", "logical_cpus": 2, "missing": {"governor": "no cpufreq"}},
        "packages": {"qprof": "0.1.0", "torch": None},
        "clock": {"source": "CLOCK_MONOTONIC", "resolution_ns": 70, "reading_cost_ns": 81.0, "wall_offset_ns": 17},
        "op_sources": ["node", "kernel"],
        "samples": 4,
        "notes": ["a note"],
        "variants": variants,
        "task": {**task, "data": "/cache/test.jsonl", "skip": [5, 9]},
        "sensors": None,
        "energy": {"blocks": False, "reason": "nothing here measures the power of cpu"},
        "ceilings": {"gptq": [{**ceiling, "spread": 0.5, "repetitions": 7, "reason": None}]},
        "score_columns": ["accuracy"],
        "blocks": [
            {"number": 0, "round": 0, "variant": "bfloat16", "kind": "clean", "phase": "prefill", "lead_in": 1},
            {"number": 1, "round": -1, "variant": "", "kind": "idle", "phase": "", "when": "before"},
        ],
    }


@pytest.fixture
def upgraded(tmp_path: Path) -> Manifest:
    (tmp_path / "manifest.json").write_text(json.dumps(v3_manifest()))
    return Run(tmp_path).manifest


def test_version_3_is_brought_up_to_the_present_one(upgraded: Manifest) -> None:
    assert upgraded.schema_version == SCHEMA_VERSION
    assert upgraded.complete
    assert (upgraded.name, upgraded.samples, upgraded.notes, upgraded.metric) == ("lm", 4, ["a note"], "accuracy")
    assert upgraded.machine.cpu_model == "AMD EPYC"
    assert upgraded.clock.resolution_ns == 70
    assert upgraded.energy is not None
    assert not upgraded.energy.blocks
    assert [(b.number, b.kind, b.phase, b.lead_in, b.when) for b in upgraded.blocks] == [
        (0, "clean", "prefill", 1, None),
        (1, "idle", "", None, "before"),
    ]


def test_the_runtimes_of_version_3_are_named_as_they_are_now(upgraded: Manifest) -> None:
    assert [entry.runtime for entry in upgraded.variants] == ["torch_lm", "torch_lm", "torch_lm", None]
    assert [entry.structure for entry in upgraded.variants] == ["modules", "modules", "modules", "graph"]
    assert list(upgraded.ceilings) == ["torch_lm"]
    assert upgraded.ceilings["torch_lm"][0].value == 57.5
    assert [entry.options.get("library") for entry in upgraded.variants] == [None, None, "autogptq", None]


def test_keys_of_version_3_that_say_nothing_are_gone(upgraded: Manifest) -> None:
    sections = [
        {"name": "bfloat16"},
        {"name": "gptq-4bit", "bits": 4, "kernel": "torch"},
        {"name": "gptq-8bit", "library": "autogptq", "group_size": 64},
        {"name": "gptq-2bit"},
    ]
    assert [entry.section for entry in upgraded.variants] == sections
    assert upgraded.profile.variants == sections
    assert upgraded.profile.model == {"path": "embedded:passages_lm"}
    assert upgraded.profile.task == {"kind": "lastword", "dataset": "passages", "limit": 300, "generated_tokens": 8}
    assert upgraded.profile.protocol.rounds == 10
    options = {"threads": 1, "device": "cpu", "dtype": "", "kernel": "", "batch": 1}
    assert upgraded.variants[0].options == {**options, "prompt_tokens": 64, "generated_tokens": 8}
    assert upgraded.variants[3].options == {}
    assert validate_recorded(upgraded.profile, "run").variants[1].name == "gptq-4bit"


def test_what_version_3_said_of_making_and_timing_is_sorted(upgraded: Manifest) -> None:
    plain, quantized, old, broken = upgraded.variants
    assert plain.making == Making(
        method="float32", tool="none", tool_version="", make_seconds=0.5, facts={"settings": {}}
    )
    assert (quantized.making.method, quantized.making.tool, quantized.making.tool_version) == (
        "gptq-4bit",
        "gptqmodel",
        "7",
    )
    assert quantized.making.run == {"dtype": "bfloat16", "kernel": "torch"}
    facts = {"library": "gptqmodel", "bits": 4, "kernel": "torch", "losses": {"fc": 2e-9}}
    assert quantized.making.facts == facts
    assert plain.timing == Timing(facts={"timed_nodes": 1, "untimed_nodes": 0, "ops": 2})
    assert quantized.timing is not None
    assert quantized.timing.facts == {"timer": "compiled", "timed_layers": 58, "lost_calls": 0}
    assert quantized.timing.split["prefill"].shares == {"matmul": 0.5}
    assert quantized.timing.clocks["prefill"].asynchronous_error == 0.5
    assert quantized.timing.kernels["prefill"].idle_share == 0.2
    assert old.timing is None
    assert (broken.status, broken.reason, broken.making) == ("failed", "out of memory", Making())
    assert plain.memory.rss_above_runtime_bytes == 5
    assert plain.memory.missing == {"pss": "no /proc"}
    assert plain.warmup["prefill"].inferences == 40
    assert plain.outputs[0].shape_signature == (-1, 64)
    assert plain.layer_errors == LayersCompared(samples=[0, 43], seconds=1.5)


def test_the_task_of_version_3_has_its_skipped_samples_beside_it(upgraded: Manifest) -> None:
    section = {"kind": "lastword", "dataset": "passages", "limit": 300, "generated_tokens": 8}
    assert upgraded.task == PreparedTask(section={**section, "data": "/cache/test.jsonl"}, skip=[5, 9])


def test_version_3_of_a_detector_keeps_its_sections_and_its_runtimes_options(tmp_path: Path) -> None:
    plain = v3_manifest()
    task = {"kind": "detection", **V3_TASK, "dataset": "shapes", "limit": 7}
    plain["profile"] |= {"task": task, "model": {"path": "embedded:x", "input_shapes": {"in": [1, 8]}, "batch": 1}}
    plain["task"] = None
    plain["variants"] = [v3_variant("int8", "litert", section={"io": "int8", "skip_ops": ["ADD"]})]
    plain["profile"]["variants"] = [plain["variants"][0]["section"]]
    plain["ceilings"] = None
    (tmp_path / "manifest.json").write_text(json.dumps(plain))
    found = Run(tmp_path).manifest
    detectors = {key: V3_TASK[key] for key in ("preprocess", "head", "categories")}
    assert found.profile.task == {"kind": "detection", "dataset": "shapes", "limit": 7, **detectors}
    assert found.profile.model == {"path": "embedded:x", "input_shapes": {"in": [1, 8]}}
    assert (found.task, found.ceilings) == (None, {})
    (entry,) = found.variants
    assert (entry.runtime, entry.structure) == ("litert", "graph")
    assert entry.section == {"name": "int8", "io": "int8", "skip_ops": ["ADD"]}
    assert entry.options == {"threads": 1, "delegate": "xnnpack", "input_shapes": {}, "device": "cpu"}


def test_an_unfinished_run_of_version_3_is_resumed_as_the_present_version(tmp_path: Path) -> None:
    plain = {**v3_manifest(), "status": "interrupted", "blocks": None, "score_columns": None, "task": None}
    (tmp_path / "manifest.json").write_text(json.dumps(plain))
    writer = RunWriter.resume(tmp_path)
    writer.save_manifest()
    writer.close()
    assert json.loads((tmp_path / "manifest.json").read_text())["schema_version"] == SCHEMA_VERSION
    again = read_manifest(tmp_path)
    assert again == writer.manifest
    assert (again.status, again.blocks, again.score_columns, again.task) == ("interrupted", [], [], None)


@pytest.mark.parametrize(
    "change",
    [
        *({"profile": None}, {"profile": {"name": "a"}}, {"variants": [{"name": "a"}]}, {"variants": [3]}),
        *({"variants": None}, {"task": [1]}, {"ceilings": [1]}, {"colour": "red"}),
    ],
    ids=str,
)
def test_version_3_that_is_damaged_is_refused_in_one_line(change: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({**v3_manifest(), **change}))
    with pytest.raises(StoreError, match=r"manifest\.json: damaged \(.+\); restore it or run anew") as caught:
        Run(tmp_path)
    assert "\n" not in str(caught.value)


def test_places_where_no_run_can_be(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be written"):
        RunWriter.create(blocked(tmp_path), manifest())
    with pytest.raises(StoreError, match="exists already"):
        RunWriter.create(tmp_path / "file", manifest())
    (tmp_path / "link").symlink_to(tmp_path / "nowhere" / "else")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("link", "loop", "x" * 300):
        with pytest.raises(StoreError) as caught:
            RunWriter.create(tmp_path / name, manifest())
        assert "\n" not in str(caught.value)


def test_existing_folder_is_taken_only_if_it_is_empty(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    RunWriter.create(tmp_path / "empty", manifest()).close()
    with pytest.raises(StoreError, match="exists already; continue it with --resume"):
        RunWriter.create(tmp_path / "empty", manifest())


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


def test_a_run_from_before_there_were_resets_has_none(tmp_path: Path) -> None:
    old = {key: value for key, value in written(schema_version=4).items() if key != "resets"}
    (tmp_path / "manifest.json").write_text(json.dumps(old))
    found = read_manifest(tmp_path)
    assert found.resets is False and found.schema_version == SCHEMA_VERSION


def test_op_events_of_blocks_with_resets_are_kept_apart(tmp_path: Path) -> None:
    writer = started(tmp_path / "run")
    for number, kind, ns in ((20, "profiled", 5), (21, "reset", 3)):
        block = Block(number, 0, "a", kind, samples((4, 100, 10)), events((0, 0, 100, ns, 0)))
        writer.save_block(block)
    writer.close()
    run = Run(tmp_path / "run")
    profiled, reset = run.ops("a"), run.ops("a", kind="reset")
    assert profiled.duration_ns[profiled.block >= 20].tolist() == [5]
    assert reset.duration_ns.tolist() == [3] and reset.block.tolist() == [21]
    assert run.latency("a", "reset").block.tolist() == [21]


def test_a_place_that_is_in_no_dictionary_is_damage(tmp_path: Path) -> None:
    """Parquet keeps strings as places in a dictionary, and pyarrow reads any number for one."""
    path = tmp_path / "readings.parquet"
    names = pa.array(["host", "nvml"] * 8).dictionary_encode()
    pq.write_table(pa.table({"probe": names}), path, compression="none", store_schema=True)
    content, invented = path.read_bytes(), 0
    for place in range(4, len(content) - 8):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x7F]) + content[place + 1 :])
        try:
            read = pq.read_table(path)
        except (OSError, pa.ArrowException):
            continue
        try:
            read.validate(full=True)
        except pa.ArrowInvalid:
            invented += 1
            with pytest.raises(StoreError, match=r"readings\.parquet: damaged"):
                tables.read_table(path)
    assert invented > 0
