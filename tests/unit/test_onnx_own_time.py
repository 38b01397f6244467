"""What ONNX Runtime's profile costs is taken out of what it times."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter_ns

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx_models
from qprof.runtimes import registry
from qprof.runtimes.onnx import model_file, profiled
from qprof.runtimes.onnx.facts import run_facts
from qprof.runtimes.onnx.own_time import OwnTimes, ProfileCost, cost_of, own_times, profile_cost, slowness
from qprof.runtimes.onnx.profiled import ProfiledOnnxModel
from qprof.runtimes.onnx.sections import OnnxOptions
from qprof.runtimes.onnx.trace import Arguments, Event, Inference

COST = ProfileCost(node_us=2.0, input_us=0.5, between_us=3.0, inference_us=1.0, bare_us=2.0)


def kernel(ts: int, dur: int, inputs: int) -> Event:
    return Event(name=f"n{ts}_kernel_time", cat="Node", ts=ts, dur=dur, args=Arguments(input_type_shape=[{}] * inputs))


def test_costs_follow_from_chains_with_and_without_the_profile() -> None:
    """A chain's node takes 0.5 or 2 microseconds of its own, and the profile's costs are those above."""
    own, found = {1: 0.5, 9: 2.0}, {}
    for inputs, each in own.items():
        for nodes in (1, 21):
            inside = COST.node_us + COST.input_us * inputs
            bare = COST.bare_us - own[1] + nodes * each
            profiled = bare + COST.inference_us + nodes * (inside + COST.between_us)
            found[inputs, nodes] = bare, profiled, nodes * (each + inside - 0.5)  # rounded down: half a microsecond
    known = cost_of(found)
    for name in ("node_us", "input_us", "between_us", "inference_us", "bare_us"):
        assert getattr(known, name) == pytest.approx(getattr(COST, name)), name


def test_each_kernel_is_rid_of_what_it_holds_and_later_ones_move_up() -> None:
    found = own_times(Inference(31, [kernel(1, 10, 2), kernel(16, 12, 4)]), COST)
    assert found.duration_ns == [7500, 8500]  # 10.5 - 3 and 12.5 - 4
    assert found.taken_ns == 7000 + 7000  # inside, and between: two nodes and the inference
    assert found.start_ns == [1000, 16000 - 3000 - 3500]


def inference(between_us: int, nodes: int = 4) -> Inference:
    """Nodes of 10 microseconds, half of one more than the profile has, as far apart as that."""
    every = 10 + between_us
    # An inference costs COST.inference_us beside its nodes.
    duration = nodes * every + nodes // 2 + 1
    return Inference(duration, [kernel(n * every, 10, 1) for n in range(nodes)])


def test_what_lies_between_the_nodes_tells_how_slow_the_profile_is() -> None:
    assert slowness([inference(3)] * 20, COST) == pytest.approx(np.ones(20))
    found = slowness([inference(3)] * 30 + [inference(4)] * 30, COST)
    assert found[:20] == pytest.approx(np.ones(20))
    assert found[40:] == pytest.approx(np.full(20, 4 / 3))


def test_one_inference_that_was_interrupted_does_not_tell_how_slow_the_profile_is() -> None:
    some = [inference(3)] * 20
    some[7] = inference(900)
    assert slowness(some, COST) == pytest.approx(np.ones(20))


def test_what_is_between_the_nodes_of_a_large_model_is_not_all_the_profiles() -> None:
    assert slowness([inference(40)] * 3, COST) == pytest.approx(np.full(3, 1.5))
    assert slowness([inference(1)] * 3, COST) == pytest.approx(np.full(3, 0.5))
    assert slowness([Inference(5, [])], COST).tolist() == [1.0]
    assert slowness([], COST).tolist() == []


def test_a_slow_profile_costs_more_of_all_it_does() -> None:
    slow = COST.times(1.5)
    assert (slow.node_us, slow.input_us, slow.between_us, slow.inference_us) == (3.0, 0.75, 4.5, 1.5)
    assert slow.bare_us == COST.bare_us  # without the profile


def test_a_loop_is_rid_of_what_the_kernels_in_its_body_cost() -> None:
    found = own_times(Inference(60, [kernel(1, 40, 0), kernel(5, 6, 0), kernel(20, 6, 0)]), COST)
    assert found.duration_ns == [40500 - 2000 - 2 * 5000, 4500, 4500]
    assert found.taken_ns == 12000 + 4000


def test_no_kernel_takes_less_than_nothing_nor_more_than_there_is_from_between() -> None:
    found = own_times(Inference(5, [kernel(1, 1, 2), kernel(3, 1, 2)]), COST)
    assert found.duration_ns == [0, 0]
    assert found.taken_ns == 5000


def test_ops_and_rest_add_up_to_an_inference_without_the_profile(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(onnx_models.residual_net().SerializeToString())
    model = ProfiledOnnxModel(path, OnnxOptions(**run_facts(model_file.read(path))))
    model.set_inputs([onnx_models.sample((1, 3, onnx_models.SIZE, onnx_models.SIZE))])
    ops, whole = model.discover(), []
    for number in range(20):
        model.begin(number)
        start = perf_counter_ns()
        model.run_once()
        whole.append(perf_counter_ns() - start)
        model.end()
    events, taken = model.drain(), registry.get("onnx").timing_ns(model)
    assert taken is not None and taken.shape == (20,)
    in_ops = np.bincount(events.inference, weights=events.duration_ns)
    room = 1000 * (len(ops) + 1)  # whole microseconds
    assert (taken > 0).all() and (in_ops <= np.array(whole) - taken + room).all()
    facts = model.timing_facts()["facts"]["profile_costs_us"]
    assert facts["node_us"] > 0 and facts["between_us"] > 0
    assert profile_cost(1) is profile_cost(1)


def test_a_drain_takes_what_the_profile_cost_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(onnx_models.residual_net().SerializeToString())
    model = ProfiledOnnxModel(path, OnnxOptions(**run_facts(model_file.read(path))))
    monkeypatch.setattr(profiled, "profile_cost", lambda threads: COST)
    model.discover()
    asked: list[ProfileCost] = []

    def own(inference: Inference, cost: ProfileCost) -> OwnTimes:
        asked.append(cost)
        return own_times(inference, cost)

    monkeypatch.setattr(profiled, "slowness", lambda found, cost: np.linspace(0.5, 1.5, len(found)))
    monkeypatch.setattr(profiled, "own_times", own)
    for number in range(3):
        model.begin(number)
        model.run_once()
        model.end()
    model.drain()
    assert [cost.node_us for cost in asked] == [1.0, 2.0, 3.0]
