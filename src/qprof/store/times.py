"""Times of a run's inferences and ops, as parallel arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Latencies:
    """Inferences of one variant, kind and phase, as parallel arrays in the order they ran."""

    block: NDArray[np.int32]
    round: NDArray[np.int32]
    inference: NDArray[np.int32]
    sample: NDArray[np.int32]
    start_ns: NDArray[np.int64]
    duration_ns: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class OpTimes:
    """Op events of one variant and phase as parallel arrays; `op` indexes `Run.ops_of` that variant and phase."""

    block: NDArray[np.int32]
    round: NDArray[np.int32]
    inference: NDArray[np.int32]
    op: NDArray[np.int32]
    start_ns: NDArray[np.int64]
    duration_ns: NDArray[np.int64]


#: What the time of every op in every inference is put together from.
OP_TIMES = ("block", "inference", "op", "duration_ns")
