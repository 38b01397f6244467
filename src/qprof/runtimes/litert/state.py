"""What a .tflite keeps from one inference to the next.

Two kinds of state. A variable tensor belongs to a kernel (LSTM, SVDF and the like): LiteRT sets all of them to zero on
request. A resource variable is named by VAR_HANDLE, and written by ASSIGN_VARIABLE: it is set once, by the subgraph of
a CALL_ONCE, and nothing but another interpreter brings it back to that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qprof.runtimes.litert.model_facts import ModelFacts, SubgraphFacts

#: Type of the tensors that name a resource variable.
RESOURCE = "resource"


@dataclass(frozen=True, slots=True)
class State:
    """Names of the variable tensors, and of the resource variables that an inference writes."""

    tensors: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()

    @property
    def resets(self) -> bool:
        """Whether an interpreter can be brought back to where it began."""
        return not self.resources

    @property
    def says(self) -> str:
        """What is kept and what is done about it; "" where nothing is."""
        if not (self.tensors or self.resources):
            return ""
        kept = [_listed("variable tensor", self.tensors)] * bool(self.tensors)
        kept += [_listed("resource variable", self.resources)] * bool(self.resources)
        done = (
            "reset before each inference whose outputs are compared or scored"
            if self.resets
            else "which LiteRT cannot reset: outputs are compared and scored on models loaded anew, given the same "
            "inputs in the same order"
        )
        return f"keeps a state from one inference to the next ({', '.join(kept)}), {done}; latency is that of going on"


def state_of(facts: ModelFacts) -> State:
    """The state that running the main subgraph changes."""
    tensors: list[str] = []
    resources: list[str] = []
    for graph in _run_by_main(facts.subgraphs):
        tensors += [tensor.name for tensor in graph.tensors if tensor.variable]
        named = {op.outputs[0]: op.name for op in graph.ops if op.type == "VAR_HANDLE" and op.outputs}
        for op in graph.ops:
            if op.type == "ASSIGN_VARIABLE" and op.inputs:
                # The handle may have come from outside, as an input of a loop's body.
                resources.append(named.get(op.inputs[0], graph.tensors[op.inputs[0]].name))
    return State(tuple(dict.fromkeys(tensors)), tuple(dict.fromkeys(resources)))


def _run_by_main(subgraphs: Sequence[SubgraphFacts]) -> list[SubgraphFacts]:
    """The main subgraph and all that it runs again and again: not what a CALL_ONCE runs."""
    found, waiting = {0}, [0]
    while waiting:
        for op in subgraphs[waiting.pop()].ops:
            for child in op.subgraphs if op.type != "CALL_ONCE" else ():
                if child not in found:
                    found.add(child)
                    waiting.append(child)
    return [subgraphs[index] for index in sorted(found)]


#: Variables that are named.
_NAMED = 3


def _listed(what: str, names: Sequence[str]) -> str:
    count = f"{len(names)} {what}{'s' * (len(names) != 1)}"
    shown = ", ".join(name or "without a name" for name in names[:_NAMED])
    return f"{count}: {shown}{', ...' * (len(names) > _NAMED)}"
