"""Reading COCO files into arrays, against Python's json, orjson and the loaders of hotcoco and ultrafast-pycocotools.

    python tests/benchmarks/coco_json.py [--peers PYTHON] [--rounds 7] [--threads 1 2] [--digits]

PYTHON is the interpreter of an environment that has the peers installed (those that are missing are left out). The
files are those of `coco_data.py`: 500,000 detections, and ground truth with polygons. Timed are, in turn and the best
of the rounds: one file into the reader's own form (json and orjson: lists and dicts, which no evaluator could use as
they are; hotcoco and ultrafast-pycocotools: `COCO(path)` and `loadRes(path)`, which index as well). "bytes" is the
floor: the file copied once from the page cache into memory that is there already. `--digits` writes the detections
with all digits of a float32, as many detectors do.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns

import numpy as np
from coco_data import write_json
from numpy.typing import NDArray

from qprof.core._coco_json import read_ground_truth, read_results

#: Time that 500,000 detections may take with one thread.
REACH_NS = 80_000_000

#: Runs in the peers' interpreter: prints, for each line it reads, the nanoseconds of both files, or nothing if absent.
WORKER = """
import importlib, json, os, sys, time
name, truth, detections = sys.argv[1:4]
out = os.fdopen(os.dup(1), "w")
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
if name == "json":
    def both(load=lambda path: json.load(open(path))):
        yield lambda: load(truth)
        yield lambda: load(detections)
elif name == "orjson":
    import orjson
    def both(load=lambda path: orjson.loads(open(path, "rb").read())):
        yield lambda: load(truth)
        yield lambda: load(detections)
elif name == "hotcoco":
    from hotcoco import COCO
    def both(loaded=COCO(truth)):
        yield lambda: COCO(truth)
        yield lambda: loaded.load_res(detections)
else:
    from ultrafast_pycocotools.coco import COCO
    def both(loaded=COCO(truth, verbose=False)):
        yield lambda: COCO(truth, verbose=False)
        yield lambda: loaded.loadRes(detections)
for line in sys.stdin:
    times = []
    for read in both():
        begin = time.perf_counter_ns()
        read()
        times.append(time.perf_counter_ns() - begin)
    print(json.dumps(times), file=out, flush=True)
"""
PEERS = ("json", "orjson", "hotcoco", "ultrafast_pycocotools")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", metavar="PYTHON")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--digits", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        truth, detections = write_json(Path(folder))
        if options.digits:
            _lengthen(detections)
        return 0 if _compare(truth, detections, options) else 1


def _lengthen(path: Path) -> None:
    """Write the detections anew, with boxes and scores as a float32 is written when it has become a Python float."""
    content = json.loads(path.read_bytes())
    rng = np.random.default_rng(3)
    for entry in content:
        noise = rng.random(5)
        entry["bbox"] = [float(np.float32(v + n)) for v, n in zip(entry["bbox"], noise[:4], strict=True)]
        entry["score"] = float(np.float32(noise[4]))
    path.write_text(json.dumps(content))


def _compare(truth: Path, detections: Path, options: argparse.Namespace) -> bool:
    contestants: dict[str, Callable[[], list[int] | None]] = {"bytes": _bytes(truth, detections)}
    for threads in options.threads:
        contestants[f"qprof, {threads} threads"] = _ours(truth, detections, threads)
    for name in PEERS if options.peers else ():
        for threads in options.threads if name not in ("json", "orjson") else (1,):
            contestants[f"{name}, {threads} threads"] = _peer(options.peers, name, truth, detections, threads)
    best: dict[str, NDArray[np.float64]] = {}
    for _ in range(options.rounds):
        for name, contestant in contestants.items():
            if (times := contestant()) is not None:
                best[name] = np.minimum(best.get(name, np.inf), np.array(times, float))
    sizes = [truth.stat().st_size, detections.stat().st_size]
    print(f"{'':34}{f'ground truth, {sizes[0] / 1e6:.1f} MB':>26}{f'detections, {sizes[1] / 1e6:.1f} MB':>26}")
    for name, nanoseconds in best.items():
        cells = [f"{ns / 1e6:10.1f} ms {size / ns:7.2f} GB/s" for ns, size in zip(nanoseconds, sizes, strict=True)]
        print(f"{name:34}{cells[0]:>26}{cells[1]:>26}")
    ours = best["qprof, 1 threads"][1] if "qprof, 1 threads" in best else np.inf
    print(f"detections with 1 thread: {ours / 1e6:.1f} ms (reach {REACH_NS / 1e6:.0f})")
    return bool(ours <= REACH_NS)


def _bytes(truth: Path, detections: Path) -> Callable[[], list[int]]:
    memory = bytearray(max(truth.stat().st_size, detections.stat().st_size))

    def copy(path: Path) -> None:
        with path.open("rb", buffering=0) as file:
            file.readinto(memory)

    return lambda: [_timed(lambda: copy(truth)), _timed(lambda: copy(detections))]


def _ours(truth: Path, detections: Path, threads: int) -> Callable[[], list[int]]:
    return lambda: [
        _timed(lambda: read_ground_truth(truth, threads)),
        _timed(lambda: read_results(detections, threads)),
    ]


def _timed(read: Callable[[], object]) -> int:
    begin = perf_counter_ns()
    result = read()
    elapsed = perf_counter_ns() - begin
    del result
    return elapsed


def _peer(python: str, name: str, truth: Path, detections: Path, threads: int) -> Callable[[], list[int] | None]:
    """A peer in a process of its own, so that its threads and its memory disturb nobody else's round."""
    environment = os.environ | {"RAYON_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    command = [python, "-c", WORKER, name, str(truth), str(detections)]

    def round_() -> list[int] | None:
        done = subprocess.run(command, input="\n\n", capture_output=True, text=True, env=environment)
        if done.returncode != 0:
            print(f"{name} is not there, or failed: {done.stderr.strip().splitlines()[-1:]}")
            return None
        times = [json.loads(line) for line in done.stdout.splitlines()]
        return [min(column) for column in zip(*times, strict=True)]

    return round_


if __name__ == "__main__":
    sys.exit(main())
