"""A signal ends a command as an interruption, whatever becomes of the KeyboardInterrupt on its way."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: `qprof list` replaced by what a signal meets: a module in C loses the KeyboardInterrupt and fails of something else.
PROGRAM = """
import os, signal, sys
from qprof.cli import list as command, main
from qprof.errors import ModelError

ending, raised, where = sys.argv[1:]
signal.signal(signal.SIGINT, signal.default_int_handler)

def run(options):
    try:
        os.kill(os.getpid(), int(ending))
    except KeyboardInterrupt:
        pass
    if raised:
        raise {"AttributeError": AttributeError, "ModelError": ModelError}[raised]("half imported")
    return 0

setattr(command, where, run)
sys.exit(main.main(["list"]))
"""


def run(ending: int, raised: str, where: str = "run") -> tuple[int, str]:
    arguments = [sys.executable, "-c", PROGRAM, str(ending), raised, where]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize("where", ["run", "add_arguments"])
@pytest.mark.parametrize("raised", ["AttributeError", "ModelError"])
@pytest.mark.parametrize("ending", [1, 2, 15])
def test_what_fails_after_a_signal_is_the_interruption(ending: int, raised: str, where: str) -> None:
    """Also while the commands are still being read, which imports numpy."""
    assert run(ending, raised, where) == (130, "qprof: interrupted\n")


def test_a_command_that_ends_well_after_a_lost_signal_has_done_its_work() -> None:
    assert run(2, "") == (0, "")


def test_an_error_without_a_signal_is_an_error() -> None:
    assert run(0, "ModelError") == (2, "qprof: half imported\n")
    code, told = run(0, "AttributeError")
    assert code == 1 and "Traceback" in told
