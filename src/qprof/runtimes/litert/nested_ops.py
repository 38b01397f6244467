"""What a static method does with ops that are not in a model's first subgraph: those of loops, branches and functions.

Of those that calibration reached the weights are quantized, and the activations at run time where the kernel can.
LiteRT 2.3.0 gives wrong outputs where a loop's body quantizes and dequantizes tensors whose shapes are found at run
time (the array that a recurrent layer writes its states to), though the same body is right when it is run by itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from qprof.runtimes.litert.calibrate import ActivationRanges
from qprof.runtimes.litert.float_model import WEIGHTED_OPS, FloatModel, FloatOp


def divided(model: FloatModel, ranges: ActivationRanges | None) -> tuple[list[FloatOp], list[FloatOp]]:
    """The ops of other subgraphs that the samples reached, and those that they did not: of other signatures, of
    branches that were not taken, or without float activations."""
    known = ranges.by_tensor.keys() if ranges is not None else set()
    inside = [op for op in model.ops if op.subgraph > 0]
    reached = [op for op in inside if op.activations and op.activations <= known]
    return reached, [op for op in inside if op not in reached]


def weighted_scopes(
    model: FloatModel,
    ranges: ActivationRanges | None,
    ops: Sequence[str] | None,
    skip_ops: Sequence[str],
    skip_layers: Sequence[str],
) -> list[str]:
    """Scopes of the ops whose weights become int8; `ops` to `skip_layers`: as of `quantize.make`."""
    left_out = model.matching(skip_layers)
    return [
        op.scope
        for op in with_weights(divided(model, ranges)[0])
        if op.type not in skip_ops and (ops is None or op.type in ops) and op not in left_out
    ]


def with_weights(ops: Sequence[FloatOp]) -> list[FloatOp]:
    """Those whose weights can be int8."""
    return [op for op in ops if op.type in WEIGHTED_OPS and op.weight_shape is not None]


def notes(reached: Sequence[FloatOp], unreached: Sequence[FloatOp]) -> list[str]:
    """What is told of both."""
    found = []
    if reached:
        found.append(
            f"{len(reached)} ops of loop bodies, branches and functions keep float32 activations"
            + ("; their weights are int8" if with_weights(reached) else "")
            + ": LiteRT 2.3.0 gives wrong outputs where the body of a loop is quantized throughout"
        )
    missed = sum(bool(op.activations) for op in unreached)
    if missed:
        found.append(
            f"{missed} ops stay float32 that no calibration sample reached, of further signatures or of branches that "
            "were not taken; export that part as a model of its own to quantize it"
        )
    return found
