"""An exported network, loaded and ready to run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import ModelError
from qprof.record.model import Loaded
from qprof.record.phases import INFERENCE
from qprof.runtimes.tool_output import first_line
from qprof.runtimes.torch_export import program
from qprof.runtimes.torch_export.compiled import Compiled, compile_graph
from qprof.runtimes.torch_export.folder import TOKENIZER
from qprof.runtimes.torch_export.graph import Graph, read_graph
from qprof.runtimes.torch_export.library import quiet
from qprof.runtimes.torch_export.lowering import lower, refuse_unlowered
from qprof.runtimes.torch_export.sections import TorchExportOptions


class ExportedModel:
    """A `.pt2` in this process; satisfies `qprof.record.model.Model`.

    With the engine "inductor" `run_once` calls the compiled graph, with "eager" the graph's own Python, which calls
    torch op by op; in that, linears of quantized weights call the kernel that `quantize_dynamic` gives them. Inputs are
    copied in by `set_inputs`; gradients are off.
    """

    def __init__(self, path: Path, options: TorchExportOptions) -> None:
        """Raises `ModelError`."""
        import torch

        self.path, self.options = path, options
        torch.set_num_threads(options.threads)
        found = program.load(path)
        self.module = found.module
        self.graph: Graph = read_graph(found.module)
        self.compiled: Compiled | None = None
        if options.engine == "eager":
            lower(self.graph)
            refuse_unlowered(found.module, path)
        self._examples = found.examples
        self._inputs = found.examples
        self._outputs: Any = None
        self._specs = found.outputs
        self.loaded = Loaded(
            inputs=found.inputs,
            outputs=found.outputs,
            op_types=self.graph.op_types(),
            facts={"engine": options.engine, "library": f"torch {torch.__version__}"},
            pixels=_pixels(found.about),
            labels=[str(label) for label in found.about.get("labels") or ()],
        )
        self._tokenizer: Any = None

        self.run_once: Callable[[], None] = self._first

    def _first(self) -> None:
        """The first inference; before it the graph is compiled, which whoever only looks at its nodes need not wait
        for."""
        self.make_ready()
        self.run_once()

    def make_ready(self) -> None:
        """Let `run_once` be the bare call. Raises `ModelError`."""
        import torch

        if self.run_once != self._first:
            return
        call: Callable[..., Any] = self.module
        if self.options.engine == "inductor":
            self.compiled = compile_graph(self.module, self._examples, self.options.threads, self.path)
            call = self.compiled.call

        def run() -> None:
            self._outputs = call(*self._inputs)

        self.run_once = torch.no_grad()(run)

    def generated(self) -> tuple[FunctionType, str] | None:
        """The function that runs its ops one after the other, and its text; `None` where there is none."""
        self.make_ready()
        if self.compiled is None:
            forward: FunctionType = vars(type(self.module))["forward"]
            return forward, self.module.code
        if self.compiled.function is None:
            return None
        return self.compiled.function, self.compiled.source

    @property
    def tokenizer(self) -> Any:
        """What turns texts into its inputs: of the folder `tokenizer` beside its file; `None` without that."""
        folder = self.path.parent / TOKENIZER
        if self._tokenizer is None and folder.is_dir():
            from transformers import AutoTokenizer

            with quiet():
                self._tokenizer = AutoTokenizer.from_pretrained(
                    str(folder), local_files_only=True, trust_remote_code=False
                )
        return self._tokenizer

    def enter(self, phase: str) -> None:
        if phase != INFERENCE:
            raise ModelError(f"{self.path}: has no phase {phase!r}")

    def set_inputs(self, arrays: Sequence[NDArray[Any]]) -> None:
        import torch

        self._inputs = tuple(torch.from_numpy(np.array(array, copy=True, order="C")) for array in arrays)

    def invoke(self) -> None:
        with self._plain_errors():
            self.run_once()

    @contextlib.contextmanager
    def _plain_errors(self) -> Iterator[None]:
        try:
            yield
        except ModelError:
            raise
        except (RuntimeError, ValueError, IndexError, TypeError, AssertionError, NotImplementedError) as error:
            raise ModelError(f"{self.path}: an inference fails: {first_line(error)}") from error

    def outputs(self) -> list[NDArray[Any]]:
        """Copies; bfloat16, which NumPy has not, as float32."""
        import torch

        found = _tensors(self._outputs)
        real = [one.float() if one.dtype == torch.bfloat16 else one for one in found]
        return [np.array(one.detach().cpu().numpy(), copy=True) for one in real]

    def memory_bytes(self) -> dict[str, int]:
        """ "footprint": the weights that its graph reads, or that were frozen into what was compiled of it, each memory
        once."""
        if self.options.engine == "inductor":
            with self._plain_errors():
                self.make_ready()
        if self.compiled is not None and self.compiled.constants:
            return {"footprint": _storage_bytes(self.compiled.constants)}
        return {"footprint": self.graph.constant_bytes()}


def _pixels(about: Mapping[str, Any]) -> tuple[Any, Any] | None:
    """The normalization that the file says its images have; `None` where it is not one."""
    try:
        pair = tuple(np.asarray(about[key], np.float64) for key in ("mean", "std"))
    except (KeyError, TypeError, ValueError):
        return None
    if any(one.ndim > 1 or not np.isfinite(one).all() for one in pair) or not (pair[1] > 0).all():
        return None
    return pair[0].tolist(), pair[1].tolist()


def _tensors(value: Any) -> list[Any]:
    if isinstance(value, (list, tuple)):
        return [tensor for item in value for tensor in _tensors(item)]
    if isinstance(value, dict):
        return [tensor for item in value.values() for tensor in _tensors(item)]
    return [] if value is None else [value]


def _storage_bytes(tensors: Sequence[Any]) -> int:
    import torch

    plain = [one for one in tensors if one.layout == torch.strided and not one.is_mkldnn]
    opaque = [one for one in tensors if one.is_mkldnn]
    storages: dict[int, int] = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in plain}
    packed = [int(one.numel() * one.element_size()) for one in opaque]
    return sum(storages.values()) + sum(packed)
