"""A LiteRT model whose every op is timed: the instrumented twin of `LiteRTModel`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.core._op_profiler import KIND_KERNEL, KIND_NODE
from qprof.errors import ModelError
from qprof.record.ops import OpEvents, OpMeta
from qprof.runtimes.litert.align import align_kernels
from qprof.runtimes.litert.calls import Calls
from qprof.runtimes.litert.events import EventLayout, to_events, with_resolutions
from qprof.runtimes.litert.guard import arena_bytes
from qprof.runtimes.litert.hooked import HookedModel
from qprof.runtimes.litert.interpreter import LiteRTModel
from qprof.runtimes.litert.ops import SubgraphView, describe_ops
from qprof.runtimes.litert.own_time import own_time


class ProfiledModel(HookedModel):
    """A `.tflite` with the op profiler attached. Latency is never taken from it: that is `LiteRTModel`'s part.

    Raises:
        ModelError: as `LiteRTModel`.
        OpsUnreachableError: the runtime's layout is not the one the profiler knows (see `guard`).
    """

    def __init__(
        self,
        path: Path,
        *,
        threads: int = 1,
        delegate: str = "xnnpack",
        input_shapes: Mapping[str, Sequence[int]] | None = None,
        before_ops: str = "nothing",
    ) -> None:
        super().__init__(
            path,
            threads=threads,
            delegate=delegate,
            input_shapes=input_shapes,
            before_ops=before_ops,
            kernels=True,
        )
        self._records_per_inference = 1
        self.ops: list[OpMeta] = []
        self._layout: EventLayout | None = None
        self._calls = Calls(self.subgraphs)
        self._partitions: set[tuple[int, int]] = set()  # (call, node of a delegate) whose kernels the layout knows
        #: What timing the ops took of each of the inferences that were drained last: int64[inferences].
        self.timing_ns: NDArray[np.int64] = np.zeros(0, np.int64)

    def resize(self, input_shapes: Mapping[str, Sequence[int]]) -> None:
        """As `LiteRTModel.resize`; the op list must be discovered again afterwards."""
        self.ops, self._layout = [], None
        super().resize(input_shapes)

    def discover(self) -> list[OpMeta]:
        """Run one inference on the present inputs and learn which kernels run in which op; returns the op list."""
        self.profiler.drain()  # what was recorded before a resize is of other nodes and kernels
        self.record(0)
        records = self.profiler.drain()
        names = self.profiler.kernel_names
        kernels: dict[tuple[int, int], dict[int, str]] = {}
        for record in records[records["kind"] == KIND_KERNEL]:
            key = (int(record["subgraph"]), int(record["node"]))
            kernels.setdefault(key, {})[int(record["kernel"])] = names[int(record["name"])]
        ran: Counter[tuple[int, int]] = Counter()
        assigned = self._calls.assign(records)
        for record in assigned[records["kind"] == KIND_NODE]:
            ran[int(record["subgraph"]), int(record["node"])] += 1
        views: dict[int, SubgraphView] = {}
        for call in self._calls.all:
            above = views.get(call.caller[0]) if call.caller else None
            views[call.number] = SubgraphView(
                number=call.number,
                facts=self.subgraphs[call.subgraph],
                nodes=self.profiler.nodes(call.subgraph),
                kernels={node: found for (owner, node), found in kernels.items() if owner == call.subgraph},
                caller=above.op_id(call.caller[1]) if above and call.caller else None,
                shared=self._calls.is_shared(call),
                callers=self._calls.calling_nodes(call.subgraph),
                runs={node: count for (number, node), count in ran.items() if number == call.number},
            )
        ops, self._layout = describe_ops(list(views.values()), self._allocated_shapes())
        self.ops = with_resolutions(ops, assigned, self._layout, self.profiler.reading_cost_ns())
        self._partitions = {(call, node) for call, node, _ in self._layout.kernels}
        self._records_per_inference = max(1, len(records))
        return self.ops

    def _allocated_shapes(self) -> dict[int, tuple[int, ...]]:
        """Shapes of the main subgraph's tensors. Those inside a delegate keep the file's when inputs are resized: an
        interpreter without delegates tells what they have become."""
        main = self.facts.subgraphs[0]
        shapes = {spec.name: spec.shape for spec in self.loaded.inputs}
        if list(shapes.values()) == [main.tensors[index].shape for index in main.inputs]:
            return self.tensor_shapes()
        return LiteRTModel(self.path, delegate="none", input_shapes=shapes, facts=self.facts).tensor_shapes()

    def reserve(self, inferences: int) -> None:
        """Make room for that many recorded inferences: growth would otherwise fall into a timed op."""
        self.profiler.reserve(self._records_per_inference * inferences + 64)

    def begin(self, inference: int) -> None:
        """Time every op of the inferences from now on, under that number."""
        self.profiler.start(inference)

    def end(self) -> None:
        """Stop timing ops."""
        self.profiler.stop()

    def record(self, inference: int) -> None:
        """Run one inference with every op timed; a failure becomes a `ModelError`."""
        self.begin(inference)
        try:
            self.invoke()
        finally:
            self.end()

    def drain(self) -> OpEvents:
        """Op events recorded since the last call; `op` indexes `ops`. `discover` must have been called."""
        if self._layout is None:
            raise ModelError(f"{self.path}: ops are timed before they were discovered")
        found = own_time(self.profiler.drain(), self.profiler.reading_cost_ns())
        self.timing_ns = found.timing_ns
        records = self._calls.assign(found.records)
        kernels = records[records["kind"] == KIND_KERNEL]
        for call, node in np.unique(kernels[["subgraph", "node"]]).tolist():
            if (call, node) not in self._partitions and (call, node) in self._layout.nodes:
                seen = kernels[(kernels["subgraph"] == call) & (kernels["node"] == node)]
                self._layout = self._with_partition(self._layout, (call, node), seen)
        return to_events(records, self._layout)

    def _with_partition(self, layout: EventLayout, place: tuple[int, int], kernels: NDArray[Any]) -> EventLayout:
        """The layout with the kernels of a partition that did not run when the ops were discovered: of a branch that
        another input takes. Its ops are in the list already, without their kernels' names."""
        self._partitions.add(place)
        names = self.profiler.kernel_names
        found = sorted({int(record["kernel"]): names[int(record["name"])] for record in kernels}.items())
        container = layout.nodes[place]
        members = [at for at, op in enumerate(self.ops) if op.parent == self.ops[container].op]
        if not members:
            return layout
        positions = align_kernels([name for _, name in found], [self.ops[at].type for at in members]).positions
        known = {(*place, number): members[at] for (number, _), at in zip(found, positions, strict=True)}
        return EventLayout(layout.nodes, {**layout.kernels, **known})

    def arena_bytes(self) -> int | None:
        """Bytes of the interpreter's tensor arenas (all subgraphs), `None` where it cannot be seen or is unused."""
        spans = [arena_bytes(self.profiler.tensors(number)) for number in range(self.profiler.subgraph_count)]
        known = [span for span in spans if span is not None]
        return sum(known) if known else None

    def lost_events(self) -> int:
        """Events of nodes and kernels that could not be kept."""
        return self.profiler.lost

    def timing_facts(self) -> dict[str, Any]:
        """What the manifest keeps of the instrumentation."""
        return {
            "facts": {
                "timed_nodes": self.hooked_nodes,
                "untimed_nodes": self.untimed_nodes,
                "ops": len(self.ops),
                "lost_events": self.profiler.lost,
            }
        }

    def audit(self) -> dict[str, Any]:
        """Nothing: LiteRT on a CPU is synchronous, and there is no second clock to hold against the first."""
        return {}
