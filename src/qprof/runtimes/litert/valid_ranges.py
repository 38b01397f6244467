"""Which integers a model's inputs may hold, as far as its graph shows.

An input is followed through ops that pass its numbers on as they are or with a constant added, to ops that fail (or
read beyond a table, or end the process) for numbers that they cannot take: rows of a table, sizes, divisors. What lies
behind any other op is not known. Inputs that a model clamps or wraps itself are unbounded.

Sources: the kernels of TensorFlow Lite (tensorflow/lite/kernels/gather.cc, gather_nd.cc, embedding_lookup.cc,
one_hot.cc, floor_div.cc, resize_bilinear.cc, topk_v2.cc).
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.runtimes.litert.model_facts import ModelFacts, OpFacts, SubgraphFacts

Range = tuple[int | None, int | None]
#: The numbers of a constant tensor of the main subgraph; `None` where they cannot be read.
ReadConstant = Callable[[int], NDArray[Any] | None]
#: The shape of a tensor of the main subgraph as it is allocated.
ReadShape = Callable[[int], Sequence[int]]

_INTEGERS = ("int32", "int64", "uint32", "uint64", "int16", "uint16", "int8", "uint8")

#: Ops whose first output holds numbers of these of their inputs (`None`: of all), and no others.
_PASSED_ON: Mapping[str, tuple[int, ...] | None] = {
    **dict.fromkeys(
        (
            "CAST",
            "RESHAPE",
            "SQUEEZE",
            "EXPAND_DIMS",
            "TRANSPOSE",
            "SLICE",
            "STRIDED_SLICE",
            "UNPACK",
            "GATHER",
            "GATHER_ND",
            "TILE",
            "BROADCAST_TO",
            "REVERSE_V2",
            "UNIQUE",
        ),
        (0,),
    ),
    "SPLIT": (1,),
    "SPLIT_V": (0,),
    "CONCATENATION": None,
    "PACK": None,
    "SELECT": (1, 2),
    "SELECT_V2": (1, 2),
}
_ALTERNATIVES = ("SELECT", "SELECT_V2")
_SIZES = {"RESIZE_BILINEAR": 1, "RESIZE_NEAREST_NEIGHBOR": 1, "BROADCAST_TO": 1, "TILE": 1, "FILL": 0}
_DIVISIONS = ("DIV", "FLOOR_DIV", "FLOOR_MOD")
#: Calls of subgraphs that are followed. Each is, once for the same numbers; a file may have them call each other.
_CALLS = 256


@dataclass(frozen=True, slots=True)
class _Held:
    """Numbers of an input with something added: from `low` to `high`, which differ where a constant has several."""

    low: int = 0
    high: int = 0

    def plus(self, low: int, high: int) -> _Held:
        return _Held(self.low + low, self.high + high)


#: A subgraph and what it is called with: input of it -> numbers of the model's inputs.
_Call = tuple[int, frozenset[tuple[int, frozenset[tuple[int, _Held]]]]]


@dataclass(slots=True)
class _Graph:
    """One subgraph while it is walked. `held`: tensor -> input of the model -> how its numbers stand in the tensor."""

    facts: SubgraphFacts
    options: _Options
    constant: ReadConstant
    shape: ReadShape
    held: dict[int, dict[int, _Held]] = field(default_factory=dict)


def valid_ranges(facts: ModelFacts, constant: ReadConstant, shape: ReadShape) -> dict[int, Range]:
    """Tensor of an input of the main subgraph -> what it may hold; inputs that nothing bounds are left out."""
    main = facts.subgraphs[0]
    inputs = [
        i for i in main.inputs if main.tensors[i].dtype in _INTEGERS and main.tensors[i].quantization.kind == "none"
    ]
    if not inputs:
        return {}
    found: dict[int, list[Range]] = {}
    with _Options(facts.path) as options:
        graph = _Graph(main, options, constant, shape, {i: {i: _Held()} for i in inputs})
        _walk(graph, facts, found, set())
    return {tensor: both for tensor, ranges in found.items() if (both := _intersection(ranges)) is not None}


def _walk(graph: _Graph, facts: ModelFacts, found: dict[int, list[Range]], calls: set[_Call]) -> None:
    for op in graph.facts.ops:
        for position, tensor in enumerate(op.inputs):
            allowed = _allowed(graph, op, position) if tensor in graph.held else None
            if allowed is not None:
                for source, held in graph.held[tensor].items():
                    low, high = allowed
                    own = (None if low is None else low - held.low, None if high is None else high - held.high)
                    found.setdefault(source, []).append(own)
        for child in op.subgraphs:
            _walk_child(graph, facts, found, op, child, calls)
        passed = _passed_on(graph, op)
        for output in op.outputs if passed else ():
            graph.held[output] = passed


def _walk_child(
    graph: _Graph, facts: ModelFacts, found: dict[int, list[Range]], op: OpFacts, child: int, calls: set[_Call]
) -> None:
    """What a subgraph is called with are the last of the op's inputs: a condition comes before them."""
    inner = facts.subgraphs[child]
    given = op.inputs[len(op.inputs) - len(inner.inputs) :] if len(inner.inputs) <= len(op.inputs) else ()
    held = {own: graph.held[tensor] for own, tensor in zip(inner.inputs, given, strict=False) if tensor in graph.held}
    call = (child, frozenset((own, frozenset(numbers.items())) for own, numbers in held.items()))
    if held and call not in calls and len(calls) < _CALLS:
        calls.add(call)
        inside = _Graph(inner, graph.options, lambda tensor: None, lambda tensor: inner.tensors[tensor].shape, held)
        _walk(inside, facts, found, calls)


def _passed_on(graph: _Graph, op: OpFacts) -> dict[int, _Held]:
    """How the inputs' numbers stand in what the op gives out."""
    if op.type in ("ADD", "SUB"):
        return _shifted(graph, op)
    if op.type not in _PASSED_ON:
        return {}
    chosen = _PASSED_ON[op.type]
    positions = range(len(op.inputs)) if chosen is None else chosen
    result: dict[int, _Held] = {}
    for position in positions:
        tensor = op.inputs[position] if position < len(op.inputs) else -1
        for source, held in graph.held.get(tensor, {}).items():
            other = result.get(source, held)
            if op.type in _ALTERNATIVES:
                # `where(i < 0, i + rows, i)`: the numbers as they are count, not those that are mended.
                result[source] = min(held, other, key=lambda one: abs(one.low) + abs(one.high))
            else:
                result[source] = _Held(min(held.low, other.low), max(held.high, other.high))
    return result


def _shifted(graph: _Graph, op: OpFacts) -> dict[int, _Held]:
    """A constant added or subtracted; `c - x` turns the range round and is not followed."""
    for moving, fixed in ((0, 1), (1, 0)) if op.type == "ADD" else ((0, 1),):
        if len(op.inputs) < 2:
            continue
        held = graph.held.get(op.inputs[moving])
        numbers = _numbers(graph, op.inputs[fixed]) if held else None
        if held and numbers is not None:
            low, high = int(numbers.min()), int(numbers.max())
            low, high = (low, high) if op.type == "ADD" else (-high, -low)
            return {source: one.plus(low, high) for source, one in held.items()}
    return {}


def _numbers(graph: _Graph, tensor: int) -> NDArray[Any] | None:
    if tensor < 0 or not graph.facts.tensors[tensor].constant or graph.facts.tensors[tensor].dtype not in _INTEGERS:
        return None
    found = graph.constant(tensor)
    return found if found is not None and found.size else None


def _allowed(graph: _Graph, op: OpFacts, position: int) -> Range | None:
    """What the op takes there; `None` where it takes anything, or that is not known."""
    shapes = [_shape(graph, index) for index in op.inputs]
    if op.type == "GATHER" and position == 1:
        axis = graph.options.integer(graph.facts.index, op.index, "GatherOptions", "Axis")
        return _rows(shapes[0], axis)
    if op.type == "GATHER_ND" and position == 1:
        depth = shapes[1][-1] if shapes[1] else 0
        return _rows((min(shapes[0][:depth]),), 0) if 0 < depth <= len(shapes[0]) else None
    if op.type == "EMBEDDING_LOOKUP" and position == 0 and len(shapes) > 1:
        return _rows(shapes[1], 0)
    if op.type == "ONE_HOT" and position == 0:
        depth_of = _numbers(graph, op.inputs[1]) if len(op.inputs) > 1 else None
        return None if depth_of is None else _rows((int(depth_of.reshape(-1)[0]),), 0)
    if op.type in _DIVISIONS and position == 1:
        return 1, None
    if op.type == "TOPK_V2" and position == 1:
        return (1, shapes[0][-1]) if shapes[0] else None
    return (1, None) if _SIZES.get(op.type) == position else None


def _shape(graph: _Graph, tensor: int) -> Sequence[int]:
    """As allocated, where the file leaves it open: what it writes down for an open dimension is 1."""
    if tensor < 0:
        return ()
    known = graph.facts.tensors[tensor]
    return graph.shape(tensor) if -1 in known.shape_signature else known.shape


def _rows(shape: Sequence[int], axis: int | None) -> Range | None:
    if axis is None or not -len(shape) <= axis < len(shape) or shape[axis] < 1:
        return None
    return 0, shape[axis] - 1


def _intersection(ranges: Sequence[Range]) -> Range | None:
    """What is within all of them; `None` where that is nothing, so that one of them was misread."""
    lows, highs = ([one[end] for one in ranges if one[end] is not None] for end in (0, 1))
    low = max((int(n) for n in lows if n is not None), default=None)
    high = min((int(n) for n in highs if n is not None), default=None)
    return None if low is not None and high is not None and low > high else (low, high)


class _Options:
    """Options of ops, read from the file where they are asked for. The file was checked when its facts were read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> _Options:
        from ai_edge_litert import schema_py_generated as schema

        self._schema: Any = schema
        with self._path.open("rb") as file:
            self._mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._model: Any = schema.Model.GetRootAs(self._mapped, 0)
        return self

    def __exit__(self, *_: object) -> None:
        self._model = None
        self._mapped.close()

    def integer(self, subgraph: int, op: int, table: str, field: str) -> int | None:
        """A whole number among an op's options, 0 where it has none written down."""
        operator = self._model.Subgraphs(subgraph).Operators(op)
        union = operator.BuiltinOptions()
        if union is None:
            return 0
        if operator.BuiltinOptionsType() != getattr(self._schema.BuiltinOptions, table):
            return None
        options = getattr(self._schema, table)()
        options.Init(union.Bytes, union.Pos)
        return int(getattr(options, field)())


def constants_of(interpreter: Any) -> ReadConstant:
    """Reads constants through an interpreter that has loaded the file, allocated or not."""

    def read(tensor: int) -> NDArray[Any] | None:
        try:
            return np.array(interpreter.get_tensor(tensor))
        except ValueError:  # of a constant that a delegate has taken away
            return None

    return read


def shapes_of(interpreter: Any) -> ReadShape:
    """Reads shapes as they are allocated; -1 where an extent is known only when the model runs."""

    def read(tensor: int) -> Sequence[int]:
        details = interpreter._get_tensor_details(tensor, 0) if hasattr(interpreter, "_get_tensor_details") else None
        found = details or next(one for one in interpreter.get_tensor_details() if one["index"] == tensor)
        return [int(extent) for extent in found["shape"]]

    return read
