"""A broken baseline and a calibration on other data, in the sentences that come before all others."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from qprof.findings.calibration import Uncovered
from qprof.findings.float_layers import SATURATED_SHARE
from qprof.findings.plausibility import Mend

#: Further settings that mend the same fault in part.
_ALSO_TOLD = 3
#: Smaller p-values rest on the tail of a bootstrap that nobody has drawn.
LEAST_P = 1e-4


def plausibility_lines(baseline: str, mends: Sequence[Mend]) -> Iterator[str]:
    """What mends the baseline and what that gives, measured; nothing for a sound one."""
    if not mends:
        return
    best = mends[0]
    yield f"THE BASELINE IS BROKEN: {baseline} scores low for a reason that all variants share, not by quantization."
    yield f"  what mends it: {best.setting} ({best.says})"
    yield (
        f"  measured on {best.samples} samples: {_score(best)}, {_gain(best, True)}; {_p(best)} that the gain is "
        f"{_amount(best, best.least)} {_unit(best)} or less, corrected for the {best.tried} settings tried (Holm)"
    )
    for mend in mends[1 : 1 + _ALSO_TOLD]:
        yield f"  it also gains by: {mend.setting} ({mend.says}): {_gain(mend, False)}"
    yield "  Change the profile and run again: what follows compares broken variants, and nothing is recommended."
    yield ""


def calibration_lines(found: Sequence[Uncovered]) -> Iterator[str]:
    """Which variants were calibrated on other data than they are scored on; nothing where none was."""
    for one in found:
        yield f"{one.variant} WAS CALIBRATED ON OTHER DATA than it is scored on:"
        if one.input_share is not None:
            yield f"  {one.input_share:.1%} of its input's numbers lie outside the range that its file covers"
        yield (
            f"  {one.layers} of {one.compared} layers cut off {SATURATED_SHARE:.0%} or more of what the baseline "
            f"computes; most does {one.worst} ({one.worst_share:.1%})"
        )
        yield (
            "  (layer_errors.parquet: own_saturated_share, on scored samples). Calibrate it on samples like those that "
            "are scored, prepared alike; whether that mends it is not tested."
        )
        yield ""


def _score(mend: Mend) -> str:
    if mend.unit == "nats":
        return f"perplexity of the last word {math.exp(-mend.configured):.4g} -> {math.exp(-mend.changed):.4g}"
    return f"{mend.score} {mend.configured:.3f} -> {mend.changed:.3f}"


def _gain(mend: Mend, bounds: bool) -> str:
    gain, unit = mend.gain, _unit(mend)
    if not bounds or gain.low is None or gain.high is None:
        return f"{_amount(mend, gain.value)} {unit}"
    low, high = sorted((gain.low, gain.high), reverse=mend.unit == "nats")
    return f"{_amount(mend, gain.value)} {unit} [95 %: {_amount(mend, low)}, {_amount(mend, high)}]"


def _amount(mend: Mend, value: float) -> str:
    """Points of a share; of a log-likelihood what it does to the perplexity, in percent."""
    return f"{(math.expm1(-value) if mend.unit == 'nats' else value) * 100:+.1f}"


def _unit(mend: Mend) -> str:
    return "%" if mend.unit == "nats" else "points"


def _p(mend: Mend) -> str:
    return f"p = {mend.p_value:.2g}" if mend.p_value >= LEAST_P else f"p < {LEAST_P:g}"
