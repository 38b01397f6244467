"""Evaluation through the classes of pycocotools, at val2017's size, against pycocotools' peers in one run.

    python tests/benchmarks/coco_objects.py [--peers PYTHON] [--rounds 3]

PYTHON is the interpreter of an environment that has faster-coco-eval and ultrafast-pycocotools (those that are missing
are left out). 5,000 images, 36,000 ground truths, 500,000 detections as lists of dicts. Timed, CPU seconds, best round:
`objects`, COCOeval on COCO objects that are made already, up to the figures; `files`, two files to the figures;
`classes`, 80 evaluations of one class each at a tenth of that size. Evaluators run in processes of their own, and their
figures must agree to 1e-12.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

EVALUATORS = ("qprof", "faster_coco_eval", "ultrafast_pycocotools")
WORKER = """
import contextlib, importlib, io, json, os, sys, time
name, folder, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
if name == "qprof":
    from qprof.coco import COCO, COCOeval
elif name == "faster_coco_eval":
    from faster_coco_eval import COCO, COCOeval_faster as COCOeval
else:
    COCO = importlib.import_module(name + ".coco").COCO
    COCOeval = importlib.import_module(name + ".cocoeval").COCOeval
def load(part):
    truth = COCO()
    truth.dataset = json.load(open(f"{folder}/{part}_gt.json"))
    truth.createIndex()
    return truth, truth.loadRes(json.load(open(f"{folder}/{part}_dt.json")))
def figures(truth, found):
    e = COCOeval(truth, found, "bbox")
    e.evaluate(); e.accumulate(); e.summarize()
    return [float(value) for value in e.stats][:12]
def files():
    truth = COCO(f"{folder}/whole_gt.json")
    return figures(truth, truth.loadRes(f"{folder}/whole_dt.json"))
def classes(truth, found):
    e, total = COCOeval(truth, found, "bbox"), []
    for category in range(1, 81):
        e.params.catIds = [category]
        e.evaluate(); e.accumulate(); e.summarize()
        total.append(float(e.stats[0]))
    return total
def best(call):
    times = []
    for _ in range(rounds):
        begin = time.process_time(); found = call(); times.append(time.process_time() - begin)
    return min(times), found
with contextlib.redirect_stdout(io.StringIO()):
    whole, part = load("whole"), load("part")
    made = {"objects": best(lambda: figures(*whole)), "files": best(files), "classes": best(lambda: classes(*part))}
print(json.dumps(made))
"""


def write(folder: Path, name: str, images: int, truths: int, detections: int) -> None:
    rng = np.random.default_rng(7)
    image, kind = rng.integers(1, images + 1, truths), rng.integers(1, 81, truths)
    boxes = np.round(np.c_[rng.uniform(0, 500, (truths, 2)), rng.uniform(5, 200, (truths, 2))], 2)
    annotations = [
        {"id": n + 1, "image_id": int(i), "category_id": int(k), "bbox": b, "area": b[2] * b[3], "iscrowd": 0}
        for n, (i, k, b) in enumerate(zip(image, kind, boxes.tolist(), strict=True))
    ]
    near = np.sort(rng.integers(0, truths, detections))
    found = np.round(boxes[near] + rng.normal(0, 12, (detections, 4)), 2).tolist()
    score = np.round(rng.random(detections), 5).tolist()
    results = [
        {"image_id": int(image[n]), "category_id": int(kind[n]), "bbox": b, "score": s}
        for n, b, s in zip(near, found, score, strict=True)
    ]
    dataset = {"info": {}, "images": [{"id": n} for n in range(1, images + 1)], "annotations": annotations}
    dataset["categories"] = [{"id": n, "name": str(n)} for n in range(1, 81)]
    (folder / f"{name}_gt.json").write_text(json.dumps(dataset))
    (folder / f"{name}_dt.json").write_text(json.dumps(results))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peers", default=sys.executable)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, "whole", 5000, 36_000, 500_000)
        write(folder, "part", 500, 3_600, 50_000)
        found = {}
        for evaluator in EVALUATORS:
            python = sys.executable if evaluator == "qprof" else given.peers
            command = [python, "-c", WORKER, evaluator, name, str(given.rounds)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                print(f"{evaluator}: left out: {done.stderr.strip().splitlines()[-1]}")
            else:
                found[evaluator] = json.loads(done.stdout.splitlines()[-1])
    for case in ("objects", "files", "classes"):
        ours, figures = found["qprof"][case]
        for evaluator, made in found.items():
            seconds, theirs = made[case]
            agree = np.allclose(figures, theirs, rtol=0, atol=1e-12)
            word = "same figures" if agree else f"OTHER FIGURES, by {np.abs(np.subtract(figures, theirs)).max():.1e}"
            print(f"{case:8s} {evaluator:22s} {seconds:6.2f} s cpu, qprof takes {ours / seconds:.2f} of it, {word}")


if __name__ == "__main__":
    main()
