"""`qprof`: finds the command, runs it, and turns errors into one line and an exit code."""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import os
import pkgutil
import signal
import sys
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import NoReturn

import qprof
import qprof.cli
from qprof.errors import QprofError

#: Exit codes: 0 done; 1 done, but a variant failed; 2 bad input or a run that could not be done; 130 interrupted.
INTERRUPTED = 130

#: Modules of this package that are not commands.
_HELPERS = {"main", "common", "quantity"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit code."""
    _open_streams()
    try:
        with _interruptions():
            parser = _parser()
            options = parser.parse_args(arguments)
            if options.command is None:
                parser.print_help()
                return 0
            code = int(options.run(options))
            sys.stdout.flush()  # here, where a reader that has gone is understood
        return code
    except QprofError as error:
        print(f"qprof: {_one_line(str(error))}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("qprof: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has gone.
        _drop_output()
        return 0
    except MemoryError:
        print("qprof: out of memory; close other programs, or give it less to read", file=sys.stderr)
        return QprofError.exit_code
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO) or error.filename is not None:
            raise
        # Of what has no name: the output itself.
        _drop_output()
        print(f"qprof: the output cannot be written: {error.strerror}", file=sys.stderr)
        return QprofError.exit_code


@contextlib.contextmanager
def _interruptions() -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP end a command as Ctrl-C does: workers stopped, the manifest in order, resumable.

    A module in C that is being imported when the signal comes may lose the KeyboardInterrupt, and fail of something
    else a moment later: whatever ends the command after a signal is taken for the interruption.
    """
    came = []

    def interrupt(signum: int, frame: FrameType | None) -> NoReturn:
        came.append(signum)
        raise KeyboardInterrupt

    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(ending) is not signal.SIG_IGN:  # as nohup has it, or a shell's "&"
            signal.signal(ending, interrupt)
    try:
        yield
    except Exception as error:
        if came:
            raise KeyboardInterrupt from error
        raise


def _open_streams() -> None:
    """A stream that whoever started this has closed is None: what is printed goes nowhere, and nothing fails of it."""
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  (as long as the process)
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def _drop_output() -> None:
    """Python must not complain once more when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Parser(argparse.ArgumentParser):
    """argparse, but a bad command line is told in one line, as every other bad input."""

    def error(self, message: str) -> NoReturn:
        self.exit(QprofError.exit_code, f"qprof: {_one_line(message)}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="qprof",
        description=qprof.__doc__,
        epilog="RUN is a run directory, the beginning of its name, or 'latest'.",
    )
    parser.add_argument("--version", action="version", version=f"qprof {qprof.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name in command_names():
        module = importlib.import_module(f"qprof.cli.{name}")
        summary = (module.__doc__ or "").strip().splitlines()[0]
        command = commands.add_parser(
            name, help=summary, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def command_names() -> list[str]:
    """Every module of this package is a command, named as it is."""
    found = {module.name for module in pkgutil.iter_modules(qprof.cli.__path__)}
    return sorted(found - _HELPERS)


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)


if __name__ == "__main__":
    sys.exit(main())
