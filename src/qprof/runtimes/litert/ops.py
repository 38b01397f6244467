"""The op list of a loaded model: what ran where, from the file's facts, the partitions and the kernels seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from qprof.record.ops import FUSED, OpMeta
from qprof.runtimes.litert.align import align_kernels
from qprof.runtimes.litert.events import EventLayout
from qprof.runtimes.litert.model_facts import OpFacts, SubgraphFacts, describe_quantization, with_shapes

#: How LiteRT's delegates name their nodes -> what people call them.
_DELEGATE_NAMES = {"TfLiteXNNPackDelegate": "XNNPACK", "TfLiteGpuDelegateV2": "GPU", "TfLiteNnapiDelegate": "NNAPI"}


@dataclass(frozen=True)
class SubgraphView:
    """One subgraph in one of its calls, as the profiler sees it: the number of the call, the file's facts, the plan,
    the kernels of each delegate node (kernel number -> name).

    `caller`: id of the op that makes the call, `None` of the main subgraph; `shared`: whether there are other calls of
    this subgraph. `callers`: nodes that run subgraphs which have views of their own. `runs`: node -> how often it ran
    in the inference that was looked at.
    """

    number: int
    facts: SubgraphFacts
    nodes: Sequence[tuple[int, int, str, list[int] | None, bool]]
    kernels: Mapping[int, Mapping[int, str]]
    caller: str | None = None
    shared: bool = False
    callers: frozenset[int] = frozenset()
    runs: Mapping[int, int] = field(default_factory=dict)

    def op_id(self, node: int) -> str:
        """An op's id within its variant: "12" in the main subgraph, "2/5" in another, "2/5@12" in that of its calls
        which op 12 makes."""
        own = str(node) if self.facts.index == 0 else f"{self.facts.index}/{node}"
        return f"{own}@{self.caller}" if self.shared else own


def describe_ops(
    views: Sequence[SubgraphView], shapes: Mapping[int, tuple[int, ...]]
) -> tuple[list[OpMeta], EventLayout]:
    """The op list in execution order, and which op each of the profiler's records belongs to.

    `shapes`: the main subgraph's tensor shapes as allocated. A delegate's node becomes an op of type "DELEGATE" with
    the ops that it replaced behind it; the ops of a WHILE's or IF's subgraphs have that op as parent.
    """
    builder = _Builder()
    for view in views:
        facts = with_shapes(view.facts, shapes) if view.facts.index == 0 else view.facts
        builder.add_subgraph(replace(view, facts=facts))
    return builder.ops, EventLayout(nodes=builder.node_ops, kernels=builder.kernel_ops)


class _Builder:
    def __init__(self) -> None:
        self.ops: list[OpMeta] = []
        self.node_ops: dict[tuple[int, int], int] = {}
        self.kernel_ops: dict[tuple[int, int, int], int] = {}
        self._partitions: dict[tuple[int, int], int] = {}  # (subgraph, node of the delegate) -> its number

    def add_subgraph(self, view: SubgraphView) -> None:
        facts = view.facts
        for node, _, custom_name, members, _ in view.nodes:
            if members is None:
                self.node_ops[view.number, node] = len(self.ops)
                kernel, runs = _builtin_kernel(facts.ops[node], facts), view.runs.get(node, 0)
                self._add(view, node, kernel=kernel, parent=view.caller, runs=runs)
            else:
                self._add_partition(view, node, _DELEGATE_NAMES.get(custom_name, custom_name), members)

    def _add_partition(self, view: SubgraphView, node: int, delegate: str, members: Sequence[int]) -> None:
        facts = view.facts
        partition = self._partitions.setdefault((facts.index, node), len(self._partitions))
        container, runs = view.op_id(node), view.runs.get(node, 0)
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
                parent=view.caller,
                runs=runs,
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
            # Without any kernel report (another delegate, a branch not taken) nothing is known of the single ops.
            told = kernels or (runs and delegate == _DELEGATE_NAMES["TfLiteXNNPackDelegate"])
            kernel = " + ".join(ran) if ran else (FUSED if told else None)
            self._add(view, member, kernel=kernel, parent=container, delegate=delegate, partition=partition, runs=runs)

    def _add(self, view: SubgraphView, node: int, **placed: Any) -> None:
        facts = view.facts
        op = facts.ops[node]
        labels = [facts.tensors[i].label if i >= 0 else "-" for i in op.inputs]
        self.ops.append(
            OpMeta(
                op=view.op_id(node),
                name=op.name,
                type=op.type,
                index=len(self.ops),
                subgraph=facts.index,
                inputs=tuple(labels),
                outputs=tuple(facts.tensors[i].label for i in op.outputs),
                quantization=describe_quantization(op, facts),
                # What its subgraphs multiply, their ops count.
                macs=0 if op.macs is None and node in view.callers else op.macs,
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
