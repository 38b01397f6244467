"""Is the runtime's memory laid out as the op profiler believes? Asked of every model before a time is believed."""

from __future__ import annotations

from collections.abc import Sequence

from qprof.core._op_profiler import OpProfiler
from qprof.runtimes.litert.model_facts import ModelFacts, SubgraphFacts

#: TfLiteBuiltinDelegate: the code of a delegate's own node (tensorflow/lite/builtin_ops.h).
DELEGATE_CODE = 51


class LayoutError(Exception):
    """The opcodes or tensors seen through our structs are not those of the flatbuffer."""


def builtin_code(op_type: str) -> int:
    """The BuiltinOperator code of an op type as `flatbuffer` names it ("CONV_2D", "CUSTOM:NAME")."""
    from ai_edge_litert import schema_py_generated as schema

    name = "CUSTOM" if op_type.startswith("CUSTOM:") else op_type
    return int(getattr(schema.BuiltinOperator, name, -1))


def check_layout(profiler: OpProfiler, facts: ModelFacts) -> list[SubgraphFacts]:
    """Compare what the profiler reads with what the file says.

    Returns the flatbuffer's subgraph for each of the profiler's subgraphs, in its order (the runtime may leave
    some out). Raises `LayoutError` with the first difference.
    """
    if profiler.refused or profiler.subgraph_count == 0:
        raise LayoutError("the runtime's subgraphs do not have the tensors and ops of the file")
    matched: list[SubgraphFacts] = []
    remaining = list(facts.subgraphs)
    for number in range(profiler.subgraph_count):
        reasons: list[str] = []
        while remaining:
            candidate = remaining.pop(0)
            reason = _difference(profiler, number, candidate)
            if not reason:
                matched.append(candidate)
                break
            reasons.append(reason)
        else:
            # The subgraphs come in the file's order: the first that was tried is the one that ought to fit.
            raise LayoutError(f"subgraph {number}: {reasons[0] if reasons else 'the file has no more'}")
    return matched


def _difference(profiler: OpProfiler, number: int, subgraph: SubgraphFacts) -> str:
    """The first difference between the profiler's view of a subgraph and the file's; empty where there is none."""
    tensors = profiler.tensors(number)
    # Delegates and kernels append temporary tensors, never before the file's own.
    if len(tensors) < len(subgraph.tensors):
        return f"{len(tensors)} tensors instead of {len(subgraph.tensors)}"
    for seen, fact in zip(tensors, subgraph.tensors, strict=False):
        if seen[0] != fact.name:
            return f"tensor {fact.index} reads as {seen[0]!r} instead of {fact.name!r}"
    expected = [builtin_code(op.type) for op in subgraph.ops]
    codes = profiler.builtin_codes(number, len(expected))
    for index, (code, wanted) in enumerate(zip(codes, expected, strict=True)):
        if code != wanted:
            return f"op {index} reads as code {code} instead of {wanted} ({subgraph.ops[index].type})"
    return _plan_difference(profiler, number, len(expected))


def _plan_difference(profiler: OpProfiler, number: int, own_ops: int) -> str:
    for node, code, _, members, _ in profiler.nodes(number):
        if node < own_ops:
            continue
        if code != DELEGATE_CODE or not members:
            return f"node {node} is beyond the file's {own_ops} ops, but no delegate's"
        if any(not 0 <= member < own_ops for member in members):
            return f"delegate node {node} claims ops that the file does not have"
    return ""


def arena_bytes(tensors: Sequence[tuple[str, int, int, int]]) -> int | None:
    """Span of the tensors in the interpreter's read-write arena (kTfLiteArenaRw = 2), from their addresses.

    What delegates allocate for themselves (XNNPACK's workspace and packed weights) is not part of it. `None` if no
    tensor lives in the arena.
    """
    spans = [(address, address + size) for _, kind, size, address in tensors if kind == 2 and address and size]
    if not spans:
        return None
    return max(end for _, end in spans) - min(start for start, _ in spans)
