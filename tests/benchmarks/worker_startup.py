"""How long a worker takes until it can load a language model, beyond importing the libraries that it needs.

    python tests/benchmarks/worker_startup.py [--repetitions 5]

A worker is started and told to get ready for a language model, as a run does; beside it, in turn, a bare Python imports
the same libraries (torch, transformers, and gptqmodel where it is installed: all variants' memory is counted above the
same imports; and torch and transformers alone) and nothing else. In seconds on the clock and of the processor, the best
of each: what else the machine does only ever adds. Files are in the page cache after the first turn, which is left out.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter

from qprof.measure.parent.process import closing_worker
from qprof.measure.requests import Preload

REACH_S = 4.0
_LIBRARIES = ("torch", "gptqmodel", "transformers")


def cpu_s() -> float:
    """Of all processes that have ended."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def bare(folder: Path, libraries: Sequence[str] = _LIBRARIES) -> None:
    found = [name for name in libraries if importlib.util.find_spec(name) is not None]
    text = f"import {', '.join(found)}; from transformers import AutoModelForCausalLM, AutoTokenizer"
    with open(folder / "bare.txt", "w", encoding="utf-8") as log:
        subprocess.run([sys.executable, "-c", text], check=True, stdout=log, stderr=log)


def worker(folder: Path) -> None:
    with closing_worker("worker", folder / "worker.txt") as started:
        started.ask(Preload(runtime="torch_lm", run={}))


def taken(one: Callable[[Path], None], folder: Path) -> tuple[float, float]:
    begin, begin_cpu = perf_counter(), cpu_s()
    one(folder)
    return perf_counter() - begin, cpu_s() - begin_cpu


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repetitions", type=int, default=5)
    repetitions = parser.parse_args().repetitions
    turns: list[list[tuple[float, float]]] = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(repetitions + 1):
            turns.append(
                [
                    taken(one, Path(folder))
                    for one in (bare, worker, functools.partial(bare, libraries=("torch", "transformers")))
                ]
            )
    beyond = []
    for position, clock in enumerate(("s", "CPU s")):
        libraries, ready = (min(turn[side][position] for turn in turns[1:]) for side in range(2))
        beyond.append(ready - libraries)
        alone = min(turn[2][position] for turn in turns[1:])
        print(f"torch and transformers alone {alone:.2f} {clock}", end="; ")
        print(f"libraries {libraries:.2f} {clock}, worker ready and gone {ready:.2f} {clock}: {beyond[-1]:.2f} beyond")
    print(f"reach: {REACH_S:.0f} s")
    return int(beyond[1] > REACH_S)


if __name__ == "__main__":
    sys.exit(main())
