"""A LiteRT model with something in front of each of its ops: to time them, or to change what state they find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from qprof.core._op_profiler import PLUGIN_PATH, OpProfiler
from qprof.errors import ModelError
from qprof.runtimes.litert.flatbuffer import read_again
from qprof.runtimes.litert.guard import LayoutError, check_layout
from qprof.runtimes.litert.interpreter import LiteRTModel


class OpsUnreachableError(ModelError):
    """Nothing can be put in front of this runtime's ops; end-to-end timing goes on. The text says why."""


class HookedModel(LiteRTModel):
    """A `.tflite` before whose ops `before_ops` is done (see `OpProfiler.prepare`); nothing is timed.

    Its outputs are those of `LiteRTModel`. `kernels`: whether XNNPACK reports the times of its kernels, which costs it
    a little. `before_ops`="nothing" is the control for the others: it costs what they cost but for what they do.

    Raises:
        ModelError: as `LiteRTModel`; also where this processor cannot do `before_ops`.
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
        kernels: bool = False,
    ) -> None:
        from ai_edge_litert.interpreter import load_delegate

        facts = read_again(path)
        sizes = [(len(subgraph.tensors), len(subgraph.ops)) for subgraph in facts.subgraphs]
        self.profiler = OpProfiler(sizes, kernels)
        plugin = load_delegate(PLUGIN_PATH, self.profiler.options)
        super().__init__(
            path, threads=threads, delegate=delegate, input_shapes=input_shapes, facts=facts, plugins=[plugin]
        )
        try:
            self.subgraphs = check_layout(self.profiler, facts)
        except LayoutError as error:
            raise OpsUnreachableError(
                f"per-op timing is off for {path.name}: this LiteRT is laid out otherwise than known ({error})"
            ) from error
        self._hook()
        self._own_state = before_ops
        self.prepare(before_ops)

    def prepare(self, before_ops: str) -> None:
        """Do this before every op from now on. Raises `ModelError` where this processor cannot."""
        try:
            self.profiler.prepare(before_ops)
        except ValueError as error:
            raise ModelError(f"{self.path}: before_ops: {error}") from error

    def prepare_as_loaded(self) -> None:
        """Do before every op what was asked for when the model was loaded."""
        self.prepare(self._own_state)

    def _hook(self) -> None:
        self.hooked_nodes = self.profiler.hook()
        self.untimed_nodes = sum(
            not node[4] for number in range(self.profiler.subgraph_count) for node in self.profiler.nodes(number)
        )

    def resize(self, input_shapes: Mapping[str, Sequence[int]]) -> None:
        """As `LiteRTModel.resize`."""
        self.profiler.unhook()
        super().resize(input_shapes)
        self._hook()
