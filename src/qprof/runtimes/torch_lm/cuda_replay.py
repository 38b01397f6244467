"""The parts of quantized linears, run alone on a CUDA device."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qprof.runtimes.torch_lm.cuda import DeviceClock
from qprof.runtimes.torch_lm.ops import linear_features

#: Times that a linear's parts are run.
_REPLAYS = 5


@dataclass(frozen=True, slots=True)
class Replay:
    """The parts of a quantized linear, run alone on the device: medians, in nanoseconds."""

    dequantize_ns: float
    matmul_ns: float


def replay(linears: Mapping[int, tuple[Any, int]], clock: DeviceClock) -> dict[int, Replay]:
    """Each linear's `dequantize_weight()` and the matmul behind it, alone; `linears`: number -> (module, input rows).

    The weights are likely to be in the device's cache for the matmul, as they are in an inference.
    """
    import torch

    found: dict[int, Replay] = {}
    with torch.inference_mode():
        for number, (module, rows) in linears.items():
            features = linear_features(module)
            weights = module.dequantize_weight()
            turned = features is not None and weights.shape[0] != features[0]
            width = weights.shape[1 if turned else 0]
            given = torch.zeros((rows, width), dtype=weights.dtype, device=weights.device)
            marks = []
            for _ in range(_REPLAYS):
                first = clock.mark()
                weights = module.dequantize_weight()
                second = clock.mark()
                torch.matmul(given, weights.t() if turned else weights)
                marks.append((first, second, clock.mark()))
            clock.synchronize()
            found[number] = Replay(
                statistics.median(clock.between_ns(a, b) for a, b, _ in marks),
                statistics.median(clock.between_ns(b, c) for _, b, c in marks),
            )
            clock.give_back([mark for three in marks for mark in three])
    return found


def replayed_shares(replayed: Replay, whole_ns: float) -> tuple[float, float, float]:
    """(dequantize, matmul, other) of a linear that takes `whole_ns`. Where the parts alone take longer than the whole,
    their ratio is kept and nothing is left for the rest."""
    both = replayed.dequantize_ns + replayed.matmul_ns
    whole = max(whole_ns, both)
    if whole <= 0:
        return (0.0, 0.0, 1.0)
    return (replayed.dequantize_ns / whole, replayed.matmul_ns / whole, (whole - both) / whole)
