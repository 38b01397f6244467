"""Mutates every kind of file that qprof reads, and reads it as a run would.

    python tests/campaigns/mutations.py --count 1000 [--how bytes|structure] [KIND ...]

"bytes": bytes are flipped, cut, doubled and overwritten by numbers at their limits; of JSON values are replaced.
"structure": a change that knows the format (structured.py), so that what reads it comes as far as the change. Each file
is read in a forked child with a limit of memory and a time limit; children take several, and what kills one is told
apart. A file may be read, or refused by a `QprofError` in one line. Anything else (another exception, a hang, a death,
a file written beside it) is wrong: each kind of it is printed once, behind the counts. What is read by a worker alone
(models that are loaded and run: the kinds called load-...) may die with it, which is told apart.
The kinds of files: kinds.py. Run directories have a campaign of their own: run_folders.py.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import gc
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from structured import Change, values

from qprof.errors import QprofError

_BATCH = 100
_LIMIT_S = 20
_LIMIT_BYTES = 4 << 30


@dataclass(frozen=True)
class Kind:
    """One kind of file. `make`: writes a whole one into a folder and returns it; `read`: reads it as a run would;
    `change`: of its structure, `None` where nothing knows it; `in_worker`: it is read by a worker alone, whose death is
    told in one line; `limit_s`: for one reading."""

    name: str
    make: Callable[[Path], Path]
    read: Callable[[Path], object]
    change: Change | None = None
    in_worker: bool = False
    limit_s: int = _LIMIT_S
    limit_bytes: int = _LIMIT_BYTES


class Late(BaseException):
    """Something takes longer than it may."""


@contextlib.contextmanager
def limited(most_s: float) -> Iterator[None]:
    """Raise `Late` in a body that takes longer. What is not counted is the time in which it would run, and other
    processes have the core: on a machine that is loaded tenfold all would be late."""
    began_s = time.monotonic() - _denied_s()

    def alarm(number: int, frame: FrameType | None) -> None:
        left_s = most_s - (time.monotonic() - _denied_s() - began_s)
        if left_s <= 0:
            raise Late
        signal.setitimer(signal.ITIMER_REAL, max(left_s, 0.01))

    signal.signal(signal.SIGALRM, alarm)
    signal.setitimer(signal.ITIMER_REAL, most_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _denied_s() -> float:
    """How long the threads of this process have waited for a core so far, all of them together: one may wait for what
    another is to do. What hangs waits for none."""
    found = 0
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # it has ended meanwhile
            found += int((thread / "schedstat").read_text().split()[1])
    return found / 1e9


def mutated(content: bytes, rng: random.Random, text: bool) -> bytes:
    """A change of a file's bytes; of JSON, more often one of its values."""
    if text and rng.random() < 0.7:
        with contextlib.suppress(ValueError, RecursionError):
            return values(json.loads(content), rng)
    data = bytearray(content)
    how = rng.choice(("flip", "flip", "cut", "number", "number", "double", "drop", "swap"))
    at = rng.randrange(len(data)) if rng.random() < 0.5 else rng.randrange(min(len(data), 400))
    if how == "flip":
        for _ in range(rng.choice((1, 2, 10))):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        data[at] ^= 1 << rng.randrange(8)
    elif how == "cut":
        del data[at:]
    elif how == "number":
        width = rng.choice((1, 2, 4, 8))
        value = rng.choice((0, 1, 2**31, 2**31 - 1, 2**32 - 1, 2**62, 2**63, 2**64 - 1)) % 2 ** (8 * width)
        data[at : at + width] = value.to_bytes(width, "little")
    elif how == "double":
        data[at:at] = data[at : at + rng.choice((1, 8, 200))]
    elif how == "drop":
        del data[at : at + rng.choice((1, 4, 100))]
    else:
        other = rng.randrange(len(data))
        data[at : at + 8], data[other : other + 8] = data[other : other + 8], data[at : at + 8]
    return bytes(data)


def campaign(kind: Kind, count: int, seed: int, how: str = "bytes") -> collections.Counter[str]:
    """So many mutations of one kind; what became of them."""
    found: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory(prefix="qprof-mutations-") as folder:
        (Path(folder) / "here").mkdir()
        whole = kind.make(Path(folder) / "here")
        there = _listed(Path(folder))
        kind.read(whole)  # else all that follows would be refused for another reason
        gc.freeze()  # what is collected in the children is their own: gptqmodel has it done several times per load
        content, done = whole.read_bytes(), 0
        while done < count:
            outcomes = _child(kind, whole, content, range(seed + done, seed + min(done + _BATCH, count)), how)
            found.update(outcomes)
            done += len(outcomes)
        for more in sorted(set(_listed(Path(folder))) - set(there)):
            found[f"WRONG: a file was written: {more}"] += 1
    return found


def _listed(folder: Path) -> list[str]:
    """What lies in a folder, caches left out, which reading may fill."""
    found = (str(path.relative_to(folder)) for path in folder.rglob("*"))
    return [name for name in found if not name.startswith("cache") and "__pycache__" not in name]


def _address_space() -> int:
    """Bytes of this process: those of libraries that its parent had loaded are not what a reading takes."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def _child(kind: Kind, whole: Path, content: bytes, seeds: range, how: str) -> list[str]:
    """The outcome of each seed up to the one that killed the child, if one did."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            _in_child(kind, whole, content, seeds, how, writer)
        finally:
            os._exit(0)  # never into the exit of an interpreter whose threads were left behind by the fork
    os.close(writer)
    with os.fdopen(reader) as stream:
        outcomes = stream.read().splitlines()
    _, status = os.waitpid(pid, 0)
    if len(outcomes) < len(seeds):
        died = "the worker died" if kind.in_worker else "DIED"
        outcomes.append(f"{died}: status {status} (seed {seeds[len(outcomes)]})")
    whole.write_bytes(content)
    return outcomes


def _in_child(kind: Kind, whole: Path, content: bytes, seeds: range, how: str, writer: int) -> None:
    os.chdir(whole.parent)  # where a payload would write
    os.environ["QPROF_CACHE"] = str(whole.parents[1] / "cache")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    limit = _address_space() + kind.limit_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with os.fdopen(writer, "w") as stream:
        for seed in seeds:
            try:
                whole.write_bytes(changed(kind, content, seed, how))
                # A read that the alarm does not end (in a library, which Python does not interrupt) is ended by this.
                signal.setitimer(signal.ITIMER_PROF, 3 * kind.limit_s)
                text = _outcome(kind, whole, seed)
            except BaseException as error:  # of the campaign itself, or an alarm that came when the reading was over
                text = f"WRONG: {type(error).__name__} beside the reading (seed {seed}): {str(error)[:80]}"
            stream.write(text.replace("\n", " ") + "\n")
            stream.flush()


def changed(kind: Kind, content: bytes, seed: int, how: str) -> bytes:
    """The file of a seed. A change of its structure that cannot be made (of what json or zipfile do not take) is one of
    its bytes."""
    rng = random.Random(f"{kind.name} {seed}")
    if how == "structure" and kind.change is not None:
        with contextlib.suppress(ValueError, LookupError, RecursionError, OverflowError, TypeError, AttributeError):
            return kind.change(content, rng)
    return mutated(content, rng, kind.make.__name__ != "_toml" and _is_json(content))


def _is_json(content: bytes) -> bool:
    return content.lstrip()[:1] in (b"{", b"[") and b"\0" not in content[:100]


def _outcome(kind: Kind, path: Path, seed: int) -> str:
    try:
        with limited(kind.limit_s):
            kind.read(path)
    except QprofError as error:
        told = str(error).replace(str(path.parent), "")
        return "refused" if told.count("\n") == 0 else f"WRONG: two lines: {told[:80]!r} (seed {seed})"
    except Late:
        return f"WRONG: more than {kind.limit_s} s (seed {seed})"
    except MemoryError:  # the command line tells it in one line
        return "out of memory"
    except BaseException as error:
        own = [frame for frame in traceback.extract_tb(error.__traceback__) if "/qprof/" in frame.filename]
        at = f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else "?"
        return f"WRONG: {type(error).__name__} at {at} (seed {seed}): {str(error)[:80]}"
    return "read"


def main() -> int:
    from kinds import KINDS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", choices=[[], *(kind.name for kind in KINDS)], help="by default all")
    parser.add_argument("--count", type=int, default=1000, help="mutations of each kind and sort")
    parser.add_argument("--how", choices=["bytes", "structure"], help="by default both")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    wrong = 0
    for kind in KINDS:
        for how in ("bytes", "structure") if options.how is None else (options.how,):
            named = not options.kinds or kind.name in options.kinds
            if named and (how == "bytes" or kind.change is not None):
                wrong += _report(kind, options.count, options.seed, how)
    return int(wrong > 0)


def _report(kind: Kind, count: int, seed: int, how: str) -> int:
    """Carry out and print one campaign; returns how many were wrong."""
    began = time.monotonic()
    found = campaign(kind, count, seed, how)
    shown = collections.Counter(text.partition(" (seed")[0] for text in found.elements())
    told = ", ".join(f"{count} {text}" for text, count in shown.most_common())
    print(f"{kind.name}, {how}: {told}; {time.monotonic() - began:.0f} s", flush=True)
    bad = [text for text in found if text.startswith(("WRONG", "DIED", "the worker died"))]
    for text in {text.partition(" (seed")[0]: text for text in bad}.values():
        print(f"    {text}", flush=True)
    return sum(not text.startswith("the worker died") for text in bad)


if __name__ == "__main__":
    sys.exit(main())
