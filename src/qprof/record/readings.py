"""What sensors tell: single values, and traces over some time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: The reading that tells how many tokens a "scored" block ran through the model.
SCORED_TOKENS = "task.scored_tokens"


@dataclass(frozen=True, slots=True)
class Reading:
    """One sensor value."""

    probe: str
    t_ns: int
    value: float
    unit: str
    provenance: str


@dataclass(frozen=True, slots=True, eq=False)
class SensorTrace:
    """Readings of one sensor over some time: `t_ns` int64[n], `values` float64[n]."""

    probe: str
    unit: str
    provenance: str
    t_ns: NDArray[np.int64]
    values: NDArray[np.float64]
