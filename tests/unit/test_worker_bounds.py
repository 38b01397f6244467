"""A worker that takes too much memory or time is stopped, whatever it was asked, and says which limit it met."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qprof.errors import WorkerError
from qprof.measure.parent import process
from qprof.measure.parent.process import Bounds, WorkerProcess
from qprof.measure.requests import PreloadEstimator
from qprof.probes.process_memory import own_bytes
from qprof.record.sections import ProtocolSection

HOG = """
import sys, time
from qprof.measure.worker.server import Server

def hog(self, request):
    held = []
    while True:
        {step}
        time.sleep(0.002)

Server.answer = hog
"""


@pytest.fixture
def hog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose sitecustomize makes workers do `step` for ever, to be written by the test."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def hogging(folder: Path, step: str) -> None:
    (folder / "sitecustomize.py").write_text(HOG.format(step=step))


def test_a_worker_that_eats_memory_is_stopped(hog: Path) -> None:
    hogging(hog, "held.append(bytearray(b'1') * 4_000_000)")
    worker = WorkerProcess("variant x", hog / "log", Bounds(memory_bytes=300_000_000))
    with pytest.raises(
        WorkerError, match=r"variant x: took 0\.\d GB of memory in 'preload_estimator' and may take 0.3"
    ):
        worker.ask(PreloadEstimator())
    assert not Path(f"/proc/{worker.pid}").exists()


def test_so_is_one_whose_child_does(hog: Path) -> None:
    eat = "import time; held = [bytearray(b'1') * 4_000_000 for _ in range(200)]; time.sleep(60)"
    hogging(hog, f"import subprocess; subprocess.run([sys.executable, '-S', '-c', {eat!r}])")
    worker = WorkerProcess("variant x", hog / "log", Bounds(memory_bytes=300_000_000))
    with pytest.raises(WorkerError, match="of memory"):
        worker.ask(PreloadEstimator(), timeout_s=60)


def test_memory_of_files_counts_for_nobody(hog: Path) -> None:
    (hog / "large").write_bytes(b"1" * 400_000_000)
    mapped = "import mmap; file = open({!r}, 'rb'); held = [mmap.mmap(file.fileno(), 0, access=1)]; held[0].rfind(b'2')"
    hogging(hog, mapped.format(str(hog / "large")))
    worker = WorkerProcess("variant x", hog / "log", Bounds(memory_bytes=300_000_000))
    with pytest.raises(WorkerError, match=r"within 3 s; stopped it \(protocol.timeout_s sets the limit\)"):
        worker.ask(PreloadEstimator(), timeout_s=3)


@pytest.mark.parametrize(("timeout_s", "key"), [(None, "step_timeout_s"), (1.0, "timeout_s")])
def test_a_request_that_never_ends_is_given_up(hog: Path, timeout_s: float | None, key: str) -> None:
    hogging(hog, "pass")
    worker = WorkerProcess("variant x", hog / "log", Bounds(step_s=1.0))
    begin = time.monotonic()
    with pytest.raises(WorkerError, match=rf"within 1 s; stopped it \(protocol\.{key} sets"):
        worker.ask(PreloadEstimator(), timeout_s=timeout_s)
    assert time.monotonic() - begin < 20


def test_by_default_the_machine_keeps_a_part_of_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "available_memory_bytes", lambda: 10_000_000_000)
    assert Bounds.of(ProtocolSection()) == Bounds(8_000_000_000, 7200.0)
    assert Bounds.of(ProtocolSection(memory_limit_bytes=200_000_000, step_timeout_s=5)) == Bounds(200_000_000, 5.0)
    monkeypatch.setattr(process, "available_memory_bytes", lambda: None)
    assert Bounds.of(ProtocolSection()).memory_bytes is None


def test_memory_of_processes_is_what_they_hold() -> None:
    hold = "import sys; held = bytearray(b'1') * 100_000_000; print('ready', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-S", "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        found = own_bytes(child.pid)
        assert found is not None and 100_000_000 < found < 130_000_000
        own, whole = own_bytes(child.pid), own_bytes(os.getpid())
        assert own is not None and whole is not None and whole > own
        child.communicate()
    assert own_bytes(child.pid) is None
