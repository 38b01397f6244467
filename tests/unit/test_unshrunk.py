"""What a method leaves in float32 is named with its bytes: from the file to the sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")

from qprof.findings.unshrunk import unshrunk
from qprof.record.manifest import Making, VariantEntry
from qprof.runtimes.litert.interpreter import LiteRTModel
from tflite_builder import Graph, build_model


def classifier(path: Path, rows: int = 1000) -> Path:
    """Token ids -> rows of a table (GATHER) -> the first of them through FULLY_CONNECTED."""
    from ai_edge_litert import schema_py_generated as schema

    random = np.random.default_rng(0)
    graph = Graph("main")
    ids = graph.input("ids", (1,), "int32")
    table = graph.constant("word_embeddings", random.normal(size=(rows, 64)).astype(np.float32))
    found = graph.tensor("embedded", (1, 64))
    graph.op("GATHER", [table, ids], [found], schema.GatherOptionsT(axis=0), 1)
    weights = graph.constant("dense", random.normal(size=(64, 64)).astype(np.float32))
    graph.outputs = [graph.fully_connected("logits", found, weights)]
    path.write_bytes(build_model([graph]))
    return path


def entry(path: Path, making: Making | None = None) -> VariantEntry:
    model = LiteRTModel(path)
    return VariantEntry(
        name="v", bytes=path.stat().st_size, facts=model.loaded.facts, making=making or Making(method="file")
    )


def test_a_table_that_a_method_leaves_is_named_with_its_bytes(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_quantizer")
    from qprof.runtimes.litert.quantize import make

    made = make("int8-weight-only", classifier(tmp_path / "float.tflite"), tmp_path / "int8.tflite")
    found = unshrunk(entry(made.path, Making(method="int8-weight-only", tool="ai-edge-quantizer")))
    assert found is not None and found.n_bytes == 1000 * 64 * 4
    (table,) = found.named
    assert (table.name, table.n_bytes, table.op, table.has_form) == ("word_embeddings", 256_000, "GATHER", False)
    share = round(100 * 256_000 / made.path.stat().st_size)
    assert found.sentence == (
        f"GATHER's word_embeddings float32, 256 kB = {share}% of the file: int8-weight-only leaves it: its tool has no "
        "quantized form of what GATHER reads"
    )
    finished = unshrunk(entry(made.path))
    assert finished is not None and finished.sentence.endswith("of the file: whoever made the file left it so")


def test_a_float_model_has_nothing_that_was_to_shrink(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_quantizer")
    from qprof.runtimes.litert.quantize import make

    source = classifier(tmp_path / "float.tflite", rows=2)
    assert unshrunk(entry(source)) is None
    made = make("int8-weight-only", source, tmp_path / "int8.tflite")
    stored = entry(made.path).facts["stored"]
    assert stored["float_bytes"] == 2 * 64 * 4 and stored["reduced_bytes"] == 64 * 64


@pytest.mark.parametrize(
    ("floats", "n_bytes", "named"),
    [([900, 50, 5], 955, ["c0", "c1"]), ([400, 300, 200, 100], 1000, ["c0", "c1", "c2"]), ([20, 20], 40, None)],
)
def test_the_largest_are_named_and_the_whole_is_told(floats: list[int], n_bytes: int, named: list[str] | None) -> None:
    told: list[dict[str, Any]] = [
        {"name": f"c{i}", "bytes": size, "shape": [size // 4], "op": None, "has_form": False}
        for i, size in enumerate(floats)
    ]
    stored = {"reduced_bytes": 100, "float_bytes": sum(floats), "float": told}
    found = unshrunk(VariantEntry(name="v", bytes=1100, facts={"stored": stored}))
    assert (None if found is None else [one.name for one in found.named]) == named
    if found is not None:
        assert found.n_bytes == n_bytes
        assert found.sentence.startswith(f"{'1 kB' if n_bytes == 1000 else '955 B'} = ")


def test_a_runtime_that_tells_nothing() -> None:
    assert unshrunk(VariantEntry(name="v", bytes=1000)) is None
