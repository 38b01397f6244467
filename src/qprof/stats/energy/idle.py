"""What of a window's energy the machine would have drawn anyway, and whether two sensors tell the same story."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from qprof.stats.energy.figures import Energy

#: Two idles further apart than this share of their mean have drifted (temperature, clocks, another process).
DRIFT_TOLERANCE = 0.05
#: A counter and an integral further apart than this share of the counter do not agree.
MISMATCH_TOLERANCE = 0.05

AgreementVerdict = Literal["agree", "disagree", "inconclusive", "unknown"]


@dataclass(frozen=True, slots=True)
class Idle:
    """Power with the context loaded and nothing running: `watts` within `error_w`, from before and after.

    `drift_w` is after minus before, `None` where one of them is missing. `drifted`: the drift is larger than the
    tolerance and than the errors of both explain. `watts` is `None` where there is no idle at all; `reason` says why.
    """

    watts: float | None
    error_w: float | None
    before_w: float | None
    after_w: float | None
    drift_w: float | None = None
    drifted: bool = False
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """The energy of one window: `gross` = `idle` + `net`, each with its error bound."""

    gross: Energy
    idle: Energy
    net: Energy


@dataclass(frozen=True, slots=True)
class Agreement:
    """The integral of the power against the counter over the same window.

    `mismatch` is integral / counter - 1, within `error` where both sensors do what they say. "inconclusive": beyond the
    tolerance, but no further than `error` explains. "unknown": there are no two figures to compare; see `reason`.
    """

    verdict: AgreementVerdict
    mismatch: float | None
    error: float | None
    reason: str | None = None


def idle_power(before: Energy, after: Energy, tolerance: float = DRIFT_TOLERANCE) -> Idle:
    """Idle power from a window before the measurement and one after it, both with the context loaded.

    The mean of both; `error_w` is half the drift plus the mean of both errors, since the idle at the time of the
    measurement may have been either. With one of them refused the other stands alone and its drift is unknown.
    """
    known = [(idle.watts, (idle.error_j or 0.0) / idle.seconds) for idle in (before, after) if idle.watts is not None]
    watts = [value for value, _ in known if value is not None]
    if not watts:
        return Idle(None, None, None, None, reason=f"no idle: {before.reason}; {after.reason}")
    error = sum(error for _, error in known) / len(known)
    unbounded = any(idle.watts is not None and idle.error_j is None for idle in (before, after))
    if len(watts) == 1:
        side, reason = ("before", after.reason) if before.watts is not None else ("after", before.reason)
        reason = f"the idle {side} the measurement stands alone: {reason}"
        return Idle(watts[0], None if unbounded else error, before.watts, after.watts, reason=reason)
    drift = watts[1] - watts[0]
    mean = sum(watts) / 2.0
    drifted = abs(drift) > max(tolerance * abs(mean), 2.0 * error)
    return Idle(mean, None if unbounded else abs(drift) / 2.0 + error, watts[0], watts[1], drift, drifted)


def net_energy(gross: Energy, idle: Idle) -> Account:
    """Split a window's energy into what idling for as long would have cost and what the work added.

    A net energy below 0 is shown as it is: it says that the idle was not what it was taken for.
    """
    reason = None if idle.watts is not None else idle.reason
    idle_error = None if idle.error_w is None else idle.error_w * gross.seconds
    idle_j = None if idle.watts is None else idle.watts * gross.seconds
    share = Energy(idle_j, idle_error, gross.start_ns, gross.end_ns, reason=reason)
    if gross.joules is None or idle_j is None:
        reason = gross.reason if gross.joules is None else reason
        return Account(gross, share, replace(gross, joules=None, error_j=None, reason=reason))
    error = None if gross.error_j is None or idle_error is None else gross.error_j + idle_error
    return Account(gross, share, replace(gross, joules=gross.joules - idle_j, error_j=error))


def agreement(counter: Energy, integral: Energy, tolerance: float = MISMATCH_TOLERANCE) -> Agreement:
    """Compare a counter's energy with the integral of the power over the same window.

    They can differ widely on one device: 187 J against 327 J at idle (ml-energy/zeus, issue 181). Raises `ValueError`
    where the windows are not the same.
    """
    if (counter.start_ns, counter.end_ns) != (integral.start_ns, integral.end_ns):
        raise ValueError("the counter and the integral are of different windows")
    if counter.joules is None or integral.joules is None:
        return Agreement("unknown", None, None, counter.reason if counter.joules is None else integral.reason)
    if counter.joules <= 0:
        return Agreement("unknown", None, None, "the counter shows no energy to compare with")
    mismatch = integral.joules / counter.joules - 1.0
    bounded = counter.error_j is not None and integral.error_j is not None
    error = ((counter.error_j or 0.0) + (integral.error_j or 0.0)) / counter.joules if bounded else None
    if abs(mismatch) <= tolerance:
        return Agreement("agree", mismatch, error)
    explained = error is None or abs(mismatch) <= error
    return Agreement("inconclusive" if explained else "disagree", mismatch, error)
