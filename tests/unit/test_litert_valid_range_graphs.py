"""Which integers an input may hold, found in graphs made by hand, and held to what LiteRT does with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from qprof.runtimes.litert.flatbuffer import read_model
from qprof.runtimes.litert.interpreter import LiteRTModel
from qprof.runtimes.litert.valid_ranges import valid_ranges
from tflite_builder import Graph, build_model

ROWS, WIDTH = 6, 4
Range = tuple[int | None, int | None] | None


def table(graph: Graph, rows: int = ROWS, name: str = "table") -> int:
    return graph.constant(name, np.arange(rows * WIDTH, dtype=np.float32).reshape(rows, WIDTH))


def gather(graph: Graph, ids: int, rows: int = ROWS, name: str = "picked") -> int:
    picked = graph.tensor(name, (*graph.tensors[ids].shape, WIDTH))
    graph.op("GATHER", [table(graph, rows, f"{name}/table"), ids], [picked], schema.GatherOptionsT())
    return picked


def shifted(graph: Graph, ids: int, by: int, type: str = "ADD", name: str = "shifted") -> int:
    result = graph.tensor(name, graph.tensors[ids].shape, "int32")
    constant = graph.constant(f"{name}/by", np.array([by], np.int32))
    graph.op(type, [ids, constant], [result], schema.AddOptionsT() if type == "ADD" else schema.SubOptionsT())
    return result


def plain(graph: Graph) -> int:
    return gather(graph, graph.input("ids", (1, 3), "int32"))


def along_the_second_axis(graph: Graph) -> int:
    ids = graph.input("ids", (2,), "int32")
    picked = graph.tensor("picked", (ROWS, 2))
    graph.op("GATHER", [table(graph), ids], [picked], schema.GatherOptionsT(axis=1))
    return picked


def one_based(graph: Graph) -> int:
    return gather(graph, shifted(graph, graph.input("ids", (1, 3), "int32"), 1, "SUB"))


def added(graph: Graph) -> int:
    return gather(graph, shifted(graph, graph.input("ids", (1, 3), "int32"), 2))


def cast_and_reshaped(graph: Graph) -> int:
    ids = graph.input("ids", (1, 3), "int64")
    narrow, flat = graph.tensor("narrow", (1, 3), "int32"), graph.tensor("flat", (3,), "int32")
    graph.op("CAST", [ids], [narrow], schema.CastOptionsT())
    shape = graph.constant("shape", np.array([3], np.int32))
    graph.op("RESHAPE", [narrow, shape], [flat], schema.ReshapeOptionsT(newShape=[3]))
    return gather(graph, flat)


def embedding(graph: Graph) -> int:
    found = graph.tensor("found", (3, WIDTH))
    graph.op("EMBEDDING_LOOKUP", [graph.input("ids", (3,), "int32"), table(graph)], [found])
    return found


def one_hot(graph: Graph) -> int:
    ids = graph.input("ids", (3,), "int32")
    depth = graph.constant("depth", np.array(5, np.int32))
    on, off = (graph.constant(name, np.array(value, np.float32)) for name, value in (("on", 1.0), ("off", 0.0)))
    hot = graph.tensor("hot", (3, 5))
    graph.op("ONE_HOT", [ids, depth, on, off], [hot], schema.OneHotOptionsT(axis=-1))
    return hot


def two_tables(graph: Graph) -> int:
    ids = graph.input("ids", (3,), "int32")
    return graph.add("sum", gather(graph, ids, 9, "large"), gather(graph, ids, 4, "small"))


def divisor(graph: Graph) -> int:
    ids = graph.input("ids", (1,), "int32")
    quotient = graph.tensor("quotient", (1,), "int32")
    graph.op(
        "FLOOR_DIV", [graph.constant("whole", np.array([96], np.int32)), ids], [quotient], schema.FloorDivOptionsT()
    )
    return quotient


def size(graph: Graph) -> int:
    image, extent = graph.constant("image", np.ones((1, 2, 2, 1), np.float32)), graph.input("ids", (2,), "int32")
    resized = graph.tensor("resized", (1, 1, 1, 1), signature=(1, -1, -1, 1))
    graph.op("RESIZE_BILINEAR", [image, extent], [resized], schema.ResizeBilinearOptionsT(), version=3)
    return resized


def multiplied(graph: Graph) -> int:
    ids = graph.input("ids", (3,), "int32")
    return gather(graph, graph.multiply("product", ids, ids))


def only_added(graph: Graph) -> int:
    return shifted(graph, graph.input("ids", (3,), "int32"), 5)


FOUND: list[tuple[Callable[[Graph], int], Range]] = [
    (plain, (0, ROWS - 1)),
    (along_the_second_axis, (0, WIDTH - 1)),
    (one_based, (1, ROWS)),
    (added, (-2, ROWS - 3)),
    (cast_and_reshaped, (0, ROWS - 1)),
    (embedding, (0, ROWS - 1)),
    (one_hot, (0, 4)),
    (two_tables, (0, 3)),
    (divisor, (1, None)),
    (size, (1, None)),
    (multiplied, None),
    (only_added, None),
]


def written(folder: Path, make: Callable[[Graph], int]) -> Path:
    graph = Graph()
    graph.outputs = [make(graph)]
    path = folder / "model.tflite"
    path.write_bytes(build_model([graph]))
    return path


def valid_range(path: Path) -> Range:
    return LiteRTModel(path).loaded.inputs[0].valid_range


@pytest.mark.parametrize(("make", "expected"), FOUND, ids=lambda value: getattr(value, "__name__", ""))
def test_what_the_graph_shows(tmp_path: Path, make: Callable[[Graph], int], expected: Range) -> None:
    assert valid_range(written(tmp_path, make)) == expected


@pytest.mark.parametrize(
    "make", [plain, along_the_second_axis, one_based, added, cast_and_reshaped, embedding, two_tables]
)
def test_litert_takes_the_ends_and_nothing_beyond(tmp_path: Path, make: Callable[[Graph], int]) -> None:
    """By the interpreter alone, which qprof has no part in."""
    path = written(tmp_path, make)
    low, high = valid_range(path) or (None, None)
    assert low is not None and high is not None
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    (detail,) = interpreter.get_input_details()
    for value, taken in ((low, True), (high, True), (low - 1, False), (high + 1, False)):
        interpreter.set_tensor(detail["index"], np.full(detail["shape"], value, detail["dtype"]))
        if taken:
            interpreter.invoke()
        else:
            with pytest.raises(RuntimeError):
                interpreter.invoke()


def test_an_open_table_counts_as_it_is_allocated(tmp_path: Path) -> None:
    graph = Graph()
    values = graph.input("values", (1, WIDTH), signature=(-1, WIDTH))
    picked = graph.tensor("picked", (3, WIDTH))
    graph.op("GATHER", [values, graph.input("ids", (3,), "int32")], [picked], schema.GatherOptionsT())
    graph.outputs = [picked]
    path = tmp_path / "model.tflite"
    path.write_bytes(build_model([graph]))
    for rows in (1, 7):
        model = LiteRTModel(path, input_shapes={"values": [rows, WIDTH]})
        assert model.loaded.inputs[1].valid_range == (0, rows - 1)


def test_inputs_are_followed_into_branches_and_bodies(tmp_path: Path) -> None:
    main, then, other = Graph("main"), Graph("then"), Graph("else")
    state = [main.input("condition", (1,), "bool"), main.input("ids", (3,), "int32")]
    main.outputs = [main.tensor("result", (3, WIDTH))]
    main.op("IF", state, main.outputs, schema.IfOptionsT(thenSubgraphIndex=1, elseSubgraphIndex=2))
    then.outputs = [gather(then, then.input("then/ids", (3,), "int32"), 8)]
    other.outputs = [gather(other, other.input("else/ids", (3,), "int32"), 5)]
    path = tmp_path / "model.tflite"
    path.write_bytes(build_model([main, then, other]))
    condition, ids = LiteRTModel(path).loaded.inputs
    assert (condition.valid_range, ids.valid_range) == (None, (0, 4))


def test_ids_that_the_model_wraps_itself_count_as_they_are(tmp_path: Path) -> None:
    """`where(i < 0, i + rows, i)`, as NumPy's indexing is exported: what is mended must not widen the range."""
    graph = Graph()
    ids = graph.input("ids", (3,), "int32")
    negative, mended = graph.tensor("negative", (3,), "bool"), graph.tensor("mended", (3,), "int32")
    graph.op("LESS", [ids, graph.constant("zero", np.array([0], np.int32))], [negative], schema.LessOptionsT())
    graph.op("SELECT_V2", [negative, shifted(graph, ids, ROWS), ids], [mended], schema.SelectV2OptionsT())
    graph.outputs = [gather(graph, mended)]
    path = tmp_path / "model.tflite"
    path.write_bytes(build_model([graph]))
    assert valid_range(path) == (0, ROWS - 1)


@pytest.mark.parametrize("by", [0, 1])
def test_subgraphs_that_call_each_other_without_end_are_read_in_time(tmp_path: Path, by: int) -> None:
    """LiteRT refuses to prepare such a file, but its facts are read before; 40 calls in each of 40, and so on."""
    graphs = [Graph("main"), Graph("again")]
    for graph in graphs:
        given = graph.input(f"{graph.name}/ids", (1,), "int32")
        for number in range(40):
            ids = shifted(graph, given, by * number, name=f"{graph.name}/shifted{number}")
            result = graph.tensor(f"{graph.name}/{number}", (1,), "int32")
            graph.op("WHILE", [ids], [result], schema.WhileOptionsT(condSubgraphIndex=1, bodySubgraphIndex=1))
        graph.outputs = [gather(graph, given, name=f"{graph.name}/picked")]
    path = tmp_path / "model.tflite"
    path.write_bytes(build_model(graphs))
    found = valid_ranges(read_model(path), lambda tensor: np.array([by]), lambda tensor: ())
    assert found == {0: (0, ROWS - 1 - by)}
