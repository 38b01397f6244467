"""Sampling stacks with py-spy: a stand-in replays what py-spy 0.4.3 printed; one test runs the real one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qprof.errors import StoreError
from qprof.probes.stacks import StackRecorder, Stacks, _denied, find_py_spy

#: Recorded: py-spy 0.4.3, `record --format raw`.
STACKS = "<module> (busy.py:7);spin (busy.py:4) 198\n<module> (busy.py:7) 1\n"
BEGUN = "py-spy> Sampling process 100 times a second for 2 seconds. Press Control-C to exit."
WROTE = "py-spy> Wrote raw flamegraph data to '/tmp/o.folded'. Samples: 199 Errors: 2"
DENIED = """Permission Denied: Try running again with elevated permissions by going 'sudo env "PATH=$PATH" !!'"""
NO_PYTHON = "Error: Failed to find python version from target process\n\nStack backtrace:\n   0: anyhow::error"
BEHIND = "py-spy> 1.21s behind in sampling, results may be inaccurate. Try reducing the sampling rate"

REPLAY = """#!{python}
import json, os, signal, sys, time
print(json.dumps(sys.argv[1:]), file=open({calls!r}, "a"))
out = sys.argv[sys.argv.index("--output") + 1]
{body}
"""


@pytest.fixture
def busy() -> Iterator[int]:
    """A Python process that works."""
    code = "def spin():\n    while True: sum(range(10000))\nspin()"
    process = subprocess.Popen([sys.executable, "-c", code])
    yield process.pid
    process.kill()
    process.wait()


class Fake:
    """A py-spy of `body`, and what it was asked."""

    def __init__(self, folder: Path, body: str) -> None:
        self.path, self.out, self._calls = folder / "py-spy", folder / "out.folded", folder / "calls"
        self.path.write_text(REPLAY.format(python=sys.executable, calls=str(self._calls), body=body))
        self.path.chmod(0o755)

    def recorder(self, pid: int, native: bool = True, nonblocking: bool = False) -> StackRecorder:
        return StackRecorder(pid, self.out, native=native, nonblocking=nonblocking, executable=self.path)

    @property
    def calls(self) -> list[list[str]]:
        return [json.loads(line) for line in self._calls.read_text().splitlines()]


def says(*lines: str, stacks: str | None = None, code: int = 0) -> str:
    write = f"open(out, 'w').write({stacks!r})\n" if stacks is not None else ""
    return write + "".join(f"print({line!r}, flush=True)\n" for line in lines) + f"sys.exit({code})"


def test_a_recording(tmp_path: Path, busy: int) -> None:
    fake = Fake(tmp_path, says(BEGUN, "", WROTE, stacks=STACKS))
    with fake.recorder(busy) as recorder:
        found = recorder.record(1.2)
    assert found == Stacks(100, True, tuple(STACKS.splitlines()), samples=199, errors=2)
    (call,) = fake.calls
    assert call[:3] == ["record", "--pid", str(busy)] and "--native" in call and "--nonblocking" not in call
    assert call[call.index("--duration") + 1] == "2" and call[call.index("--format") + 1] == "raw"


def test_stop_ends_it_as_ctrl_c_does(tmp_path: Path, busy: int) -> None:
    body = f"""
def end(number, frame):
    open(out, "w").write({STACKS!r}); print({WROTE!r}, flush=True); sys.exit(0)
signal.signal(signal.SIGINT, end)
print({BEGUN!r}, flush=True)
time.sleep(60)"""
    with Fake(tmp_path, body).recorder(busy, native=False, nonblocking=True) as recorder:
        assert recorder.start(60)
        begun = time.monotonic()
        found = recorder.stop()
    assert time.monotonic() - begun < 20
    assert (found.samples, found.native, found.reason) == (199, False, None)


def test_no_permission_is_told_once_with_its_remedy(tmp_path: Path, busy: int) -> None:
    fake = Fake(tmp_path, says(DENIED, code=1))
    with fake.recorder(busy) as recorder:
        found = recorder.record(1)
        assert recorder.stop() == found
    assert found.folded is None and found.samples is None and found.errors is None
    assert found.reason is not None and found.reason.startswith("py-spy may not trace the process")
    assert found.remedy is not None and ("setcap" in found.remedy or "SYS_PTRACE" in found.remedy)
    assert len(fake.calls) == 1


@pytest.mark.parametrize(
    ("files", "reason", "remedy"),
    [
        ({"proc/sys/kernel/yama/ptrace_scope": "1\n"}, "ptrace_scope is 1", "sysctl kernel.yama.ptrace_scope=0"),
        ({"proc/sys/kernel/yama/ptrace_scope": "2\n"}, "ptrace_scope is 2", "setcap cap_sys_ptrace+ep /x/py-spy"),
        ({"proc/sys/kernel/yama/ptrace_scope": "3\n"}, "ptrace_scope is 3", "until the next boot"),
        ({".dockerenv": "", "proc/sys/kernel/yama/ptrace_scope": "1"}, "scope is 1", "--cap-add=SYS_PTRACE"),
        ({}, "may not trace the process", "run qprof as root"),
    ],
)
def test_the_remedy_fits_the_machine(tmp_path: Path, files: dict[str, str], reason: str, remedy: str) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    told = _denied(Path("/x/py-spy"), tmp_path)
    assert reason in told[0] and remedy in told[1]


def test_without_native_frames_where_they_cannot_be_had(tmp_path: Path, busy: int) -> None:
    refused = says("Error: Failed to unwind native frames", code=1)
    body = f"if '--native' in sys.argv:\n    {refused.replace(chr(10), '; ')}\n" + says(BEGUN, WROTE, stacks=STACKS)
    fake = Fake(tmp_path, body)
    with fake.recorder(busy) as recorder:
        found = recorder.record(1)
    assert found.folded is not None and found.native is False
    assert found.notes == ("without native frames: Error: Failed to unwind native frames",)
    assert ["--native" in call for call in fake.calls] == [True, False]


def test_a_process_that_is_no_python(tmp_path: Path, busy: int) -> None:
    with Fake(tmp_path, says(NO_PYTHON, code=1)).recorder(busy, native=False) as recorder:
        found = recorder.record(1)
    assert (found.folded, found.reason) == (None, "Error: Failed to find python version from target process")


def test_a_process_that_has_ended(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with Fake(tmp_path, says(NO_PYTHON, code=1)).recorder(ended.pid) as recorder:
        assert recorder.record(1).reason == f"process {ended.pid} has ended"


def test_no_samples_are_not_stacks_of_before(tmp_path: Path, busy: int) -> None:
    fake = Fake(tmp_path, says(BEGUN, WROTE.replace("199", "0")))
    fake.out.write_text(STACKS)
    with fake.recorder(busy) as recorder:
        found = recorder.record(1)
    assert found.folded is None and found.reason is not None and "cannot be read" in found.reason


def test_idle_threads_alone(tmp_path: Path, busy: int) -> None:
    with Fake(tmp_path, says(BEGUN, WROTE, stacks="")).recorder(busy) as recorder:
        found = recorder.record(1)
    assert found.reason == "py-spy took 199 samples and found no running thread (2 errors)"


def test_falling_behind_is_told(tmp_path: Path, busy: int) -> None:
    with Fake(tmp_path, says(BEGUN, BEHIND, WROTE, stacks=STACKS)).recorder(busy) as recorder:
        assert recorder.record(1).notes == ("py-spy fell behind its rate: shares may be off; take a lower rate",)


def test_a_sampler_that_hangs_is_killed(tmp_path: Path, busy: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qprof.probes.stacks._START_S", 0.5)
    body = "open(out + '.pid', 'w').write(str(os.getpid()))\ntime.sleep(60)"
    fake = Fake(tmp_path, body)
    with fake.recorder(busy, native=False) as recorder:
        assert not recorder.start(1)
        assert recorder.stop().reason == "py-spy did not answer within 0.5 s"
    with pytest.raises(ProcessLookupError):
        os.kill(int(Path(f"{fake.out}.pid").read_text()), 0)


def test_no_sampler_outlives_its_recorder(tmp_path: Path, busy: int) -> None:
    fake = Fake(tmp_path, f"open(out, 'w').write(str(os.getpid()))\nprint({BEGUN!r}, flush=True)\ntime.sleep(60)")
    with fake.recorder(busy) as recorder:
        assert recorder.start(60)
    with pytest.raises(ProcessLookupError):
        os.kill(int(fake.out.read_text()), 0)


def test_no_py_spy(tmp_path: Path, busy: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert find_py_spy() is None
    found = StackRecorder(busy, tmp_path / "out").record(1)
    assert (found.reason, found.remedy) == (
        "py-spy is not installed",
        "pip install 'qprof[energy]'",
    )
    (tmp_path / "py-spy").write_text("")
    (tmp_path / "py-spy").chmod(0o755)
    assert find_py_spy() == tmp_path / "py-spy"
    assert "cannot be started" in str(StackRecorder(busy, tmp_path / "out").record(1).reason)


def test_saved_for_the_run(tmp_path: Path) -> None:
    Stacks(100, True, ("a;b 3", "a \ud800 1"), 4, 0).save(tmp_path / "stacks", "int4", slowdown=0.16)
    assert (tmp_path / "stacks/int4.folded").read_bytes() == b"a;b 3\na \\ud800 1\n"
    facts = json.loads((tmp_path / "stacks/int4.json").read_text())
    assert {n: facts[n] for n in ("rate_hz", "samples", "errors", "native", "slowdown")} == {
        "rate_hz": 100,
        "samples": 4,
        "errors": 0,
        "native": True,
        "slowdown": 0.16,
    }
    Stacks(100, True, reason="may not", remedy="be root").save(tmp_path / "stacks", "int8")
    assert not (tmp_path / "stacks/int8.folded").exists()
    assert json.loads((tmp_path / "stacks/int8.json").read_text())["remedy"] == "be root"
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError):
        Stacks(100, True).save(tmp_path / "file", "x")


def test_py_spy_itself(tmp_path: Path, busy: int) -> None:
    if find_py_spy() is None:
        pytest.skip("py-spy is not installed")
    time.sleep(0.5)  # the interpreter must have begun its script
    with StackRecorder(busy, tmp_path / "out.folded", native=False) as recorder:
        found = recorder.record(1)
    if found.reason is not None and "may not trace" in found.reason:
        pytest.skip(f"{found.reason}; {found.remedy}")
    assert found.samples is not None and found.samples > 20 and found.folded is not None
    assert any("spin" in line for line in found.folded)
