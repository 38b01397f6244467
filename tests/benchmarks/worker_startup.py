"""How long a worker takes until it can load a model, beyond importing the libraries that it needs.

    python tests/benchmarks/worker_startup.py [--runtime torch_lm] [--repetitions 5]

A worker is started and told to get ready for a model of the runtime, as a run does; beside it, in turn, a bare Python
imports the same libraries and nothing else (of language models torch, transformers, and gptqmodel where it is
installed, since all variants' memory is counted above the same imports; of exported networks torch and its compiler).
In seconds on the clock and of the processor, the best of each: what else the machine does only ever adds. Files are in
the page cache after the first turn, which is left out.
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
#: Runtime -> the libraries that its workers import.
_LIBRARIES = {
    "litert": ("numpy", "ai_edge_litert.interpreter", "ai_edge_litert.schema_py_generated"),
    "onnx": ("onnx", "onnxruntime"),
    "torch_export": ("torch", "torch._inductor.compile_fx"),
    "torch_lm": ("torch", "gptqmodel", "transformers"),
}


def cpu_s() -> float:
    """Of all processes that have ended."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def bare(folder: Path, libraries: Sequence[str]) -> None:
    found = [name for name in libraries if importlib.util.find_spec(name.partition(".")[0]) is not None]
    text = f"import {', '.join(found)}"
    if "transformers" in found:
        text += "; from transformers import AutoModelForCausalLM, AutoTokenizer"
    with open(folder / "bare.txt", "w", encoding="utf-8") as log:
        subprocess.run([sys.executable, "-c", text], check=True, stdout=log, stderr=log)


def worker(folder: Path, runtime: str) -> None:
    with closing_worker("worker", folder / "worker.txt") as started:
        started.ask(Preload(runtime=runtime, run={}))


def taken(one: Callable[[Path], None], folder: Path) -> tuple[float, float]:
    begin, begin_cpu = perf_counter(), cpu_s()
    one(folder)
    return perf_counter() - begin, cpu_s() - begin_cpu


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--runtime", choices=sorted(_LIBRARIES), default="torch_lm")
    args = parser.parse_args()
    libraries = _LIBRARIES[args.runtime]
    turns: list[list[tuple[float, float]]] = []
    with tempfile.TemporaryDirectory() as folder:
        sides = [functools.partial(bare, libraries=libraries), functools.partial(worker, runtime=args.runtime)]
        for _ in range(args.repetitions + 1):
            turns.append([taken(one, Path(folder)) for one in sides])
    beyond = []
    for position, clock in enumerate(("s", "CPU s")):
        imported, ready = (min(turn[side][position] for turn in turns[1:]) for side in range(2))
        beyond.append(ready - imported)
        print(f"libraries {imported:.2f} {clock}, worker ready and gone {ready:.2f} {clock}: {beyond[-1]:.2f} beyond")
    print(f"reach: {REACH_S:.0f} s")
    return int(beyond[1] > REACH_S)


if __name__ == "__main__":
    sys.exit(main())
