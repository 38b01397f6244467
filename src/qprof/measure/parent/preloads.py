"""What workers import while variants are made."""

from __future__ import annotations

from qprof.measure.parent.process import WorkerProcess
from qprof.measure.requests import Preload


class Preloads:
    """Has so many workers import `together`, one after the other: imports of several seconds on all processors would
    hold up the making, for which everything waits. `go_on` is to be called now and then."""

    def __init__(self, together: int) -> None:
        self._together = together
        self._waiting: dict[WorkerProcess, Preload] = {}
        self._begun: set[WorkerProcess] = set()
        self._at_work: list[WorkerProcess] = []

    def add(self, worker: WorkerProcess, request: Preload) -> None:
        """One more; in the place of an earlier one that the worker has not begun."""
        if worker in self._begun:
            worker.post(request)
        else:
            self._waiting[worker] = request
            self.go_on()

    def go_on(self) -> None:
        """Let the next begin where some are done."""
        self._at_work = [worker for worker in self._at_work if not worker.has_answered()]
        while self._waiting and len(self._at_work) < self._together:
            self._at_work.append(self._begin())

    def finish(self) -> None:
        """Let all begin that are left: nothing is held up any more."""
        while self._waiting:
            self._begin()

    def _begin(self) -> WorkerProcess:
        worker = next(iter(self._waiting))
        worker.post(self._waiting.pop(worker))
        self._begun.add(worker)
        return worker
