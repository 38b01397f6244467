"""The data that cases are scored on: scenes and passages, written once into the suite's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

#: Texts on which a language model's last words are scored.
TEXTS = 100

#: Scenes that static quantization is calibrated on.
CALIBRATION = 24


def scenes(out: Path, count: int) -> Path:
    """A folder with images/ and annotations.json of `count` rendered scenes."""
    from qprof.tasks.detection.scenes import write_split

    folder = out / "_shared" / f"scenes-{count}"
    if not folder.exists():
        write_split(folder, "val", count)
    return folder


def calibration(out: Path, count: int = CALIBRATION) -> Path:
    from qprof.tasks.detection.scenes import write_split

    folder = out / "_shared" / f"calibration-{count}"
    if not folder.exists():
        write_split(folder, "calibration", count)
    return folder


def texts(out: Path) -> Path:
    """A JSONL file of passages."""
    from qprof.tasks.lastword.passages import write_split

    folder = out / "_shared" / f"passages-{TEXTS}"
    file = folder / "test.jsonl"
    return file if file.exists() else write_split(folder, "test", TEXTS)


def blue_noise(images: Path, to: Path) -> Path:
    """The same images with noise in the place of blue."""
    import numpy as np
    from PIL import Image

    to.mkdir(exist_ok=True)
    numbers = np.random.default_rng(8)
    for path in sorted(images.iterdir()):
        pixels = np.asarray(Image.open(path).convert("RGB")).copy()
        pixels[..., 2] = numbers.integers(0, 256, pixels.shape[:2])
        Image.fromarray(pixels).save(to / path.name)
    return to


def labels_shifted(annotations: Path, to: Path) -> Path:
    """The same annotations with every category one further on."""
    made = json.loads(annotations.read_text())
    ids = sorted(item["id"] for item in made["categories"])
    next_one = dict(zip(ids, [*ids[1:], ids[0]], strict=True))
    for item in made["annotations"]:
        item["category_id"] = next_one[item["category_id"]]
    to.write_text(json.dumps(made))
    return to


def filled(task: dict[str, Any], folder: Path, out: Path, count: int) -> dict[str, Any]:
    """A case's task with the paths of its data. `data` of a detection task says what is wrong
    with them."""
    if task["kind"] == "lastword":
        return task | {"data": str(texts(out)), "limit": TEXTS}
    if task["kind"] != "detection":
        return task
    shared = scenes(out, count)
    annotations, images = shared / "annotations.json", shared / "images"
    if task.get("data") == "labels shifted":
        annotations = labels_shifted(annotations, folder / "annotations.json")
    if task.get("data") == "blue noise":
        images = blue_noise(images, folder / "images")
    rest = {key: value for key, value in task.items() if key != "data"}
    known = {"calibration_images": str(calibration(out, CALIBRATION) / "images"), "calibration_samples": CALIBRATION}
    return known | rest | {"annotations": str(annotations), "images": str(images), "limit": count}
