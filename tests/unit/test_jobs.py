"""Jobs share a worker until it dies of one."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from qprof.errors import ModelError, QprofError, WorkerError
from qprof.measure.parent.jobs import Job, Jobs
from qprof.measure.parent.process import Bounds, WorkerProcess
from qprof.measure.requests import Instrument, LoadedVariant, LoadVariant, Preload
from qprof.record.manifest import PreparedTask


def test_a_job_that_fails_keeps_the_worker_and_one_that_kills_it_gets_the_next_another(tmp_path: Path) -> None:
    log = tmp_path / "jobs.log"
    with Jobs(log, Bounds()) as jobs:
        jobs.ask("first", Preload(runtime="litert", run={}))
        (worker,) = jobs._idle
        jobs.ask("second", Preload(runtime="litert", run={}))
        assert jobs._idle == [worker]
        with pytest.raises(ModelError):
            missing = LoadedVariant(runtime="litert", path=str(tmp_path / "none.tflite"), options={}, sha256="")
            task = PreparedTask(section={"kind": "latency"})
            jobs.ask("third", LoadVariant(variant=missing, task=task))
        assert jobs._idle == [worker], "what is wrong with its input does not end it"
        worker.post(Preload(runtime="litert", run={}))
        os.kill(worker.pid, signal.SIGSTOP)  # so that it is there when it is taken, and gone when it is to answer
        threading.Timer(0.3, os.kill, (worker.pid, signal.SIGKILL)).start()
        with pytest.raises(WorkerError, match="fourth: the worker was killed by SIGKILL"):
            jobs.ask("fourth", Preload(runtime="litert", run={}))
        assert jobs._idle == []
        jobs.ask("fifth", Preload(runtime="litert", run={}))
        (other,) = jobs._idle
        assert other.pid != worker.pid
        os.kill(other.pid, signal.SIGKILL)
        while other.lives:
            time.sleep(0.01)
        jobs.ask("one that died idle is not asked", Preload(runtime="litert", run={}))
        pid = jobs._idle[0].pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def fails(path: Path) -> Job[Any]:
    missing = LoadedVariant(runtime="litert", path=str(path), options={}, sha256="")
    return Job("fails", LoadVariant(variant=missing, task=PreparedTask(section={"kind": "latency"})))


def test_answers_come_in_the_order_of_the_jobs_and_what_failed_is_among_them(tmp_path: Path) -> None:
    works = Job("works", Preload(runtime="litert", run={}))
    with Jobs(tmp_path / "jobs.log", Bounds()) as jobs:
        first = list(jobs.ask_all([works, fails(tmp_path / "none.tflite"), works, works], 2))
        assert [isinstance(answer, ModelError) for answer in first] == [False, True, False, False]
        pids = {worker.pid for worker in jobs._idle}
        assert len(pids) == 2
        assert not any(isinstance(answer, QprofError) for answer in jobs.ask_all([works] * 3, 2))
        assert {worker.pid for worker in jobs._idle} == pids, "they live on from one round of jobs to the next"


def test_one_that_dies_fails_its_own_job_alone(tmp_path: Path) -> None:
    works = Job("works", Preload(runtime="litert", run={}))
    with Jobs(tmp_path / "jobs.log", Bounds()) as jobs:
        assert len(list(jobs.ask_all([works, works], 2))) == 2
        victim = jobs._idle[-1]
        os.kill(victim.pid, signal.SIGSTOP)
        threading.Timer(0.3, os.kill, (victim.pid, signal.SIGKILL)).start()
        answers = list(jobs.ask_all([works] * 4, 2))
    assert sum(isinstance(answer, WorkerError) for answer in answers) == 1


def test_who_gives_up_waits_for_no_job(tmp_path: Path) -> None:
    works = Job("works", Preload(runtime="litert", run={}))
    with Jobs(tmp_path / "jobs.log", Bounds()) as jobs:
        assert len(list(jobs.ask_all([works, works], 2))) == 2
        pids = [worker.pid for worker in jobs._idle]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)  # they will never answer
        answers = jobs.ask_all([works] * 4, 2)
        threading.Timer(0.5, os.kill, (pids[-1], signal.SIGCONT)).start()
        next(answers)
        with pytest.raises(KeyboardInterrupt):
            answers.throw(KeyboardInterrupt)  # type: ignore[attr-defined]
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_workers_of_variants_let_go_of_them_before_they_do_jobs(tmp_path: Path) -> None:
    worker = WorkerProcess("variant a", tmp_path / "a.log")
    with Jobs(tmp_path / "jobs.log", Bounds(), [worker]) as jobs:
        jobs.ask("first", Preload(runtime="litert", run={}))
        assert jobs._idle == [worker] and worker.label == "first"
        with pytest.raises(WorkerError, match="asked to measure before a variant was loaded"):
            jobs.ask("second", Instrument())
    assert not worker.lives
