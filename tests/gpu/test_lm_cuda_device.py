"""Layers on a real device: events against a synchronized host, replay, kernels. Skipped without CUDA."""

from __future__ import annotations

import time

import msgspec
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

if not torch.cuda.is_available():
    pytest.skip("needs a CUDA device", allow_module_level=True)

from lm_layers import OPTIONS, packed_llama, prompt  # noqa: E402
from qprof.findings.measured import leaves  # noqa: E402
from qprof.record.manifest import Timing  # noqa: E402
from qprof.record.ops import SOURCES  # noqa: E402
from qprof.runtimes.torch_lm.cuda_audit import clock_audit  # noqa: E402
from qprof.runtimes.torch_lm.cuda_kernels import kernels  # noqa: E402
from qprof.runtimes.torch_lm.model import CausalLM  # noqa: E402
from qprof.runtimes.torch_lm.profiled import ProfiledCausalLM  # noqa: E402

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def model() -> CausalLM:
    return CausalLM(packed_llama().cuda(), None, msgspec.structs.replace(OPTIONS, device="cuda"))


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_ops_add_up_to_what_a_synchronized_host_sees(model: CausalLM, phase: str) -> None:
    profiled = ProfiledCausalLM(model)
    profiled.set_inputs(prompt())
    profiled.discover()
    profiled.enter(phase)
    profiled.set_inputs(prompt())
    profiled.reserve(5)
    durations = []
    for number in range(5):
        profiled.set_inputs(prompt())
        profiled.begin(number)
        start_ns = time.perf_counter_ns()
        profiled.run_once()
        durations.append(time.perf_counter_ns() - start_ns)
        profiled.end()
    events = profiled.drain()
    leaf = leaves(profiled.ops)[events.op]
    total = np.bincount(events.inference[leaf], weights=events.duration_ns[leaf])
    assert np.median(total / durations) == pytest.approx(0.9, abs=0.15)
    assert {SOURCES[code] for code in events.source} == {"device", "own", "replayed"}
    timing = msgspec.convert(profiled.timing_facts(), Timing)
    assert timing.split[phase].how == "replayed"
    assert 0 < timing.facts["device"]["event_floor_us"] < 50


def test_events_and_a_synchronized_host_agree(model: CausalLM) -> None:
    for found in clock_audit(model, 10).values():
        assert found["events_us"] == pytest.approx(found["synchronized_us"], rel=0.3)
        assert found["unsynchronized_us"] <= found["synchronized_us"]


def test_kernels_are_found_under_their_layers(model: CausalLM) -> None:
    found = kernels(model)
    for phase in found.values():
        assert phase.launches > 20
        assert phase.idle_share is not None and 0 <= phase.idle_share < 1
        assert any("q_proj" in layer for layer in phase.layers)
