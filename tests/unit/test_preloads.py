"""What workers import while variants are made: so many at once, each as it was last asked to."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from qprof.measure.channel import Channel
from qprof.measure.parent import process
from qprof.measure.parent.preloads import Preloads
from qprof.measure.parent.process import Bounds, WorkerProcess
from qprof.measure.requests import Preload


class Worker:
    """Notes what it is posted, and has answered when it is told so."""

    def __init__(self) -> None:
        self.posted: list[Preload] = []
        self.done = False

    def post(self, request: Preload) -> None:
        self.posted.append(request)

    def has_answered(self) -> bool:
        return self.done


def preload(**run: Any) -> Preload:
    return Preload(runtime="litert", run=run)


def begun(workers: list[Worker]) -> list[bool]:
    return [bool(worker.posted) for worker in workers]


def added(together: int, workers: list[Worker]) -> Preloads:
    preloads = Preloads(together)
    for worker in workers:
        preloads.add(worker, preload())  # type: ignore[arg-type]
    return preloads


def test_the_next_begins_when_one_is_done() -> None:
    workers = [Worker() for _ in range(4)]
    preloads = added(2, workers)
    assert begun(workers) == [True, True, False, False]
    preloads.go_on()
    assert begun(workers) == [True, True, False, False]
    workers[1].done = True
    preloads.go_on()
    assert begun(workers) == [True, True, True, False]
    preloads.finish()
    assert begun(workers) == [True] * 4
    assert all(len(worker.posted) == 1 for worker in workers)


def test_one_that_has_not_begun_is_asked_for_what_was_added_last() -> None:
    workers = [Worker(), Worker()]
    preloads = added(1, workers)
    for worker in workers:
        preloads.add(worker, preload(library="autogptq"))  # type: ignore[arg-type]
    preloads.finish()
    assert [len(worker.posted) for worker in workers] == [2, 1]
    assert all(worker.posted[-1].run == {"library": "autogptq"} for worker in workers)


def test_a_worker_has_answered_when_its_answer_is_there_or_none_will_come(tmp_path: Path) -> None:
    worker = WorkerProcess("variant a", tmp_path / "a.log", Bounds(step_s=60.0))
    assert not worker.has_answered()
    worker.post(preload())
    worker.settle()
    assert not worker.has_answered(), "it was waited for"
    worker.kill()
    assert worker.has_answered()


def test_a_channel_has_a_message_before_it_is_received() -> None:
    ours, theirs = socket.socketpair()
    one, other = Channel(ours.detach()), Channel(theirs.detach())
    assert not other.has_message()
    one.send(preload())
    assert other.has_message()
    other.receive(5)
    assert not other.has_message()
    one.close()
    assert other.has_message(), "receive would raise at once"
    other.close()


def test_a_request_that_takes_its_time_leaves_time_for_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_LOOK_S", 0.001)
    worker = WorkerProcess("variant a", tmp_path / "a.log", Bounds(step_s=60.0))
    called: list[int] = []
    # A process that starts takes longer than a millisecond.
    worker.ask(preload(), meanwhile=lambda: called.append(1))
    worker.stop()
    assert called
