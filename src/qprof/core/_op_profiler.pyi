"""Python face of the LiteRT op profiler (sources: csrc/litert)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

PLUGIN_PATH: str
record_dtype: np.dtype[Any]
BEFORE_OPS: tuple[str, ...]
KIND_NODE: int
KIND_KERNEL: int

class OpProfiler:
    """Times every node of one LiteRT interpreter.

    Hand `load_delegate(PLUGIN_PATH, profiler.options)` to the interpreter, allocate its tensors, then `hook()`.
    `unhook()` before any resize or re-allocation, `hook()` again after it. Not for use by two threads at once.
    """

    def __init__(self, subgraph_sizes: Sequence[tuple[int, int]], kernels: bool = True) -> None:
        """`subgraph_sizes`: (tensors, ops) of each subgraph of the flatbuffer, for the first ABI check. `kernels`:
        whether delegates are to report the times of their kernels; without, a delegate runs as if nobody looked."""

    @property
    def refused(self) -> bool:
        """True if a context looked like none of these: the runtime's structs are not the ones we know."""

    @property
    def options(self) -> dict[str, str]:
        """Options for `load_delegate` that tie the delegate to this profiler."""

    @property
    def subgraph_count(self) -> int:
        """Subgraphs that the interpreter has shown to the delegate (0 before it is applied)."""

    @property
    def kernel_names(self) -> list[str]:
        """Names of the kernels seen, by the `name` field of a record."""

    @property
    def lost(self) -> int:
        """Events that went unrecorded for want of memory, ever. A delegate's node and its kernels are kept or lost
        together."""

    def hook(self) -> int:
        """Put the timing trampoline in front of every node; returns how many nodes are timed.

        Raises `MemoryError`; what is wrapped by then is timed.
        """

    def unhook(self) -> None:
        """Restore every node's own function."""

    def reserve(self, records: int) -> None:
        """Make room for that many records, so that no allocation falls into a timed inference."""

    def start(self, inference: int) -> None:
        """Record from now on, under the given inference number."""

    def stop(self) -> None:
        """Stop recording; nodes then run through the trampoline untimed."""

    def prepare(self, before: str) -> None:
        """Do one of `BEFORE_OPS` to the machine's state before every op, timed or not, outside of its time.

        "reset-vectors": mark the upper halves of the vector registers as unused (vzeroupper), which SSE code pays for
        on processors with AVX; "reset-vectors-builtin": before the interpreter's own kernels alone; "flush-caches",
        "warm-caches": drop or read the cache lines of the op's tensors. It happens in the thread that calls the
        interpreter. Raises `ValueError` for another word, and where the processor cannot.
        """

    @staticmethod
    def reading_cost_ns() -> int:
        """Nanoseconds from one reading of a delegate's clock to the next with nothing in between; measured anew at each
        call, in 60 µs. 0 where there is no memory for it."""

    def drain(self) -> NDArray[Any]:
        """The records since the last call, as an array of `record_dtype`, and forget them."""

    def nodes(self, subgraph: int = 0) -> list[tuple[int, int, str, list[int] | None, bool]]:
        """Execution plan: (node, builtin code, custom name, nodes replaced or None, is timed) in order."""

    def builtin_codes(self, subgraph: int, count: int) -> list[int]:
        """Builtin codes of the first `count` nodes, whether in the plan or inside a delegate; -1 where unreadable."""

    def tensors(self, subgraph: int = 0) -> list[tuple[str, int, int, int]]:
        """(name, allocation type, bytes, address) of every tensor; address 0 where nothing is allocated."""
