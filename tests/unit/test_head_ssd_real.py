"""SSD without its post-processing, on a real model: its raw outputs, decoded, are what its own op makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from qprof.record.quantization import dequantize
from qprof.record.tensors import TensorSpec
from qprof.tasks.detection.boxes import Detections
from qprof.tasks.detection.choose import build_head
from qprof.tasks.detection.heads import Binding, HeadConfig
from qprof.tasks.detection.heads.ssd_raw import standard_anchors
from qprof.tasks.detection.nms import iou_with, non_maximum_suppression

SIDE = 300


@pytest.fixture(scope="module")
def ran(qprof_data: Path) -> tuple[list[tuple[TensorSpec, NDArray[Any]]], list[NDArray[Any]]]:
    """What the op of a real SSD was given (boxes, scores, anchors), and what it gave out, for a picture."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    model = Interpreter(
        str(qprof_data / "models" / "ssd_mobilenet_v1_1_metadata_1.tflite"),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    model.allocate_tensors()
    picture = Image.open(qprof_data / "coco_val_images" / "000000039769.png").convert("RGB").resize((SIDE, SIDE))
    model.set_tensor(model.get_input_details()[0]["index"], np.asarray(picture)[np.newaxis])
    model.invoke()
    op = model._get_ops_details()[-1]
    assert op["op_name"] == "TFLite_Detection_PostProcess"
    given = []
    for index in op["inputs"]:
        detail = model._get_tensor_details(int(index), 0)
        scale, zero = detail["quantization"]
        dtype = np.dtype(detail["dtype"]).name
        spec = TensorSpec(detail["name"], tuple(int(n) for n in detail["shape"]), dtype, float(scale), int(zero))
        given.append((spec, model.get_tensor(int(index)).copy()))
    return given, [model.get_tensor(d["index"]).copy() for d in model.get_output_details()]


def decoded(ran: Any, **settings: Any) -> tuple[str, Detections]:
    given, _ = ran
    (boxes, raw), (scores, values), _ = given
    binding = Binding(HeadConfig(**settings), [boxes, scores], ["CONV_2D"], SIDE, SIDE, False)
    kind, head, _ = build_head(binding)
    found = head.decode([raw, values])
    found = found.take(found.scores > 0.3)
    return kind, found.take(non_maximum_suppression(found.boxes, found.scores, found.classes, 0.6, 100))


def test_the_usual_anchors_are_those_of_the_real_model(ran: Any) -> None:
    spec, stored = ran[0][2]
    theirs, ours = dequantize(stored, spec), standard_anchors(SIDE, SIDE)
    assert ours.shape == theirs.shape == (1917, 4)
    seen = np.abs(ours - theirs) <= spec.scale / 2 + 1e-6  # the file stores them in eight bits
    assert seen[theirs < spec.scale * 255 - 1e-6].all()


@pytest.mark.parametrize("anchors", ["the file's own", "the usual"])
def test_raw_outputs_give_what_the_op_gives(ran: Any, tmp_path: Path, anchors: str) -> None:
    settings = {}
    if anchors == "the file's own":
        spec, stored = ran[0][2]
        np.save(tmp_path / "anchors.npy", dequantize(stored, spec).astype(np.float64))
        settings = {"anchors": str(tmp_path / "anchors.npy")}
    # The op suppresses across classes, and of what it keeps all is there: it cannot have more.
    kind, found = decoded(ran, **settings)
    boxes, classes, scores, count = ran[1]
    kept = scores[0][: int(count[0])] > 0.3
    theirs = boxes[0][: len(kept)][kept][:, [1, 0, 3, 2]] * SIDE
    assert kind == "ssd-raw" and len(theirs) >= 4
    worst = 0.0
    for box, score, index in zip(theirs, scores[0][: len(kept)][kept], classes[0][: len(kept)][kept], strict=True):
        same = (found.classes == int(index)) & (np.abs(found.scores - score) < 1e-6)
        assert same.any(), (index, score)
        nearest = found.boxes[same][int(np.argmax(iou_with(box.astype(np.float64), found.boxes[same])))]
        worst = max(worst, float(np.abs(nearest - box).max()))
    print(f"{anchors}: {worst:.3g} pixels")
    assert worst < (1e-3 if settings else 3.0)  # half a step of the stored anchors is a pixel
