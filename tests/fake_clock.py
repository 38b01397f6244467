"""A clock that stands still until a test moves it."""

from __future__ import annotations


class FakeClock:
    """Shows `now`, in nanoseconds; each reading then advances it by `step_ns`."""

    def __init__(self, now: int = 0, step_ns: int = 0) -> None:
        self.now = now
        self.step_ns = step_ns

    def now_ns(self) -> int:
        reading = self.now
        self.now += self.step_ns
        return reading

    def advance(self, seconds: float) -> None:
        self.now += round(seconds * 1e9)
