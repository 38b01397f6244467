"""The AP of a CenterNet file by its own decoder and pycocotools: nothing of qprof takes part in it."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

MOST = 100


def average_precision(spec: dict[str, Any], scenes: str) -> float:
    """AP of `spec["file"]` on the scenes, read as `spec` says: `color` ("rgb"), `mean` and `std` (127.5), `shift` of
    the labels (0), `images` (the folder, that of the scenes)."""
    from ai_edge_litert.interpreter import Interpreter
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    interpreter = Interpreter(spec["file"], num_threads=1)
    interpreter.allocate_tensors()
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(Path(scenes) / "annotations.json"))
        boxes = []
        images = Path(spec.get("images", Path(scenes) / "images"))
        for image in truth.dataset["images"]:
            boxes += _boxes(interpreter, images / image["file_name"], image, spec, truth.getCatIds())
        scored = COCOeval(truth, truth.loadRes(boxes), "bbox")
        scored.evaluate()
        scored.accumulate()
        scored.summarize()
    return float(scored.stats[0])


def _boxes(
    interpreter: Any, path: Path, image: dict[str, Any], spec: dict[str, Any], labels: list[int]
) -> list[dict[str, Any]]:
    maps = _maps(interpreter, path, spec)
    heat, size, offset = maps["heatmap"][0], maps["size"][0], maps["offset"][0]
    rows, columns, classes = heat.shape
    around = np.pad(heat, ((1, 1), (1, 1), (0, 0)), constant_values=-1)
    highest = np.max([around[y : y + rows, x : x + columns] for y in range(3) for x in range(3)], axis=0)
    scores = np.where(heat == highest, heat, 0).reshape(-1)
    found = []
    for flat in np.argsort(-scores, kind="stable")[:MOST]:
        cell, label = divmod(int(flat), classes)
        y, x = divmod(cell, columns)
        width, height = size[y, x] * (image["width"] / columns, image["height"] / rows)
        middle = (np.asarray([x, y]) + offset[y, x]) * (image["width"] / columns, image["height"] / rows)
        found.append(
            {
                "image_id": image["id"],
                "category_id": labels[(label + spec.get("shift", 0)) % len(labels)],
                "bbox": [float(middle[0] - width / 2), float(middle[1] - height / 2), float(width), float(height)],
                "score": float(scores[flat]),
            }
        )
    return found


def _maps(interpreter: Any, path: Path, spec: dict[str, Any]) -> dict[str, np.ndarray]:
    from PIL import Image

    entry = interpreter.get_input_details()[0]
    _, height, width, _ = entry["shape"]
    picture = Image.open(path).convert("RGB").resize((int(width), int(height)), Image.Resampling.BILINEAR)
    pixels = np.asarray(picture, np.float32)
    if spec.get("color") == "bgr":
        pixels = pixels[..., ::-1]
    values = (pixels - spec.get("mean", 127.5)) / spec.get("std", 127.5)
    if entry["dtype"] != np.float32:
        scale, zero = entry["quantization"]
        limits = np.iinfo(entry["dtype"])
        values = np.clip(np.round(values / scale) + zero, limits.min, limits.max)
    interpreter.set_tensor(entry["index"], values[np.newaxis].astype(entry["dtype"]))
    interpreter.invoke()
    maps = {}
    for detail in interpreter.get_output_details():
        given = interpreter.get_tensor(detail["index"]).astype(np.float32)
        if detail["dtype"] != np.float32:
            scale, zero = detail["quantization"]
            given = (given - zero) * scale
        maps[detail["name"].split(":")[0]] = given
    return maps


if __name__ == "__main__":
    import sys

    print(json.dumps(average_precision({"file": sys.argv[1]}, sys.argv[2])))
