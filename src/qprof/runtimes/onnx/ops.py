"""The op list of a loaded model: what ran, by the profile of an inference, and what it is in the model's file."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from qprof.record.ops import FUSED, OpMeta
from qprof.runtimes.onnx import op_types
from qprof.runtimes.onnx.model_file import attributes, graphs_of, subgraphs
from qprof.runtimes.onnx.names import SourceGraph, bare, constants_alone
from qprof.runtimes.onnx.own_time import FLOOR_LOSS_US
from qprof.runtimes.onnx.trace import Event

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

_CPU = "CPUExecutionProvider"
#: The type of an op that stands for all nodes that a provider has compiled into one.
PARTITION = "Partition"
#: Nodes that no kernel runs for.
_NO_WORK = frozenset({"Constant", "Identity"})


@dataclass(frozen=True)
class OptimizedNode:
    """A node of the graph that is run. `parent`: name of the node whose graph it is in, `graph`: its number."""

    node: NodeProto
    parent: str | None
    graph: int
    constants: Mapping[str, tuple[str, int, int]] = field(default_factory=dict)  # name -> (dtype, elements, bytes)


def optimized_nodes(model: ModelProto) -> dict[str, OptimizedNode]:
    """The nodes of an optimized graph by name, in the order of their graphs."""
    import onnx

    constants = {}
    for graph in graphs_of(model.graph):
        for tensor in graph.initializer:
            dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
            elements = math.prod(tensor.dims)
            constants[tensor.name] = (dtype.name, elements, math.ceil(elements * _bits(tensor, dtype.itemsize) / 8))
    found: dict[str, OptimizedNode] = {}

    graphs = itertools.count()

    def visit(graph: Any, parent: str | None) -> None:
        number = next(graphs)
        for node in graph.node:
            found[node.name] = OptimizedNode(node, parent, number, constants)
            for inner in subgraphs(node):
                visit(inner, node.name)

    visit(model.graph, None)
    return found


def _bits(tensor: Any, itemsize: int) -> int:
    import onnx

    four = (onnx.TensorProto.INT4, onnx.TensorProto.UINT4)
    return 4 if tensor.data_type in four else 8 * itemsize


@dataclass(frozen=True)
class OpList:
    """The ops, and the profile's name of a node -> its place among them. `nodes`: how many ran."""

    ops: list[OpMeta]
    places: Mapping[str, int]
    nodes: int
    positions: Mapping[str, int] = field(default_factory=dict)  # op -> its node in the file


def describe_ops(events: Sequence[Event], optimized: Mapping[str, OptimizedNode], source: SourceGraph) -> OpList:
    """Ops in the order in which an inference began them; a node of the file for which no kernel ran stands behind the
    one before it, as `FUSED`: into a neighbour, or computed once and for all when the model was loaded.

    `optimized`: the graph that was run, empty where it could not be written: then all is known from the profile, and
    nothing of what was fused.
    """
    ran = Counter(event.node for event in events)
    first: dict[str, Event] = {}
    for event in events:
        first.setdefault(event.node, event)
    silent = [name for name in optimized if name not in first]
    order = [*first, *silent]  # a branch that was not taken may be by another input
    described = {name: _op(name, first.get(name), optimized.get(name), source) for name in order}
    rows: list[tuple[OpMeta, str | None]] = []
    behind = _fused(described, order, source) if optimized else {}
    rows += [(op, None) for op in behind.get(None, [])]
    for name in order:
        op, _ = described[name]
        rows.append((replace(op, runs=float(ran[name])), name))
        rows += [(one, None) for one in behind.get(name, [])]
    places = {name: place for place, (_, name) in enumerate(rows) if name is not None}
    ops = []
    partitions = itertools.count()
    for place, (op, known_as) in enumerate(rows):
        node = optimized.get(known_as) if known_as else None
        above = places.get(node.parent) if node is not None and node.parent else None
        runs = ran[known_as] if known_as else 0
        ops.append(
            replace(
                op,
                op=str(place),
                index=place,
                subgraph=node.graph if node else 0,
                parent=None if above is None else str(above),
                partition=next(partitions) if op.partition is not None else None,
                resolution_us=FLOOR_LOSS_US * runs if runs else None,
            )
        )
    positions = {ops[places[name]].op: position for name in order if (position := described[name][1]) is not None}
    return OpList(ops, places, len(first), positions)


def _op(name: str, event: Event | None, known: OptimizedNode | None, source: SourceGraph) -> tuple[OpMeta, int | None]:
    """An op as it ran, without its place; and the node of the file that it is."""
    node = known.node if known else None
    kernel = (node.op_type if node else event.args.op_name if event else "") or "?"
    domain, given = (node.domain, attributes(node)) if node else ("", {})
    position = source.find(name, kernel, node.output if node else ())
    inputs = list(event.args.input_type_shape) if event else []
    outputs = list(event.args.output_type_shape) if event else []
    constant, per_channel = _constant(known, kernel)
    weights = _weight_shape(position, source)
    provider = event.args.provider if event else _CPU
    kept, moved = _bytes(known, event)
    if provider not in (_CPU, "") and node is None and position is None:
        # Nodes that a provider has compiled into one, which is an op: what is in it has no times of its own.
        taken = provider.removesuffix("ExecutionProvider")
        own = OpMeta(op="", name=f"{taken} partition", type=PARTITION, index=0, delegate=taken, partition=0)
        return replace(own, inputs=_labels(inputs), outputs=_labels(outputs)), None
    op = OpMeta(
        op="",
        name=source.name(position) if position is not None else bare(name),
        type=op_types.op_type(kernel, domain),
        index=0,
        kernel=op_types.kernel_name(kernel, domain, given, weights),
        delegate=None if provider in (_CPU, "") else provider.removesuffix("ExecutionProvider"),
        inputs=_labels(inputs),
        outputs=_labels(outputs),
        quantization=op_types.describe_quantization(kernel, inputs, outputs, constant, per_channel),
        macs=op_types.count_macs(
            kernel,
            [op_types.shape_of(told) for told in inputs],
            [op_types.shape_of(told) for told in outputs],
            weights,
            given,
            bool(given.get("channels_last")),
        )
        if event
        else None,
        weight_bytes=kept,
        activation_bytes=moved,
    )
    return op, position


def _labels(tensors: Sequence[op_types.Told]) -> tuple[str, ...]:
    return tuple(op_types.label(told) for told in tensors)


def _constant(known: OptimizedNode | None, kernel: str) -> tuple[str | None, bool]:
    """The type of the weights that a kernel reads, and whether their scales are more than one."""
    if known is None:
        return None, False
    names = list(known.node.input)
    for slot in op_types.weight_slots(kernel):
        found = known.constants.get(names[slot]) if slot < len(names) else None
        if found is not None:
            behind = names[slot + 1 : slot + 3] if kernel.startswith("Q") else []
            scales = [known.constants[one][1] for one in behind if one in known.constants]
            return found[0], any(count > 1 for count in scales)
    return None, False


def _weight_shape(position: int | None, source: SourceGraph) -> tuple[int, ...] | None:
    constant = source.weight(position) if position is not None else ""
    return tuple(source.constants[constant].dims) if constant else None


def _bytes(known: OptimizedNode | None, event: Event | None) -> tuple[int | None, int | None]:
    """Bytes of the constants that an op reads, and of what else it reads and writes."""
    told = event.args if event else None
    constants = [known.constants[name][2] for name in known.node.input if name in known.constants] if known else []
    kept = sum(constants) if constants else _number(told.parameter_size) if told else None
    read, written = (_number(told.activation_size), _number(told.output_size)) if told else (None, None)
    return kept, None if read is None or written is None else read + written


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def _fused(
    described: Mapping[str, tuple[OpMeta, int | None]], order: Sequence[str], source: SourceGraph
) -> dict[str | None, list[OpMeta]]:
    """The file's nodes that no kernel ran for, by the op that they stand behind."""
    owner = {position: name for name in order if (position := described[name][1]) is not None}
    constant = constants_alone(source)
    found: dict[str | None, list[OpMeta]] = {}
    last: str | None = None
    for position, node in enumerate(source.nodes):
        if position in owner:
            last = owner[position]
        elif node.op_type not in _NO_WORK and node.op_type not in op_types.CONVERSIONS and position not in constant:
            op = OpMeta(
                op="",
                name=source.name(position),
                type=op_types.op_type(node.op_type, node.domain),
                index=0,
                kernel=FUSED,
                delegate=described[last][0].delegate if last else None,
                runs=1.0,
            )
            found.setdefault(last, []).append(op)
    return found
