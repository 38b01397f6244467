"""An exported network whose every op is timed."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import ModelError
from qprof.record.model import Loaded
from qprof.record.ops import SOURCES, OpEvents, OpMeta
from qprof.runtimes.torch_export.graph import Facts, Graph
from qprof.runtimes.torch_export.marks import Marks, called, function_in
from qprof.runtimes.torch_export.model import ExportedModel

#: What runs a kernel in the Python that inductor generates.
_OTHERS_KERNELS = ("torch.ops.", "extern_kernels.", "aten.", "inductor_ops.")
_OWN_KERNELS = "cpp_"

_NODE = SOURCES.index("node")


class ProfiledNetwork:
    """The clean model's own kernels with clock readings between them (see `marks`); satisfies `base.ProfiledModel`.

    Compiled, an op is a kernel, with all nodes of the graph that inductor put into it: kernels of oneDNN and mkl with
    what is fused behind them, and kernels of its own. It is called as what it contracts. Which nodes these are follows
    from those that inductor names: a kernel's last node, and all before it that no kernel has run yet. Eager, an op is
    a node. Latency is never taken from this model.
    """

    def __init__(self, model: ExportedModel) -> None:
        """Raises `ModelError` where the ops cannot be told apart."""
        self.model = model
        self.loaded: Loaded = model.loaded
        found = model.generated()
        self.run_once: Callable[[], None] = model.run_once
        if found is None:
            raise ModelError(f"{model.path}: inductor made no single function of it; its ops are not timed")
        function, source = found
        compiled = model.compiled is not None
        tree = function_in(source, "call", "Runner") or function_in(source, "call" if compiled else "forward")
        if tree is None:
            raise ModelError(
                f"{model.path}: inductor generated no function 'call' that is known; its ops are not timed"
            )
        runs = _is_kernel if compiled else _node_of(model.graph)
        self.marks = Marks(function, tree, lambda statement: bool(runs(statement)), str(model.path))
        facts = _kernels(model, self.marks.timed) if compiled else _nodes(model.graph, self.marks.timed)
        self.ops: list[OpMeta] = _described(facts, self.marks.reading_ns())
        self._inferences: list[int] = []

    # -- base.Model, as the clean model does it -----------------------------------------------------------------------

    def enter(self, phase: str) -> None:
        self.model.enter(phase)

    def set_inputs(self, arrays: Sequence[NDArray[Any]]) -> None:
        self.model.set_inputs(arrays)

    def invoke(self) -> None:
        self.model.invoke()

    def outputs(self) -> list[NDArray[Any]]:
        return self.model.outputs()

    def memory_bytes(self) -> dict[str, int]:
        return self.model.memory_bytes()

    # -- base.ProfiledModel -------------------------------------------------------------------------------------------

    def discover(self) -> list[OpMeta]:
        """Run one inference with readings, and see that each op gave one."""
        self.marks.drain()
        self.begin(0)
        try:
            self.model.invoke()
        finally:
            self.end()
        if len(self.drain().op) != len(self.ops):
            raise ModelError(f"{self.model.path}: not all of its ops were met in an inference; they are not timed")
        return self.ops

    def reserve(self, inferences: int) -> None:
        """Nothing: a list has no capacity to ask for."""

    def begin(self, inference: int) -> None:
        self._inferences.append(inference)
        self.marks.put()

    def end(self) -> None:
        self.marks.take_away()

    def drain(self) -> OpEvents:
        readings = self.marks.drain()
        inferences, self._inferences = np.array(self._inferences, np.int32), []
        count = len(self.ops)
        if len(readings) != len(inferences):
            raise ModelError(f"{self.model.path}: {len(inferences)} inferences were timed, {len(readings)} read")
        return OpEvents(
            inference=np.repeat(inferences, count),
            op=np.tile(np.arange(count, dtype=np.int32), len(readings)),
            start_ns=readings[:, :-1].reshape(-1),
            duration_ns=np.diff(readings, axis=1).reshape(-1),
            source=np.full(count * len(readings), _NODE, np.uint8),
        )

    def arena_bytes(self) -> int | None:
        """`None`: torch allocates tensor by tensor."""
        return None

    def lost_events(self) -> int:
        return 0

    def timing_facts(self) -> dict[str, Any]:
        """What the manifest keeps of the instrumentation."""
        how = "kernels of the compiled graph" if self.model.compiled is not None else "nodes of the graph"
        return {"facts": {"ops": len(self.ops), "timed": how, "reading_ns": round(self.marks.reading_ns(), 1)}}

    def audit(self) -> dict[str, Any]:
        """Nothing: torch on a CPU is synchronous, and there is no second clock to hold against the first."""
        return {}


def _described(found: Sequence[tuple[Facts, str]], reading_ns: float) -> list[OpMeta]:
    """The ops, under names of their own. A reading lies within each."""
    times: Counter[str] = Counter()
    ops = []
    for index, (facts, kernel) in enumerate(found):
        number = times[facts.name]
        times[facts.name] += 1
        ops.append(
            OpMeta(
                op=f"{facts.name}#{number + 1}" if number else facts.name,
                name=facts.name,
                type=facts.type,
                index=index,
                kernel=kernel,
                inputs=facts.inputs,
                outputs=facts.outputs,
                quantization=facts.quantization,
                macs=facts.macs,
                weight_bytes=facts.weight_bytes,
                activation_bytes=facts.activation_bytes,
                resolution_us=reading_ns / 1000,
            )
        )
    return ops


# -- eager: a node is an op -------------------------------------------------------------------------------------------


def _node_of(graph: Graph) -> Callable[[ast.stmt], Any]:
    def of(statement: ast.stmt) -> Any:
        if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
            return None
        return graph.by_name.get(statement.targets[0].id) if isinstance(statement.value, ast.Call) else None

    return of


def _nodes(graph: Graph, statements: Sequence[ast.stmt]) -> list[tuple[Facts, str]]:
    of = _node_of(graph)
    found = [of(statement) for statement in statements]
    return [(graph.known.get(node.name) or graph.facts([node], graph.names[node]), str(node.target)) for node in found]


# -- compiled: a kernel is an op --------------------------------------------------------------------------------------


def _is_kernel(statement: ast.stmt) -> bool:
    name = called(statement)
    return name.startswith((*_OTHERS_KERNELS, _OWN_KERNELS))


def _kernels(model: ExportedModel, statements: Sequence[ast.stmt]) -> list[tuple[Facts, str]]:
    assert model.compiled is not None
    graph, done = model.graph, set[Any]()
    calls = []
    for statement in statements:
        kernel = called(statement).removeprefix("torch.ops.").removesuffix(".default")
        names = model.compiled.sources_before(statement.lineno)
        calls.append((kernel, [graph.by_name[name] for name in names if name in graph.by_name]))
    # A kernel of inductor's own may be named for what it makes ready; it contracts only what no other kernel does.
    theirs = {
        node
        for kernel, ends in calls
        if not kernel.startswith(_OWN_KERNELS)
        for node in graph.nearest_contractions(ends)
    }
    found = []
    for kernel, ends in calls:
        own = kernel.startswith(_OWN_KERNELS)
        members = graph.before(ends, done, theirs.__contains__ if own else (lambda node: False))
        done.update(members)
        if members:
            found.append((graph.facts(members), kernel))
        else:
            of = graph.nearest_name(ends)
            name = f"{of}/{kernel}" if of else kernel
            found.append((Facts(name, "pointwise", (), (), None, 0, 0, None), kernel))
    return found
