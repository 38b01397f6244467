"""Ceilings: what a machine did at most of one kind of work, through one runtime."""

from __future__ import annotations

from dataclasses import dataclass

COMPUTE_UNIT, MEMORY_UNIT, DISPATCH_UNIT = "GMAC/s", "GB/s", "us"

#: Name of the "dispatch" ceiling of a runtime whose every op is a single launch.
SINGLE = "kernel"

#: Name of the "compute" ceiling of convolutions whose filters take one channel of many in each; kernels of a runtime
#: without an op type for these say so.
DEPTHWISE = "depthwise"


def number_format(activations: str, weights: str) -> str:
    """What a product is computed from: "float32", or "int8 weights, float32 activations" where the two differ."""
    return activations if activations == weights else f"{weights} weights, {activations} activations"


@dataclass(frozen=True, slots=True)
class Ceiling:
    """One figure: the median of `repetitions`; `spread` is their interquartile range, in the same unit.

    `kind`: "compute", "memory" or "dispatch". `name`: of a "compute" ceiling the op ("CONV_2D 1x1", "matmul",
    `DEPTHWISE`), of a "memory" ceiling the level ("L2", "memory", "weights": a matrix that is read once for
    a single row), of a "dispatch" ceiling what is launched ("XNNPACK" or "builtin" kernels; of torch's layers an "op",
    a "linear", one op of a "norm"; `SINGLE` where each op is one).
    `dtype`: the `number_format`. `up_to_bytes`: the capacity of a cache level, which holds working sets up to that;
    `None` for what lies behind all caches. `value` is `None` for a `reason`. `note` says what limits the figure's
    worth. `overlaps`: what is dispatched is computed meanwhile. `disturbed`: other processes held the processors during
    most passes: the figure is likely too low.
    """

    kind: str
    name: str
    dtype: str
    unit: str
    how: str
    value: float | None = None
    spread: float | None = None
    repetitions: int = 0
    up_to_bytes: int | None = None
    reason: str | None = None
    note: str | None = None
    overlaps: bool = False
    disturbed: bool = False
