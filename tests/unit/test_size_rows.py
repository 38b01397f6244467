"""Every byte of a variant's files counts in one part, and the rows of a difference add up to that of the files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flatbuffers
import msgspec
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from checkpoints import float_tensors, quantized_tensors, write_checkpoint
from qprof.errors import ModelError
from qprof.findings.size import SizeDifference, memory_differences, size_difference
from qprof.record.manifest import Making, Memory, VariantEntry
from qprof.record.stored import StoredFiles, StoredPart
from qprof.record.tensors import TensorSpec
from qprof.report.sizes import left_in_float, memory_lines, size_lines
from qprof.runtimes.litert import float_tables
from qprof.runtimes.litert import parts as litert_parts
from qprof.runtimes.litert.quantize import make
from qprof.runtimes.torch_lm import parts as lm_parts
from tflite_builder import Graph, Quantization, build_model, tiny_conv_net, tiny_int8_net

ROWS, WIDTH = 2000, 64
TABLE_BYTES = ROWS * WIDTH * 4


def embedding_net() -> bytes:
    """GATHER of a large table, then a small FULLY_CONNECTED: the table is over 90 % of the file."""
    random = np.random.default_rng(0)
    graph = Graph()
    ids = graph.input("ids", (4,), "int32")
    table = graph.constant("word_embeddings", random.standard_normal((ROWS, WIDTH)).astype(np.float32))
    found = graph.tensor("embedded", (4, WIDTH))
    graph.op("GATHER", [table, ids], [found], schema.GatherOptionsT())
    weights = graph.constant("weights", random.standard_normal((64, WIDTH)).astype(np.float32))
    graph.outputs = [graph.fully_connected("hidden", found, weights)]
    return build_model([graph])


def entry(name: str, stored: StoredFiles | None, **more: Any) -> VariantEntry:
    return VariantEntry(name=name, sha256=name, stored=stored, **more)


def difference(a: StoredFiles, b: StoredFiles, notes: Sequence[str] = ()) -> SizeDifference:
    found = size_difference(entry("a", a), entry("b", b, notes=list(notes)))
    assert sum(row.delta_bytes for row in found.rows) == found.delta_bytes == b.bytes - a.bytes
    return found


def row_of(found: SizeDifference, what: str) -> Any:
    return next(row for row in found.rows if row.what.startswith(what))


def counted(path: Path) -> dict[str, int]:
    """By the schema's own object model, which copies the file: bytes of constants by type, scales, metadata."""
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    names = {value: name.lower() for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
    found: dict[str, int] = {}
    seen: set[int] = set()
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            buffer = model.buffers[tensor.buffer]
            length = len(buffer.data) if buffer.data is not None else 0
            length = length or (buffer.size if buffer.offset > 1 else 0)  # or behind the flatbuffer
            if length and tensor.buffer not in seen:
                seen.add(tensor.buffer)
                found[names[tensor.type]] = found.get(names[tensor.type], 0) + length
            own = tensor.quantization
            if own is not None:
                for values, width in ((own.scale, 4), (own.zeroPoint, 8), (own.min, 4), (own.max, 4)):
                    found["scales"] = found.get("scales", 0) + (0 if values is None else len(values) * width)
    return found


def by_schema(stored: StoredFiles) -> dict[str, int]:
    found: dict[str, int] = {}
    for part in stored.parts:
        if part.kind in ("tensor", "scales"):
            key = part.dtype if part.kind == "tensor" else "scales"
            found[key] = found.get(key, 0) + part.bytes
    return found


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "float.tflite"
    path.write_bytes(embedding_net())
    return path


def calibration() -> list[list[Any]]:
    return [[np.arange(4, dtype=np.int32) + shift] for shift in range(8)]


def made(method: str, model: Path) -> tuple[Path, list[str]]:
    path = model.with_name(f"{method}.tflite")
    variant = make(method, model, path, calibration=calibration() if method == "int8" else None)
    return path, [*variant.notes, *float_tables.notes(path, method, None, [])]


@pytest.mark.parametrize("net", [tiny_conv_net, tiny_int8_net, embedding_net])
def test_parts_are_those_of_the_schema_and_close(net: Any, tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(net())
    stored = litert_parts.stored_files(path)
    assert sum(part.bytes for part in stored.parts) == stored.bytes == path.stat().st_size
    wanted = {key: value for key, value in counted(path).items() if value}
    assert by_schema(stored) == wanted


@pytest.mark.parametrize("method", ["int8", "int8-dynamic", "float16", "int8-weight-only"])
def test_a_table_that_is_most_of_the_file(method: str, model: Path) -> None:
    path, notes = made(method, model)
    a, b = litert_parts.stored_files(model), litert_parts.stored_files(path)
    found = difference(a, b, notes)
    table = next(part for part in a.parts if part.name == "word_embeddings")
    assert table.bytes == TABLE_BYTES > 0.9 * model.stat().st_size and table.op == "GATHER"
    truth = counted(path)
    stays = truth.get("float32", 0) >= TABLE_BYTES
    lines = "\n".join(size_lines(found))
    named = "GATHER's word_embeddings stays float32: 512 kB" in lines
    assert named == stays
    assert found.short == stays
    if stays:
        share = TABLE_BYTES / path.stat().st_size
        assert f"= {share * 100:.0f} % of b (tables left in float32 by ai-edge-quantizer, whose {method} " in lines
        assert not float_tables.notes(path, method, None, ["GATHER"])  # as asked
        assert not float_tables.notes(path, method, ["FULLY_CONNECTED"], [])
        assert any("word_embeddings" in line for line in left_in_float(found))
    else:
        assert method == "int8" and not notes
        changed = row_of(found, "float32 -> ")
        assert changed.a_bytes - changed.b_bytes > TABLE_BYTES * 0.4


@pytest.mark.parametrize(
    ("name", "file", "short"),
    [
        ("planted", "deeper.tflite", False),
        ("float32", "model.tflite", False),
        ("pointwise", "point8wise.tflite", False),
        ("int8", "model.tflite", True),
        ("mine", "model_w4a16.tflite", True),
        ("mine", "detector-ptq.tflite", True),
        ("mine", "yolo_float16.tflite", True),
    ],
)
def test_float_against_float_promises_nothing(name: str, file: str, short: bool) -> None:
    """Two float files differ in many ways; only one that is called by a smaller format was to shrink."""
    parts = [StoredPart(name="w", bytes=4000, op="CONV_2D", dtype="float32", elements=1000)]
    a, b = StoredFiles(bytes=4000, parts=parts), StoredFiles(bytes=4000, parts=parts)
    found = size_difference(entry("a", a), entry(name, b, section={"name": name, "file": file}))
    assert found.short is short
    assert any("shrank less" in line for line in size_lines(found)) is short


def test_why_a_table_stays_is_what_its_method_said(model: Path, tmp_path: Path) -> None:
    stored = litert_parts.stored_files(model)
    note = "weights left in float32 by some-quantizer, which has no int8 form of them: GATHER x1; expect float kernels"
    found = difference(stored, stored, [note])
    assert row_of(found, "left in float32").parts[0].why == note
    assert not row_of(difference(stored, stored), "left in float32").parts[0].why
    assert not row_of(difference(stored, stored, [note.replace("GATHER", "GATHER_ND")]), "left in").parts[0].why


def test_shared_buffers_count_once(tmp_path: Path) -> None:
    path = tmp_path / "shared.tflite"
    model = schema.ModelT.InitFromPackedBuf(embedding_net(), 0)
    twin = model.subgraphs[0].tensors[1]
    assert twin.name == b"word_embeddings"
    model.subgraphs[0].tensors.append(twin)
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    stored = litert_parts.stored_files(path)
    assert sum(part.bytes for part in stored.parts) == path.stat().st_size
    assert sum(part.bytes for part in stored.parts if part.name == "word_embeddings") == TABLE_BYTES


def test_what_an_editor_left_behind_is_no_metadata(tmp_path: Path) -> None:
    """A constant that was replaced, and whose bytes are still there."""
    model = schema.ModelT.InitFromPackedBuf(tiny_conv_net(), 0)
    left = schema.BufferT()
    left.data = np.zeros(5000, np.uint8)
    model.buffers.append(left)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    (before, after) = (tmp_path / "before.tflite", tmp_path / "after.tflite")
    before.write_bytes(tiny_conv_net())
    after.write_bytes(bytes(builder.Output()))
    found = difference(litert_parts.stored_files(before), litert_parts.stored_files(after))
    assert row_of(found, "data that nothing in the model reads").delta_bytes == 5000
    assert not any(row.delta_bytes >= 5000 for row in found.rows if row.what == "metadata")


def test_blockwise_scales_are_scales(tmp_path: Path) -> None:
    graph = Graph()
    source = graph.input("source", (1, 64))
    scales = graph.constant("scales", np.ones((8, 2), np.float16))
    blocks = Quantization(block_size=32, scales_tensor=scales)
    weights = graph.constant("weights", np.ones((8, 64), np.int8), "int4", quantization=blocks)
    graph.outputs = [graph.fully_connected("out", source, weights)]
    path = tmp_path / "blocks.tflite"
    path.write_bytes(build_model([graph]))
    parts = {part.name: part for part in litert_parts.stored_files(path).parts}
    assert (parts["scales"].kind, parts["scales"].bytes) == ("scales", 32)
    assert (parts["weights"].dtype, parts["weights"].bytes, parts["weights"].elements) == ("int4", 256, 512)


def test_renamed_constants_are_matched_by_their_op(tmp_path: Path) -> None:
    def part(name: str, dtype: str, size: int, at: str) -> StoredPart:
        return StoredPart(name=name, bytes=size, dtype=dtype, elements=100, op="CONV_2D", at=at)

    a = StoredFiles(bytes=800, parts=[part("w1", "float32", 400, "x#1"), part("w2", "float32", 400, "y#1")])
    b = StoredFiles(bytes=500, parts=[part("q2", "int8", 100, "y#1"), part("q1", "float32", 400, "x#1")])
    found = difference(a, b)
    assert [(row.what, row.delta_bytes) for row in found.rows] == [("float32 -> int8", -300), ("left in float32", 0)]
    assert row_of(found, "float32 -> int8").parts[0].name == "q2"


def test_experts_that_were_renamed_are_matched_by_their_numbers() -> None:
    """Mixtral's, as transformers writes them and as gptqmodel does."""

    def stored(place: str, names: Sequence[str], dtype: str, size: int, experts: int = 2) -> StoredFiles:
        parts = [
            StoredPart(name=at, bytes=size, dtype=dtype, elements=100, op=name, at=at)
            for expert in range(experts)
            for name in names
            for at in [f"model.layers.0.{place}.experts.{expert}.{name}.weight"]
        ]
        return StoredFiles(bytes=size * len(parts), parts=parts)

    a = stored("block_sparse_moe", ("w1", "w2", "w3"), "bfloat16", 200)
    b = stored("mlp", ("gate_proj", "up_proj", "down_proj"), "int4", 50)
    (row,) = difference(a, b).rows
    assert (row.what, row.a_bytes, row.b_bytes) == ("bfloat16 -> int4", 1200, 300)
    one_more = difference(a, stored("mlp", ("gate_proj", "up_proj", "down_proj"), "int4", 50, experts=3))
    assert [(row.kind, row.delta_bytes) for row in one_more.rows] == [("number format", -900), ("only in one", 150)]


def test_what_no_part_holds_is_unattributed() -> None:
    part = StoredPart(name="w", bytes=100, dtype="float32", elements=25)
    found = difference(StoredFiles(bytes=110, parts=[part]), StoredFiles(bytes=170, parts=[part]))
    assert row_of(found, "unattributed").delta_bytes == 60


def test_a_gptq_checkpoint(tmp_path: Path) -> None:
    settings = {"bits": 4, "group_size": 64, "quant_method": "gptq", "checkpoint_format": "gptq"}
    plain = write_checkpoint(tmp_path / "plain", float_tensors("F16"))
    packed = write_checkpoint(tmp_path / "packed", quantized_tensors(), quantization_config=settings)
    a, b = lm_parts.stored_files(plain), lm_parts.stored_files(packed)
    for folder, stored in ((plain, a), (packed, b)):
        assert stored.bytes == sum(file.stat().st_size for file in folder.iterdir())
        assert sum(part.bytes for part in stored.parts) == stored.bytes
    safe_open = pytest.importorskip("safetensors").safe_open
    with safe_open(packed / "model.safetensors", "np") as file:
        sizes = {name: file.get_tensor(name).nbytes for name in file.keys()}  # noqa: SIM118
    assert {part.name: part.bytes for part in b.parts if part.kind in ("tensor", "scales")} == sizes
    found = difference(a, b)
    down = "model.layers.0.mlp.down_proj"
    changed = row_of(found, "float16 -> int4")
    assert (changed.a_bytes, changed.b_bytes) == (64 * 128 * 2, sizes[f"{down}.qweight"])
    beside = sum(size for name, size in sizes.items() if name.split(".")[-1] in ("scales", "qzeros", "g_idx"))
    assert row_of(found, "scales").b_bytes == beside
    left = row_of(found, "left in float16")
    assert [part.name for part in left.parts] == ["model.embed_tokens.weight"]
    assert "GPTQ" in left.parts[0].why
    assert (
        row_of(found, "files").delta_bytes
        == (packed / "config.json").stat().st_size - (plain / "config.json").stat().st_size
    )


def test_memory_rows_add_up() -> None:
    part = StoredPart(name="w", bytes=1000, dtype="float32", elements=250)
    small = StoredPart(name="w", bytes=250, dtype="int8", elements=250)

    class Both:
        variants = (
            entry(
                "a",
                StoredFiles(bytes=1000, parts=[part]),
                memory=Memory(peak_rss_above_runtime_bytes=9000),
                arena_bytes=4000,
            ),
            entry(
                "b",
                StoredFiles(bytes=250, parts=[small]),
                memory=Memory(peak_rss_above_runtime_bytes=5000),
                arena_bytes=1000,
            ),
        )

    found: Any = memory_differences(Both())[0]  # type: ignore[arg-type]
    assert [row.delta_bytes for row in found.rows] == [-750, -3000, -250]
    assert sum(row.delta_bytes for row in found.rows) == found.delta_bytes == -4000
    assert "not attributed" in list(memory_lines(found))[-1]
    Both.variants[1].arena_bytes = None
    assert [row.delta_bytes for row in memory_differences(Both())[0].rows] == [-750, -3250]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("counts", "says"),
    [
        ((1, 5), "arena of activations, with room kept for 5 outputs, not 1"),
        ((2, 2), "arena of activations"),
        ((0, 2), "arena of activations"),  # of a run of before they were written down
    ],
)
def test_outputs_are_told_that_keep_room_in_the_arena(counts: tuple[int, int], says: str) -> None:
    stored = StoredFiles(bytes=1, parts=[StoredPart(name="w", bytes=1, dtype="int8", elements=1)])

    class Both:
        variants = tuple(
            entry(
                name,
                stored,
                memory=Memory(peak_rss_above_runtime_bytes=9000),
                arena_bytes=1000 * count,
                outputs=[TensorSpec(name=f"out{n}", shape=(1, 8), dtype="float32") for n in range(count)],
            )
            for name, count in zip("ab", counts, strict=True)
        )

    found: Any = memory_differences(Both())[0]  # type: ignore[arg-type]
    assert (found.rows[1].what, found.rows[1].delta_bytes) == (says, 1000 * (counts[1] - counts[0]))


def test_old_entries_read_and_parts_survive_writing() -> None:
    old = msgspec.json.decode(b'{"name": "a"}', type=VariantEntry)
    assert old.stored is None and old.making == Making()
    new = entry("a", StoredFiles(bytes=1, parts=[StoredPart(name="w", bytes=1, dtype="int8", elements=1)]))
    assert msgspec.json.decode(msgspec.json.encode(new), type=VariantEntry) == new


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.tflite"
    path.write_bytes(embedding_net()[:3000])
    with pytest.raises(ModelError, match="truncated"):
        litert_parts.stored_files(path)


@pytest.mark.skipif("QPROF_DATA" not in os.environ, reason="QPROF_DATA is not set")
@pytest.mark.parametrize(
    "name", ["vww_96_int8", "pretrainedResnet_quant", "mobilenet_v1_0.25_128_quant", "yolox_nano", "person_detect"]
)
def test_real_files_close(name: str) -> None:
    path = Path(os.environ["QPROF_DATA"]) / "models" / f"{name}.tflite"
    stored = litert_parts.stored_files(path)
    assert sum(part.bytes for part in stored.parts) == path.stat().st_size
    assert by_schema(stored) == {key: value for key, value in counted(path).items() if value}


@pytest.mark.parametrize(("dtype", "stored"), [("float32", np.float32), ("float16", np.float16)])
def test_constants_that_are_no_numbers_are_counted(tmp_path: Path, dtype: str, stored: Any) -> None:
    values = np.ones((4, 6), stored)
    values[1, 2] = values[3, 3] = np.nan
    values[0, 0] = np.inf  # a mask may hold it
    graph = Graph("main")
    data = graph.input("data", (1, 6), dtype)
    graph.outputs = [graph.fully_connected("out", data, graph.constant("broken", values))]
    (tmp_path / "m.tflite").write_bytes(build_model([graph]))
    found = litert_parts.stored_files(tmp_path / "m.tflite")
    assert {part.name: part.nans for part in found.parts if part.nans} == {"broken": 2}
