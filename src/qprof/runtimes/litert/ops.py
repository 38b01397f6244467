"""The op list of a loaded model: what ran where, from the file's facts, the partitions and the kernels seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qprof.record.ops import FUSED, OpMeta
from qprof.runtimes.litert.align import align_kernels
from qprof.runtimes.litert.events import EventLayout
from qprof.runtimes.litert.model_facts import ModelFacts, OpFacts, SubgraphFacts, describe_quantization, with_shapes

#: How LiteRT's delegates name their nodes -> what people call them.
_DELEGATE_NAMES = {"TfLiteXNNPackDelegate": "XNNPACK", "TfLiteGpuDelegateV2": "GPU", "TfLiteNnapiDelegate": "NNAPI"}


@dataclass(frozen=True)
class SubgraphView:
    """One subgraph as the profiler sees it: its number there, the file's facts, the plan, the kernels of each
    delegate node (kernel number -> name)."""

    number: int
    facts: SubgraphFacts
    nodes: Sequence[tuple[int, int, str, list[int] | None, bool]]
    kernels: Mapping[int, Mapping[int, str]]


def describe_ops(
    model: ModelFacts, views: Sequence[SubgraphView], shapes: Mapping[int, tuple[int, ...]]
) -> tuple[list[OpMeta], EventLayout]:
    """The op list in execution order, and which op each of the profiler's records belongs to.

    `shapes`: the main subgraph's tensor shapes as allocated. A delegate's node becomes an op of type "DELEGATE" with
    the ops that it replaced behind it; the ops of a WHILE's or IF's subgraphs have that op as parent.
    """
    builder = _Builder(_parents(model))
    for view in views:
        facts = with_shapes(view.facts, shapes) if view.facts.index == 0 else view.facts
        builder.add_subgraph(view, facts)
    return builder.ops, EventLayout(nodes=builder.node_ops, kernels=builder.kernel_ops)


def op_id(subgraph: int, node: int) -> str:
    """An op's id within its variant: "12" in the main subgraph, "2/5" in another."""
    return str(node) if subgraph == 0 else f"{subgraph}/{node}"


def _parents(model: ModelFacts) -> dict[int, str]:
    """subgraph -> id of the op that runs it."""
    return {
        child: op_id(subgraph.index, op.index)
        for subgraph in model.subgraphs
        for op in subgraph.ops
        for child in op.subgraphs
    }


class _Builder:
    def __init__(self, subgraph_parents: Mapping[int, str]) -> None:
        self.ops: list[OpMeta] = []
        self.node_ops: dict[tuple[int, int], int] = {}
        self.kernel_ops: dict[tuple[int, int, int], int] = {}
        self._subgraph_parents = subgraph_parents
        self._partitions = 0

    def add_subgraph(self, view: SubgraphView, facts: SubgraphFacts) -> None:
        parent = self._subgraph_parents.get(facts.index)
        for node, _, custom_name, members, _ in view.nodes:
            if members is None:
                self.node_ops[view.number, node] = len(self.ops)
                self._add(facts, node, kernel=_builtin_kernel(facts.ops[node], facts), parent=parent)
            else:
                self._add_partition(view, facts, node, _DELEGATE_NAMES.get(custom_name, custom_name), members)

    def _add_partition(
        self, view: SubgraphView, facts: SubgraphFacts, node: int, delegate: str, members: Sequence[int]
    ) -> None:
        partition = self._partitions
        self._partitions += 1
        container = op_id(facts.index, node)
        self.node_ops[view.number, node] = len(self.ops)
        self.ops.append(
            OpMeta(
                op=container,
                name=f"{delegate} partition {partition}",
                type="DELEGATE",
                index=len(self.ops),
                subgraph=facts.index,
                delegate=delegate,
                partition=partition,
                parent=self._subgraph_parents.get(facts.index),
            )
        )
        kernels = sorted(view.kernels.get(node, {}).items())
        positions = align_kernels([name for _, name in kernels], [facts.ops[m].type for m in members]).positions
        own: dict[int, list[str]] = {}
        for (number, name), position in zip(kernels, positions, strict=True):
            own.setdefault(position, []).append(name)
            self.kernel_ops[view.number, node, number] = len(self.ops) + position
        for position, member in enumerate(members):
            ran = own.get(position, [])
            # Without any kernel report (another delegate) nothing is known of the single ops.
            kernel = " + ".join(ran) if ran else (FUSED if kernels else None)
            self._add(facts, member, kernel=kernel, parent=container, delegate=delegate, partition=partition)

    def _add(self, facts: SubgraphFacts, node: int, **placed: Any) -> None:
        op = facts.ops[node]
        labels = [facts.tensors[i].label if i >= 0 else "-" for i in op.inputs]
        self.ops.append(
            OpMeta(
                op=op_id(facts.index, node),
                name=op.name,
                type=op.type,
                index=len(self.ops),
                subgraph=facts.index,
                inputs=tuple(labels),
                outputs=tuple(facts.tensors[i].label for i in op.outputs),
                quantization=describe_quantization(op, facts),
                macs=op.macs,
                weight_bytes=op.weight_bytes,
                activation_bytes=op.activation_bytes,
                **placed,
            )
        )


def _builtin_kernel(op: OpFacts, facts: SubgraphFacts) -> str:
    """What the interpreter itself runs. "hybrid": integer weights on float activations, quantized at run time."""
    tensors = [facts.tensors[i] for i in op.inputs if i >= 0]
    integer_weights = any(t.constant and t.dtype in ("int8", "int4", "uint8") for t in tensors)
    float_activations = any(not t.constant and t.dtype == "float32" for t in tensors)
    return "builtin hybrid" if integer_weights and float_activations else "builtin"
