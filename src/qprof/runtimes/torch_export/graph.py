"""The graph of an exported network as ops: what its nodes are called, and what a part of it reads, writes, multiplies.

A node goes by the module that it came from, which is the same in every variant: "layers.0.fc". Where several nodes of a
module compute something, the one that contracts against its weights has the module's name, and the others theirs
behind it: "layers.0.fc/gelu".
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from qprof.runtimes.torch_export.program import attribute

#: Ops that contract a dimension.
CONTRACTIONS = re.compile(
    r"conv[123]d|convolution|conv_transpose[123]d|linear|linear_dynamic|addmm|baddbmm|mm|bmm|mv|dot|matmul|einsum"
    r"|_?scaled_dot_product_\w*attention\w*"
)
#: Ops that give the same numbers another shape or place.
MOVES = re.compile(
    r"(view|reshape|_unsafe_view|flatten|unflatten|transpose|permute|t|unsqueeze|squeeze|expand|expand_as|slice|select"
    r"|contiguous|clone|alias|detach|detach_|to|_to_copy|getitem|chunk|split|split_with_sizes|unbind|dropout|dropout_"
    r"|_assert_tensor_metadata|type_as|lift_fresh_copy|movedim|swapaxes|identity|narrow)"
)
#: Ops between real and quantized numbers.
CONVERSIONS = re.compile(r"(de)?quantize\w*|choose_qparams\w*")
#: Ops that multiply nothing.
_NO_PRODUCT = re.compile(
    r"relu_?|relu6_?|hardtanh_?|clamp\w*|max_pool\w*|add_?|sub_?|rsub|cat|stack|embedding|max\w*|min\w*|arg\w+|pad"
    r"|constant_pad_nd|where|masked_fill\w*|eq|ne|lt|le|gt|ge|logical_\w+|bitwise_\w+|full\w*|ones\w*|zeros\w*|arange"
    r"|index\w*|gather|neg|abs|amax|amin|roll|tril|triu|cumsum|sum|all|any|new_\w+|empty\w*|scalar_tensor|repeat\w*"
)
#: What names a group of nodes that contracts nothing, the first of them.
LEADING = ("layer_norm", "native_layer_norm", "group_norm", "softmax", "_softmax", "batch_norm", "adaptive_avg_pool2d",
            "avg_pool2d", "max_pool2d", "mean", "embedding")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Facts:
    """What some nodes of a graph do together; see `OpMeta`. Bytes are of tensors that come from or go outside."""

    name: str
    type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    macs: int | None
    weight_bytes: int
    activation_bytes: int
    quantization: str | None


@dataclass(slots=True)
class Graph:
    """The nodes of a graph that are called, in order. `names`: node -> what its op is called."""

    module: Any
    nodes: list[Any]
    names: dict[Any, str]
    by_name: dict[str, Any]  # the graph's own name of a node -> node
    known: dict[str, Facts] = field(default_factory=dict)  # of nodes whose weights no longer stand in the graph
    packed_bytes: int = 0  # of those weights

    def op_types(self) -> list[str]:
        """The types of its ops in order, moves and conversions left out."""
        return [short for node in self.nodes if not is_plain(short := op_type(node))]

    def constants(self) -> Iterator[tuple[str, Any]]:
        """The tensors that its nodes read by name."""
        for node in self.module.graph.nodes:
            if node.op == "get_attr" and hasattr(found := attribute(self.module, str(node.target)), "untyped_storage"):
                yield str(node.target), found

    def constant_bytes(self) -> int:
        """Of these tensors, each memory once."""
        storages: dict[int, int] = {}
        for _, tensor in self.constants():
            storage = tensor.untyped_storage()
            storages[storage.data_ptr() or id(tensor)] = storage.nbytes()
        return sum(storages.values()) + self.packed_bytes

    def before(self, ends: Collection[Any], done: Collection[Any], elsewhere: Callable[[Any], bool]) -> list[Any]:
        """`ends` and all that they follow from, in the graph's order, but for what is `done`, what is done `elsewhere`
        and all that follows from that."""
        wanted: set[Any] = set()
        pending = [node for node in ends if node not in done]
        while pending:
            node = pending.pop()
            if node in wanted:
                continue
            wanted.add(node)
            pending += [one for one in node.all_input_nodes if one.op == "call_function" and one not in done]
        found: list[Any] = []
        refused: set[Any] = set()
        for node in self.nodes:
            if node not in wanted:
                continue
            if elsewhere(node) or any(one in refused for one in node.all_input_nodes):
                refused.add(node)
            else:
                found.append(node)
        return found

    def nearest_name(self, ends: Sequence[Any]) -> str:
        """What the contraction is called that the last of `ends` is or follows from, the nearest; without any, the last
        of `ends`; "" without those."""
        found = self.nearest_contractions(ends[-1:])
        return self.names[found[0]] if found else self.names[ends[-1]] if ends else ""

    def nearest_contractions(self, ends: Sequence[Any]) -> list[Any]:
        """The contractions among `ends` and what they follow from, on each way back the first."""
        pending, found = list(ends), []
        for node in pending:
            if CONTRACTIONS.fullmatch(op_type(node)):
                found.append(node)
            else:
                pending += [one for one in node.all_input_nodes if one in self.names and one not in pending]
        return found

    def facts(self, members: Sequence[Any], name: str = "") -> Facts:
        """What these nodes do together."""
        inside = set(members)
        read: dict[Any, None] = {}
        weights: dict[Any, None] = {}
        for node in members:
            for one in map(_stored, node.all_input_nodes):
                if one.op == "get_attr":
                    weights[one] = None
                elif one not in inside:
                    (weights if _is_constant(one) else read)[one] = None
        for one in [one for one in weights if one.op != "get_attr"]:
            del weights[one]
            weights |= dict.fromkeys(_constants_behind(one))
        written = [node for node in members if not node.users or any(user not in inside for user in node.users)]
        tensors = [attribute(self.module, str(one.target)) for one in weights]
        return Facts(
            name=name or self.name_of(members),
            type=type_of(members),
            inputs=tuple(label for one in read for label in labels(one)),
            outputs=tuple(label for one in written for label in labels(one)),
            macs=_macs(members),
            weight_bytes=sum(one.numel() * one.element_size() for one in tensors if hasattr(one, "numel")),
            activation_bytes=sum(_value_bytes(one) for one in [*read, *written]),
            quantization=_quantization(members, tensors, read),
        )

    def name_of(self, members: Sequence[Any]) -> str:
        """What a group of nodes is called: as what it contracts, or as what it computes."""
        contracted = [node for node in members if CONTRACTIONS.fullmatch(op_type(node))]
        if contracted:
            return ";".join(dict.fromkeys(self.names[node] for node in contracted))
        computed = [node for node in members if not is_plain(op_type(node))] or list(members)[-1:]
        leading = [node for node in computed if op_type(node) in LEADING]
        return ";".join(dict.fromkeys(self.names[node] for node in leading or computed[-1:]))


def read_graph(module: Any) -> Graph:
    """The called nodes of a GraphModule, named."""
    nodes = [node for node in module.graph.nodes if node.op == "call_function" and not _is_constant(node)]
    by_path: dict[str, list[Any]] = {}
    for node in nodes:
        by_path.setdefault(module_path(node), []).append(node)
    names: dict[Any, str] = {}
    for path, members in by_path.items():
        contracted = [node for node in members if CONTRACTIONS.fullmatch(op_type(node))]
        computed = [node for node in members if not is_plain(op_type(node))]
        whole = contracted if len(contracted) == 1 else computed if len(computed) == 1 else []
        times: Counter[str] = Counter()
        for node in members:
            short = op_type(node)
            number = times[short]
            times[short] += 1
            own = f"{short}_{number}" if number else short
            names[node] = path if path and node in whole else f"{path}/{own}" if path else str(node.name)
    return Graph(module, nodes, names, {str(node.name): node for node in nodes})


def module_path(node: Any) -> str:
    """The module whose forward a node came of, "" where that is not known."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [str(entry[0]) for entry in stack.values()]
    return paths[-1] if paths else ""


def op_type(node: Any) -> str:
    """The op that a node calls without its namespace and overload: "conv2d"."""
    target = node.target
    parts = str(getattr(target, "_overloadpacket", target)).split(".")
    return str(getattr(target, "__name__", parts[-1])) if len(parts) == 1 or "<" in parts[0] else parts[-1]


def is_plain(short: str) -> bool:
    """Whether an op computes nothing of the network's own."""
    return bool(MOVES.fullmatch(short) or CONVERSIONS.fullmatch(short))


def type_of(members: Sequence[Any]) -> str:
    """The op that a group of nodes is for."""
    types = [op_type(node) for node in members]
    for wanted in (CONTRACTIONS.fullmatch, LEADING.__contains__, lambda short: not is_plain(short)):
        found = [short for short in types if wanted(short)]
        if found:
            return "linear" if found[-1] in ("linear_dynamic", "addmm") else found[-1]
    if any(short.startswith(("quantize", "choose_qparams")) for short in types):
        return "quantize"
    return "dequantize" if any(CONVERSIONS.fullmatch(short) for short in types) else (types or ["pointwise"])[-1]


def labels(node: Any) -> list[str]:
    """The tensors that a node stands for: "float32[1,64]"."""
    return [f"{_dtype(value)}[{','.join(str(size) for size in value.shape)}]" for value in _values(node)]


def _dtype(value: Any) -> str:
    return str(value.dtype).removeprefix("torch.")


def _values(node: Any) -> list[Any]:
    value = node.meta.get("val")
    return [one for one in (value if isinstance(value, (list, tuple)) else [value]) if hasattr(one, "dtype")]


def _value_bytes(node: Any) -> int:
    return sum(math.prod(_sizes(value)) * value.dtype.itemsize for value in _values(node))


def _sizes(value: Any) -> list[int]:
    """Sizes as run: an open batch is one."""
    return [size if isinstance(size, int) else 1 for size in value.shape]


def _is_constant(node: Any) -> bool:
    """Whether a node follows from weights alone, as the dequantized weights of a linear do."""
    if node.op == "get_attr":
        return True
    return node.op == "call_function" and bool(node.all_input_nodes) and all(map(_is_constant, node.all_input_nodes))


def _stored(node: Any) -> Any:
    """What is read where the graph reads a dequantized activation: the quantized one."""
    quantized = node.op == "call_function" and op_type(node).startswith("dequantize") and not _is_constant(node)
    return node.args[0] if quantized else node


def _constants_behind(node: Any) -> list[Any]:
    if node.op == "get_attr":
        return [node]
    return [one for source in node.all_input_nodes for one in _constants_behind(source)]


def _macs(members: Sequence[Any]) -> int | None:
    """Multiply-accumulates of the contractions; `None` where something else multiplies and nothing contracts."""
    total, unknown = 0, False
    for node in members:
        short = op_type(node)
        if CONTRACTIONS.fullmatch(short):
            found = _contraction_macs(node, short)
            unknown |= found is None
            total += found or 0
        elif not is_plain(short) and not _NO_PRODUCT.fullmatch(short):
            unknown |= total == 0
    return total if total or not unknown else None


def _contraction_macs(node: Any, short: str) -> int | None:
    tensors = [values[0] for one in node.all_input_nodes if (values := _values(one))]
    out = _values(node)
    if not out or not tensors:
        return None
    results = math.prod(_sizes(out[0]))
    if short.startswith("conv") and "transpose" not in short:
        weight = _sizes(tensors[1]) if len(tensors) > 1 else []
        return results * math.prod(weight[1:]) if weight else None
    if short.startswith("conv"):
        return math.prod(_sizes(tensors[0])) * math.prod(_sizes(tensors[1])[1:]) if len(tensors) > 1 else None
    if "attention" in short:
        query, key, value = (_sizes(one) for one in tensors[:3])
        return math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])
    if short in ("addmm", "baddbmm"):
        return results * _sizes(tensors[1])[-1] if len(tensors) > 1 else None
    return None if short == "einsum" else results * _sizes(tensors[0])[-1]


def _quantization(members: Sequence[Any], weights: Sequence[Any], read: Collection[Any]) -> str | None:
    """ "int8 per-channel weights, uint8 activations"; `None` where none of the numbers that are read is of few bits."""
    parts = []
    integers = [one for one in weights if _dtype(one) in ("int8", "uint8") and one.dim() > 1]
    if integers:
        sources = {op_type(one) for node in members for one in node.all_input_nodes if _is_constant(one)}
        per = " per-channel" if any("per_channel" in short for short in sources) else ""
        parts.append(f"{_dtype(integers[0])}{per} weights")
    activations = [label.split("[")[0] for one in read for label in labels(one)]
    small = [dtype for dtype in activations if dtype in ("int8", "uint8")]
    if small:
        parts.append(f"{small[0]} activations")
    elif integers and any("choose_qparams" in op_type(node) or op_type(node) == "linear_dynamic" for node in members):
        parts.append("activations quantized as they come")
    return ", ".join(parts) or None
