"""Figures with their intervals, as numbers that JSON has and as text."""

from __future__ import annotations

import math
from collections.abc import Callable

from qprof.report.page.data_tables import Amount
from qprof.stats.intervals import Interval


def finite(value: float | None) -> float | None:
    """`None` for what JSON has no number for."""
    return None if value is None or not math.isfinite(value) else float(value)


def amount(found: Interval | None, text: Callable[[Interval], str] | None = None) -> Amount | None:
    """An interval as data; `None` where there is none, or no number."""
    if found is None or not math.isfinite(found.value):
        return None
    return Amount(
        value=float(found.value),
        low=finite(found.low),
        high=finite(found.high),
        text=text(found) if text is not None else "",
    )


def with_bounds(text: Callable[[float], str]) -> Callable[[Interval], str]:
    """ "12.3 ms [12.2 ms, 12.4 ms]" from the text of one number."""

    def whole(found: Interval) -> str:
        if found.low is None or found.high is None:
            return text(found.value)
        return f"{text(found.value)} [{text(found.low)}, {text(found.high)}]"

    return whole
