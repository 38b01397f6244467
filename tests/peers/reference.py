"""Run torchvision's reference evaluator as its `engine.evaluate` does, with pycocotools and with the import switched.

    python tests/peers/reference.py COCO_EVAL.py UTILS.py GT.json [--iou-types bbox,segm,keypoints]

COCO_EVAL.py is `references/detection/coco_eval.py` of pytorch/vision, UTILS.py its `utils.py`; neither torchvision nor
its other files are needed, torch and pycocotools are. Two processes take every second image each, an image of the
first is given to the second too, as a padded sampler does, and `synchronize_between_processes` merges what they have.
The predictions are the ground truth, moved: boxes, masks and keypoints; one image has none. Prints what differs between
the two in `stats`, and in the arrays of `eval`.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

PROCESSES = 2
BATCH = 4


def load(name: str, path: str) -> Any:
    """A module of a file, by the name that others import it by."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made
    spec.loader.exec_module(made)
    return made


def prediction(coco: Any, image: int, kinds: list[str]) -> dict[str, Any]:
    """What a model would give for an image: tensors of N boxes, scores, labels, masks [N, 1, H, W], keypoints."""
    import torch

    random = np.random.default_rng(image)
    truth = coco.loadAnns(coco.getAnnIds(imgIds=[image], iscrowd=0))
    categories = sorted(coco.getCatIds())
    boxes, labels, masks, keypoints = [], [], [], []
    for row in truth * 2:
        x, y, width, height = row["bbox"]
        move = random.normal(0, 0.08, 4) * [width, height, width, height]
        boxes.append([x + move[0], y + move[1], x + width + move[2], y + height + move[3]])
        labels.append(row["category_id"] if random.random() < 0.9 else int(random.choice(categories)))
        if "segm" in kinds:
            shift = tuple(int(value) for value in random.integers(-4, 5, 2))
            masks.append(np.roll(coco.annToMask(row), shift, (0, 1)).astype(np.float32)[None])
        if "keypoints" in kinds:
            points = np.array(row["keypoints"], float).reshape(-1, 3)
            points[:, :2] += random.normal(0, 0.03 * max(width, height), (len(points), 2))
            keypoints.append(points)
    given = {
        "boxes": torch.tensor(np.array(boxes).reshape(-1, 4)),
        "scores": torch.tensor(np.round(random.random(len(boxes)), 2)),  # some are equal
        "labels": torch.tensor(labels, dtype=torch.int64),
    }
    if "segm" in kinds:
        height, width = (coco.imgs[image][key] for key in ("height", "width"))
        given["masks"] = torch.tensor(np.array(masks).reshape(-1, 1, height, width))
    if "keypoints" in kinds:
        given["keypoints"] = torch.tensor(np.array(keypoints).reshape(len(boxes), -1, 3))
    return given


def process(rank: int, folder: Path, given: argparse.Namespace) -> None:
    """One of the processes: updates by batches, merges; the first writes the figures."""
    import torch.distributed
    from pycocotools.coco import COCO

    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/gloo", rank=rank, world_size=PROCESSES)
    load("utils", given.utils)
    kinds = given.iou_types.split(",")
    coco = COCO(given.truth)
    images = sorted(coco.getImgIds())
    mine = images[rank::PROCESSES] + (images[:1] if rank else [])
    evaluator = load("coco_eval", given.evaluator).CocoEvaluator(coco, kinds)
    for each in (coco, *evaluator.coco_eval.values()):
        assert type(each).__module__.startswith("qprof.") == (given.side == "switched"), type(each)
    for begin in range(0, len(mine), BATCH):
        batch = {image: prediction(coco, image, kinds) for image in mine[begin : begin + BATCH]}
        if begin == 0 and len(mine) > BATCH:
            batch[mine[1]] = {}
        evaluator.update(batch)
    evaluator.synchronize_between_processes()
    evaluator.accumulate()
    evaluator.summarize()
    if rank == 0:
        arrays: dict[str, Any] = {}
        for kind, each in evaluator.coco_eval.items():
            arrays[f"{kind} stats"] = np.asarray(each.stats, float)
            for name in ("precision", "recall", "scores"):
                arrays[f"{kind} {name}"] = each.eval[name]
        np.savez(folder / "figures.npz", **arrays)
    torch.distributed.destroy_process_group()


def figures(side: str) -> dict[str, np.ndarray[Any, Any]]:
    """What the evaluator gives on that side, in processes of their own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, *sys.argv, "--side", side, "--folder", folder, "--rank"]
        runs = [subprocess.Popen([*command, str(rank)]) for rank in range(PROCESSES)]
        if any([run.wait() for run in runs]):
            sys.exit(f"{side}: the evaluator failed")
        with np.load(Path(folder) / "figures.npz") as arrays:
            return dict(arrays)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("evaluator")
    parser.add_argument("utils")
    parser.add_argument("truth")
    parser.add_argument("--iou-types", default="bbox,segm")
    for name in ("rank", "folder", "side"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.rank is not None:
        with contextlib.redirect_stdout(io.StringIO()):
            if given.side == "switched":
                import switched  # noqa: F401
            process(int(given.rank), Path(given.folder), given)
        return
    theirs, ours = figures("as it is"), figures("switched")
    for name, values in theirs.items():
        off = float(np.abs(values - ours[name]).max())
        print(f"{name} {list(values.shape)}: largest difference {off:.3g}{'' if off <= 1e-12 else ', NOT THE SAME'}")
        if name.endswith("stats"):
            print(" ", json.dumps([round(float(value), 4) for value in ours[name]]))


if __name__ == "__main__":
    main()
