"""Worker processes that outlive their run: the next one would take longest for importing what they have imported."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType

from qprof.errors import QprofError
from qprof.measure.parent.process import Bounds, WorkerProcess, stop_all
from qprof.measure.requests import Forget


@dataclass(frozen=True, slots=True)
class Kind:
    """What a process has been set up for: a runtime with nothing but what it imports by default. The number of threads
    and the device may be set for a whole process."""

    runtime: str
    threads: int
    device: str


class SpareWorkers:
    """A context manager, with which all of them end. Where a run is given it, workers that have done are kept here, and
    variants that may share a process are loaded into one of them.

    What a worker prints goes on into the log of the run that started it.
    """

    def __init__(self) -> None:
        self._kept: list[tuple[Kind, WorkerProcess]] = []
        self._makers: list[WorkerProcess] = []

    def keep(self, workers: Mapping[WorkerProcess, Kind]) -> None:
        """Take over workers; what they hold is let go of."""
        for worker, kind in workers.items():
            worker.post(Forget())
            self._kept.append((kind, worker))

    def take(self, kind: Kind, label: str, bounds: Bounds) -> WorkerProcess | None:
        """One of that kind, from now on the caller's; `None` where there is none."""
        for position, (its, worker) in enumerate(self._kept):
            if its == kind:
                del self._kept[position]
                if _is_fit(worker):
                    worker.begin_anew(label, bounds)
                    return worker
                worker.stop()
                return self.take(kind, label, bounds)
        return None

    def lend(self, label: str, bounds: Bounds) -> WorkerProcess | None:
        """One for work that is not timed, and never again for what is: it may change how fast a process runs. `None`
        where that would take the last of its kind."""
        while self._makers:
            worker = self._makers.pop()
            if _is_fit(worker):
                worker.begin_anew(label, bounds)
                return worker
            worker.stop()
        kinds = [kind for kind, _ in self._kept]
        kind = next((kind for kind in kinds if kinds.count(kind) > 1), None)
        return None if kind is None else self.take(kind, label, bounds)

    def give_back(self, worker: WorkerProcess) -> None:
        """Keep one that was lent."""
        worker.post(Forget())
        self._makers.append(worker)

    def __enter__(self) -> SpareWorkers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stop_all([*self._makers, *(worker for _, worker in self._kept)])
        self._makers.clear()
        self._kept.clear()


def spare_workers(wanted: bool) -> contextlib.AbstractContextManager[SpareWorkers | None]:
    """Where they are `wanted`, as more runs follow."""
    return SpareWorkers() if wanted else contextlib.nullcontext()


def _is_fit(worker: WorkerProcess) -> bool:
    """Whether it lives, and has let go of what it held."""
    try:
        worker.settle()
    except QprofError:
        return False
    return worker.lives
