"""Layer timers: what stands in front of `forward` of a model's modules while a profiled inference runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from time import perf_counter_ns  # CLOCK_MONOTONIC on Linux, as the compiled timer
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

#: One record per call of a layer; the layout of the compiled timer's records (see `qprof.core._layers`).
record_dtype = np.dtype(
    [
        ("inference", np.int32),
        ("layer", np.int32),
        ("start_ns", np.int64),
        ("duration_ns", np.int64),
        ("own_ns", np.int64),
    ]
)


class Timer(Protocol):
    """Times calls of some modules' `forward`; see `qprof.core._layers.LayerTimer` for what a record holds."""

    @property
    def lost(self) -> int: ...
    @property
    def foreign_calls(self) -> int: ...
    def reserve(self, records: int) -> None: ...
    def start(self, inference: int) -> None: ...
    def stop(self) -> None: ...
    def drain(self) -> NDArray[Any]: ...


class Replacements:
    """Callables that take the place of some modules' `forward` for a while."""

    def __init__(self, modules: Sequence[Any], calls: Sequence[Callable[..., Any]]) -> None:
        self._attributes = [module.__dict__ for module in modules]
        self._calls = calls
        self._before: list[Any] | None = None

    def put(self) -> None:
        """Put them in place; nothing where they are."""
        if self._before is None:
            self._before = [attributes.get("forward") for attributes in self._attributes]
            for attributes, call in zip(self._attributes, self._calls, strict=True):
                attributes["forward"] = call

    def take_away(self) -> None:
        """Leave the modules as they were found, except where someone else has replaced `forward` since."""
        before, self._before = self._before, None
        for attributes, call, was in zip(self._attributes, self._calls, before or [], strict=before is not None):
            if attributes.get("forward") is call:
                if was is None:
                    del attributes["forward"]
                else:
                    attributes["forward"] = was


class PythonLayerTimer:
    """The compiled timer's oracle, and what stands in for it where it was not built: the same records, slower."""

    def __init__(self, modules: Sequence[Any]) -> None:
        self._calls = Replacements(modules, [self._timed(module.forward, n) for n, module in enumerate(modules)])
        self._recording = False
        self._thread, self._inference = 0, 0
        self._inside: list[int] = []  # of each call under way: nanoseconds spent in timed calls inside it
        self._records: list[tuple[int, int, int, int, int]] = []
        self.foreign_calls = 0
        self.lost = 0

    def _timed(self, target: Callable[..., Any], layer: int) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if not self._recording:
                return target(*args, **kwargs)
            if threading.get_ident() != self._thread:
                self.foreign_calls += 1
                return target(*args, **kwargs)
            self._inside.append(0)
            start_ns = perf_counter_ns()
            try:
                return target(*args, **kwargs)
            finally:
                duration_ns = perf_counter_ns() - start_ns
                own_ns = duration_ns - self._inside.pop()
                if self._inside:
                    self._inside[-1] += duration_ns
                self._records.append((self._inference, layer, start_ns, duration_ns, own_ns))

        call.__wrapped__ = target  # type: ignore[attr-defined]
        return call

    def reserve(self, records: int) -> None:
        """Nothing: a list has no capacity to ask for."""

    def start(self, inference: int) -> None:
        if self._inside:
            raise RuntimeError("a timed call is still under way")
        self._inference, self._thread, self._recording = inference, threading.get_ident(), True
        self._calls.put()

    def stop(self) -> None:
        self._recording = False
        self._calls.take_away()

    def drain(self) -> NDArray[Any]:
        records, self._records = np.array(self._records, record_dtype), []
        return records


def layer_timer(modules: Sequence[Any]) -> tuple[Timer, str]:
    """A timer of these modules, and what it is: "compiled", or "python" where the compiled core was not built."""
    try:
        from qprof.core._layers import LayerTimer
    except ImportError:
        return PythonLayerTimer(modules), "python"
    return LayerTimer(modules), "compiled"
