"""Output that cannot be written, and a terminal that goes away, end a command in order."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from command_line import CommandLine
from qprof.store.blocks import block_files
from qprof.store.run import Run


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("words", [["--version"], ["show", "RUN"], ["show", "no-such-run"]])
def test_a_closed_stream_is_no_error(qprof: CommandLine, small_run: Path, closed: str, words: list[str]) -> None:
    arguments = [str(small_run) if word == "RUN" else word for word in words]
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", *qprof.arguments(*arguments)],
        cwd=qprof.folder,
        env=qprof.variables(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == (2 if "no-such-run" in words else 0), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
@pytest.mark.parametrize("words", [["show", "RUN"], ["layers", "RUN"], ["explain", "RUN", "--json"], ["doctor"]])
def test_a_full_disk_behind_the_output_is_told_in_one_line(
    qprof: CommandLine, small_run: Path, words: list[str]
) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            qprof.arguments(*[str(small_run) if word == "RUN" else word for word in words]),
            cwd=qprof.folder,
            env=qprof.variables(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.endswith("qprof: the output cannot be written: No space left on device\n")
    assert "Traceback" not in done.stderr


def test_a_terminal_that_goes_away_ends_the_run_and_all_its_workers(qprof: CommandLine, models: Path) -> None:
    """The fixture sees that no process is left behind."""
    process = qprof.start("run", models / "a.tflite", models / "b.tflite", "-o", "r")
    deadline = time.monotonic() + 60
    while len(block_files(qprof.folder / "r/parts")) < 3 and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    process.send_signal(signal.SIGHUP)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and err.splitlines()[-1] == "qprof: interrupted"
    assert Run(qprof.folder / "r").manifest.status == "interrupted"
