"""Worker processes that one run leaves to the next."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from qprof.errors import WorkerError
from qprof.measure.parent import execution
from qprof.measure.parent import jobs as parent_jobs
from qprof.measure.parent.jobs import Jobs
from qprof.measure.parent.maker import maker
from qprof.measure.parent.process import Bounds, WorkerProcess
from qprof.measure.parent.spare import Kind, SpareWorkers, spare_workers
from qprof.measure.profile import validate
from qprof.measure.progress import SilentProgress
from qprof.measure.requests import Instrument, LoadedVariant, LoadVariant, MakeVariant, MeasureBlock, Preload
from qprof.record.manifest import PreparedTask
from qprof.store.run import Run
from tflite_builder import tiny_conv_net

KIND = Kind("litert", 1, "cpu")
BOUNDS = Bounds(step_s=50.0)


def test_a_worker_is_taken_by_who_needs_its_kind_and_has_let_go_of_what_it_held(tmp_path: Path) -> None:
    path = tmp_path / "a.tflite"
    path.write_bytes(tiny_conv_net())
    with SpareWorkers() as spare:
        worker = WorkerProcess("variant a", tmp_path / "a.log")
        variant = LoadedVariant(runtime="litert", path=str(path), options={"threads": 1}, sha256="")
        worker.ask(LoadVariant(name="a", variant=variant, task=PreparedTask(section={"kind": "latency"})))
        spare.keep({worker: KIND})
        for other in (Kind("onnx", 1, "cpu"), Kind("litert", 2, "cpu"), Kind("litert", 1, "cuda")):
            assert spare.take(other, "other", BOUNDS) is None
        taken = spare.take(KIND, "variant b", BOUNDS)
        assert taken is worker and taken.label == "variant b"
        with pytest.raises(WorkerError, match="variant b: asked to measure before a variant was loaded"):
            taken.ask(Instrument(name="a"))
        assert spare.take(KIND, "variant c", BOUNDS) is None, "it is somebody's by now"
        spare.keep({taken: KIND})
    assert not worker.lives


def test_one_that_died_is_not_taken_but_the_next(tmp_path: Path) -> None:
    with SpareWorkers() as spare:
        dead, well = (WorkerProcess(name, tmp_path / f"{name}.log") for name in "ab")
        spare.keep({dead: KIND, well: KIND})
        os.kill(dead.pid, signal.SIGKILL)
        assert spare.take(KIND, "variant c", BOUNDS) is well
        well.stop()


def test_last_words_are_those_since_it_was_taken(tmp_path: Path) -> None:
    with SpareWorkers() as spare:
        worker = WorkerProcess("variant a", tmp_path / "a.log")
        worker.log.write_text("words of another run\n")
        spare.keep({worker: KIND})
        taken = spare.take(KIND, "variant b", BOUNDS)
        assert taken is worker
        os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(WorkerError) as error:
            taken.ask(Preload(runtime="litert", run={}))
        assert "words" not in str(error.value)
        worker.stop()


def test_jobs_give_up_only_those_that_are_asked_for(tmp_path: Path) -> None:
    wanted, other = (WorkerProcess(name, tmp_path / f"{name}.log") for name in "ab")
    with Jobs(tmp_path / "jobs.log", Bounds(), [wanted, other]) as jobs:
        assert jobs.give_up([wanted]) == [wanted]
        assert jobs.give_up([wanted]) == []
    assert wanted.lives and not other.lives
    wanted.stop()


def test_where_no_run_follows_none_are_kept() -> None:
    with spare_workers(False) as none, spare_workers(True) as some:
        assert none is None and isinstance(some, SpareWorkers)


def measured(folder: Path, spare: SpareWorkers | None, model: Path, **protocol: Any) -> Run:
    quick = {"rounds": 1, "block_ms": 1.0, "warmup_max_s": 0.1, "energy": "off", "stacks_s": 0.0, "ceilings": False}
    profile = {
        "name": "p",
        "variants": [{"name": "a", "file": str(model)}, {"name": "b", "file": str(model)}],
        "task": {"kind": "latency"},
        "protocol": {**quick, "profiled": False, "layer_errors": 0, "output_samples": 0, **protocol},
    }
    execution.start(validate(profile, "p"), folder, SilentProgress(), spare=spare)
    return Run(folder)


def test_a_run_whose_variants_share_a_process_takes_one_of_the_run_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QPROF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(parent_jobs, "available_cores", lambda: 2)
    asked: dict[str, set[int]] = {}
    made: dict[str, set[int]] = {}
    ask = WorkerProcess.ask

    def noted(self: WorkerProcess, request: Any, **options: Any) -> Any:
        for kind, pids in ((MeasureBlock, asked), (MakeVariant, made)):
            if isinstance(request, kind):
                pids.setdefault(run, set()).add(self.pid)
        return ask(self, request, **options)

    monkeypatch.setattr(WorkerProcess, "ask", noted)
    model = tmp_path / "a.tflite"
    model.write_bytes(tiny_conv_net())
    with SpareWorkers() as spare:
        for run, own in (("first", True), ("second", False), ("third", False), ("apart", True)):
            measured(tmp_path / run, spare, model, own_process=own)
    assert len(asked["first"]) == len(asked["apart"]) == 2
    assert len(asked["second"]) == len(asked["third"]) == 1 and asked["second"] | asked["third"] <= asked["first"]
    assert not asked["apart"] & asked["first"], "what a process of its own takes of memory is told"
    for run in ("second", "third", "apart"):
        assert made[run] <= asked["first"] and not made[run] & asked[run], "nothing is timed where variants were made"
    assert not made["first"] & asked["first"]


def test_one_is_lent_only_where_another_of_its_kind_is_left(tmp_path: Path) -> None:
    with SpareWorkers() as spare:
        first, second, other = (WorkerProcess(name, tmp_path / f"{name}.log") for name in "abc")
        assert spare.lend("preparation", BOUNDS) is None
        spare.keep({first: KIND, other: Kind("onnx", 1, "cpu")})
        assert spare.lend("preparation", BOUNDS) is None
        spare.keep({second: KIND})
        assert spare.lend("preparation", BOUNDS) is first and first.label == "preparation"
        assert spare.lend("preparation", BOUNDS) is None
        spare.give_back(first)
        assert spare.take(KIND, "variant a", BOUNDS) is second
        assert spare.take(KIND, "variant b", BOUNDS) is None, "nothing is timed where variants were made"
        assert spare.lend("preparation", BOUNDS) is first
        spare.give_back(first)
        second.stop()
    assert not first.lives


def test_a_maker_that_dies_is_followed_by_another(tmp_path: Path) -> None:
    with SpareWorkers() as spare:
        lent, left = (WorkerProcess(name, tmp_path / f"{name}.log") for name in "ab")
        spare.keep({lent: KIND, left: KIND})
        with maker(tmp_path / "prepare.log", BOUNDS, spare) as made:
            os.kill(lent.pid, signal.SIGKILL)
            with pytest.raises(WorkerError, match="preparation: the worker was killed by SIGKILL"):
                made.ask(Preload(runtime="litert", run={}))
            made.ask(Preload(runtime="litert", run={}))
        assert spare.take(KIND, "variant a", BOUNDS) is left and spare.take(KIND, "variant b", BOUNDS) is None
        left.stop()


@pytest.mark.parametrize("error", [KeyboardInterrupt, WorkerError])
def test_a_maker_that_is_left_at_work_is_lent_to_nobody(tmp_path: Path, error: type[BaseException]) -> None:
    with SpareWorkers() as spare:
        workers = [WorkerProcess(name, tmp_path / f"{name}.log") for name in "ab"]
        spare.keep(dict.fromkeys(workers, KIND))
        with pytest.raises(error), maker(tmp_path / "prepare.log", BOUNDS, spare):
            raise error
        assert [worker.lives for worker in workers] == [False, True]
