"""Worker processes that die, hang, print or raise: the parent learns what happened, and none is left behind."""

from __future__ import annotations

import collections.abc
import dataclasses
import math
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import pytest

from qprof.errors import DataError, StoreError, WorkerError
from qprof.measure import requests
from qprof.measure.channel import Channel, decoded
from qprof.measure.parent import process
from qprof.measure.parent.process import WorkerProcess, stop_all
from qprof.measure.requests import Done, Instrument, MadeAnswer, MakeVariant, MeasureBlock, Request, WarmUp
from qprof.measure.worker.server import Server, serve
from qprof.record.manifest import PreparedTask

#: What the workers of these tests do beside what any worker does; see `start`.
ACTS = """
    import os, signal, sys, time
    from qprof.errors import DataError
    from qprof.measure.requests import Done, MadeAnswer
    from qprof.measure.worker import making

    def made(**facts):
        nothing = dict(runtime="", path="", sha256="", bytes=0, method="", tool=None, tool_version=None)
        return MadeAnswer(**nothing, make_seconds=None, run={}, facts=facts, notes=[])

    def make(request):
        act = request.section["act"]
        print("about to", act, flush=True)
        if act == "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        if act == "abort":
            os.abort()
        if act == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if act == "exit":
            os._exit(3)
        if act == "sys.exit":
            sys.exit(0)
        if act == "hang":
            print(os.getpid(), flush=True)
            time.sleep(600)
        if act == "raise":
            raise RuntimeError("first line\\n  second line")
        if act == "typed":
            raise DataError("images/: is empty; add images")
        if act == "memory":
            raise MemoryError
        if act == "unanswerable":
            return made(x=object())
        if act == "nan":
            return made(x=float("nan"))
        if act == "another answer":
            return Done()
        return made(pid=os.getpid(), act=act)

    making.make_variant = make
"""


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], WorkerProcess]]:
    """Starts workers whose request "make" is `ACTS`; what they were is checked to be gone at the end."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(textwrap.dedent(ACTS))
    monkeypatch.setenv("PYTHONPATH", str(site))
    started: list[WorkerProcess] = []

    def begin() -> WorkerProcess:
        started.append(WorkerProcess("variant int8", tmp_path / "worker.log"))
        return started[-1]

    yield begin
    for worker in started:
        worker.stop()
        assert is_gone(worker.pid)


def is_gone(pid: int, within_s: float = 20) -> bool:
    """Whether the process ends in time; a zombie, which its parent has yet to ask about, has ended."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def make(act: str) -> MakeVariant:
    task = PreparedTask(section={"kind": "latency"})
    return MakeVariant(model={}, section={"act": act}, task=task, device="cpu", calibration_digest="")


def facts(worker: WorkerProcess, act: str, **more: float) -> dict[str, Any]:
    return worker.ask(make(act), **more).facts


def failure(worker: WorkerProcess, act: str, **more: float) -> str:
    with pytest.raises(WorkerError) as caught:
        worker.ask(make(act), **more)
    text = str(caught.value)
    assert text.startswith("variant int8: ")
    assert "\n" not in text
    return text


def test_answers_while_libraries_print(start: Callable[[], WorkerProcess]) -> None:
    worker = start()
    for act in ("one", "two"):
        answer = worker.ask(make(act), timeout_s=60)
        assert isinstance(answer, MadeAnswer)
        assert answer.facts == {"pid": worker.pid, "act": act}
    assert worker.log.read_text() == "about to one\nabout to two\n"


@pytest.mark.parametrize(
    ("act", "cause"),
    [
        ("segfault", "the worker was killed by SIGSEGV during 'make'"),
        ("abort", "the worker was killed by SIGABRT during 'make'"),
        ("kill", "the worker was killed by SIGKILL (out of memory?) during 'make'"),
        ("exit", "the worker left with exit code 3 during 'make'"),
        ("sys.exit", "the worker left with exit code 0 during 'make'"),
    ],
)
def test_death_is_told_with_its_cause_and_last_words(start: Callable[[], WorkerProcess], act: str, cause: str) -> None:
    worker = start()
    assert failure(worker, act, timeout_s=60) == f"variant int8: {cause}; its last words: about to {act}"
    assert is_gone(worker.pid)


def test_last_words_are_this_workers_own(start: Callable[[], WorkerProcess]) -> None:
    first = start()
    failure(first, "abort")
    second = start()
    os.kill(second.pid, signal.SIGKILL)
    text = failure(second, "never")
    assert "last words" not in text
    assert "SIGKILL" in text


def test_long_last_words_are_cut(start: Callable[[], WorkerProcess]) -> None:
    worker = start()
    worker.ask(make("x" * 5000))
    assert len(failure(worker, "kill")) < 500


def test_hanging_worker_is_killed_in_time(start: Callable[[], WorkerProcess]) -> None:
    worker = start()
    text = failure(worker, "hang", timeout_s=1.0)
    assert text == ("variant int8: no answer to 'make' within 1 s; stopped it (protocol.timeout_s sets the limit)")
    assert is_gone(worker.pid)
    assert "SIGKILL" in failure(worker, "hang")  # asked once more, it says that it is dead


@pytest.mark.parametrize(
    ("act", "says"),
    [
        ("raise", "variant int8: RuntimeError: first line second line"),
        ("memory", "variant int8: out of memory"),
    ],
)
def test_failed_request_is_told_and_the_worker_lives_on(
    start: Callable[[], WorkerProcess], act: str, says: str
) -> None:
    worker = start()
    assert failure(worker, act) == says
    assert facts(worker, "more")["pid"] == worker.pid


def test_traceback_of_an_unexpected_error_is_in_the_log(start: Callable[[], WorkerProcess]) -> None:
    worker = start()
    failure(worker, "raise")
    assert "Traceback" in worker.log.read_text()


def test_typed_errors_stay_what_they_are(start: Callable[[], WorkerProcess]) -> None:
    with pytest.raises(DataError, match=r"^images/: is empty; add images$"):
        start().ask(make("typed"))


class Dance(Request[Done], frozen=True, kw_only=True, tag="dance"):
    answer = Done


class Undressed(Request[Done], frozen=True, kw_only=True, tag="warmup"):
    """A warm-up without what one needs."""

    answer = Done


def test_request_that_there_is_not(start: Callable[[], WorkerProcess]) -> None:
    worker = start()
    with pytest.raises(WorkerError, match="variant int8: ValidationError: Invalid value 'dance'"):
        worker.ask(Dance())
    with pytest.raises(WorkerError, match="variant int8: ValidationError: Object missing required field `phase`"):
        worker.ask(Undressed())
    block = MeasureBlock(kind="clean", phase="inference", samples=[0], min_ms=1.0)
    for request in (WarmUp(phase="inference", max_s=1.0), Instrument(), block):
        with pytest.raises(WorkerError, match="variant int8: asked to measure before a variant was loaded"):
            worker.ask(request)
    assert facts(worker, "more")["pid"] == worker.pid


def test_nan_in_an_answer_is_nan(start: Callable[[], WorkerProcess]) -> None:
    assert math.isnan(facts(start(), "nan")["x"])


def test_answer_of_another_type_is_told_in_one_line(start: Callable[[], WorkerProcess]) -> None:
    worker = start()
    text = failure(worker, "another answer")
    assert "what it answered to 'make' is not what is due: Object missing required field `runtime`" in text
    assert facts(worker, "more")["pid"] == worker.pid


def test_a_posted_request_is_answered_before_the_next(start: Callable[[], WorkerProcess]) -> None:
    worker = start()
    worker.post(make("one"))
    assert facts(worker, "two") == {"pid": worker.pid, "act": "two"}
    assert worker.log.read_text() == "about to one\nabout to two\n"


def test_of_several_posted_requests_each_is_answered_and_the_first_that_failed_is_told(
    start: Callable[[], WorkerProcess],
) -> None:
    worker = start()
    for act in ("one", "raise", "two"):
        worker.post(make(act))
    assert failure(worker, "never") == "variant int8: RuntimeError: first line second line"
    assert facts(worker, "more") == {"pid": worker.pid, "act": "more"}, "and not the answer to another"


def test_several_workers_leave_together(start: Callable[[], WorkerProcess]) -> None:
    workers = [start(), start(), start()]
    stop_all(workers)
    assert not any(worker.lives for worker in workers)
    stop_all(workers)  # and may be told twice


def test_what_went_wrong_with_a_posted_request_comes_out_with_the_next(start: Callable[[], WorkerProcess]) -> None:
    worker = start()
    worker.post(make("raise"))
    assert failure(worker, "never") == "variant int8: RuntimeError: first line second line"
    assert facts(worker, "more")["act"] == "more"
    worker.post(make("kill"))
    assert "killed by SIGKILL (out of memory?) during 'make'" in failure(worker, "never")
    worker.post(make("one"))  # nothing is raised, even where nobody is left
    assert "SIGKILL" in failure(worker, "never")


def test_answer_that_cannot_be_sent_is_told(start: Callable[[], WorkerProcess]) -> None:
    assert "TypeError" in failure(start(), "unanswerable")


def test_worker_leaves_when_its_parent_closes(start: Callable[[], WorkerProcess]) -> None:
    worker = start()
    worker.ask(make("one"))
    worker.stop()
    assert is_gone(worker.pid)
    worker.stop()  # twice does no harm
    worker.kill()


def test_worker_leaves_when_its_parent_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from qprof.measure.parent.process import WorkerProcess\n"
        "worker = WorkerProcess('variant a', Path(sys.argv[1])); print(worker.pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        pid = int(parent.stdout.readline())
    assert not is_gone(pid, within_s=0.2)
    parent.kill()
    parent.wait()
    assert is_gone(pid)


def test_worker_whose_parent_died_while_it_started_does_not_do_what_it_was_asked() -> None:
    """The kernel has nothing to tell it, and the request is there."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        started = subprocess.Popen(
            [sys.executable, "-P", "-m", "qprof.measure.worker", str(theirs.fileno()), str(os.getppid())],
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=[theirs.fileno()],
            env=process._environment(),
        )
        try:
            _, err = started.communicate(timeout=60)
        finally:
            started.kill()
    assert started.returncode == 1 and "the process that started this worker is gone" in err


def test_worker_does_not_see_the_terminals_ctrl_c(start: Callable[[], WorkerProcess]) -> None:
    worker = start()
    assert os.getpgid(worker.pid) == worker.pid != os.getpgid(0)


def test_several_workers_hold_no_end_of_each_other(start: Callable[[], WorkerProcess]) -> None:
    """A worker that inherits another's connection would keep it alive after its parent has gone."""
    first, second = start(), start()
    for worker in (first, second):
        worker.ask(make("one"))
        sockets = [os.readlink(f"/proc/{worker.pid}/fd/{n}") for n in os.listdir(f"/proc/{worker.pid}/fd")]
        assert sum(name.startswith("socket:") for name in sockets) == 1, sockets


def test_log_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        WorkerProcess("variant a", tmp_path / "file" / "log")


def test_process_that_cannot_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    with pytest.raises(WorkerError, match="variant a: its process cannot be started"):
        WorkerProcess("variant a", tmp_path / "log")


# -- requests and answers -----------------------------------------------------------------------------------------

REQUESTS: list[type[Request[Any]]] = list(typing.get_args(requests.AnyRequest))


def example(kind: Any) -> Any:
    """A value of a type, everything in it filled in."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return example(next(part for part in parts if part is not type(None)))
    if origin in (Annotated, Literal):
        return example(parts[0]) if origin is Annotated else parts[0]
    if origin is np.ndarray:
        (dtype,) = typing.get_args(parts[1])
        return np.arange(3).astype(np.float64 if dtype is Any else dtype)
    if origin in (list, collections.abc.Sequence):
        return [example(parts[0]), example(parts[0])]
    if origin is tuple:
        return tuple(example(part) for part in (parts[:1] * 2 if parts[-1] is ... else parts))
    if origin is dict:
        return {example(parts[0]): example(parts[1])}
    if dataclasses.is_dataclass(kind) or (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        names = (
            kind.__struct_fields__ if issubclass(kind, msgspec.Struct) else [f.name for f in dataclasses.fields(kind)]
        )
        hints = typing.get_type_hints(kind, include_extras=True)
        return kind(**{name: example(hints[name]) for name in names})
    examples: dict[Any, Any] = {int: 2**40, float: 0.1, str: "µ\n", bool: True, Any: {"a": [None, 1.5, {"b": "c"}]}}
    return examples[kind]


def test_every_request_is_one_that_a_worker_can_be_asked() -> None:
    everything = (value for value in vars(requests).values() if isinstance(value, type))
    declared = {kind for kind in everything if issubclass(kind, Request) and kind not in (Request, requests.OfVariant)}
    assert declared == set(REQUESTS)
    assert len({kind.__struct_config__.tag for kind in REQUESTS}) == len(REQUESTS) == 19


@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.__name__)
def test_request_has_a_handler_that_gives_its_answer(kind: type[Request[Any]]) -> None:
    registry = Server.__dict__["answer"].dispatcher.registry
    handler = registry[kind]
    assert typing.get_type_hints(handler) == {"request": kind, "return": kind.answer}
    assert set(registry) == {*REQUESTS, object}


@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.__name__)
def test_request_and_answer_arrive_as_sent(kind: type[Request[Any]]) -> None:
    ours, theirs = socket.socketpair()
    ends = Channel(ours.detach()), Channel(theirs.detach())
    for sent, expected in ((example(kind), requests.AnyRequest), (example(kind.answer), kind.answer)):
        ends[0].send(sent)
        arrived = decoded(ends[1].receive(5), expected)
        assert type(arrived) is type(sent)
        assert repr(arrived) == repr(sent)  # of arrays: their dtypes and values
    for end in ends:
        end.close()


@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.__name__)
def test_answer_of_the_server_arrives_as_what_the_request_names(kind: type[Request[Any]]) -> None:
    ours, theirs = socket.socketpair()
    parent, channel = Channel(ours.detach()), Channel(theirs.detach())
    parent.send(example(kind))
    thread = threading.Thread(target=serve, args=(channel, lambda request: example(type(request).answer)))
    thread.start()
    envelope = parent.receive(10)
    parent.close()
    thread.join(10)
    channel.close()
    assert not envelope.failed
    assert repr(decoded(envelope, kind.answer)) == repr(example(kind.answer))


def test_a_server_refuses_what_is_no_request() -> None:
    with pytest.raises(WorkerError, match="asked for Dance, which a worker does not do"):
        Server().answer(Dance())


def test_serve_returns_at_the_end_of_the_conversation() -> None:
    ours, theirs = socket.socketpair()
    ours.close()
    channel = Channel(theirs.detach())
    serve(channel)
    channel.close()


def test_serve_answers_with_what_it_is_given() -> None:
    """As a worker of a test does: the requests are those of any worker, the answers its own."""
    ours, theirs = socket.socketpair()
    parent, channel = Channel(ours.detach()), Channel(theirs.detach())
    seen: list[Any] = []
    parent.send(Instrument())
    thread = threading.Thread(target=serve, args=(channel, lambda request: seen.append(request) or Done()))
    thread.start()
    assert decoded(parent.receive(10), Done) == Done()
    parent.close()
    thread.join(10)
    assert not thread.is_alive()
    channel.close()
    assert seen == [Instrument()]
