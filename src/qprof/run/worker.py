"""The worker process: holds one variant, and does what the parent asks, one request at a time.

    python -m qprof.run.worker DESCRIPTOR

Requests ("do"): "make" variants, "prepare" the task; "preload" a runtime, "load" and "instrument" a variant, "warmup",
"block", "notes"; "score" a variant, compare its "layer_errors", "tabulate" a run; the machine's "ceilings"; of
CodeCarbon "open_estimator", "begin_estimate" and "end_estimate". The answer to a request that fails is
{"error": {"type", "text"}}; only the death of the process ends the conversation.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from qprof.errors import QprofError, WorkerError
from qprof.run.channel import Channel, json_safe

Answer = tuple[dict[str, Any], dict[str, NDArray[Any]]]


class Server:
    """What one worker can be asked; state (the loaded variant) lives between requests."""

    def __init__(self) -> None:
        self._bench: Any = None
        self._estimator: Any = None

    def make(self, request: Mapping[str, Any]) -> Answer:
        from qprof.run.making import make_variant

        return make_variant(request), {}

    def prepare(self, request: Mapping[str, Any]) -> Answer:
        from qprof.run.workload import prepare_task

        return prepare_task(request["task"]), {}

    def preload(self, request: Mapping[str, Any]) -> Answer:
        from qprof.runtimes import registry

        registry.get(request["runtime"]).preload()
        return {}, {}

    def load(self, request: Mapping[str, Any]) -> Answer:
        from qprof.run.bench import Bench

        self._bench = Bench(request)
        return self._bench.describe(), {}

    def instrument(self, request: Mapping[str, Any]) -> Answer:
        return self._loaded().instrument(), {}

    def warmup(self, request: Mapping[str, Any]) -> Answer:
        answer: Answer = self._loaded().warm_up(request["phase"], float(request["max_s"]))
        return answer

    def block(self, request: Mapping[str, Any]) -> Answer:
        answer: Answer = self._loaded().block(request)
        return answer

    def notes(self, request: Mapping[str, Any]) -> Answer:
        return self._loaded().notes(), {}

    def score(self, request: Mapping[str, Any]) -> Answer:
        from qprof.run.workload import score_variant

        return score_variant(Path(request["folder"]), request["variant"], request["task"]), {}

    def tabulate(self, request: Mapping[str, Any]) -> Answer:
        from qprof.store.writer import write_tables

        return {"blocks": write_tables(Path(request["folder"]), request["variants"], request["sources"])}, {}

    def layer_errors(self, request: Mapping[str, Any]) -> Answer:
        from qprof.run.layer_errors import measure_layer_errors

        return measure_layer_errors(request), {}

    def ceilings(self, request: Mapping[str, Any]) -> Answer:
        from qprof.run.ceilings import measure_ceilings

        return measure_ceilings(request), {}

    def preload_estimator(self, request: Mapping[str, Any]) -> Answer:
        from qprof.probes.carbon import preload

        preload()
        return {}, {}

    def open_estimator(self, request: Mapping[str, Any]) -> Answer:
        from qprof.probes.carbon import open_carbon

        self._estimator = open_carbon(request["country"] or None)
        missing = [asdict(part) for part in self._estimator.missing]
        return {"facts": self._estimator.facts(), "missing": missing}, {}

    def begin_estimate(self, request: Mapping[str, Any]) -> Answer:
        self._estimator.begin()
        return {}, {}

    def end_estimate(self, request: Mapping[str, Any]) -> Answer:
        from qprof.probes.carbon import to_readings

        readings = to_readings(self._estimator.end(), time.perf_counter_ns())
        return {"readings": readings, "missing": [asdict(part) for part in self._estimator.missing]}, {}

    def _loaded(self) -> Any:
        if self._bench is None:
            raise WorkerError("asked to measure before a variant was loaded")
        return self._bench


def serve(channel: Channel) -> None:
    """Answer requests until the parent closes its end."""
    server = Server()
    handlers: dict[str, Callable[[Mapping[str, Any]], Answer]] = {
        name: getattr(server, name)
        for name in (
            "make",
            "prepare",
            "preload",
            "load",
            "instrument",
            "warmup",
            "block",
            "notes",
            "score",
            "tabulate",
            "layer_errors",
            "ceilings",
            "preload_estimator",
            "open_estimator",
            "begin_estimate",
            "end_estimate",
        )
    }
    while True:
        try:
            request, _ = channel.receive()
        except (EOFError, OSError):
            return
        try:
            answer, arrays = handlers[request["do"]](request)
        except QprofError as error:
            answer, arrays = {"error": {"type": type(error).__name__, "text": str(error)}}, {}
        except MemoryError:
            answer, arrays = {"error": {"type": "WorkerError", "text": "out of memory"}}, {}
        except Exception as error:  # the parent must learn of any failure; the traceback goes to this worker's log
            traceback.print_exc()
            answer, arrays = {"error": {"type": type(error).__name__, "text": str(error)}}, {}
        channel.send(json_safe(answer), arrays)


def _die_with_parent() -> None:
    """A worker that hangs in native code never notices that its parent is gone: let the kernel end it (prctl(2))."""
    if sys.platform != "linux":
        return
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG, linux/prctl.h
    if ctypes.CDLL(None, use_errno=True).prctl(set_parent_death_signal, signal.SIGKILL, 0, 0, 0) != 0:
        print(f"prctl: {os.strerror(ctypes.get_errno())}; a hung worker may outlive its parent", file=sys.stderr)


def main() -> None:
    _die_with_parent()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    serve(Channel(int(sys.argv[1])))


if __name__ == "__main__":
    main()
