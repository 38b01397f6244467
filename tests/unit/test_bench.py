"""What a worker tells of the instrumentation once all blocks are done."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from qprof.errors import ModelError
from qprof.measure.worker.bench import Bench
from qprof.tasks.latency import LatencyTask


def bench(**instrumentation: Any) -> Bench:
    """A bench whose instrumented model gives these answers."""
    made = Bench.__new__(Bench)
    made._task = LatencyTask(samples=1)
    given: dict[str, Any] = {"lost_events": lambda: 0, "timing_facts": dict, "audit": dict, **instrumentation}
    made._profiled = SimpleNamespace(**given)  # type: ignore[assignment]
    return made


@pytest.mark.parametrize("lost", [0, 3])
def test_events_that_were_lost_are_told(lost: int) -> None:
    notes = bench(lost_events=lambda: lost)._timing_notes().notes
    assert notes == (
        [f"{lost} op events were lost for want of memory; mistrust its op times, and free some memory"] * (lost > 0)
    )


def test_an_audit_that_fails_costs_a_note_and_not_the_facts() -> None:
    def fails() -> Any:
        raise ModelError("no events")

    told = bench(timing_facts=lambda: {"facts": {"ops": 2}}, audit=fails)._timing_notes()
    assert told.notes == ["the measurement was not audited: no events"]
    assert told.timing is not None and told.timing.facts == {"ops": 2}


def test_without_instrumentation_there_is_no_timing() -> None:
    made = bench()
    made._profiled = None
    assert made._timing_notes().timing is None
