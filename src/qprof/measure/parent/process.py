"""Worker processes as the parent sees them: started, asked, and told apart when they die."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from qprof import errors
from qprof.errors import QprofError, WorkerError
from qprof.measure.channel import Channel, Envelope, decoded
from qprof.measure.requests import Answer, Failure, Request
from qprof.probes.machine import available_memory_bytes
from qprof.probes.process_memory import own_bytes
from qprof.record.sections import ProtocolSection
from qprof.store.files import store_error

#: How often a worker's memory is looked at while it works; and how much of what is free it may take by default.
_LOOK_S = 0.2
_MOST_OF_FREE = 0.8

#: How much of a dead worker's last words is shown.
_LAST_WORDS = 300


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a worker may take. `memory_bytes`: of its own and of what it starts, `None` for all that there is; `step_s`:
    for a step that is no block (preparing, making, scoring, writing)."""

    memory_bytes: int | None = None
    step_s: float | None = None

    @classmethod
    def of(cls, protocol: ProtocolSection) -> Bounds:
        """As a protocol sets them; of memory by default most of what is free now, so that the machine lives on."""
        free = available_memory_bytes()
        memory = protocol.memory_limit_bytes or (None if free is None else int(_MOST_OF_FREE * free))
        return cls(memory, protocol.step_timeout_s)


class WorkerProcess:
    """One worker process, which holds one variant (or makes them). It runs only while a request is open.

    Args:
        label: what to call it in messages, such as "variant int8".
        log: file that takes everything the worker's libraries print.
        bounds: beyond which it is stopped.
    """

    def __init__(self, label: str, log: Path, bounds: Bounds = Bounds()) -> None:
        self.label = label
        self.log = log
        self._bounds = bounds
        try:
            stream = open(log, "ab")  # noqa: SIM115  (the next block closes it)
        except OSError as error:
            raise store_error(log, error) from error
        ours, theirs = socket.socketpair()
        with stream, ours, theirs:
            # A log is added to by later workers and resumed runs: words before this point are not this worker's.
            self._log_begin = stream.tell()
            try:
                self._process = subprocess.Popen(
                    # -P: the folder that qprof is started in is a stranger's, and so is the token.py that lies in it.
                    [sys.executable, "-P", "-m", "qprof.measure.worker", str(theirs.fileno()), str(os.getpid())],
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=stream,
                    pass_fds=[theirs.fileno()],
                    # Ctrl-C is the parent's to handle: a worker that dies of it would look like a crash.
                    start_new_session=True,
                    env=_environment(),
                )
            except OSError as error:
                raise WorkerError(f"{label}: its process cannot be started ({error.strerror}); free memory") from error
            self._channel = Channel(ours.detach())
        self._posted: list[Request[Any]] = []

    @property
    def pid(self) -> int:
        return self._process.pid

    def post(self, request: Request[Any]) -> None:
        """Send a request whose answer is waited for before the next one is asked. Nothing is raised here: what goes
        wrong with it comes out then."""
        self._posted.append(request)
        with contextlib.suppress(OSError):
            self._channel.send(request)

    def has_answered(self) -> bool:
        """Whether an answer is there that nobody has waited for yet, or none will come any more."""
        return self._channel.has_message()

    def settle(self) -> None:
        """Wait for the answers to all that was posted. Raises as `ask` does."""
        self._await_posted(None)

    def begin_anew(self, label: str, bounds: Bounds) -> None:
        """Be another's from now on: under another name, within other bounds. What it printed so far is no longer among
        its last words."""
        self.label, self._bounds = label, bounds
        with contextlib.suppress(OSError):  # the log is gone, and with it all words
            self._log_begin = self.log.stat().st_size

    def ask(
        self, request: Request[Answer], *, timeout_s: float | None = None, meanwhile: Callable[[], None] | None = None
    ) -> Answer:
        """Send a request and wait for its answer, as long as a step may take where no other time is given. `meanwhile`
        is called now and then until it comes.

        Raises the worker's own `QprofError`, or `WorkerError` where it died, did not answer in time, or took more
        memory than it may.
        """
        self._await_posted(timeout_s)
        with contextlib.suppress(OSError):  # that the worker is gone is found on waiting for its answer
            self._channel.send(request)
        envelope = self._answer(request, timeout_s, meanwhile)
        try:
            answer: Answer = decoded(envelope, request.answer)
        except msgspec.DecodeError as error:  # a plugin may give anything
            asked = request.__struct_config__.tag
            raise WorkerError(f"{self.label}: what it answered to {asked!r} is not what is due: {error}") from error
        return answer

    def _await_posted(self, timeout_s: float | None) -> None:
        """The answers to all that was posted, in their order; the first that failed is raised then."""
        posted, self._posted = self._posted, []
        failed: list[QprofError] = []
        for request in posted:
            try:
                self._answer(request, timeout_s)
            except QprofError as error:
                failed.append(error)
        if failed:
            raise failed[0]

    def _answer(
        self, request: Request[Any], timeout_s: float | None, meanwhile: Callable[[], None] | None = None
    ) -> Envelope:
        asked = request.__struct_config__.tag
        key, limit_s = ("timeout_s", timeout_s) if timeout_s is not None else ("step_timeout_s", self._bounds.step_s)
        try:
            envelope = self._received(asked, limit_s, meanwhile)
        except TimeoutError:
            self.kill()
            raise WorkerError(
                f"{self.label}: no answer to {asked!r} within {limit_s:.0f} s; stopped it "
                f"(protocol.{key} sets the limit)"
            ) from None
        except (EOFError, OSError):
            raise WorkerError(f"{self.label}: {self._cause_of_death()} during {asked!r}{self._words()}") from None
        if envelope.failed:
            raise _as_error(decoded(envelope, Failure), self.label)
        return envelope

    def _received(self, asked: object, limit_s: float | None, meanwhile: Callable[[], None] | None) -> Envelope:
        """The answer; the worker's memory is looked at meanwhile. Raises `TimeoutError`, and what `receive` does."""
        begin = time.monotonic()
        while True:
            left_s = None if limit_s is None else max(0.0, begin + limit_s - time.monotonic())
            try:
                return self._channel.receive(_LOOK_S if left_s is None else min(_LOOK_S, left_s))
            except TimeoutError:
                if left_s is not None and left_s <= _LOOK_S:
                    raise
            self._refuse_memory(asked)
            if meanwhile is not None:
                meanwhile()

    def _refuse_memory(self, asked: object) -> None:
        limit = self._bounds.memory_bytes
        taken = None if limit is None else own_bytes(self.pid)
        if limit is not None and taken is not None and taken > limit:
            self.kill()
            raise WorkerError(
                f"{self.label}: took {taken / 1e9:.1f} GB of memory in {asked!r} and may take {limit / 1e9:.1f} GB; "
                "stopped it (--memory-limit sets the limit)"
            )

    def dismiss(self) -> None:
        """Let the worker leave, without waiting until it has: `stop` does. Several leave together that way."""
        self._channel.close()

    def stop(self) -> None:
        """End the worker: its end of the channel closes, and it leaves; one that does not is killed."""
        self.dismiss()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the worker at once."""
        self.kill_process()
        self._process.wait()
        self._channel.close()

    def kill_process(self) -> None:
        """The same, of a worker that another thread asks something: that one is told, and closes what is left."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    @property
    def lives(self) -> bool:
        """Whether the process is there."""
        return self._process.poll() is None

    def _cause_of_death(self) -> str:
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.kill()
            return "closed its channel"
        if code < 0:
            name = signal.Signals(-code).name if -code in list(signal.Signals) else f"signal {-code}"
            hint = " (out of memory?)" if -code == signal.SIGKILL else ""
            return f"the worker was killed by {name}{hint}"
        return f"the worker left with exit code {code}"

    def _words(self) -> str:
        """The end of what the worker printed, on one line."""
        try:
            text = self.log.read_bytes()[self._log_begin :][-4000:].decode(errors="replace")
        except OSError:
            return ""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return f"; its last words: {' / '.join(lines[-2:])[-_LAST_WORDS:]}" if lines else ""


def stop_all(workers: Iterable[WorkerProcess]) -> None:
    """End several workers: what a library does when its process ends takes a second, of all of them together."""
    leaving = list(workers)
    for worker in leaving:
        worker.dismiss()
    for worker in leaving:
        worker.stop()


@contextlib.contextmanager
def closing_worker(label: str, log: Path, bounds: Bounds = Bounds()) -> Iterator[WorkerProcess]:
    """A worker for one job, ended with it."""
    worker = WorkerProcess(label, log, bounds)
    try:
        yield worker
    finally:
        worker.stop()


def _environment() -> dict[str, str]:
    """The parent's environment, with this very qprof importable in the child."""
    root = str(Path(errors.__file__).resolve().parent.parent)
    paths = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    own = {"PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)), "PYTHONUNBUFFERED": "1"}
    # numpy's products are short here. Its threads wait for each other spinning, which beside a busy neighbour took
    # twenty times as long as one thread alone; runtimes have threads of their own, which this leaves alone.
    one = {"OPENBLAS_NUM_THREADS": os.environ.get("OPENBLAS_NUM_THREADS", "1")}
    # Sets of names in another order make another process: Python's own part of an inference differs by a percent then.
    same = {"PYTHONHASHSEED": os.environ.get("PYTHONHASHSEED", "0")}
    return {**os.environ, **own, **one, **same, "PYTHONSAFEPATH": "1"}  # for what the worker's libraries start


def _as_error(error: Failure, label: str) -> QprofError:
    kind = getattr(errors, error.type, None)
    text = " ".join(error.text.split())  # libraries write several lines
    if kind is WorkerError:
        return WorkerError(f"{label}: {text}")
    if isinstance(kind, type) and issubclass(kind, QprofError):
        return kind(text)
    return WorkerError(f"{label}: {error.type}: {text}")
