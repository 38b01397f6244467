"""Whether the ranges that a variant was calibrated to hold what it meets on the scored samples.

A statically quantized file covers one range per tensor, and cuts off what lies beyond. `layer_errors.parquet` has, of
every layer, the share of the float baseline's numbers on scored samples that lie outside: ranges that are wrong in a
few layers are a cause of their own (`findings.causes.saturated_activations`). Where the input itself does not fit, or
layer after layer does not, the calibration data were other data.
"""

from __future__ import annotations

from dataclasses import dataclass

from qprof.findings.float_layers import SATURATED_SHARE, error_rows, most_layers
from qprof.findings.op_costs import CONVERSIONS
from qprof.record.rows import INPUT, LayerErrorRow
from qprof.store.run import Run

#: Of an input, extremes may be rare in a sound calibration (of pixels, pure black and white): 3 % were seen.
_INPUT_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Uncovered:
    """A variant whose ranges do not hold what it is scored on. `input_share`: of the numbers of its input, outside the
    range of the file (`None` where it takes them as they are); `layers` of `compared` cut off `SATURATED_SHARE` of
    theirs or more, and `worst` most of all, `worst_share`."""

    variant: str
    input_share: float | None
    layers: int
    compared: int
    worst: str
    worst_share: float


def uncovered(run: Run) -> list[Uncovered]:
    """The variants that were calibrated on other data than they are scored on; none where layers were not compared."""
    found = []
    for entry in run.variants[1:]:
        rows = [row for row in error_rows(run, entry.name) if row.own_saturated_share is not None]
        if not rows:
            continue
        reading = _reading_input(run, entry.name)
        inputs = [_share(row) for row in rows if row.type == INPUT or row.op in reading]
        layers = sorted((row for row in rows if row.type != INPUT and row.op not in reading), key=_share)
        cut_off = sum(_share(row) >= SATURATED_SHARE for row in layers)
        share = max(inputs, default=None)
        if layers and ((share or 0.0) >= _INPUT_SHARE or cut_off > most_layers(len(layers))):
            worst = layers[-1]
            found.append(Uncovered(entry.name, share, cut_off, len(layers), worst.name, _share(worst)))
    return found


def _share(row: LayerErrorRow) -> float:
    return row.own_saturated_share or 0.0


def _reading_input(run: Run, variant: str) -> set[str]:
    """Conversions of the model's inputs to what the file stores."""
    inputs = {f"{one.dtype}[{','.join(map(str, one.shape))}]" for one in run.variant(variant).inputs}
    return {op.op for op in run.op_meta.get(variant, []) if op.type in CONVERSIONS and inputs & set(op.inputs)}
