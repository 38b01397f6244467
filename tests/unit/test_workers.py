"""Worker processes that die, hang, print or raise: the parent learns what happened, and none is left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qprof.errors import DataError, StoreError, WorkerError
from qprof.run.channel import Channel
from qprof.run.workers import Worker

#: What the workers of these tests do beside what any worker does; see `start`.
ACTS = """
    import os, signal, sys, time
    from qprof.errors import DataError
    from qprof.run import making

    def make(request):
        act = request["act"]
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
            return {"x": object()}
        if act == "nan":
            return {"x": float("nan")}
        return {"pid": os.getpid(), "act": act}

    making.make_variant = make
"""


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Worker]]:
    """Starts workers whose request "make" is `ACTS`; what they were is checked to be gone at the end."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(textwrap.dedent(ACTS))
    monkeypatch.setenv("PYTHONPATH", str(site))
    started: list[Worker] = []

    def begin() -> Worker:
        started.append(Worker("variant int8", tmp_path / "worker.log"))
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


def failure(worker: Worker, act: str, **more: float) -> str:
    with pytest.raises(WorkerError) as caught:
        worker.ask({"do": "make", "act": act}, **more)
    text = str(caught.value)
    assert text.startswith("variant int8: ")
    assert "\n" not in text
    return text


def test_answers_while_libraries_print(start: Callable[[], Worker]) -> None:
    worker = start()
    for act in ("one", "two"):
        answer, arrays = worker.ask({"do": "make", "act": act}, timeout_s=60)
        assert (answer, arrays) == ({"pid": worker.pid, "act": act}, {})
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
def test_death_is_told_with_its_cause_and_last_words(start: Callable[[], Worker], act: str, cause: str) -> None:
    worker = start()
    assert failure(worker, act, timeout_s=60) == f"variant int8: {cause}; its last words: about to {act}"
    assert is_gone(worker.pid)


def test_last_words_are_this_workers_own(start: Callable[[], Worker]) -> None:
    first = start()
    failure(first, "abort")
    second = start()
    os.kill(second.pid, signal.SIGKILL)
    text = failure(second, "never")
    assert "last words" not in text
    assert "SIGKILL" in text


def test_long_last_words_are_cut(start: Callable[[], Worker]) -> None:
    worker = start()
    worker.ask({"do": "make", "act": "x" * 5000})
    assert len(failure(worker, "kill")) < 500


def test_hanging_worker_is_killed_in_time(start: Callable[[], Worker]) -> None:
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
def test_failed_request_is_told_and_the_worker_lives_on(start: Callable[[], Worker], act: str, says: str) -> None:
    worker = start()
    assert failure(worker, act) == says
    assert worker.ask({"do": "make", "act": "more"})[0]["pid"] == worker.pid


def test_traceback_of_an_unexpected_error_is_in_the_log(start: Callable[[], Worker]) -> None:
    worker = start()
    failure(worker, "raise")
    assert "Traceback" in worker.log.read_text()


def test_typed_errors_stay_what_they_are(start: Callable[[], Worker]) -> None:
    with pytest.raises(DataError, match=r"^images/: is empty; add images$"):
        start().ask({"do": "make", "act": "typed"})


def test_request_that_there_is_not(start: Callable[[], Worker]) -> None:
    worker = start()
    with pytest.raises(WorkerError, match="variant int8: KeyError"):
        worker.ask({"do": "dance"})
    with pytest.raises(WorkerError, match="variant int8: asked to measure before a variant was loaded"):
        worker.ask({"do": "warmup", "max_s": 1})


def test_nan_in_an_answer_is_none(start: Callable[[], Worker]) -> None:
    assert start().ask({"do": "make", "act": "nan"})[0] == {"x": None}


def test_answer_that_cannot_be_sent_is_told(start: Callable[[], Worker]) -> None:
    assert "TypeError" in failure(start(), "unanswerable")


def test_worker_leaves_when_its_parent_closes(start: Callable[[], Worker]) -> None:
    worker = start()
    worker.ask({"do": "make", "act": "one"})
    worker.stop()
    assert is_gone(worker.pid)
    worker.stop()  # twice does no harm
    worker.kill()


def test_worker_leaves_when_its_parent_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from qprof.run.workers import Worker\n"
        "worker = Worker('variant a', Path(sys.argv[1])); print(worker.pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        pid = int(parent.stdout.readline())
    assert not is_gone(pid, within_s=0.2)
    parent.kill()
    parent.wait()
    assert is_gone(pid)


def test_worker_does_not_see_the_terminals_ctrl_c(start: Callable[[], Worker]) -> None:
    worker = start()
    assert os.getpgid(worker.pid) == worker.pid != os.getpgid(0)


def test_several_workers_hold_no_end_of_each_other(start: Callable[[], Worker]) -> None:
    """A worker that inherits another's connection would keep it alive after its parent has gone."""
    first, second = start(), start()
    for worker in (first, second):
        worker.ask({"do": "make", "act": "one"})
        sockets = [os.readlink(f"/proc/{worker.pid}/fd/{n}") for n in os.listdir(f"/proc/{worker.pid}/fd")]
        assert sum(name.startswith("socket:") for name in sockets) == 1, sockets


def test_log_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        Worker("variant a", tmp_path / "file" / "log")


def test_process_that_cannot_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    with pytest.raises(WorkerError, match="variant a: its process cannot be started"):
        Worker("variant a", tmp_path / "log")


def test_serve_returns_at_the_end_of_the_conversation() -> None:
    from qprof.run.worker import serve

    ours, theirs = socket.socketpair()
    ours.close()
    channel = Channel(theirs.detach())
    serve(channel)
    channel.close()
