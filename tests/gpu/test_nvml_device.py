"""NVML on a real device. Skipped without a driver."""

from __future__ import annotations

import time

import numpy as np
import pytest

pytest.importorskip("pynvml")

from qprof.probes.base import NullProbe
from qprof.probes.nvml import FAST_FIGURES, open_nvml
from qprof.probes.sampler import Sampler

pytestmark = pytest.mark.gpu


def test_counter_and_power_of_a_device() -> None:
    probe = open_nvml(figures=FAST_FIGURES)
    if isinstance(probe, NullProbe):
        pytest.skip(probe.missing[0].reason)
    began = time.perf_counter_ns()
    with Sampler([probe], 100.0) as sampler:
        time.sleep(3)
    traces = sampler.between(began, time.perf_counter_ns())
    assert not [missing for missing in sampler.missing if "failed" in missing.reason or "lost" in missing.reason]
    for name, trace in traces.items():
        assert len(trace.t_ns) > 100, name
        if name.endswith(".energy"):
            assert (np.diff(trace.values) >= 0).all()
            watts = (trace.values[-1] - trace.values[0]) / 1000 / ((trace.t_ns[-1] - trace.t_ns[0]) / 1e9)
            assert 5 < watts < 1500
        else:
            assert ((trace.values > 5) & (trace.values < 1500)).all(), name
    assert all(cost.cpu_share is not None and cost.cpu_share < 0.2 for cost in sampler.costs)


def test_every_other_figure_is_read_or_missing_with_a_reason() -> None:
    probe = open_nvml()
    if isinstance(probe, NullProbe):
        pytest.skip(probe.missing[0].reason)
    readings = probe.read()
    assert len(readings) == len(probe.channels)
    assert all(missing.reason and missing.remedy for missing in probe.missing)
    probe.close()
