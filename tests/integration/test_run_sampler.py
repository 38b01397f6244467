"""A run whose sensors are files: read by the compiled sampler, or by Python's where the core was not built."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from energy_runs import QUICK
from qprof.measure.command_line import profile_for
from qprof.measure.parent import blocks as measure
from qprof.measure.parent.execution import start
from qprof.measure.parent.sensors import SampledProbe
from qprof.measure.progress import SilentProgress
from qprof.probes import compiled
from qprof.probes.base import JoinedProbe
from qprof.probes.host import open_host
from qprof.probes.rapl import open_rapl
from qprof.store.run import Run

WATTS = 30.0
RANGE_UJ = 40_000_000


@contextmanager
def package(root: Path) -> Iterator[None]:
    """A counter in a file that goes up by 30 W, and begins anew after 40 J."""
    folder = root / "intel-rapl:0"
    folder.mkdir(parents=True)
    (folder / "name").write_text("package-0\n")
    (folder / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
    counter = folder / "energy_uj"
    counter.write_text(f"{0:09d}\n")
    stop = threading.Event()

    def count() -> None:
        descriptor = os.open(counter, os.O_WRONLY)
        while not stop.wait(0.002):
            # In one piece, and as long as what it replaces: a reader sees the old number or the new one.
            os.pwrite(descriptor, f"{int(WATTS * time.perf_counter_ns() / 1000) % RANGE_UJ:09d}\n".encode(), 0)
        os.close(descriptor)

    thread = threading.Thread(target=count)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("sampler", ["compiled", "python"])
def test_a_run_says_which_sampler_read_its_sensors(
    sampler: str, tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if sampler == "python":
        monkeypatch.setattr(compiled, "_sampler", None)
    elif not compiled.available():
        pytest.skip("the core is not built")
    monkeypatch.setattr(measure, "_IDLE_S", 0.4)
    monkeypatch.setenv("QPROF_CACHE", str(tmp_path / "cache"))
    profile = profile_for([str(models / "a.tflite"), str(models / "b.tflite")], overrides=list(QUICK))

    def opened(device: str) -> list[SampledProbe]:
        return [SampledProbe(JoinedProbe("files", [open_rapl(tmp_path / "powercap"), open_host()]), 100.0)]

    with package(tmp_path / "powercap"):
        start(profile, tmp_path / "run", SilentProgress(), opened)
    run = Run(tmp_path / "run")
    (cost,) = run.manifest.sensors.costs
    assert cost.sampler == sampler and cost.reads > 50 and cost.failed == 0
    assert (cost.longest_late_ns is not None) == (sampler == "compiled")
    rows = [row for row in run.readings_table.to_pylist() if row["probe"] == "rapl.package-0.energy"]
    shown = np.array([row["value"] for row in rows]), np.array([row["t_ns"] for row in rows])
    # What was read at a time is what the file showed then: 30 mJ for each ms, up to the wrap, a few ms late.
    due = WATTS * shown[1] / 1e6 % (RANGE_UJ / 1000)
    late = np.minimum((due - shown[0]) % (RANGE_UJ / 1000), (shown[0] - due) % (RANGE_UJ / 1000))
    assert len(rows) > 50 and float(np.median(late)) < WATTS * 100
    assert {row["probe"] for row in run.readings_table.to_pylist()} >= {"host.busy", "host.steal"}
