"""Layers on a CUDA device, timed by events.

A host clock around a layer measures how long it takes to *launch* its kernels. What the device takes lies between two
events on its stream; they are read after one synchronization per block, and placed on the host's timeline by an event
recorded while the device was idle.
"""

from __future__ import annotations

import itertools
import statistics
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from qprof.errors import ModelError
from qprof.runtimes.torch_lm.model import CausalLM
from qprof.runtimes.torch_lm.timing import Replacements, record_dtype

#: Pairs of events, nothing in between, from which the least that an event pair can show is taken.
_FLOOR_PAIRS = 64


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


def zeros(model: CausalLM) -> list[NDArray[Any]]:
    """A prompt of zeros."""
    return [np.zeros(spec.shape, np.dtype(spec.dtype)) for spec in model.loaded.inputs]


def clock_of(model: CausalLM) -> DeviceClock:
    """The clock of the device that a model is on. Raises `ModelError` where that is none."""
    if model.device.type != "cuda":
        raise ModelError(f"{model.path}: runs on {model.device}; device timing needs a CUDA device")
    return CUDAClock(model.device)
