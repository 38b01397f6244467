"""One region, three clocks: what asynchronous timing of a CUDA device would have claimed."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any

from qprof.runtimes.torch_lm.cuda import DeviceClock, clock_of, zeros
from qprof.runtimes.torch_lm.model import CausalLM
from qprof.runtimes.torch_lm.timing import Replacements


def clock_audit(model: CausalLM, inferences: int, clock: DeviceClock | None = None) -> dict[str, dict[str, float]]:
    """The model's forward, timed three ways in turn: by the host's clock without waiting for the device, by the host's
    clock with a synchronization at the end, and by events.

    Returns per phase the medians "unsynchronized_us", "synchronized_us", "events_us", and "asynchronous_error": what
    the first lacks of the second, as a fraction (0.9: asynchronous timing shows a tenth). The prompt is zeros. Raises
    `ModelError` where the model does not run on an accelerator.
    """
    if clock is None:
        clock = clock_of(model)
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
    prompt = zeros(model)
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
