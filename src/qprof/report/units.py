"""Figures as text: units, significant digits, intervals. All prefixes are decimal: 1 kB = 1000 B, 1 MB = 10^6 B."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

#: What stands for a figure that was not measured; `None` is not 0.
MISSING = "\N{EN DASH}"

Kind = Literal["duration_us", "bytes", "count", "energy_mj", "flops_per_s"]

#: value, low, high; the bounds are `None` where there is no interval.
Interval = tuple[float | None, float | None, float | None]

_DIGITS = 3
_MOST_DECIMALS = 3


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit and its size in the base unit that the kind's name tells (µs, bytes, ones, mJ, FLOP/s)."""

    symbol: str
    size: float


_UNITS: dict[str, tuple[Unit, ...]] = {
    "duration_us": (Unit("µs", 1.0), Unit("ms", 1e3), Unit("s", 1e6)),
    "bytes": (Unit("B", 1.0), Unit("kB", 1e3), Unit("MB", 1e6), Unit("GB", 1e9)),
    "count": (Unit("", 1.0), Unit("k", 1e3), Unit("M", 1e6), Unit("G", 1e9)),
    "energy_mj": (Unit("µJ", 1e-3), Unit("mJ", 1.0), Unit("J", 1e3), Unit("kJ", 1e6)),
    "flops_per_s": (Unit("MFLOP/s", 1e6), Unit("GFLOP/s", 1e9), Unit("TFLOP/s", 1e12)),
}
_WHOLE = ("bytes", "count")


def column_unit(values: Sequence[float | None], kind: Kind) -> Unit:
    """The one unit for a whole column: the largest in which the median of the non-zero magnitudes is at least 1."""
    magnitudes = [abs(value) for value in values if value and math.isfinite(value)]
    typical = _rounded(statistics.median(magnitudes)) if magnitudes else 0.0
    fitting = [unit for unit in _UNITS[kind] if typical >= unit.size]
    return fitting[-1] if fitting else _UNITS[kind][0]


def scaled_column(values: Sequence[float | None], kind: Kind) -> tuple[str, list[str | None]]:
    """A column of figures in one unit and with one number of decimals, so that they compare at a glance.

    Returns the unit's symbol and one text per value, `None` for `None` and NaN. The typical value keeps 3 significant
    digits and the smallest 2, with 3 decimals at most; what would round to 0 without being 0 is shown as "<0.001".
    """
    unit = column_unit(values, kind)
    scaled = [None if value is None or math.isnan(value) else value / unit.size for value in values]
    decimals = _column_decimals(scaled, whole=kind in _WHOLE and unit.size == 1)
    return unit.symbol, [None if value is None else _fixed(value, decimals) for value in scaled]


def scaled_intervals(values: Sequence[Interval], kind: Kind) -> tuple[str, list[str | None]]:
    """A column of "value [low, high]" in one unit; `None` where the value is `None` or NaN."""
    unit = column_unit([value for value, _, _ in values], kind)
    texts: list[str | None] = []
    for triple in values:
        value, low, high = (None if figure is None else figure / unit.size for figure in triple)
        texts.append(None if value is None or math.isnan(value) else interval(value, low, high))
    return unit.symbol, texts


def interval(value: float | None, low: float | None, high: float | None, unit: str = "") -> str:
    """ "12.35 [12.20, 12.50] ms": decimals by the interval's width, and 3 significant digits of the value at least.

    Half of the interval's width keeps 2 digits, as the GUM advises for an uncertainty (JCGM 100:2008, 7.2.6). Without
    bounds the value stands alone. Raises `ValueError` for low > high.
    """
    if value is None or math.isnan(value):
        return MISSING
    suffix = f" {unit}" if unit else ""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return significant(value) + suffix
    if low > high:
        raise ValueError(f"interval with low {low} above high {high}")
    decimals = max(_decimals(value, _DIGITS), _decimals((high - low) / 2, 2))
    return f"{_fixed(value, decimals)} [{_fixed(low, decimals)}, {_fixed(high, decimals)}]{suffix}"


def duration(us: float | None) -> str:
    """One duration (microseconds) in its own best unit: "12.3 µs", "4.56 ms", "1.23 s"."""
    return _alone(us, "duration_us")


def size(n_bytes: float | None) -> str:
    """One size in decimal units: "512 B", "4.19 MB" (MB = 10^6 bytes)."""
    return _alone(n_bytes, "bytes")


def macs(count: float | None) -> str:
    """Multiply-accumulates: "301 M", "3.40 G"."""
    return _alone(count, "count")


def energy(mj: float | None) -> str:
    """One energy (millijoules): "830 µJ", "1.25 mJ", "4.10 J"."""
    return _alone(mj, "energy_mj")


def flops(flops_per_s: float | None) -> str:
    """Arithmetic throughput, always in GFLOP/s, the unit of rooflines."""
    if flops_per_s is None or math.isnan(flops_per_s):
        return MISSING
    return f"{significant(flops_per_s / 1e9)} GFLOP/s"


def percent(fraction: float | None, decimals: int = 1, signed: bool = False) -> str:
    """A fraction as a percentage: 0.1234 -> "12.3 %"; `signed` shows the plus of a change."""
    if fraction is None or math.isnan(fraction):
        return MISSING
    text = _fixed(100 * fraction, decimals)
    return f"{'+' if signed and fraction > 0 and text[0] not in '<>' else ''}{text} %"


def span(seconds: float | None) -> str:
    """A length of time for people: "42 s", "3 min 20 s", "1 h 05 min"; "?" where it is not known."""
    if seconds is None or not math.isfinite(seconds):
        return "?"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def significant(value: float, digits: int = _DIGITS) -> str:
    """`value` in fixed notation with at least `digits` significant digits; whole digits are never rounded away."""
    return _fixed(value, _decimals(value, digits))


def _alone(value: float | None, kind: Kind) -> str:
    if value is None or math.isnan(value):
        return MISSING
    unit = column_unit([value], kind)
    scaled = value / unit.size
    whole = kind in _WHOLE and unit.size == 1 and scaled == round(scaled)
    return f"{_fixed(scaled, 0) if whole else significant(scaled)} {unit.symbol}".rstrip()


def _column_decimals(scaled: Sequence[float | None], whole: bool) -> int:
    magnitudes = [abs(value) for value in scaled if value and math.isfinite(value)]
    if not magnitudes or (whole and all(value == round(value) for value in magnitudes)):
        return 0
    typical, smallest = statistics.median(magnitudes), min(magnitudes)
    return min(_MOST_DECIMALS, max(_decimals(typical, _DIGITS), _decimals(smallest, 2)))


def _decimals(value: float, digits: int) -> int:
    """Decimals that show `digits` significant digits of `value`, 9 at most."""
    if value == 0 or not math.isfinite(value):
        return 0
    return min(9, max(0, digits - 1 - math.floor(math.log10(_rounded(abs(value), digits)))))


def _rounded(value: float, digits: int = _DIGITS) -> float:
    """`value` to `digits` significant digits: 999.7 reads as 1000, and must be placed as that."""
    return float(f"{value:.{digits - 1}e}")


def _fixed(value: float, decimals: int) -> str:
    text = f"{value:.{decimals}f}"
    if value == 0 or text.strip("-0."):
        return text.removeprefix("-") if value == 0 else text
    least = f"{10.0**-decimals:.{decimals}f}"
    return f"<{least}" if value > 0 else f">-{least}"
