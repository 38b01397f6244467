"""An estimate that is referred to Student's t: its interval, and how surely it lies above or below a bound."""

from __future__ import annotations

from qprof.stats.intervals import Interval, student_t_cdf, student_t_quantile


class StudentEffect:
    """Effect for `qprof.stats.verdict.judge`: `value`, `standard_error` (`None` for a `reason`), `degrees`."""

    def __init__(self, value: float, standard_error: float | None, degrees: int, reason: str | None = None) -> None:
        self.value = value
        self.standard_error = standard_error
        self.degrees = degrees
        self.reason = reason

    def interval(self, level: float = 0.95) -> Interval:
        """Two-sided interval, symmetric about `value`; no bounds where there is no standard error."""
        if self.standard_error is None:
            return Interval(self.value, None, None, level, self.reason)
        half = student_t_quantile((1.0 + level) / 2.0, self.degrees) * self.standard_error
        return Interval(self.value, self.value - half, self.value + half, level)

    def p_above(self, bound: float) -> float | None:
        """One-sided p-value against "the effect is `bound` or less"; `None` where there is no interval."""
        return self._p(self.value - bound)

    def p_below(self, bound: float) -> float | None:
        """One-sided p-value against "the effect is `bound` or more"; `None` where there is no interval."""
        return self._p(bound - self.value)

    def _p(self, distance: float) -> float | None:
        if self.standard_error is None:
            return None
        if self.standard_error == 0.0:
            return 0.0 if distance > 0.0 else 1.0
        return max(0.0, 1.0 - student_t_cdf(distance / self.standard_error, self.degrees))
