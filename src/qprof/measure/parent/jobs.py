"""Jobs that follow each other, in one worker process as long as that lives: what takes longest is what it imports."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from qprof.errors import WorkerError
from qprof.measure.parent.process import Bounds, WorkerProcess
from qprof.measure.requests import Answer, Request


class Jobs:
    """A context manager: the worker is started with the first job and ended with the last one. Where it dies of a job,
    or is stopped, the next one gets another."""

    def __init__(self, log: Path, bounds: Bounds) -> None:
        self._log = log
        self._bounds = bounds
        self._worker: WorkerProcess | None = None

    def ask(self, label: str, request: Request[Answer], *, timeout_s: float | None = None) -> Answer:
        """See `WorkerProcess.ask`; `label` is what to call the worker in messages about this job."""
        if self._worker is None:
            self._worker = WorkerProcess(label, self._log, self._bounds)
        self._worker.label = label
        try:
            return self._worker.ask(request, timeout_s=timeout_s)
        except WorkerError:
            self._end()
            raise

    def _end(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.stop()

    def __enter__(self) -> Jobs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
