"""Jobs share a worker until it dies of one."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from qprof.errors import ModelError, WorkerError
from qprof.measure.parent.jobs import Jobs
from qprof.measure.parent.process import Bounds
from qprof.measure.requests import LoadedVariant, LoadVariant, Preload
from qprof.record.manifest import PreparedTask


def test_a_job_that_fails_keeps_the_worker_and_one_that_kills_it_gets_the_next_another(tmp_path: Path) -> None:
    log = tmp_path / "jobs.log"
    with Jobs(log, Bounds()) as jobs:
        jobs.ask("first", Preload(runtime="litert", run={}))
        assert jobs._worker is not None
        worker = jobs._worker
        jobs.ask("second", Preload(runtime="litert", run={}))
        assert jobs._worker is worker
        with pytest.raises(ModelError):
            missing = LoadedVariant(runtime="litert", path=str(tmp_path / "none.tflite"), options={}, sha256="")
            task = PreparedTask(section={"kind": "latency"})
            jobs.ask("third", LoadVariant(variant=missing, task=task))
        last = jobs._worker
        assert last is worker, "what is wrong with its input does not end it"
        os.kill(last.pid, signal.SIGKILL)
        with pytest.raises(WorkerError, match="fourth: the worker was killed by SIGKILL"):
            jobs.ask("fourth", Preload(runtime="litert", run={}))
        assert jobs._worker is None
        jobs.ask("fifth", Preload(runtime="litert", run={}))
        assert jobs._worker is not None and jobs._worker.pid != last.pid
        pid = jobs._worker.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
