"""How long the machine rests before and after the rounds."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

import pytest

from qprof.measure.parent import blocks
from qprof.measure.parent.blocks import Measurement
from qprof.record.readings import Reading


@pytest.mark.parametrize(
    ("channels", "estimates", "rested"),
    [(["rapl.package"], True, [0.5, 5.0, 0.5]), ([], True, [0.0, 0.5, 0.0]), ([], False, [])],
    ids=["a sensor, read around the window, too", "a model, that has no readings", "neither"],
)
def test_only_a_sensor_is_read_before_and_behind_the_window(
    monkeypatch: pytest.MonkeyPatch, channels: list[str], estimates: bool, rested: list[float]
) -> None:
    found: list[float] = []

    def rest(seconds: float) -> tuple[int, int]:
        found.append(seconds)
        return 1, 2

    @contextlib.contextmanager
    def estimated(readings: list[Reading]) -> Any:
        yield

    saved: list[Any] = []
    monkeypatch.setattr(blocks, "rest", rest)
    measurement: Any = Measurement.__new__(Measurement)
    measurement._manifest, measurement._phases = SimpleNamespace(variants=["a"]), ["inference"]
    measurement._device_channels = channels
    measurement._progress = SimpleNamespace(phase=lambda *_: None)
    measurement._writer = SimpleNamespace(finished_blocks=set, save_block=saved.append)
    measurement._sensors = SimpleNamespace(
        estimates=estimates,
        margin_s=0.5,
        estimated=estimated,
        find_periods=lambda *_: None,
        traces=lambda *_: [],
    )
    measurement._idle(0, "before", [])
    assert found == rested and [block.facts.window_ns for block in saved] == [(1, 2)] * bool(rested)
