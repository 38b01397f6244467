"""Layers on a CUDA device: timed by events, audited against the host's clock, and opened up into kernels.

A host clock around a layer measures how long it takes to *launch* its kernels. What the device takes lies between two
events on its stream; they are read after one synchronization per block, and placed on the host's timeline by an event
recorded while the device was idle.
"""

from __future__ import annotations

import itertools
import statistics
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from qprof.errors import ModelError
from qprof.runtimes.gptq.model import CausalLM
from qprof.runtimes.gptq.ops import find_layers, linear_features
from qprof.runtimes.gptq.timing import Replacements, record_dtype

#: Pairs of events, nothing in between, from which the least that an event pair can show is taken.
_FLOOR_PAIRS = 64

_REPLAYS = 5


class DeviceClock(Protocol):
    """Marks points on a device's stream, and tells the time between them once the device has passed them."""

    def mark(self) -> Any:
        """A point behind all work launched so far; does not wait."""

    def between_ns(self, first: Any, second: Any) -> float:
        """Device time from one mark to another; both must have been passed (`synchronize`)."""

    def synchronize(self) -> None:
        """Wait until the device has done all work launched so far."""

    def give_back(self, marks: Iterable[Any]) -> None:
        """These marks are not needed any more."""


class CUDAClock:
    """CUDA events on the current stream of a device; used events are recorded again rather than made anew."""

    def __init__(self, device: Any) -> None:
        import torch

        self._cuda, self._device = torch.cuda, device
        self._free: list[Any] = []

    def mark(self) -> Any:
        event = self._free.pop() if self._free else self._cuda.Event(enable_timing=True)
        event.record(self._cuda.current_stream(self._device))
        return event

    def between_ns(self, first: Any, second: Any) -> float:
        return float(first.elapsed_time(second)) * 1e6

    def synchronize(self) -> None:
        self._cuda.synchronize(self._device)

    def give_back(self, marks: Iterable[Any]) -> None:
        self._free.extend(marks)


@dataclass(slots=True)
class _Call:
    layer: int
    inference: int
    parent: _Call | None
    host_start_ns: int
    first: Any
    last: Any = None
    host_end_ns: int = 0


class DeviceLayerTimer:
    """Times layers between two events each; the interface and the records of `qprof.core._layers.LayerTimer`.

    The start of a record is the device's, on the host's timeline: the event that `start` records is taken to be passed
    as soon as it is launched, as the device is idle then. An event pair shows a few microseconds where there is
    nothing in between (`floor_ns`): what is shorter than a few times that is no more than an upper bound.
    """

    def __init__(self, modules: Sequence[Any], clock: DeviceClock) -> None:
        self._clock = clock
        self._calls = Replacements(modules, [self._timed(module.forward, n) for n, module in enumerate(modules)])
        self._recording = False
        self._thread, self._inference = 0, 0
        self._stack: list[_Call] = []
        self._done: list[_Call] = []
        self._bases: dict[int, tuple[int, Any]] = {}  # inference -> host time, mark
        self.foreign_calls = 0
        self.lost = 0
        #: Of every inference's outermost calls: (host time until they returned, device time), in ns.
        self.host_and_device_ns: list[tuple[int, float]] = []

    def _timed(self, target: Callable[..., Any], layer: int) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if not self._recording:
                return target(*args, **kwargs)
            if threading.get_ident() != self._thread:
                self.foreign_calls += 1
                return target(*args, **kwargs)
            parent = self._stack[-1] if self._stack else None
            under_way = _Call(layer, self._inference, parent, perf_counter_ns(), self._clock.mark())
            self._stack.append(under_way)
            try:
                return target(*args, **kwargs)
            finally:
                under_way.last = self._clock.mark()
                under_way.host_end_ns = perf_counter_ns()
                self._done.append(self._stack.pop())

        call.__wrapped__ = target  # type: ignore[attr-defined]
        return call

    def reserve(self, records: int) -> None:
        """Make the events that so many records need: making one takes longer than recording it again."""
        self._clock.give_back([self._clock.mark() for _ in range(2 * records)])

    def start(self, inference: int) -> None:
        if self._stack:
            raise RuntimeError("a timed call is still under way")
        self._inference, self._thread, self._recording = inference, threading.get_ident(), True
        self._calls.put()
        self._bases[inference] = (perf_counter_ns(), self._clock.mark())

    def stop(self) -> None:
        self._recording = False
        self._calls.take_away()

    def drain(self) -> NDArray[Any]:
        done, self._done = self._done, []
        bases, self._bases = self._bases, {}
        self._clock.synchronize()
        durations = [self._clock.between_ns(call.first, call.last) for call in done]
        position = {id(call): number for number, call in enumerate(done)}
        own = list(durations)
        for call, duration in zip(done, durations, strict=True):
            if call.parent is not None:
                own[position[id(call.parent)]] -= duration  # a parent ends after its children
        records = np.empty(len(done), record_dtype)
        for number, call in enumerate(done):
            host_ns, base = bases[call.inference]
            start_ns = host_ns + round(self._clock.between_ns(base, call.first))
            records[number] = (
                call.inference,
                call.layer,
                start_ns,
                round(durations[number]),
                max(0, round(own[number])),
            )
        self._keep_host_times(done, durations)
        self._clock.give_back([mark for call in done for mark in (call.first, call.last)])
        self._clock.give_back([base for _, base in bases.values()])
        return records

    def _keep_host_times(self, done: Sequence[_Call], durations: Sequence[float]) -> None:
        for call, duration in zip(done, durations, strict=True):
            if call.parent is None:
                self.host_and_device_ns.append((call.host_end_ns - call.host_start_ns, duration))

    def floor_ns(self) -> float:
        """What an event pair shows with nothing in between: the median of some."""
        marks = [self._clock.mark() for _ in range(_FLOOR_PAIRS + 1)]
        self._clock.synchronize()
        gaps = [self._clock.between_ns(a, b) for a, b in itertools.pairwise(marks)]
        self._clock.give_back(marks)
        return statistics.median(gaps)

    def facts(self) -> dict[str, Any]:
        """What the manifest keeps: how long the host was busy launching, how long the device was running."""
        if not self.host_and_device_ns:
            return {"event_floor_us": self.floor_ns() / 1e3}
        host, device = zip(*self.host_and_device_ns, strict=True)
        return {
            "event_floor_us": self.floor_ns() / 1e3,
            "host_ms": statistics.median(host) / 1e6,
            "device_ms": statistics.median(device) / 1e6,
        }


@dataclass(frozen=True, slots=True)
class Replay:
    """The parts of a quantized linear, run alone on the device: medians, in nanoseconds."""

    dequantize_ns: float
    matmul_ns: float


def replay(linears: Mapping[int, tuple[Any, int]], clock: DeviceClock) -> dict[int, Replay]:
    """Each linear's `dequantize_weight()` and the matmul behind it, alone; `linears`: number -> (module, input rows).

    The weights are likely to be in the device's cache for the matmul, as they are in an inference.
    """
    import torch

    found: dict[int, Replay] = {}
    with torch.inference_mode():
        for number, (module, rows) in linears.items():
            features = linear_features(module)
            weights = module.dequantize_weight()
            turned = features is not None and weights.shape[0] != features[0]
            width = weights.shape[1 if turned else 0]
            given = torch.zeros((rows, width), dtype=weights.dtype, device=weights.device)
            marks = []
            for _ in range(_REPLAYS):
                first = clock.mark()
                weights = module.dequantize_weight()
                second = clock.mark()
                torch.matmul(given, weights.t() if turned else weights)
                marks.append((first, second, clock.mark()))
            clock.synchronize()
            found[number] = Replay(
                statistics.median(clock.between_ns(a, b) for a, b, _ in marks),
                statistics.median(clock.between_ns(b, c) for _, b, c in marks),
            )
            clock.give_back([mark for three in marks for mark in three])
    return found


def replayed_shares(replayed: Replay, whole_ns: float) -> tuple[float, float, float]:
    """(dequantize, matmul, other) of a linear that takes `whole_ns`. Where the parts alone take longer than the whole,
    their ratio is kept and nothing is left for the rest."""
    both = replayed.dequantize_ns + replayed.matmul_ns
    whole = max(whole_ns, both)
    if whole <= 0:
        return (0.0, 0.0, 1.0)
    return (replayed.dequantize_ns / whole, replayed.matmul_ns / whole, (whole - both) / whole)


# -- one region, three clocks -----------------------------------------------------------------------------------------


def clock_audit(model: CausalLM, inferences: int, clock: DeviceClock | None = None) -> dict[str, dict[str, float]]:
    """The model's forward, timed three ways in turn: by the host's clock without waiting for the device, by the host's
    clock with a synchronization at the end, and by events.

    Returns per phase the medians "unsynchronized_us", "synchronized_us", "events_us", and "asynchronous_error": what
    the first lacks of the second, as a fraction (0.9: asynchronous timing shows a tenth). The prompt is zeros. Raises
    `ModelError` where the model does not run on an accelerator.
    """
    if clock is None:
        clock = _clock_of(model)
    entered = model.phase
    found = {}
    try:
        for phase in model.loaded.phases:
            model.enter(phase.name)
            found[phase.name] = _audit_phase(model, inferences, clock)
    finally:
        model.enter(entered)
    return found


def _audit_phase(model: CausalLM, inferences: int, clock: DeviceClock) -> dict[str, float]:
    times: dict[str, list[float]] = {"unsynchronized": [], "synchronized": [], "events": []}
    region = _Region(model.module.forward, clock)
    calls = Replacements([model.module], [region])
    prompt = _zeros(model)
    model.set_inputs(prompt)
    model.invoke()  # the phase's first inference may still build something
    calls.put()
    try:
        for number in range(inferences):
            ways = list(times)
            for way in ways[number % 3 :] + ways[: number % 3]:
                model.set_inputs(prompt)
                clock.synchronize()
                region.way = way
                model.invoke()
                times[way].append(region.duration_ns())
    finally:
        calls.take_away()
    medians = {f"{way}_us": statistics.median(found) / 1e3 for way, found in times.items()}
    synchronized = medians["synchronized_us"]
    error = (synchronized - medians["unsynchronized_us"]) / synchronized if synchronized else 0.0
    return medians | {"asynchronous_error": error}


@dataclass(slots=True)
class _Region:
    """A forward that is timed in one of three ways."""

    forward: Callable[..., Any]
    clock: DeviceClock
    way: str = ""
    _host_ns: int = 0
    _marks: tuple[Any, Any] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        first = self.clock.mark() if self.way == "events" else None
        start_ns = perf_counter_ns()
        result = self.forward(*args, **kwargs)
        if self.way == "synchronized":
            self.clock.synchronize()
        self._host_ns = perf_counter_ns() - start_ns
        self._marks = None if first is None else (first, self.clock.mark())
        return result

    def duration_ns(self) -> float:
        if self._marks is None:
            return float(self._host_ns)
        self.clock.synchronize()
        duration_ns = self.clock.between_ns(*self._marks)
        self.clock.give_back(self._marks)
        return duration_ns


def _zeros(model: CausalLM) -> list[NDArray[Any]]:
    return [np.zeros(spec.shape, np.dtype(spec.dtype)) for spec in model.loaded.inputs]


def _clock_of(model: CausalLM) -> DeviceClock:
    if model.device.type != "cuda":
        raise ModelError(f"{model.path}: runs on {model.device}; device timing needs a CUDA device")
    return CUDAClock(model.device)


# -- kernels ----------------------------------------------------------------------------------------------------------

_LAYER_RANGE = "qprof layer: "
_INFERENCE_RANGE = "qprof inference"


@dataclass(slots=True)
class LayerKernels:
    """The kernels that ran for a layer itself (not for those inside it): name -> (launches, device microseconds)."""

    kernels: dict[str, tuple[int, float]] = field(default_factory=dict)

    def add(self, name: str, us: float) -> None:
        count, total = self.kernels.get(name, (0, 0.0))
        self.kernels[name] = (count + 1, total + us)


@dataclass(slots=True)
class PhaseKernels:
    """What a profiler pass saw on the device in one phase; all figures are of one inference, the mean over the pass.

    `idle_share`: of the time from an inference's first kernel to the end of its last, the part in which no kernel ran,
    which is what waiting for launches costs. `None` where nothing ran on the device.
    """

    launches: float
    busy_us: float
    span_us: float
    idle_share: float | None
    layers: dict[str, dict[str, tuple[float, float]]]  # layer -> kernel -> (launches, device microseconds)


def kernels(model: CausalLM, inferences: int = 3) -> dict[str, PhaseKernels]:
    """The kernels behind every layer, by a pass of torch.profiler (CUPTI) of its own, per phase.

    Never a source of latency: the profiler slows launches down, and bills its own work to the device. Raises
    `ModelError` where the model does not run on an accelerator.
    """
    _clock_of(model)
    import torch

    entered = model.phase
    layers = find_layers(model.module)
    calls = Replacements([layer.module for layer in layers], [_ranged(layer.name, layer.module) for layer in layers])
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    found = {}
    try:
        for phase in model.loaded.phases:
            model.enter(phase.name)
            prompt = _zeros(model)
            model.set_inputs(prompt)
            model.invoke()
            calls.put()
            with torch.profiler.profile(activities=activities) as profiler:
                for _ in range(inferences):
                    model.set_inputs(prompt)
                    with torch.profiler.record_function(_INFERENCE_RANGE):
                        model.invoke()
            calls.take_away()
            found[phase.name] = attribute_kernels(profiler.events(), inferences)
    finally:
        calls.take_away()
        model.enter(entered)
    return found


def _ranged(name: str, module: Any) -> Callable[..., Any]:
    import torch

    forward = module.forward

    def call(*args: Any, **kwargs: Any) -> Any:
        with torch.profiler.record_function(_LAYER_RANGE + name):
            return forward(*args, **kwargs)

    return call


def attribute_kernels(events: Sequence[Any], inferences: int) -> PhaseKernels:
    """A profiler's events (`torch.autograd.profiler_util.FunctionEvent`) as kernels by layer.

    A kernel belongs to the host event that launched it (`linked_correlation_id`), and through its parents to the
    innermost layer and the inference around it; kernels outside of any inference are left out.
    """
    hosts = {event.id: event for event in events if not _on_device(event) and event.linked_correlation_id <= 0}
    layers: dict[str, LayerKernels] = {}
    spans: dict[int, list[tuple[float, float]]] = {}
    for event in events:
        if not _on_device(event) or event.is_user_annotation:
            continue
        layer, inference = _home(hosts.get(event.linked_correlation_id))
        if inference is None:
            continue
        start, end = event.time_range.start, event.time_range.end
        spans.setdefault(inference, []).append((start, end))
        layers.setdefault(layer or "", LayerKernels()).add(event.name, end - start)
    busy = sum(_covered(intervals) for intervals in spans.values())
    span = sum(max(e for _, e in intervals) - min(s for s, _ in intervals) for intervals in spans.values())
    return PhaseKernels(
        launches=sum(len(intervals) for intervals in spans.values()) / inferences,
        busy_us=busy / inferences,
        span_us=span / inferences,
        idle_share=(span - busy) / span if span else None,
        layers={
            name: {kernel: (count / inferences, us / inferences) for kernel, (count, us) in of.kernels.items()}
            for name, of in layers.items()
        },
    )


def _on_device(event: Any) -> bool:
    return str(event.device_type).rpartition(".")[2] == "CUDA"


def _home(event: Any) -> tuple[str | None, int | None]:
    """The innermost layer around a host event, and the inference, by its id."""
    layer = None
    while event is not None:
        if layer is None and event.name.startswith(_LAYER_RANGE):
            layer = event.name.removeprefix(_LAYER_RANGE)
        if event.name == _INFERENCE_RANGE:
            return layer, int(event.id)
        event = event.cpu_parent
    return layer, None


def _covered(intervals: Sequence[tuple[float, float]]) -> float:
    """Length of the union."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
