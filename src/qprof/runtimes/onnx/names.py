"""What an op of an optimized graph is called in the model that it came from.

ONNX Runtime renames what it rewrites: a fused float Conv ends as "relu_1_nchwc", the same one in int8 as
"node_Conv_142_token_4". Both are forms of one node of the model, which is found again by these names or by those of
tensors; and that node is called by its weights ("blocks.0.body.0.0" for "blocks.0.body.0.0.weight"), which exporters
name after the module that they came from, and quantizers keep.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from qprof.runtimes.onnx.model_file import nodes_of
from qprof.runtimes.onnx.op_types import CONVERSIONS, MULTIPLYING, op_type, weight_slots

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

#: What rewriting appends to the name of a node or of a tensor.
_APPENDED = re.compile(
    r"(_token_\d+|_nchwc|_nhwc|_quant|_pre_q|_q_to_dq|_quantized|_QuantizeLinear(_Output|_Input)?|_DequantizeLinear(_Output)?"
    r"|/MatMulAddFusion|_Transposed|_dequantized|_dequant|_output_quantized|_fp16|_cast)$"
)
#: What ONNX Runtime puts before the name of a tensor that it hands on in another number format.
_PUT_BEFORE = re.compile(r"^(InsertedPrecisionFreeCast_|FusedBack_|InsertedCast_)")
#: What the name of a constant has behind that of its layer.
_CONSTANT = re.compile(r"([./:_]?(weights?|kernel|gamma|scale|W|w))+(_bias)?$")
#: Names that exporters hand out by number: they tell nothing of a layer.
_GENERIC = re.compile(r"(const_fold_opt_|onnx::|reorder|val_\d|tensor_?\d|Const|constant|initializer|_v_|\d+$|t\d+$)")
#: Rewritings on top of one another, at most.
_MOST_APPENDED = 6
#: Ops between a fused one and the weights that it was named for, at most.
_FARTHEST = 6


class SourceGraph:
    """The nodes of a model as its file has them, by name and by what they write."""

    def __init__(self, model: ModelProto) -> None:
        self.nodes: list[NodeProto] = list(nodes_of(model.graph))
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self._by_name: dict[str, int] = {}
        self.producer: dict[str, int] = {}
        for position, node in enumerate(self.nodes):
            if node.name:
                self._by_name.setdefault(node.name, position)
            for output in filter(None, node.output):
                self.producer.setdefault(output, position)

    def find(self, name: str, kernel: str, outputs: Sequence[str]) -> int | None:
        """The node that an op of the optimized graph came from, `None` where nothing tells."""
        kind = op_type(kernel)
        found = [
            position
            for text in (name, *outputs)
            for form in forms(text)
            for position in (self._by_name.get(form), self.producer.get(form))
            if position is not None
        ]
        for position in found:
            own = op_type(self.nodes[position].op_type)
            # A MatMul becomes a Gemm where a bias behind it is taken in.
            if own == kind or {own, kind} == {"MatMul", "Gemm"}:
                return position
        for position in found if kind in MULTIPLYING else ():
            behind = self._behind(position, kind)
            if behind is not None:
                return behind
        return None

    def _behind(self, position: int, kind: str) -> int | None:
        """The nearest node of a kind that a node reads from: what was fused into one is named for its last."""
        seen, front = {position}, [position]
        for _ in range(_FARTHEST):
            front = [
                behind
                for one in front
                for tensor in self.nodes[one].input
                if (behind := self.producer.get(tensor)) is not None and behind not in seen
            ]
            for one in front:
                if op_type(self.nodes[one].op_type) == kind:
                    return one
            seen |= set(front)
        return None

    def weight(self, position: int) -> str:
        """The constant that a node multiplies with, as the file stores it; "" where it has none."""
        node = self.nodes[position]
        for slot in weight_slots(node.op_type):
            if slot < len(node.input) and (found := self.constant_behind(node.input[slot])):
                return found
        return ""

    def constant_behind(self, tensor: str) -> str:
        """The constant that a tensor is, or is made of by conversions alone; "" where it is computed."""
        for _ in range(_MOST_APPENDED):
            if tensor in self.constants:
                return tensor
            maker = self.producer.get(tensor)
            if maker is None:
                return ""
            node = self.nodes[maker]
            if node.op_type not in (*CONVERSIONS, "Cast", "Transpose", "Identity", "Reshape") or not node.input:
                return ""
            tensor = node.input[0]
        return ""

    def name(self, position: int) -> str:
        """What a node is called: by its weights, else by its own name, else by what it writes."""
        node = self.nodes[position]
        constant = self.weight(position) if op_type(node.op_type) in MULTIPLYING else ""
        if constant and not _GENERIC.match(constant):
            stem = _CONSTANT.sub("", bare(constant))
            if stem:
                return stem
        return bare(node.name) or (bare(node.output[0]) if node.output else node.op_type)


def bare(name: str) -> str:
    """A name without what rewriting appends to it."""
    return list(forms(name))[-1]


def forms(name: str) -> Iterator[str]:
    """A name, and what is left of it when what was appended is taken off, piece by piece."""
    yield name
    for _ in range(_MOST_APPENDED):
        shorter = _APPENDED.sub("", _PUT_BEFORE.sub("", name))
        if shorter == name or not shorter:
            return
        yield shorter
        name = shorter


def distinct_names(model: ModelProto) -> bytes | None:
    """The model with every node named, each by a name of its own that JSON can hold unquoted, for a profile that tells
    nodes by their names alone; `None` where they are all like that."""
    seen: set[str] = set()
    changed = False
    for number, node in enumerate(nodes_of(model.graph)):
        if not node.name or node.name in seen or not _PLAIN.fullmatch(node.name):
            node.name = f"qprof_{number}_{node.op_type if _PLAIN.fullmatch(node.op_type) else 'op'}"
            changed = True
        seen.add(node.name)
    return model.SerializeToString() if changed else None


_PLAIN = re.compile(r'[^"\\\x00-\x1f\x7f]+')


def constants_alone(source: SourceGraph, known: Collection[str] = ()) -> set[int]:
    """Positions of nodes that are computed of constants alone, which the optimizer does once and for all."""
    constant = {*source.constants, *known}
    found = set()
    for position, node in enumerate(source.nodes):
        if all(tensor in constant for tensor in node.input if tensor):
            found.add(position)
            constant.update(node.output)
    return found
