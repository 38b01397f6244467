"""The detector's profile that the page prints, run as it is printed, on files under the names it uses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from PIL import Image

from command_line import QUICK, CommandLine
from qprof.store.run import Run
from qprof.tasks.detection.categories import COCO_CATEGORIES
from tflite_builder import Graph, Signature, build_model

PAGE = Path(__file__).parents[2] / "profiles/README.md"
SIDE = 96


def printed() -> str:
    """The first profile of the page."""
    found = re.search(r"^```toml\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert found is not None
    return found.group(1)


def detector() -> bytes:
    """The form of YOLOv8, untrained: boxes and 80 scores for each cell of three strides."""
    random = np.random.default_rng(0)
    graph = Graph()
    image, parts = graph.input("image", (1, SIDE, SIDE, 3)), []
    for stride in (8, 16, 32):
        cells = (SIDE // stride) ** 2
        kernel = graph.constant(f"kernel{stride}", random.standard_normal((84, 3, 3, 3)).astype(np.float32))
        parts.append(graph.tensor(f"rows{stride}", (1, cells, 84)))
        shape = graph.constant(f"shape{stride}", np.array([1, cells, 84], np.int32))
        options = schema.ReshapeOptionsT(newShape=[1, cells, 84])
        graph.op("RESHAPE", [graph.conv_2d(f"conv{stride}", image, kernel, stride=stride), shape], parts[-1:], options)
    every = (1, sum((SIDE // stride) ** 2 for stride in (8, 16, 32)), 84)
    joined, output = graph.tensor("joined", every), graph.tensor("output", every)
    graph.op("CONCATENATION", parts, [joined], schema.ConcatenationOptionsT(axis=1))
    graph.op("LOGISTIC", [joined], [output])
    graph.outputs = [output]
    return build_model([graph], signatures=[Signature("serving_default", {"image": image}, {"output": output})])


def lay_out(folder: Path) -> None:
    """The files that the profile names: eight images in each of COCO's folders, a box in each of those that are scored,
    and a detector of 80 classes."""
    (folder / "detector.tflite").write_bytes(detector())
    random = np.random.default_rng(0)
    for name in ("val2017", "train2017"):
        (folder / name).mkdir()
        for n in range(8):
            pixels = np.kron(random.integers(0, 256, (8, 10, 3), dtype=np.uint8), np.ones((20, 20, 1), np.uint8))
            Image.fromarray(pixels).save(folder / name / f"{n:012}.jpg")
    images = [{"id": n, "file_name": f"{n:012}.jpg", "width": 200, "height": 160} for n in range(8)]
    boxes = [
        {"id": n + 1, "image_id": n, "category_id": 1, "bbox": [20, 20, 60, 60], "area": 3600, "iscrowd": 0}
        for n in range(8)
    ]
    categories = [{"id": n, "name": name} for n, name in COCO_CATEGORIES.items()]
    (folder / "annotations").mkdir()
    content = json.dumps({"images": images, "annotations": boxes, "categories": categories})
    (folder / "annotations/instances_val2017.json").write_text(content)


@pytest.mark.parametrize("mean", ["127.5", "[127.5]", "[127.5, 127.5, 127.5]"])
def test_the_example_runs_as_it_is_printed(qprof: CommandLine, mean: str) -> None:
    """One number, a list of one and one for each channel are the same."""
    pytest.importorskip("ai_edge_quantizer")
    text = printed()
    assert "mean = 127.5\n" in text
    lay_out(qprof.folder)
    (qprof.folder / "my-detector.toml").write_text(text.replace("mean = 127.5\n", f"mean = {mean}\n"))
    done = qprof("run", "my-detector.toml", *QUICK, "-o", "out")
    assert done.code == 0, done.err
    found = Run(qprof.folder / "out")
    assert [(entry.name, entry.status) for entry in found.manifest.variants] == [
        (name, "ok") for name in ("float32", "float16", "int8-dynamic", "int8")
    ]
    assert found.manifest.samples == 8
