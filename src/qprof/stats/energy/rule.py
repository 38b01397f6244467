"""When a window is long enough, and varied enough, for joules per inference to be quoted from it.

Windows of at least 5 s and 32 repetitions with at least 8 phase shifts: the good practice of Yang, Adamek & Armour,
arXiv 2312.02741, 2023, which cut the error by 35 % in the mean. At least 10 periods of the counter: the two
edges of a window are each uncertain by up to a period, so that fewer leave 20 % and more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

LEAST_WINDOW_NS = 5_000_000_000
LEAST_REPETITIONS = 32
LEAST_PHASES = 8
LEAST_PERIODS = 10

#: Phases are told apart to a sixteenth of the period. A load in step with the sensor has one phase;
#: eight shifts that are spread evenly have eight.
_PHASE_BINS = 16


@dataclass(frozen=True, slots=True)
class EnergyVerdict:
    """Whether a window satisfies the rule; if not, why, and how much more it needs.

    `longer_ns`: by how much the window has to be longer. `more_repetitions`, `more_phases`: how many more have to be
    in it (repetitions at the present pace are contained in `longer_ns`).
    """

    ok: bool
    reasons: tuple[str, ...] = ()
    longer_ns: int = 0
    more_repetitions: int = 0
    more_phases: int = 0

    @property
    def reason(self) -> str | None:
        """All reasons in one line, `None` where the rule holds."""
        return "; ".join(self.reasons) or None


def phase_shifts(starts_ns: ArrayLike, period_ns: float) -> int:
    """How many different phases of a sensor's period the starts int64[n] of the repetitions fall on, 0 to 16.

    Raises `ValueError` for a period that is not positive.
    """
    if not period_ns > 0:
        raise ValueError(f"a period must be positive, got {period_ns} ns")
    starts = np.asarray(starts_ns, dtype=np.int64)
    if not len(starts):
        return 0
    phase = np.mod((starts - starts[0]).astype(np.float64), period_ns) / period_ns
    # Starts that are meant to be in step must not count twice because they jitter across the border of a bin.
    borders = np.arange(0.0, 1.0, 0.25)
    return min(len(np.unique(np.floor(phase * _PHASE_BINS + border) % _PHASE_BINS)) for border in borders)


def energy_rule(window_ns: int, repetitions: int, phases: int, period_ns: float | None) -> EnergyVerdict:
    """Judge a window of `window_ns` with so many repetitions and phase shifts against the counter's period.

    `period_ns` `None` (the period could not be told) does not satisfy the rule.
    """
    reasons: list[str] = []
    wanted = float(LEAST_WINDOW_NS)
    if window_ns < LEAST_WINDOW_NS:
        reasons.append(f"the window of {window_ns * 1e-9:.2f} s is shorter than {LEAST_WINDOW_NS * 1e-9:.0f} s")
    if period_ns is None:
        reasons.append("the sensor's update period is unknown")
    elif window_ns < LEAST_PERIODS * period_ns:
        wanted = max(wanted, LEAST_PERIODS * period_ns)
        reasons.append(
            f"the window holds {window_ns / period_ns:.1f} update periods of {period_ns * 1e-6:.0f} ms: "
            f"at least {LEAST_PERIODS} are needed"
        )
    more_repetitions = max(0, LEAST_REPETITIONS - repetitions)
    if more_repetitions:
        wanted = max(wanted, window_ns + more_repetitions * window_ns / max(repetitions, 1))
        reasons.append(f"{repetitions} repetitions: at least {LEAST_REPETITIONS} are needed")
    more_phases = max(0, LEAST_PHASES - phases)
    if more_phases:
        reasons.append(
            f"the repetitions start at {phases} phases of the sensor's period: at least {LEAST_PHASES} are needed"
        )
    longer = max(0, math.ceil(wanted) - window_ns)
    return EnergyVerdict(not reasons, tuple(reasons), longer, more_repetitions, more_phases)
