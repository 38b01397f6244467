"""Run evaluators of detection libraries on one set of results, with pycocotools and with the import switched.

    python tests/peers/evaluators.py GT.json DT.json [--detr FILE] [--rfdetr FILE] [--ultralytics FILE] [--mmdet FOLDER]

Each is taken alone out of its library, which need not be installed (torch and numpy have to be; mmengine for mmdet):
`datasets/coco_eval.py` of DETR or RF-DETR (torchvision's reference evaluator), `models/yolo/detect/val.py` of
ultralytics (with faster-coco-eval), the folder `mmdet`. Prints what each gives either way, and whether it is the same.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any


def module(name: str, path: str | None = None, **members: Any) -> Any:
    """A module by that name: of a file, or made up."""
    made = ModuleType(name)
    made.__path__ = [str(Path(path).parent)] if path and path.endswith("__init__.py") else []
    sys.modules[name] = made
    vars(made).update(members)
    if path:
        exec(compile(Path(path).read_text(), path, "exec"), vars(made))
    return made


def predictions(rows: list[dict[str, Any]], image: int) -> tuple[Any, Any, Any]:
    """Corners, scores and categories of an image."""
    import torch

    mine = [row for row in rows if row["image_id"] == image]
    boxes = torch.tensor([row["bbox"] for row in mine], dtype=torch.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    scores = torch.tensor([row["score"] for row in mine], dtype=torch.float64)
    return boxes, scores, torch.tensor([row["category_id"] for row in mine], dtype=torch.long)


def batched(path: str, truth: str, found: str) -> Any:
    """The reference evaluator: batches of eight images, one of them without detections; merged, accumulated."""
    import numpy as np
    from pycocotools.coco import COCO

    for name in ("util", "rfdetr", "rfdetr.util"):
        module(name)
    for name in ("util.misc", "rfdetr.util.misc"):
        module(name, all_gather=lambda part: [part])
    module("supervision", xyxy_to_xywh=lambda boxes: np.c_[boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])
    coco, rows = COCO(truth), json.loads(Path(found).read_text())
    evaluator = module("evaluator", path).CocoEvaluator(coco, ["bbox"])
    images = sorted(coco.getImgIds())
    for begin in range(0, len(images), 8):
        batch = {}
        for image in images[begin : begin + 8]:
            boxes, scores, labels = predictions([] if begin == 16 else rows, image)
            batch[image] = {"boxes": boxes, "scores": scores, "labels": labels}
        evaluator.update(batch)
    evaluator.synchronize_between_processes()
    evaluator.accumulate()
    evaluator.summarize()
    return [float(value) for value in evaluator.coco_eval["bbox"].stats]


def ultralytics(path: str, truth: str, found: str) -> Any:
    """The method `coco_evaluate` of its validator."""
    source = Path(path).read_text()
    method = textwrap.dedent(source[source.index("    def coco_evaluate(") :])
    log = SimpleNamespace(info=lambda *_: None, warning=lambda text: sys.exit(text))
    names: dict[str, Any] = {"LOGGER": log, "Path": Path, "check_requirements": lambda *_: True}
    exec(compile("from __future__ import annotations\n" + method, path, "exec"), names)
    files = [f"{image['id']}.jpg" for image in json.loads(Path(truth).read_text())["images"]]
    this = SimpleNamespace(args=SimpleNamespace(save_json=True), jdict=[1], is_coco=True, is_lvis=False, gdict=None)
    this.training, this.dataloader = False, SimpleNamespace(dataset=SimpleNamespace(im_files=files))
    return {key: float(value) for key, value in names["coco_evaluate"](this, {}, found, truth).items()}


def mmdet(folder: str, truth: str, found: str) -> Any:
    """`CocoMetric`: boxes, by class, proposals, and its evaluation in several processes."""
    from mmengine.registry import Registry

    for name in ("mmdet", "mmdet.datasets", "mmdet.structures", "mmdet.evaluation", "mmdet.evaluation.metrics"):
        module(name)
    module("mmdet.registry", METRICS=Registry("metric", scope="mmdet"))
    module("mmdet.structures.mask", encode_mask_results=lambda masks: masks)
    module("mmdet.evaluation.functional", eval_recalls=None)
    # The packages are made up, their modules are the library's own.
    for name in ("datasets", "evaluation.metrics"):
        sys.modules[f"mmdet.{name}"].__path__ = [f"{folder}/{name.replace('.', '/')}"]
    metrics = importlib.import_module("mmdet.evaluation.metrics.coco_metric")
    content, rows = json.loads(Path(truth).read_text()), json.loads(Path(found).read_text())
    categories = sorted(category["id"] for category in content["categories"])
    results = {}
    for options in ({}, {"classwise": True}, {"metric": "proposal"}, {"use_mp_eval": True}):
        metric = metrics.CocoMetric(ann_file=truth, **options)
        metric.dataset_meta = {"classes": [category["name"] for category in content["categories"]]}
        for image in content["images"]:
            boxes, scores, labels = predictions(rows, image["id"])
            places = labels.clone()
            for place, category in enumerate(categories):
                places[labels == category] = place
            instances = {"bboxes": boxes, "scores": scores, "labels": places}
            shape = (image["height"], image["width"])
            metric.process({}, [{"pred_instances": instances, "img_id": image["id"], "ori_shape": shape}])
        made = metric.evaluate(size=len(content["images"]))
        results[str(options)] = {key: float(value) for key, value in made.items()}
    return results


def agree(one: Any, other: Any) -> bool:
    """Whether two results are the same to 1e-12."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(agree(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(agree, one, other))
    return abs(one - other) <= 1e-12


RUNS = {"detr": batched, "rfdetr": batched, "ultralytics": ultralytics, "mmdet": mmdet}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("truth")
    parser.add_argument("found")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    for name in RUNS:
        parser.add_argument(f"--{name}")
    given = parser.parse_args()
    if given.worker:
        name, side = given.worker
        with contextlib.redirect_stdout(io.StringIO()):
            if side == "switched":
                import switched  # noqa: F401
            result = RUNS[name](getattr(given, name), given.truth, given.found)
        print(json.dumps(result))
        return
    for name in RUNS:
        path = getattr(given, name)
        if path is None:
            continue
        answers = []
        for side in ("as it is", "switched"):
            command = [sys.executable, __file__, given.truth, given.found, f"--{name}", path, "--worker", name, side]
            done = subprocess.run(command, capture_output=True, text=True)
            answers.append(done.stdout.splitlines()[-1] if done.returncode == 0 else done.stderr.splitlines()[-1])
        same = all(answer[:1] in "[{" for answer in answers) and agree(*map(json.loads, answers))
        print(f"{name}: {'the same' if same else 'NOT THE SAME'}: {answers[1][:100]} ...")
        if not same:
            print(f"  as it is: {answers[0][:300]}")


if __name__ == "__main__":
    main()
