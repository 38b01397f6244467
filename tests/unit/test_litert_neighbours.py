"""Which ops hand tensors to one another, by side, conversions looked through."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("ai_edge_litert.interpreter")

from qprof.runtimes.litert.flatbuffer import read_model
from qprof.runtimes.litert.neighbours import neighbours, neighbours_by_side
from qprof.runtimes.litert.quantize import make

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
    for op, (before, after) in neighbours_by_side(EMBEDDED).items():
        assert neighbours(EMBEDDED)[op] == list(dict.fromkeys([*before, *after]))


def test_conversions_are_nobodys_neighbours(tmp_path: Path) -> None:
    path = tmp_path / "dynamic.tflite"
    make("float16", EMBEDDED, path)
    types = {str(op.index): op.type for op in read_model(path).subgraphs[0].ops}
    assert "DEQUANTIZE" in types.values()
    for before, after in neighbours_by_side(path).values():
        assert all(types[other] != "DEQUANTIZE" for other in (*before, *after))
