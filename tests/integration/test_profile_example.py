"""The example of the profiles' page, run as it is printed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_quantizer")
Image = pytest.importorskip("PIL.Image")

models = pytest.importorskip("input_models", reason="models are built with ai_edge_litert's schema")

from command_line import QUICK, CommandLine  # noqa: E402
from qprof.store.run import Run  # noqa: E402

PAGE = Path(__file__).parents[2] / "profiles" / "README.md"


def images(folder: Path, first: int, count: int) -> list[dict[str, object]]:
    random = np.random.default_rng(first)
    folder.mkdir(parents=True)
    found = []
    for number in range(first, first + count):
        Image.fromarray(random.integers(0, 255, (96, 128, 3), dtype=np.uint8)).save(folder / f"{number}.png")
        found.append({"id": number, "file_name": f"{number}.png", "width": 128, "height": 96})
    return found


@pytest.mark.parametrize("mean", ["127.5", "[127.5]"])
def test_the_detector_of_the_page(mean: str, qprof: CommandLine) -> None:
    text = next(iter(re.findall(r"^```toml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)))
    assert "mean = 127.5" in text
    folder = qprof.folder
    (folder / "my-detector.toml").write_text(text.replace("mean = 127.5", f"mean = {mean}"))
    (folder / "detector.tflite").write_bytes(models.detector_net())
    scored = images(folder / "val2017", 1, 4)
    images(folder / "train2017", 101, 4)
    boxes = [
        {"id": n, "image_id": n, "category_id": 1, "bbox": [8, 8, 40, 40], "area": 1600, "iscrowd": 0}
        for n in range(1, 5)
    ]
    (folder / "annotations").mkdir()
    truth = {"images": scored, "annotations": boxes, "categories": [{"id": 1, "name": "person"}]}
    (folder / "annotations/instances_val2017.json").write_text(json.dumps(truth))
    done = qprof("run", "my-detector.toml", *QUICK, "-o", folder / "run")
    assert done.code == 0, done.err
    run = Run(folder / "run")
    assert [entry.name for entry in run.variants] == ["float32", "float16", "int8-dynamic", "int8"]
    assert all(entry.status == "ok" for entry in run.variants)
    assert run.score("float32", "AP") == 0.0  # its weights are random
