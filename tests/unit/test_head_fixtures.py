"""Every head against its authors' own decoder, on what tests/data/detection_heads/make.py recorded of both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from detection_models import differences
from qprof.record.tensors import TensorSpec
from qprof.tasks.detection.boxes import Detections
from qprof.tasks.detection.choose import build_head, suppression_iou
from qprof.tasks.detection.heads import Binding, HeadConfig
from qprof.tasks.detection.nms import non_maximum_suppression

FOLDER = Path(__file__).parents[1] / "data" / "detection_heads"
#: File -> kind it must be recognized as, ops of the model, settings.
FIXTURES: dict[str, tuple[str, Sequence[str], dict[str, Any]]] = {
    "yolov5_normalized": ("yolov5", (), {}),
    "yolov5_pixels": ("yolov5", (), {}),
    "yolov5_best_class": ("yolov5", (), {"multi_label": False}),
    "yolov8_normalized": ("yolov8", (), {}),
    "yolov8_pixels": ("yolov8", (), {}),
    "yolov8_rows": ("yolov8", (), {}),
    "yolo_end2end_normalized": ("yolo-end2end", (), {}),
    "yolo_end2end_pixels": ("yolo-end2end", (), {}),
    "yolox_decoded": ("yolox", ("EXP",), {}),
    "yolox_raw": ("yolox", (), {}),
    "detr": ("detr", (), {}),
    "rt_detr": ("detr", (), {}),
    "centernet": ("centernet", (), {"score_activation": "sigmoid"}),
    "efficientdet_lite": ("efficientdet", (), {}),
    "efficientdet_d": ("efficientdet", (), {}),
}
#: Pixels and scores: outputs are float32, and the authors' code computes in it.
PIXELS, SCORES = 2e-3, 1e-5


class Recorded:
    """One file: raw outputs, and what its authors' code found in them."""

    def __init__(self, name: str) -> None:
        with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:
            self.names = [str(one) for one in file["names"]]
            self.outputs = [file[f"output_{n}"] for n in range(len(self.names))]
            self.height, self.width = (int(side) for side in file["size"])
            self.found = Detections(
                file["boxes"].astype(np.float64), file["scores"].astype(np.float64), file["classes"]
            )

        self.class_count = 2 if name.startswith("efficientdet") else 5

    def decoded(
        self, outputs: Sequence[NDArray[Any]], specs: Sequence[TensorSpec], ops: Sequence[str] = (), **settings: Any
    ) -> tuple[str, Detections]:
        """The kind that was recognized, and what its head finds."""
        config = HeadConfig(**settings)
        channels_first = "hm" in self.names
        counts = frozenset({self.class_count})
        binding = Binding(config, specs, ops, self.height, self.width, channels_first, counts)
        kind, head, _ = build_head(binding)
        found = head.decode(outputs)
        found = found.take(found.scores > config.score_threshold)
        iou = suppression_iou(config, kind)
        kept = non_maximum_suppression(found.boxes, found.scores, found.classes, iou, config.max_detections)
        return kind, found.take(kept)

    def specs(self, dtype: str = "float32") -> list[TensorSpec]:
        return [TensorSpec(n, tuple(o.shape), dtype) for n, o in zip(self.names, self.outputs, strict=True)]


@pytest.mark.parametrize("name", FIXTURES)
def test_a_head_finds_what_its_authors_code_finds(name: str) -> None:
    recorded = Recorded(name)
    expected, ops, settings = FIXTURES[name]
    kind, found = recorded.decoded(recorded.outputs, recorded.specs(), ops, **settings)
    assert kind == expected
    box, score = differences(found, recorded.found)
    print(f"{name}: {box:.2g} pixels, {score:.2g} of a score, {len(found.scores)} boxes")
    assert box < PIXELS and score < SCORES


def test_every_recorded_file_is_compared() -> None:
    assert {path.stem for path in FOLDER.glob("*.npz")} == set(FIXTURES)
