"""Mask, boundary and keypoint evaluation against pycocotools and faster-coco-eval.

    python tests/benchmarks/coco_masks.py [--peers PYTHON] [--rounds 3] [--threads 1 2] [--images 500] [--kinds segm]

PYTHON is the interpreter of an environment that has the peers installed; those that are missing are left out. Timed is
everything from two files to the figures, and in brackets what comes after reading them as JSON, which every contestant
does alike. Contestants run in processes of their own, in turn, and the best round of each counts; the time of ours is
also given as a share of the fastest peer's. The figures must agree to 1e-15: NumPy's mean differs in
the last bit between its versions.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

PEERS = {"segm": ("pycocotools", "faster_coco_eval"), "boundary": ("faster_coco_eval",)}
PEERS["keypoints"] = PEERS["segm"]

WORKER = """
import json, os, sys, time
name, kind, folder, threads = sys.argv[1:5]
out = os.fdopen(os.dup(1), "w")
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
if name == "qprof":
    from qprof import coco
elif name == "pycocotools":
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval
else:
    from faster_coco_eval import COCO, COCOeval_faster as COCOeval
file = "/keypoints.json" if kind == "keypoints" else "/masks.json"
for line in sys.stdin:
    begin = time.perf_counter()
    truth, results = json.load(open(folder + "/truth.json")), json.load(open(folder + file))
    loaded = time.perf_counter()
    if name == "qprof":
        stats = coco.evaluate(truth, results, iou_type=kind, threads=int(threads), keep=False).stats
    else:
        objects = COCO()
        objects.dataset = truth
        objects.createIndex()
        more = {"boundary_cpu_count": int(threads)} if kind == "boundary" else {}
        evaluation = COCOeval(objects, objects.loadRes(results), kind, **more)
        evaluation.evaluate(); evaluation.accumulate(); evaluation.summarize()
        stats = evaluation.stats
    end = time.perf_counter()
    stats = list(map(float, stats))[: 10 if kind == "keypoints" else 12]
    print(json.dumps([end - begin, end - loaded, stats]), file=out, flush=True)
"""


def outline(rng: np.random.Generator, x: float, y: float, size: float) -> list[float]:
    """A wobbly ring around a place."""
    corners = int(rng.integers(12, 60))
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    radius = size / 2 * (1 + 0.15 * rng.standard_normal(corners))
    ring = np.c_[x + radius * np.cos(angle), y + 0.8 * radius * np.sin(angle)]
    return np.clip(ring, 0, [639, 479]).round(2).ravel().tolist()


def write(folder: Path, images: int) -> None:
    """Objects as in val2017 (7 per image, half of them small), and about 36 detections per image."""
    from qprof.coco import mask

    rng = np.random.default_rng(1)
    truths, results = [], []
    for image in range(1, images + 1):
        for _ in range(int(rng.integers(3, 12))):
            place = (float(rng.uniform(0, 640)), float(rng.uniform(0, 480)), float(np.exp(rng.uniform(2.5, 6))))
            category = int(rng.integers(1, 81))
            ring = outline(rng, *place)
            xs, ys = ring[0::2], ring[1::2]
            points = np.c_[rng.uniform(min(xs), max(xs) + 1, 17), rng.uniform(min(ys), max(ys) + 1, 17), np.ones(17)]
            truths.append(
                {
                    "id": len(truths) + 1,
                    "image_id": image,
                    "category_id": category,
                    "iscrowd": 0,
                    "segmentation": [ring],
                    "bbox": [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)],
                    "area": place[2] ** 2 * 0.6,
                    "keypoints": points.round(1).ravel().tolist(),
                    "num_keypoints": 17,
                }
            )
            for _ in range(int(rng.integers(1, 10))):
                x, y, size = np.array(place) + rng.normal(0, 0.06, 3) * place[2]
                found = mask.frPyObjects([outline(rng, x, y, max(size, 4))], 480, 640)[0]
                near = points + np.c_[rng.normal(0, 0.05, (17, 2)) * place[2], np.zeros(17)]
                results.append(
                    {
                        "image_id": image,
                        "category_id": category if rng.random() < 0.8 else int(rng.integers(1, 81)),
                        "segmentation": {"size": [480, 640], "counts": found["counts"].decode()},
                        "score": round(float(rng.random()), 4),
                        "keypoints": near.round(1).ravel().tolist(),
                    }
                )
    pictures = [{"id": number, "height": 480, "width": 640} for number in range(1, images + 1)]
    kinds = [{"id": number, "name": str(number)} for number in range(1, 81)]
    truth = {"info": {}, "images": pictures, "categories": kinds, "annotations": truths}
    (folder / "truth.json").write_text(json.dumps(truth))
    for kind, other in (("masks", "keypoints"), ("keypoints", "segmentation")):
        rows = [{key: value for key, value in row.items() if key != other} for row in results]
        (folder / f"{kind}.json").write_text(json.dumps(rows))


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--peers", default=sys.executable)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--threads", type=int, nargs="+", default=[1])
    arguments.add_argument("--images", type=int, default=500)
    arguments.add_argument("--kinds", nargs="+", default=["segm", "boundary"], choices=list(PEERS))
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), given.images)
        for kind in given.kinds:
            for threads in given.threads:
                compare(folder, kind, threads, given.peers, given.rounds)


def compare(folder: str, kind: str, threads: int, peers: str, rounds: int) -> None:
    workers = {}
    for name in ("qprof", *PEERS[kind]):
        python = sys.executable if name == "qprof" else peers
        if name != "qprof" and subprocess.run([python, "-c", f"import {name}"], capture_output=True).returncode:
            continue
        command = [python, "-c", WORKER, name, kind, folder, str(threads)]
        workers[name] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    best: dict[str, list[float]] = {}
    figures = {}
    for _ in range(rounds):
        for name, worker in workers.items():
            assert worker.stdin is not None and worker.stdout is not None
            print(file=worker.stdin, flush=True)
            whole, evaluated, figures[name] = json.loads(worker.stdout.readline())
            found = best.setdefault(name, [whole, evaluated])
            best[name] = [min(found[0], whole), min(found[1], evaluated)]
    for worker in workers.values():
        worker.communicate()
    for name, (whole, evaluated) in best.items():
        gap = max(abs(a - b) for a, b in zip(figures[name], figures["qprof"], strict=True))
        row = f"{kind:9} {threads} threads  {name:18} {whole:7.3f} s ({evaluated:7.3f} s)"
        print(f"{row}  largest difference of a figure {gap:.1e}")
    fastest = min((times[1] for name, times in best.items() if name != "qprof"), default=None)
    if fastest is not None:
        print(f"{kind:9} {threads} threads  after reading JSON {best['qprof'][1] / fastest:.3f} of the fastest peer")


if __name__ == "__main__":
    main()
