"""Box evaluation against pycocotools, faster-coco-eval, hotcoco, ultrafast-pycocotools and vernier.

    python tests/benchmarks/coco_eval.py [--peers PYTHON] [--rounds 5] [--threads 1 2] [--from arrays json] [--slow]
        [--scale val2017 lvis one-category] [--clock wall cpu]

PYTHON is the interpreter of an environment that has the peers installed (any of them; those that are missing are left
out). Every contestant runs in processes of its own, one round after the other in turn, and its best round counts.
From arrays: the ground truth is loaded, the detections are an N x 7 table (what `loadRes` takes); timed is everything
up to the 12 figures. From json: two files up to the 12 figures, and the peak memory of the process. `--slow` takes in
pycocotools, which needs most of a minute per round. The figures themselves must agree to the last bit. `--scale`: how
much there is to evaluate (`SCALES`). `--clock cpu` counts the processor's time instead of the wall's, for a machine
that does other things at the same time; with one thread they are the same on one that does not.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

PEERS = ("ultrafast_pycocotools", "hotcoco", "vernier", "faster_coco_eval", "pycocotools")
#: What `coco_data.arrays` makes.
SCALES = {
    "val2017": {},
    "lvis": {"images": 20_000, "categories": 1_203, "annotations": 250_000, "detections": 2_000_000},
    "one-category": {"categories": 1, "detections": 1_000_000},
}
#: Largest share of the fastest peer's time.
REACH = {"arrays": 0.35, "json": 0.35}

#: Runs in the peers' interpreter: prints, for each line it reads, the seconds of one round and the 12 figures.
WORKER = """
import importlib, json, os, sys, time
import numpy as np
name, source, folder, threads, clock = sys.argv[1:6]
clock = getattr(time, clock)
out = os.fdopen(os.dup(1), "w")
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
if name == "faster_coco_eval":
    from faster_coco_eval import COCO, COCOeval_faster as COCOeval
elif name == "hotcoco":
    from hotcoco import COCO, COCOeval
elif name == "vernier":
    from vernier.instance import Bbox, CocoDataset, Evaluator
    content = lambda path: open(path, "rb").read()
    COCO = lambda path: CocoDataset.from_json(content(path))
else:
    COCO = importlib.import_module(name + ".coco").COCO
    COCOeval = importlib.import_module(name + ".cocoeval").COCOeval
quiet = {"verbose": False} if name == "ultrafast_pycocotools" else {}
table = np.load(folder + "/detections.npy") if source == "arrays" else None
def load_results(truths, results):
    return (truths.load_res if name == "hotcoco" else truths.loadRes)(results)
def figures(truths, results):
    if name == "vernier":
        results = content(results) if isinstance(results, str) else results
        evaluator = Evaluator(iou=Bbox(), parity_mode="strict")
        return list(map(float, evaluator.evaluate(truths, results, num_threads=int(threads)).stats))
    evaluation = COCOeval(truths, load_results(truths, results), "bbox")
    evaluation.evaluate(); evaluation.accumulate(); evaluation.summarize()
    return list(map(float, evaluation.stats))[:12]
for line in sys.stdin:
    if source == "arrays":
        truths = COCO(folder + "/instances.json", **quiet)
        begin = clock()
        stats = figures(truths, table)
    else:
        begin = clock()
        stats = figures(COCO(folder + "/instances.json", **quiet), folder + "/detections.json")
    seconds = clock() - begin
    peak_bytes = int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) * 1024
    print(json.dumps([seconds, stats, peak_bytes]), file=out, flush=True)
"""

#: The same of qprof, in this interpreter.
OURS = """
import json, sys, time
source, folder, threads, clock = sys.argv[1], sys.argv[2], int(sys.argv[3]), getattr(time, sys.argv[4])
from coco_eval_ours import from_arrays, from_json, load
arrays = load(folder) if source == "arrays" else None
for line in sys.stdin:
    begin = clock()
    stats = from_arrays(arrays, threads) if source == "arrays" else from_json(folder, threads)
    seconds = clock() - begin
    peak_bytes = int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) * 1024
    print(json.dumps([seconds, stats, peak_bytes]), flush=True)
"""


class Contestant:
    """One evaluator in processes of its own; a fresh one for each round from JSON, so that memory is its own."""

    def __init__(self, name: str, command: list[str], threads: int) -> None:
        self.name, self.threads = name, threads
        self.seconds: list[float] = []
        self.stats: list[float] = []
        self.peak_bytes = 0
        self._command = command
        number = str(threads)
        self._environment = os.environ | {"RAYON_NUM_THREADS": number, "OMP_NUM_THREADS": number}
        self._process: subprocess.Popen[str] | None = None

    def round(self) -> bool:
        """Run one round; False if the evaluator is not there."""
        if self._process is None:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self._environment
            )
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            print(file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except BrokenPipeError:
            return False
        if not line:
            return False
        seconds, self.stats, peak_bytes = json.loads(line)
        self.seconds.append(seconds)
        self.peak_bytes = max(self.peak_bytes, peak_bytes)
        return True

    def stop(self) -> None:
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait()
            self._process = None


def compare(scale: str, source: str, threads: int, folder: str, options: argparse.Namespace) -> bool:
    """Print one table; True where the reach is met and the figures agree."""
    names = [name for name in PEERS if name not in options.without and (options.slow or name != "pycocotools")]
    clock = {"wall": "perf_counter", "cpu": "process_time"}[options.clock]
    how = [source, folder, str(threads), clock]
    peers = [Contestant(name, [options.peers, "-c", WORKER, name, *how], threads) for name in names]
    ours = Contestant("qprof", [sys.executable, "-c", OURS, *how], threads)
    contestants = [ours, *(peers if options.peers else [])]
    for number in range(options.rounds):
        for contestant in list(contestants):
            if contestant.name == "pycocotools" and number > 0:
                continue
            if not contestant.round():
                print(f"  {contestant.name} is not there, or failed")
                contestants.remove(contestant)
            if source == "json":
                contestant.stop()
    for contestant in contestants:
        contestant.stop()
    print(f"{scale}, from {source}, {threads} thread{'s' if threads > 1 else ''}, {options.clock} time")
    fastest = min((min(c.seconds) for c in contestants if c is not ours), default=None)
    for c in contestants:
        share = "" if fastest is None else f"  x{min(c.seconds) / fastest:.3f} of the fastest peer"
        gap = max(abs(a - b) for a, b in zip(c.stats, ours.stats, strict=True))
        megabytes = f"  {c.peak_bytes / 1e6:.0f} MB" if source == "json" else ""
        print(
            f"  {c.name:22} {min(c.seconds) * 1e3:9.1f} ms{share}{megabytes}  largest difference of a figure {gap:.1e}"
        )
    if fastest is None:
        return True
    least_bytes = min(c.peak_bytes for c in contestants if c is not ours)
    lean = source == "arrays" or ours.peak_bytes <= least_bytes
    return lean and min(ours.seconds) <= REACH[source] * fastest


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default="", help="interpreter of the environment that has the peers")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--from", dest="sources", nargs="+", choices=sorted(REACH), default=["arrays", "json"])
    parser.add_argument("--scale", dest="scales", nargs="+", choices=list(SCALES), default=["val2017"])
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--data", type=Path, help="folder to keep the data sets in, for the next time")
    parser.add_argument("--without", nargs="*", default=[], help="peers to leave out")
    parser.add_argument("--slow", action="store_true", help="pycocotools too, one round")
    options = parser.parse_args()
    here = Path(__file__).parent
    os.environ["PYTHONPATH"] = os.pathsep.join([str(here), os.environ.get("PYTHONPATH", "")])
    from coco_eval_ours import save

    met = []
    with tempfile.TemporaryDirectory() as temporary:
        for scale in options.scales:
            folder = (options.data or Path(temporary)) / scale
            if not folder.exists():
                folder.mkdir(parents=True)
                save(folder, **SCALES[scale])
            for source in options.sources:
                met += [compare(scale, source, threads, str(folder), options) for threads in options.threads]
    print("reach met" if all(met) else "reach missed")
    return int(not all(met))


if __name__ == "__main__":
    sys.exit(main())
