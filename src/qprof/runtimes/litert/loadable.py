"""Does LiteRT load a file? Asked in a process of its own: a file that crashes it costs an answer, and not the command
that asked. `python -m MODULE FILE`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from qprof.errors import ModelError
from qprof.runtimes.litert.variant import refuse_unloadable

_REFUSED = 3
#: Allocating the tensors of the largest models takes seconds.
_MOST_S = 120


def refuse_unloadable_file(path: Path, what: str, remedy: str) -> None:
    """As `refuse_unloadable`, of a file, and without loading it in this process. Raises `ModelError`."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", __name__, str(path), what, remedy],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_MOST_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ModelError(f"{what}: LiteRT does not load it within {_MOST_S} s; {remedy}") from None
    if done.returncode == _REFUSED:
        raise ModelError(" ".join(done.stdout.split()))
    if done.returncode:
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        raise ModelError(f"{what}: LiteRT dies of it ({how}); {remedy}")


def main(arguments: Sequence[str]) -> int:
    """Load the file; what is wrong with it is printed."""
    path, what, remedy = arguments
    try:
        refuse_unloadable(Path(path).read_bytes(), what, remedy)
    except ModelError as error:
        print(error)
        return _REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
