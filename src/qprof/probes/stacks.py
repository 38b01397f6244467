"""The stacks of another process, sampled by py-spy (https://github.com/benfred/py-spy) from outside.

It slows the process down (some per cent at 100 Hz, more with native frames), so it belongs into blocks of its own.
"""

from __future__ import annotations

import contextlib
import math
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qprof.store.files import make_folder, write_atomic, write_json

_BEGUN = re.compile(r"Sampling process (\d+) times")
_COUNTS = re.compile(r"Samples: (\d+) Errors: (\d+)")
_DENIED = re.compile(r"permission denied|operation not permitted|\bEPERM\b", re.IGNORECASE)
_BEHIND = re.compile(r"behind in sampling", re.IGNORECASE)
#: py-spy reads the symbols of every library of the process first, hundreds of MB for torch.
_START_S = 30.0
_END_S = 30.0
_INSTALL = "pip install 'qprof[energy]'"


@dataclass(frozen=True, slots=True)
class Stacks:
    """What was sampled, or why nothing was.

    `folded`: lines "outermost;...;innermost count", `None` with `reason` and `remedy` where there are none. `samples`,
    `errors`: as py-spy counts them (a sample of several threads counts once). `native`: whether native frames are in
    it; `notes`: what else a reader must know.
    """

    rate_hz: int
    native: bool
    folded: tuple[str, ...] | None = None
    samples: int | None = None
    errors: int | None = None
    reason: str | None = None
    remedy: str | None = None
    notes: tuple[str, ...] = ()

    def below(self, frame: str) -> Stacks:
        """The same stacks with one more outermost frame."""
        folded = None if self.folded is None else tuple(f"{frame};{line}" for line in self.folded)
        return replace(self, folded=folded)

    @classmethod
    def together(cls, parts: Sequence[Stacks]) -> Stacks:
        """Stacks that were sampled one after the other, all of them with stacks, as one."""
        return replace(
            parts[0],
            folded=tuple(line for part in parts for line in part.folded or ()),
            samples=sum(part.samples or 0 for part in parts),
            errors=sum(part.errors or 0 for part in parts),
            native=all(part.native for part in parts),
            notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
        )

    def save(self, folder: Path, variant: str, slowdown: float | None = None) -> None:
        """Write VARIANT.folded (where there are stacks) and VARIANT.json into the run's "stacks" folder.

        `slowdown`: what sampling added to the median inference, as a part of it (0.06 = 6 % longer), `None` where that
        was not measured. Raises `StoreError`.
        """
        make_folder(folder)
        names = ("rate_hz", "samples", "errors", "native", "reason", "remedy")
        facts: dict[str, Any] = {name: getattr(self, name) for name in names}
        if self.folded is not None:
            # Names of frames come from the programs that were sampled: a terminal must be able to show them.
            lines = (line if line.isprintable() else line.encode("unicode_escape").decode() for line in self.folded)
            text = "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace")
            write_atomic(folder / f"{variant}.folded", lambda stream: stream.write(text))
        write_json(folder / f"{variant}.json", {**facts, "slowdown": slowdown, "notes": list(self.notes)})


class StackRecorder:
    """py-spy beside a running process: `start` returns once it samples, `stop` with what it saw.

    Nothing here raises for a sampler that is missing, refused or dies: `Stacks.reason` tells. `out` is where py-spy
    writes; as a context manager it leaves no py-spy behind.
    """

    def __init__(
        self,
        pid: int,
        out: Path,
        rate_hz: int = 100,
        native: bool = True,
        nonblocking: bool = False,
        executable: Path | None = None,
    ) -> None:
        self._pid, self._out, self._rate_hz = pid, out, rate_hz
        self._native, self._nonblocking = native, nonblocking
        self._executable = executable if executable is not None else find_py_spy()
        self._child: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._said: list[str] = []
        self._failed: Stacks | None = None
        self._notes: tuple[str, ...] = ()

    def __enter__(self) -> StackRecorder:
        return self

    def __exit__(self, *error: object) -> None:
        self._kill()

    def start(self, limit_s: float) -> bool:
        """Begin to sample, for `limit_s` at most; false where that is not possible (`stop` tells why).

        Where native frames cannot be had, it goes on without them.
        """
        self._kill()
        self._failed, self._notes = None, ()
        if self._executable is None:
            self._failed = self._nothing("py-spy is not installed", _INSTALL)
            return False
        if self._begin(limit_s):
            return True
        failed = self._explained()
        if self._native and not _DENIED.search("\n".join(self._said)) and _alive(self._pid):
            self._native = False
            if self._begin(limit_s):
                self._notes = (f"without native frames: {failed.reason}",)
                return True
        self._failed = failed
        return False

    def stop(self) -> Stacks:
        """End the sampling, or learn that it has ended, and read what was seen."""
        if self._failed is not None:
            return self._failed
        if self._child is None:
            return self._nothing("sampling was not started", "call start first")
        with contextlib.suppress(ProcessLookupError):
            self._child.send_signal(signal.SIGINT)  # as Ctrl-C: it writes what it has
        return self._finished(_END_S)

    def record(self, seconds: float) -> Stacks:
        """Sample for that long (rounded up to whole seconds, as py-spy takes them), or until the process ends."""
        return self._finished(math.ceil(seconds) + _END_S) if self.start(seconds) else self.stop()

    def _begin(self, limit_s: float) -> bool:
        """Start py-spy and wait until it says that it samples."""
        with contextlib.suppress(OSError):
            self._out.unlink()  # what an earlier sampling left must not pass for this one's
        self._said, self._lines = [], queue.Queue()
        try:
            self._child = subprocess.Popen(
                self._command(limit_s),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,  # Ctrl-C of the terminal is for qprof alone
            )
        except OSError as error:
            self._child = None
            self._said = [f"{self._executable}: cannot be started ({error.strerror})"]
            return False
        threading.Thread(target=_forward, args=(self._child.stdout, self._lines), daemon=True).start()
        if self._read_until(_BEGUN, _START_S):
            return True
        self._kill()
        return False

    def _command(self, limit_s: float) -> list[str]:
        options = ["--format", "raw", "--rate", str(self._rate_hz), "--duration", str(max(1, math.ceil(limit_s)))]
        flags = (["--native"] if self._native else []) + (["--nonblocking"] if self._nonblocking else [])
        return [str(self._executable), "record", "--pid", str(self._pid), *options, *flags, "--output", str(self._out)]

    def _read_until(self, wanted: re.Pattern[str] | None, within_s: float) -> bool:
        """Take py-spy's lines until one fits, or (none wanted) until it has closed its output; false on time-out."""
        deadline = time.monotonic() + within_s
        while (left := deadline - time.monotonic()) > 0:
            try:
                line = self._lines.get(timeout=left)
            except queue.Empty:
                break
            if line is None:
                self._lines.put(None)
                return wanted is None
            self._said.append(line)
            if wanted is not None and wanted.search(line):
                return True
        self._said.append(f"py-spy did not answer within {within_s:g} s")
        return False

    def _finished(self, within_s: float) -> Stacks:
        self._read_until(None, within_s)
        self._kill()
        counts = _COUNTS.search("\n".join(self._said))
        if counts is None:
            return self._explained()
        samples, errors = int(counts[1]), int(counts[2])
        try:
            lines = tuple(self._out.read_text(encoding="utf-8", errors="replace").splitlines())
        except OSError as error:
            return self._nothing(f"{self._out}: cannot be read ({error.strerror})", "check the folder and its space")
        if not lines:
            why = f"py-spy took {samples} samples and found no running thread ({errors} errors)"
            return self._nothing(why, "sample for longer, while the process works")
        behind = any(_BEHIND.search(line) for line in self._said)
        late = ("py-spy fell behind its rate: shares may be off; take a lower rate",) if behind else ()
        return Stacks(self._rate_hz, self._native, lines, samples, errors, notes=(*self._notes, *late))

    def _kill(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()  # the kernel detaches a tracer that ends, and the process goes on
        child.wait()

    def _explained(self) -> Stacks:
        """Why py-spy gave nothing, from what it said."""
        said = "\n".join(self._said)
        if _DENIED.search(said):
            return self._nothing(*_denied(self._executable))
        if not _alive(self._pid):
            return self._nothing(f"process {self._pid} has ended", "sample while it runs")
        first = next((line for line in self._said if line.strip()), "py-spy ended without a word")
        return self._nothing(" ".join(first.split())[:300], "run py-spy record --pid by hand to see more")

    def _nothing(self, reason: str, remedy: str) -> Stacks:
        return Stacks(self._rate_hz, self._native, reason=reason, remedy=remedy)


def find_py_spy() -> Path | None:
    """py-spy beside the interpreter that runs qprof, else on PATH; `None` where there is none."""
    beside = Path(sys.executable).parent / "py-spy"
    if os.access(beside, os.X_OK):
        return beside
    found = shutil.which("py-spy")
    return Path(found) if found else None


def _denied(executable: Path | None, root: Path = Path("/")) -> tuple[str, str]:
    """Why a process may not be traced here, and what allows it (ptrace(2), "Ptrace access mode checking")."""
    try:
        scope = (root / "proc/sys/kernel/yama/ptrace_scope").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        scope = ""
    reason = "py-spy may not trace the process" + (f" (kernel.yama.ptrace_scope is {scope})" if scope else "")
    if (root / ".dockerenv").exists() or (root / "run/.containerenv").exists():
        return reason, "start the container with --cap-add=SYS_PTRACE (Kubernetes: capabilities.add: [SYS_PTRACE])"
    capability = f"give py-spy the capability (sudo setcap cap_sys_ptrace+ep {executable})"
    if scope == "3":
        return reason, "3 forbids it until the next boot: set kernel.yama.ptrace_scope=1 in /etc/sysctl.d and reboot"
    if scope in ("1", "2"):
        lower = "sudo sysctl kernel.yama.ptrace_scope=0, or " if scope == "1" else ""
        return reason, f"{lower}{capability}, or run qprof as root"
    return reason, f"{capability}, run qprof as root, or in a container add --cap-add=SYS_PTRACE"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _forward(stream: Any, lines: queue.Queue[str | None]) -> None:
    """Hand on a child's lines, then `None`: its pipe never fills, and waiting for a line can time out."""
    with stream:
        for line in stream:
            lines.put(line.rstrip("\n"))
    lines.put(None)
