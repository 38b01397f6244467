"""Timing layers on a device that is made up: a queue of work that goes on while the host does not wait."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from lm_layers import llama, loaded, packed_llama, prompt  # noqa: E402
from qprof.errors import ModelError  # noqa: E402
from qprof.findings.measured import leaves  # noqa: E402
from qprof.record.ops import SOURCES  # noqa: E402
from qprof.runtimes.torch_lm import cuda, cuda_audit, timing  # noqa: E402
from qprof.runtimes.torch_lm.cuda import CUDAClock, DeviceLayerTimer  # noqa: E402
from qprof.runtimes.torch_lm.cuda_audit import clock_audit  # noqa: E402
from qprof.runtimes.torch_lm.cuda_kernels import attribute_kernels, kernels  # noqa: E402
from qprof.runtimes.torch_lm.cuda_replay import Replay, replay, replayed_shares  # noqa: E402
from qprof.runtimes.torch_lm.profiled import ProfiledCausalLM  # noqa: E402


class FakeDevice:
    """Work that is launched starts when the work before it is done; a launch takes the host `launch_ns`."""

    def __init__(self, launch_ns: int = 10) -> None:
        self.host_ns, self.free_ns, self.launch_ns = 1_000_000, 0, launch_ns
        self.synchronizations, self.marks, self.free = 0, 0, 0

    def launch(self, ns: int) -> None:
        self.host_ns += self.launch_ns
        self.free_ns = max(self.host_ns, self.free_ns) + ns

    # -- DeviceClock --------------------------------------------------------------------------------------------------

    def mark(self) -> list[int]:
        self.marks += 1
        return [max(self.host_ns, self.free_ns)]

    def between_ns(self, first: list[int], second: list[int]) -> float:
        assert self.free_ns <= self.host_ns, "read before the device was waited for"
        return float(second[0] - first[0])

    def synchronize(self) -> None:
        self.synchronizations += 1
        self.host_ns = max(self.host_ns, self.free_ns)

    def give_back(self, marks: Iterable[Any]) -> None:
        self.free += len(list(marks))


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDevice]:
    fake = FakeDevice()
    for module in (cuda, cuda_audit):
        monkeypatch.setattr(module, "perf_counter_ns", lambda: fake.host_ns)
    yield fake


class Layer(torch.nn.Module):
    def __init__(self, device: FakeDevice, ns: int, *inside: torch.nn.Module) -> None:
        super().__init__()
        self.device, self.ns, self.inside = device, ns, torch.nn.ModuleList(inside)

    def forward(self) -> None:
        for layer in self.inside:
            layer()
        self.device.launch(self.ns)


def test_a_layer_takes_what_the_device_takes(device: FakeDevice) -> None:
    leaf, other = Layer(device, 5000), Layer(device, 300)
    root = Layer(device, 1000, leaf, other, leaf)
    timer = DeviceLayerTimer([root, leaf, other], device)
    for inference in (4, 5):
        timer.start(inference)
        root()
        timer.stop()
        device.synchronize()  # as an inference ends
    waited = device.synchronizations
    records = timer.drain()
    assert device.synchronizations == waited + 1
    assert records.dtype == timing.record_dtype
    assert records["inference"].tolist() == [4] * 4 + [5] * 4
    assert records["layer"].tolist() == [1, 2, 1, 0] * 2
    # The first waits for its launch; after that the queue never runs dry.
    assert records["duration_ns"][:4].tolist() == [5010, 300, 5000, 11310]
    assert records["own_ns"][:4].tolist() == [5010, 300, 5000, 1000]
    assert records["start_ns"][3] == 1_000_000
    assert records["start_ns"][1] == 1_000_000 + 5010
    assert records["start_ns"][7] == 1_000_000 + 11310
    assert device.free == device.marks
    assert len(timer.drain()) == 0
    # The host was back long before the device was done.
    facts = timer.facts()
    assert (facts["host_ms"], facts["device_ms"]) == (40 / 1e6, 11310 / 1e6)
    assert facts["event_floor_us"] == 0


def test_it_leaves_modules_as_they_were_also_when_one_fails(device: FakeDevice) -> None:
    class Broken(Layer):
        def forward(self) -> None:
            super().forward()
            raise ValueError("broken")

    broken = Broken(device, 70)
    root = Layer(device, 1, broken)
    timer = DeviceLayerTimer([root, broken], device)
    timer.start(0)
    with pytest.raises(ValueError, match="broken"):
        root()
    timer.stop()
    assert "forward" not in root.__dict__ and "forward" not in broken.__dict__
    assert timer.drain()["duration_ns"].tolist() == [80, 80]
    timer.start(1)
    timer.stop()
    assert len(timer.drain()) == 0


def test_room_is_made_by_making_marks_ahead(device: FakeDevice) -> None:
    DeviceLayerTimer([], device).reserve(30)
    assert (device.marks, device.free) == (60, 60)


def on_device(module: Any, device: FakeDevice, ns: int) -> Any:
    """A model whose forward also keeps the device busy for `ns`, without waiting."""
    forward = module.forward

    def call(*args: Any, **kwargs: Any) -> Any:
        device.launch(ns)
        return forward(*args, **kwargs)

    module.forward = call
    return module


def test_three_clocks_on_one_region(device: FakeDevice) -> None:
    module = on_device(llama(), device, 5000)
    theirs = module.forward
    model = loaded(module)
    found = clock_audit(model, 4, device)
    assert module.forward is theirs
    assert list(found) == ["prefill", "decode"] and model.phase == "prefill"
    for phase in found.values():
        assert phase["unsynchronized_us"] == 0.010
        assert phase["synchronized_us"] == phase["events_us"] == 5.010
        assert phase["asynchronous_error"] == pytest.approx(5.0 / 5.01)


def test_parts_run_alone(device: FakeDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    module = packed_llama().model.layers[0].mlp.up_proj
    unpack, product = module.dequantize_weight, torch.matmul
    module.dequantize_weight = lambda: (device.launch(700), unpack())[1]
    shapes = []

    def matmul(a: Any, b: Any) -> Any:
        shapes.append((tuple(a.shape), tuple(b.shape)))
        device.launch(200)
        return product(a, b)

    monkeypatch.setattr(torch, "matmul", matmul)
    found = replay({3: (module, 6)}, device)
    assert found == {3: Replay(700.0, 200.0)}
    assert set(shapes) == {((6, 32), (32, 48))}
    assert device.free == device.marks


@pytest.mark.parametrize(
    ("parts", "whole", "shares"),
    [((600, 200), 1000, (0.6, 0.2, 0.2)), ((600, 200), 400, (0.75, 0.25, 0.0)), ((0, 0), 0, (0.0, 0.0, 1.0))],
)
def test_shares_of_replayed_parts(parts: tuple[float, float], whole: float, shares: tuple[float, ...]) -> None:
    assert replayed_shares(Replay(*parts), whole) == pytest.approx(shares)


def test_a_model_on_a_device_is_timed_by_events_and_divided_by_replay(device: FakeDevice) -> None:
    model = packed_llama()
    linear = model.model.layers[0].self_attn.q_proj
    unpack = linear.dequantize_weight
    linear.dequantize_weight = lambda: (device.launch(300), unpack())[1]
    on_device(linear, device, 100)  # the matmul, say; run alone it launches nothing here
    profiled = ProfiledCausalLM(loaded(model), device)
    profiled.set_inputs(prompt())
    profiled.discover()
    profiled.reserve(2)
    profiled.begin(0)
    profiled.run_once()
    profiled.end()
    events = profiled.drain()
    by_op = {profiled.ops[op].op: n for n, op in enumerate(events.op)}
    name = "prefill/model.layers.0.self_attn.q_proj"
    # 100 + 300 and the two launches, of which the first finds the device idle.
    assert events.duration_ns[by_op[name]] == 410
    parts = [events.duration_ns[by_op[f"{name}/{part}"]] for part in ("dequantize", "matmul", "other")]
    assert parts == [300, 0, 110]
    source = {op: SOURCES[events.source[n]] for op, n in by_op.items()}
    assert source[name] == source["prefill/model.norm"] == "device"
    assert source["prefill/model.layers.0"] == "own"
    assert source[f"{name}/dequantize"] == "replayed"
    leaf = leaves(profiled.ops)[events.op]
    assert events.duration_ns[leaf].sum() == 410
    facts = profiled.timing_facts()
    assert facts["facts"]["timer"] == "device events"
    assert facts["split"]["prefill"]["how"] == "replayed"
    assert facts["split"]["prefill"]["in_situ_ms"] is None
    assert facts["split"]["prefill"]["replayed_ms"] == 300 / 1e6
    assert facts["facts"]["device"]["device_ms"] == 410 / 1e6


def test_a_model_on_a_device_audits_its_clocks(device: FakeDevice) -> None:
    profiled = ProfiledCausalLM(loaded(on_device(llama(), device, 5000)), device)
    profiled.set_inputs(prompt())
    found = profiled.audit()
    assert list(found) == ["clocks"]
    assert found["clocks"]["decode"]["synchronized_us"] == found["clocks"]["decode"]["events_us"] == 5.010
    assert ProfiledCausalLM(loaded(llama())).audit() == {}


def test_what_needs_a_device_says_so() -> None:
    model = loaded(llama())
    with pytest.raises(ModelError, match="needs a CUDA device"):
        kernels(model)
    with pytest.raises(ModelError, match="needs a CUDA device"):
        clock_audit(model, 3)


def test_cuda_events_are_recorded_on_the_present_stream_and_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing
            made.append(self)
            self.records: list[str] = []

        def record(self, stream: str) -> None:
            self.records.append(stream)

        def elapsed_time(self, other: Any) -> float:
            return 2.5  # milliseconds

    waited = []
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    clock = CUDAClock("cuda:1")
    first, second = clock.mark(), clock.mark()
    assert clock.between_ns(first, second) == 2_500_000
    clock.give_back([first, second])
    assert {id(clock.mark()), id(clock.mark())} == {id(first), id(second)}
    assert len(made) == 2 and made[0].records == ["stream of cuda:1"] * 2
    clock.synchronize()
    assert waited == ["cuda:1"]


def profiler_events() -> Any:
    """A recorded pass: two inferences; a layer inside a layer; a kernel that a range launched without an op (Triton);
    a copy outside of any inference; the device's echo of a range."""
    from torch.autograd import DeviceType
    from torch.autograd.profiler_util import EventList, FunctionEvent

    def host(number: int, name: str, start: float, end: float) -> Any:
        return FunctionEvent(number, name, 1, start, end, use_device="cuda")

    def on_device(number: int, name: str, start: float, end: float, by: int, **more: Any) -> Any:
        return FunctionEvent(
            *(number, name, 7, start, end),
            use_device="cuda",
            device_type=DeviceType.CUDA,
            linked_correlation_id=by,
            **more,
        )

    events = []
    for base, shift in ((0, 0), (100, 1000)):
        events += [
            host(base + 1, "qprof inference", shift, shift + 100),
            host(base + 2, "qprof layer: model", shift + 1, shift + 90),
            host(base + 3, "qprof layer: model.proj", shift + 2, shift + 50),
            host(base + 4, "aten::mm", shift + 3, shift + 10),
            host(base + 5, "aten::add", shift + 60, shift + 70),
            on_device(base + 50, "gemm", shift + 20, shift + 40, base + 4),
            on_device(base + 51, "dequant_kernel", shift + 30, shift + 45, base + 3),
            on_device(base + 52, "add_kernel", shift + 75, shift + 80, base + 5),
            on_device(base + 53, "qprof layer: model", shift + 20, shift + 80, base + 2, is_user_annotation=True),
        ]
    events += [host(300, "aten::copy_", 500, 510), on_device(350, "Memcpy HtoD", 505, 520, 300)]
    found = EventList(events, use_device="cuda")
    found._build_tree()
    return found


def test_kernels_belong_to_the_innermost_layer_that_launched_them() -> None:
    found = attribute_kernels(profiler_events(), 2)
    assert found.layers == {
        "model.proj": {"gemm": (1.0, 20.0), "dequant_kernel": (1.0, 15.0)},
        "model": {"add_kernel": (1.0, 5.0)},
    }
    assert found.launches == 3
    assert (found.busy_us, found.span_us) == (25 + 5, 60)  # the two that overlap count once
    assert found.idle_share == pytest.approx(0.5)


def test_a_pass_without_kernels_knows_no_idle_share() -> None:
    found = attribute_kernels([], 3)
    assert (found.launches, found.idle_share, found.layers) == (0, None, {})


def test_times_stay_on_the_hosts_timeline(device: FakeDevice) -> None:
    layer = Layer(device, 500)
    timer = DeviceLayerTimer([layer], device)
    device.host_ns = 9_000_000
    timer.start(0)
    layer()
    timer.stop()
    records = timer.drain()
    assert np.all(records["start_ns"] >= 9_000_000)
    assert np.all(records["start_ns"] + records["duration_ns"] <= device.host_ns)
