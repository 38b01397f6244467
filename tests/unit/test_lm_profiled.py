"""A language model with every layer timed: what the events add up to, and that nothing is left in the clean model."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import msgspec
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from lm_layers import PackedLinear, llama, loaded, packed_llama, prompt  # noqa: E402
from qprof.errors import ModelError  # noqa: E402
from qprof.findings.measured import leaves  # noqa: E402
from qprof.record.manifest import Timing  # noqa: E402
from qprof.record.ops import SOURCES, OpEvents  # noqa: E402
from qprof.runtimes.base import ProfiledModel  # noqa: E402
from qprof.runtimes.torch_lm.profiled import ProfiledCausalLM  # noqa: E402


def profiled(module: Any) -> ProfiledCausalLM:
    model = ProfiledCausalLM(loaded(module))
    model.set_inputs(prompt())
    model.discover()
    return model


@pytest.fixture(scope="module")
def packed() -> ProfiledCausalLM:
    return profiled(packed_llama())


def block(model: ProfiledModel, phase: str, inferences: int = 3) -> tuple[OpEvents, list[int]]:
    """A profiled block as a worker runs it: op events, and the end-to-end times."""
    model.enter(phase)
    model.set_inputs(prompt())
    model.reserve(8)
    durations = []
    for number in range(inferences):
        model.set_inputs(prompt())
        model.begin(number)
        start_ns = time.perf_counter_ns()
        model.run_once()
        durations.append(time.perf_counter_ns() - start_ns)
        model.end()
    return model.drain(), durations


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_leaf_ops_and_the_rest_are_the_whole(packed: ProfiledCausalLM, phase: str) -> None:
    events, durations = block(packed, phase, inferences=6)
    leaf = leaves(packed.ops)[events.op]
    assert (events.duration_ns >= 0).all()
    assert {packed.ops[op].phase for op in events.op} == {phase}
    total = np.bincount(events.inference[leaf], weights=events.duration_ns[leaf])
    assert (total <= durations).all()
    assert (total / durations).max() > 0.7  # in one at least, nothing else got in between


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_the_parts_fill_their_linear(packed: ProfiledCausalLM, phase: str) -> None:
    events, _ = block(packed, phase)
    source = np.array(SOURCES)[events.source]
    for position, op in enumerate(packed.ops):
        parts = [number for number, other in enumerate(packed.ops) if other.parent == op.op]
        if op.phase != phase or not parts:
            continue
        whole, inside = events.op == position, np.isin(events.op, parts)
        assert whole.sum() == 3 and inside.sum() == 9
        assert set(source[whole]) == {"layer"} and set(source[inside]) == {"split"}
        assert events.duration_ns[whole].sum() == events.duration_ns[inside].sum()
        assert events.start_ns[whole].min() == events.start_ns[inside].min()
        ends = events.start_ns + events.duration_ns
        assert ends[whole].max() == ends[inside].max()


def test_every_layer_has_an_event_and_says_whose_time_it_is(packed: ProfiledCausalLM) -> None:
    events, _ = block(packed, "prefill", inferences=1)
    assert sorted(events.op) == [n for n, op in enumerate(packed.ops) if op.phase == "prefill"]
    source = {packed.ops[op].type: SOURCES[code] for op, code in zip(events.op, events.source, strict=True)}
    assert source["LlamaAttention"] == source["LlamaDecoderLayer"] == source["LlamaForCausalLM"] == "own"
    assert source["LlamaRMSNorm"] == source["Embedding"] == "layer"
    assert source["dequantize"] == source["other in linear"] == "split"


def test_the_ops_of_both_phases_pair_by_name_and_type(packed: ProfiledCausalLM) -> None:
    by_phase = {
        phase: [(op.name, op.type) for op in packed.ops if op.phase == phase] for phase in ("prefill", "decode")
    }
    assert by_phase["prefill"] == by_phase["decode"]
    assert [op.index for op in packed.ops] == list(range(len(packed.ops)))
    plain = profiled(llama()).ops
    matmuls = {(op.name, op.type) for op in packed.ops if op.op.endswith("/matmul")}
    assert matmuls and matmuls <= {(op.name, op.type) for op in plain}


def test_the_model_computes_the_same_and_is_clean_in_between(packed: ProfiledCausalLM) -> None:
    packed.enter("prefill")
    packed.set_inputs(prompt(5))
    packed.invoke()
    clean = packed.outputs()
    before = [dict(module.__dict__) for module in packed.model.module.modules()]
    packed.begin(0)
    assert "forward" in packed.model.module.__dict__
    packed.invoke()
    packed.end()
    packed.drain()
    assert np.array_equal(packed.outputs()[0], clean[0])
    assert [module.__dict__.keys() for module in packed.model.module.modules()] == [b.keys() for b in before]
    assert all("forward" not in module.__dict__ for module in packed.model.module.modules())


def test_facts_for_the_manifest() -> None:
    model = profiled(packed_llama())
    timing = msgspec.convert(json.loads(json.dumps(model.timing_facts())), Timing)
    assert (timing.facts["timer"], timing.facts["timed_layers"]) == ("compiled", len(model.layers))
    assert [timing.facts[f"{what}_calls"] for what in ("lost", "foreign", "unlisted")] == [0, 0, 0]
    assert list(timing.split) == ["prefill", "decode"]
    for split in timing.split.values():
        assert (split.how, split.reason, split.linears, split.passes) == ("in situ", None, 14, 1)
        assert split.shares and split.dequantize_ops and split.in_situ_ms and split.replayed_ms
        assert sum(split.shares.values()) == pytest.approx(1)
        assert sum(split.dequantize_ops.values()) == pytest.approx(1)
        assert {"aten::mul", "aten::sub"} <= set(split.dequantize_ops)
        assert split.in_situ_ms > 0 and split.replayed_ms > 0
        assert split.products_us and split.products_us["dequantized"] > 0
    model.reserve(1)
    assert model.timing_facts()["split"]["prefill"]["passes"] == 2


def test_an_unquantized_model_is_not_divided() -> None:
    model = profiled(llama())
    assert model.timing_facts()["split"]["prefill"] == {"how": None, "reason": "it has no quantized linears"}
    events, _ = block(model, "prefill", inferences=1)
    assert {SOURCES[code] for code in events.source} == {"layer", "own"}
    assert all(op.parent is None for op in model.ops)


def test_linears_that_cannot_be_divided_stay_whole_and_say_why() -> None:
    class Kept(PackedLinear):
        def forward(self, x: Any) -> Any:
            if not hasattr(self, "kept"):
                self.kept = self.dequantize_weight()
            return torch.matmul(x, self.kept)

    model = profiled(packed_llama(Kept))
    reason = "Kept: its dequantized weights are kept from an earlier inference"
    assert model.timing_facts()["split"]["decode"] == {"how": None, "reason": reason}
    assert all(op.parent is None for op in model.ops)
    events, durations = block(model, "decode", inferences=1)
    assert {SOURCES[code] for code in events.source} == {"layer", "own"}
    assert 0 < events.duration_ns.sum() <= durations[0]


def test_a_layer_that_only_runs_later_is_counted_and_not_mistaken() -> None:
    module = llama()
    module.late, module.started = torch.nn.Identity(), False
    norm = module.model.norm.forward
    module.model.norm.forward = lambda x: norm(module.late(x) if module.started else x)
    model = profiled(module)
    before, _ = block(model, "prefill", inferences=1)
    module.started = True
    after, _ = block(model, "prefill", inferences=1)
    assert after.op.tolist() == before.op.tolist()
    assert model.timing_facts()["facts"]["unlisted_calls"] == 1


def test_the_timer_in_python_serves_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "qprof.core._layers", None)
    model = profiled(packed_llama())
    events, durations = block(model, "decode", inferences=2)
    leaf = leaves(model.ops)[events.op]
    assert model.timing_facts()["facts"]["timer"] == "python"
    assert 0 < events.duration_ns[leaf].sum() <= sum(durations)


def test_a_model_that_fails_under_the_timers_is_left_clean() -> None:
    model = profiled(llama())
    model.begin(0)
    with pytest.raises(ModelError, match="prefill fails"):
        model.model.module.lm_head.weight = None
        model.invoke()
    model.end()
    assert all("forward" not in module.__dict__ for module in model.model.module.modules())
    assert len(model.drain().op) > 0


def test_timing_before_discovery_is_refused() -> None:
    model = ProfiledCausalLM(loaded(llama()))
    with pytest.raises(ModelError, match="before they were discovered"):
        model.reserve(1)
    with pytest.raises(ModelError, match="before they were discovered"):
        model.drain()
    assert model.arena_bytes() is None
    assert model.memory_bytes() == model.model.memory_bytes()
