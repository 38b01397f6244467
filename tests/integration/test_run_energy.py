"""Sensors in a run: what its blocks keep of them, and that no sensor can end it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from energy_runs import QUICK
from qprof.measure.command_line import profile_for
from qprof.measure.parent import blocks as measure
from qprof.measure.parent.execution import resume, start
from qprof.measure.parent.sensors import SampledProbe
from qprof.measure.progress import SilentProgress
from qprof.probes.base import NullProbe, ProbeReading
from qprof.probes.clock import MonotonicClock
from qprof.record.manifest import EnergyPlan
from qprof.record.sensors import Channel, Missing
from qprof.stats.energy import counter_energy
from qprof.store.run import Run
from sensor_fakes import Constant, SteppedCounter, vanishes_at

WATTS = 30.0


class Meter:
    """A processor's counter on the real clock: 30 W, brought up to date every 20 ms."""

    name = "rapl"
    missing: Sequence[Missing] = ()
    channels = (Channel("rapl.package-0.energy", "mJ", "counter", "measured", "a meter"),)

    def __init__(self, before_read: Callable[[int], None] = lambda number: None) -> None:
        self._clock = MonotonicClock()
        self._counter = SteppedCounter(Constant(WATTS), period_s=0.02)
        self._before_read = before_read
        self._reads = 0

    def read(self) -> list[ProbeReading]:
        self._reads += 1
        self._before_read(self._reads)
        now_ns = self._clock.now_ns()
        return [(0, now_ns, self._counter.millijoules(now_ns / 1e9))]

    def close(self) -> None: ...


@pytest.fixture(autouse=True)
def short_idle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(measure, "_IDLE_S", 0.4)
    monkeypatch.setenv("QPROF_CACHE", str(tmp_path / "cache"))


def measured(folder: Path, models: Path, meter: Meter, *overrides: str) -> Run:
    profile = profile_for([str(models / "a.tflite"), str(models / "b.tflite")], overrides=[*QUICK, *overrides])
    start(profile, folder, SilentProgress(), lambda device: [SampledProbe(meter, 200.0)])
    return Run(folder)


def counter_of(run: Run, block: int) -> tuple[Any, Any]:
    rows = [r for r in run.readings_table.to_pylist() if r["block"] == block and r["probe"] == "rapl.package-0.energy"]
    return np.array([r["t_ns"] for r in rows]), np.array([r["value"] for r in rows])


@pytest.fixture(scope="module")
def metered(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Run:
    """A run beside a meter that works; only to be read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "_IDLE_S", 0.4)
        patch.setenv("QPROF_CACHE", str(tmp_path_factory.mktemp("cache")))
        return measured(tmp_path_factory.mktemp("metered") / "run", models, Meter())


def test_energy_blocks_hold_what_the_counter_showed(metered: Run) -> None:
    run = metered
    blocks = [block for block in run.blocks() if block.kind == "energy"]
    assert sorted((block.variant, block.round) for block in blocks) == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
    for block in blocks:
        begin, end = block.window_ns
        assert end - begin >= 300_000_000 and block.repetitions >= 32
        t_ns, value = counter_of(run, block.number)
        assert t_ns[0] < begin - 200_000_000 and t_ns[-1] > end + 200_000_000
        energy = counter_energy(t_ns, value, begin, end)
        assert energy.joules == pytest.approx(WATTS * energy.seconds, rel=0.02)
    assert run.manifest.energy == EnergyPlan(blocks=True, reason=None)
    [channel] = run.manifest.sensors.channels
    assert (channel.name, channel.unit, channel.rate_hz) == ("rapl.package-0.energy", "mJ", 200.0)
    assert run.manifest.sensors.costs[0].reads > 100


def test_long_blocks_are_thinned_and_clean_ones_are_not(metered: Run) -> None:
    run = metered
    rows = run.samples.to_pylist()
    for block in run.blocks():
        starts = np.array([row["start_ns"] for row in rows if row["block"] == block.number])
        if block.kind == "energy":
            assert np.diff(starts).min() >= 1_000_000
            assert len(starts) < block.repetitions
        elif block.kind == "clean":
            assert len(starts) == block.repetitions
            assert block.window_ns[0] == starts[0]


def test_idle_before_and_after(metered: Run) -> None:
    run = metered
    idle = [block for block in run.blocks() if block.kind == "idle"]
    assert [(block.when, block.variant, block.repetitions) for block in idle] == [
        ("before", "", 0),
        ("after", "", 0),
    ]
    starts = run.samples["start_ns"].to_numpy()
    kinds = np.array(run.samples["kind"].to_pylist())
    assert idle[0].window_ns[1] < starts[kinds != "warmup"].min()
    assert idle[1].window_ns[0] > starts.max()
    t_ns, value = counter_of(run, idle[0].number)
    assert counter_energy(t_ns, value, *idle[0].window_ns).watts == pytest.approx(WATTS, rel=0.02)


def test_nothing_measures_so_nothing_is_stretched(tmp_path: Path, models: Path) -> None:
    profile = profile_for([str(models / "a.tflite")], overrides=QUICK)
    absent = NullProbe("rapl", "no powercap here", "bare metal")
    start(profile, tmp_path / "run", SilentProgress(), lambda device: [SampledProbe(absent, 20.0)])
    run = Run(tmp_path / "run")
    assert {block.kind for block in run.blocks()} >= {"clean", "profiled"}
    assert not [block for block in run.blocks() if block.kind == "energy"]
    assert run.manifest.energy is not None
    assert run.manifest.energy.reason == "nothing here measures the power of cpu; see qprof doctor"
    assert Missing("rapl", "no powercap here", "bare metal") in run.manifest.sensors.missing


def test_energy_off_reads_no_power_and_watches_the_host_all_the_same(tmp_path: Path, models: Path) -> None:
    meter = Meter()
    run = measured(tmp_path / "run", models, meter, "protocol.energy=off")
    assert meter._reads == 0
    assert run.manifest.energy == EnergyPlan(blocks=False, reason="protocol.energy is off")
    channels = run.manifest.sensors.channels
    assert not [c.name for c in channels if c.unit in ("W", "mJ", "uJ", "J")]
    assert "host.busy" in {c.name for c in channels}
    assert run.manifest.sensors.codecarbon is None
    clean = next(block for block in run.blocks() if block.kind == "clean")
    assert clean.on_cpu_ns is not None and clean.spent_ns is not None and 0 < clean.on_cpu_ns <= 1.1 * clean.spent_ns
    assert "host.busy" in run.readings.of_block(clean.number)


def test_a_sensor_that_vanishes_costs_its_own_figures_alone(tmp_path: Path, models: Path) -> None:
    run = measured(tmp_path / "run", models, Meter(vanishes_at(150)))
    assert [entry.status for entry in run.variants] == ["ok", "ok"]
    assert sum(block.kind == "energy" for block in run.blocks()) == 4
    [gone] = [part for part in run.manifest.sensors.missing if part.probe == "rapl"]
    assert gone.reason == "lost while reading: fake: unplugged"


def test_a_run_is_resumed_by_its_plan_whatever_sensors_are_left(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, ran = measure.Measurement._run_block, []

    def stops(self: measure.Measurement, block: Any) -> None:
        if len(ran) == 7:
            raise KeyboardInterrupt
        ran.append(block.number)
        real(self, block)

    monkeypatch.setattr(measure.Measurement, "_run_block", stops)
    with pytest.raises(KeyboardInterrupt):
        measured(tmp_path / "run", models, Meter())
    monkeypatch.setattr(measure.Measurement, "_run_block", real)
    before = Run(tmp_path / "run").blocks()
    resume(tmp_path / "run", SilentProgress(), lambda device: [])
    run = Run(tmp_path / "run")
    kinds = [block.kind for block in run.blocks()]
    assert (kinds.count("clean"), kinds.count("energy")) == (6, 4)
    assert next(block.when for block in run.blocks() if block.kind == "idle") == "before"
    kept = {block.number: block.window_ns for block in before if block.kind == "clean"}
    clean = {block.number: block.window_ns for block in run.blocks() if block.kind == "clean"}
    assert kept
    assert clean | kept == clean
