"""Jobs that follow each other, in few worker processes that live on: what takes longest is what they import."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Generic

from qprof.errors import QprofError, WorkerError
from qprof.measure.parent.process import Bounds, WorkerProcess, stop_all
from qprof.measure.requests import Answer, Forget, Request
from qprof.probes.machine import available_cores

#: So many are done at once at most, where there are cores for them: each may have two models in memory.
_MOST_AT_ONCE = 2


def at_once() -> int:
    """How many jobs are done at once."""
    return min(_MOST_AT_ONCE, available_cores())


@dataclass(frozen=True, slots=True)
class Job(Generic[Answer]):
    """A request, and what to call the worker in messages about it. `timeout_s`: `None` for that of a step."""

    label: str
    request: Request[Answer]
    timeout_s: float | None = None


class Jobs:
    """A context manager: a worker is started when a job needs one, and all are ended with the last job. Where one dies
    of a job, or is stopped, the next one gets another.

    `workers` have done something else before, and have imported what the jobs need; what they hold is let go of first.
    """

    def __init__(self, log: Path, bounds: Bounds, workers: Sequence[WorkerProcess] = ()) -> None:
        self._log = log
        self._bounds = bounds
        self._lock = threading.Lock()
        self._idle: list[WorkerProcess] = []
        self._busy: list[WorkerProcess] = []
        for worker in workers:
            worker.post(Forget())
            self._idle.append(worker)

    def ask(self, label: str, request: Request[Answer], *, timeout_s: float | None = None) -> Answer:
        """See `WorkerProcess.ask`; `label` is what to call the worker in messages about this job."""
        worker = self._taken(label)
        try:
            answer = worker.ask(request, timeout_s=timeout_s)
        except WorkerError:
            self._drop(worker)
            worker.stop()
            raise
        except QprofError:  # what is wrong with its input does not end it
            self._put_back(worker)
            raise
        except BaseException:  # Ctrl-C while it works
            self._drop(worker)
            worker.kill()
            raise
        self._put_back(worker)
        return answer

    def ask_all(self, jobs: Sequence[Job[Any]], together: int | None = None) -> Iterator[Any | QprofError]:
        """The answers to all jobs, in their order, or what was raised instead of one. So many are done `together`, by
        default `at_once()`: nothing may be timed meanwhile."""
        together = at_once() if together is None else together
        while len(self._idle) < min(together, len(jobs)):
            # By this thread: the kernel ends a worker with the thread that started it.
            self._idle.append(WorkerProcess(jobs[len(self._idle)].label, self._log, self._bounds))
        with ThreadPoolExecutor(together) as threads:
            futures = [threads.submit(self._outcome, job) for job in jobs]
            try:
                for future in futures:
                    yield future.result()
            except BaseException:
                # Ctrl-C, or a full disk: who waits for an answer gets none any more.
                for future in futures:
                    future.cancel()
                with self._lock:
                    for worker in self._busy:
                        worker.kill_process()
                raise

    def give_up(self, workers: Collection[WorkerProcess]) -> list[WorkerProcess]:
        """Those of the workers that live and do nothing, from now on the caller's."""
        with self._lock:
            found = [one for one in self._idle if one in workers and one.lives]
            self._idle = [one for one in self._idle if one not in found]
        return found

    def _outcome(self, job: Job[Any]) -> Any | QprofError:
        try:
            return self.ask(job.label, job.request, timeout_s=job.timeout_s)
        except QprofError as error:
            return error

    def _taken(self, label: str) -> WorkerProcess:
        with self._lock:
            while self._idle and not self._idle[-1].lives:
                self._idle.pop().stop()
            worker = self._idle.pop() if self._idle else WorkerProcess(label, self._log, self._bounds)
            self._busy.append(worker)
        worker.label = label
        return worker

    def _drop(self, worker: WorkerProcess) -> None:
        with self._lock:
            self._busy.remove(worker)

    def _put_back(self, worker: WorkerProcess) -> None:
        with self._lock:
            self._busy.remove(worker)
            self._idle.append(worker)

    def __enter__(self) -> Jobs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stop_all(self._idle)
        self._idle.clear()
