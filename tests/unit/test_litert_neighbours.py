"""Which ops hand tensors to one another, by side, conversions looked through."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("ai_edge_litert.interpreter")

from qprof.errors import ModelError
from qprof.runtimes.litert import flatbuffer
from qprof.runtimes.litert.flatbuffer import read_model
from qprof.runtimes.litert.model_facts import ModelFacts
from qprof.runtimes.litert.neighbours import neighbours, neighbours_by_side
from qprof.runtimes.litert.quantize import make

builder = pytest.importorskip("tflite_builder", reason="the builder of tiny models needs ai_edge_litert")

EMBEDDED = Path(__file__).parents[2] / "src" / "qprof" / "embedded" / "shapes_detector.tflite"


def test_what_an_op_is_given_comes_before_it_and_what_it_gives_goes_behind() -> None:
    sides = neighbours_by_side(EMBEDDED)
    ops = {str(op.index): op for op in read_model(EMBEDDED).subgraphs[0].ops}
    assert set(sides) == set(ops)
    for op, (before, after) in sides.items():
        assert all(int(other) < int(op) for other in before) and all(int(other) > int(op) for other in after)
        for other in before:
            assert op in sides[other][1], "whoever gives is given to"
    adds = [op for op, facts in ops.items() if facts.type == "ADD"]
    assert adds and all(len(sides[op][0]) == 2 for op in adds)
    assert sides["0"][0] == [], "the first takes the model's input"


def test_both_sides_together_are_the_neighbours() -> None:
    types = {str(op.index): op.type for op in read_model(EMBEDDED).subgraphs[0].ops}
    found = neighbours(EMBEDDED)
    for op, (before, after) in neighbours_by_side(EMBEDDED).items():
        if all(types[other] != "RESIZE_BILINEAR" for other in (*before, *after)):
            assert found[op] == list(dict.fromkeys([*before, *after]))


def test_ops_that_hand_numbers_on_are_looked_through(tmp_path: Path) -> None:
    """relu -> reshape -> concatenation (of a second input, too) -> slice -> tanh: what relu gives is rounded to one
    scale as far as the slice."""
    graph = builder.Graph()

    def unary(type: str, source: int, shape: tuple[int, ...]) -> int:
        result = graph.tensor(type, shape)
        graph.op(type, [source], [result])
        return result

    one, other = graph.input("one", (1, 2, 4)), graph.input("other", (1, 8))
    flat = unary("RESHAPE", unary("RELU", one, (1, 2, 4)), (1, 8))
    both = graph.tensor("both", (1, 16))
    graph.op("CONCATENATION", [flat, unary("NEG", other, (1, 8))], [both])
    graph.outputs = [unary("TANH", unary("SLICE", both, (1, 8)), (1, 8))]
    path = tmp_path / "chain.tflite"
    path.write_bytes(builder.build_model([graph]))
    names = {str(op.index): op.type for op in read_model(path).subgraphs[0].ops}
    found = {names[op]: {names[other] for other in others} for op, others in neighbours(path).items()}
    assert found["RELU"] == {"RESHAPE", "CONCATENATION", "SLICE", "TANH"}
    assert found["TANH"] == {"SLICE", "CONCATENATION", "RESHAPE", "RELU", "NEG"}
    assert found["NEG"] == {"CONCATENATION", "SLICE", "TANH"}, "not what the other input brings"


def test_conversions_are_nobodys_neighbours(tmp_path: Path) -> None:
    path = tmp_path / "dynamic.tflite"
    make("float16", EMBEDDED, path)
    types = {str(op.index): op.type for op in read_model(path).subgraphs[0].ops}
    assert "DEQUANTIZE" in types.values()
    for before, after in neighbours_by_side(path).values():
        assert all(types[other] != "DEQUANTIZE" for other in (*before, *after))


def test_a_file_that_is_asked_about_often_is_read_once_unless_it_was_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def counted(path: Path) -> ModelFacts:
        read.append(path)
        return read_model(path)

    monkeypatch.setattr(flatbuffer, "read_model", counted)
    path = tmp_path / "a.tflite"
    path.write_bytes(builder.tiny_conv_net())
    first = neighbours(path)
    assert neighbours(path) == first and len(read) == 1
    path.write_bytes(builder.chain_net(9))
    assert len(neighbours(path)) == len(read_model(path).subgraphs[0].ops) != len(first) and len(read) == 2
    path.unlink()
    with pytest.raises(ModelError, match="no such file"):
        neighbours(path)
