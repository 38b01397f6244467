"""What inductor makes of a graph: the compiled call, and the Python that runs its kernels in order.

The graph is handed to inductor as it was exported, without dynamo, whose guards an exported graph needs none of (they
cost some 0.1 ms of every call of `torch.compile(...)`). Its weights are frozen in, as torchao's quantized graphs need
to become kernels of oneDNN.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qprof.errors import ModelError
from qprof.runtimes.tool_output import first_line
from qprof.runtimes.torch_export.library import import_torch, quiet

#: The comment that inductor puts before what comes of some nodes of the graph.
_SOURCES = re.compile(r"\s*# .*Source Nodes: \[(?P<nodes>[^\]]*)\]")


@dataclass(slots=True)
class Compiled:
    """A compiled graph. `call`: takes the inputs, gives a tensor or a tuple. `function`, `source`: what runs its
    kernels, and its text; `None` and "" where inductor generated none that is known. `constants`: tensors frozen
    in."""

    call: Callable[..., Any]
    function: Any = None  # a FunctionType
    source: str = ""
    constants: list[Any] = field(default_factory=list)

    def sources_before(self, line: int) -> list[str]:
        """The graph's nodes that inductor names right before a line (from 1 on) of the source."""
        lines = self.source.splitlines()
        found: list[str] = []
        at = line - 2
        while at >= 0 and lines[at].lstrip().startswith("#"):
            match = _SOURCES.match(lines[at])
            if match:
                found = [name.strip() for name in match["nodes"].split(",") if name.strip()] + found
            at -= 1
        return found


def compile_graph(module: Any, examples: Sequence[Any], threads: int, where: Path) -> Compiled:
    """Compile a graph for inputs like `examples`. Raises `ModelError`."""
    import_torch()
    import torch
    from torch._inductor.codecache import PyCodeCache

    if shutil.which("g++") is None and shutil.which("clang++") is None:
        raise ModelError(
            f"{where}: compiling it takes a C++ compiler, and there is none; install g++, or run it eagerly"
        )
    known = len(PyCodeCache.modules)
    settings: dict[str, Any] = {"freezing": True, "cpp.threads": threads, "compile_threads": 1}
    compiles_vectors = _compiles_vectors()
    if compiles_vectors.exists():
        settings["cpp.vec_isa_ok"] = True
    try:
        with quiet(), torch.no_grad(), torch._inductor.config.patch(settings), _kernels_name_their_nodes():
            call = torch._inductor.compile(module, list(examples))
            call(*examples)  # what is only built on first use
    except Exception as error:  # inductor raises what it likes
        raise ModelError(f"{where}: inductor cannot compile it: {first_line(error)}; run it eagerly") from error
    compiles_vectors.touch()
    made = [one for one in PyCodeCache.modules[known:] if hasattr(one, "call")]
    if len(made) != 1:
        return Compiled(call)
    function = getattr(made[0].call, "__func__", made[0].call)
    constants = [value for value in vars(made[0]).values() if isinstance(value, torch.Tensor)]
    return Compiled(call, function, Path(made[0].__file__).read_text(encoding="utf-8"), constants)


def _compiles_vectors() -> Path:
    """A file that is there once this compiler has compiled what this torch generates. Before, inductor tries the
    vector instructions that the processor has by processes that import torch, several seconds in every worker."""
    import torch
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    compiler = Path(shutil.which("g++") or shutil.which("clang++") or "").resolve()
    told = f"{torch.__version__} {compiler} {compiler.stat().st_mtime_ns}"
    return Path(cache_dir()) / f"compiles-vectors-{hashlib.sha256(told.encode()).hexdigest()[:16]}"


@contextlib.contextmanager
def _kernels_name_their_nodes() -> Iterator[None]:
    """Let inductor write before kernels of its own, too, which nodes they come of; it does so for others' alone."""
    from torch._inductor.codegen.cpp import CppScheduling
    from torch._inductor.utils import get_kernel_metadata
    from torch._inductor.virtualized import V

    own = CppScheduling.codegen_comment

    def codegen_comment(self: Any, node_schedule: Any, kernel_name: Any = None) -> None:
        own(self, node_schedule, kernel_name)
        wrapper = V.graph.wrapper_code
        wrapper.make_comment(get_kernel_metadata(node_schedule, wrapper)[0])

    CppScheduling.codegen_comment = codegen_comment
    try:
        yield
    finally:
        CppScheduling.codegen_comment = own
