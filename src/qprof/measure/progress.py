"""What a run tells of itself while it goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Standing:
    """A variant's figures so far: median latency over `rounds` rounds, and against the baseline ln of the ratio with
    its bounds, as the last look saw them (`None` before there was one). `phase` is "" where there is one only."""

    variant: str
    phase: str
    p50_us: float | None
    rounds: int
    log_ratio: tuple[float, float | None, float | None] | None
    verdict: str


class ProgressDisplay(Protocol):
    """Draws what it is told (see `qprof.report.progress`)."""

    def phase(self, name: str, detail: str = "") -> None: ...
    def plan(self, total_steps_by_key: Mapping[str, int]) -> None: ...
    def start(self, key: str, text: str) -> None: ...
    def done(self, key: str, seconds: float) -> None: ...
    def note(self, text: str) -> None: ...

    def standing(self, title: str, rows: Sequence[Standing], decided: bool) -> None:
        """The figures so far, in the place of those that were shown before; `decided`: after a look at the verdicts."""


class SilentProgress:
    """Tells nothing."""

    def phase(self, name: str, detail: str = "") -> None: ...
    def plan(self, total_steps_by_key: Mapping[str, int]) -> None: ...
    def start(self, key: str, text: str) -> None: ...
    def done(self, key: str, seconds: float) -> None: ...
    def note(self, text: str) -> None: ...
    def standing(self, title: str, rows: Sequence[Standing], decided: bool) -> None: ...
