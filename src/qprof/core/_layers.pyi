"""Python face of the layer timer (sources: csrc/layers)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

record_dtype: np.dtype[Any]

class LayerTimer:
    """Times `forward` of a torch model's modules; between `stop` and `start` nothing of it is in their way.

    One record per call: "layer" is the position in `modules`, "duration_ns" spans the call, "own_ns" is that less the
    timed calls inside it (the sum of all own times is the sum of the outermost durations, also under recursion). A
    call that raises is recorded like any other. Only calls of the thread that called `start` are timed. What
    `forward` was is looked up when the timer is made.
    """

    def __init__(self, modules: Sequence[Any]) -> None: ...
    @property
    def lost(self) -> int:
        """Calls that went unrecorded for want of memory."""

    @property
    def foreign_calls(self) -> int:
        """Calls that other threads made while this one was recording; they run untimed."""

    def reserve(self, records: int) -> None:
        """Make room for that many records, so that no allocation falls into a timed call."""

    def start(self, inference: int) -> None:
        """Record this thread's calls from now on, under that number. Raises `RuntimeError` inside a timed call."""

    def stop(self) -> None:
        """Stop recording, and leave the modules as they were found."""

    def drain(self) -> NDArray[Any]:
        """The records since the last call in the order in which calls ended, as an array of `record_dtype`."""
