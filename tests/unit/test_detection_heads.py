"""Every kind of head on tensors made from known boxes, in every order, and the refusal of what is ambiguous."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from qprof.errors import DataError, ProfileError
from qprof.record.quantization import quantize
from qprof.record.tensors import TensorSpec
from qprof.tasks.detection.boxes import Detections
from qprof.tasks.detection.choose import build_head, suppression_iou
from qprof.tasks.detection.heads import Binding, Head, HeadConfig

HEIGHT, WIDTH = 64, 128
POSTPROCESS = "TFLite_Detection_PostProcess"


def spec(
    name: str, shape: Sequence[int], dtype: str = "float32", scale: float | None = None, zero: int | None = None
) -> TensorSpec:
    return TensorSpec(name, tuple(shape), dtype, scale, zero)


def build(
    outputs: Sequence[TensorSpec], ops: Sequence[str] = (), channels_first: bool = False, **config: Any
) -> tuple[str, Head, list[str]]:
    return build_head(Binding(HeadConfig(**config), outputs, ops, HEIGHT, WIDTH, channels_first))


def as_list(found: Detections) -> list[tuple[list[float], float, int]]:
    rows = zip(found.boxes.tolist(), found.scores.tolist(), found.classes.tolist(), strict=True)
    return [([round(v, 3) for v in box], round(score, 5), index) for box, score, index in rows]


# Final boxes.

BOXES = np.array([[[0.25, 0.5, 0.75, 1.0], [0.0, 0.0, 0.5, 0.25], [0, 0, 1, 1]]], dtype=np.float32)  # y0 x0 y1 x1
CLASSES = np.array([[16, 0, 3]], dtype=np.float32)
SCORES = np.array([[0.875, 0.5, 0.25]], dtype=np.float32)
COUNT = np.array([2], dtype=np.float32)
FINAL = {"boxes": BOXES, "classes": CLASSES, "scores": SCORES, "count": COUNT}
FINAL_EXPECTED = [([64, 16, 128, 48], 0.875, 16), ([0, 0, 32, 32], 0.5, 0)]


def final_outputs(order: Sequence[str], names: Sequence[str]) -> tuple[list[TensorSpec], list[NDArray[np.float32]]]:
    return [spec(n, FINAL[r].shape) for n, r in zip(names, order, strict=True)], [FINAL[r] for r in order]


def test_outputs_named_by_the_converter_follow_the_order_of_the_op() -> None:
    names = [POSTPROCESS, f"{POSTPROCESS}:1", f"{POSTPROCESS}:2", f"{POSTPROCESS}:3"]
    specs, arrays = final_outputs(["boxes", "classes", "scores", "count"], names)
    kind, head, notes = build(specs)
    assert kind == "tflite-postprocess" and head.class_count is None
    assert "auto" in notes[0] and "tflite-postprocess" in notes[0]
    assert as_list(head.decode(arrays)) == FINAL_EXPECTED


@pytest.mark.parametrize("order", list(itertools.permutations(FINAL)))
def test_final_boxes_in_any_order_by_shape_and_values(order: Sequence[str]) -> None:
    specs, arrays = final_outputs(order, [f"StatefulPartitionedCall:{n}" for n in range(4)])
    _, head, _ = build(specs, ["CONV_2D", POSTPROCESS])
    assert as_list(head.decode(arrays)) == FINAL_EXPECTED


@pytest.mark.parametrize("order", list(itertools.permutations(FINAL)))
def test_final_boxes_in_any_order_by_name(order: Sequence[str]) -> None:
    names = {
        "boxes": "detection_boxes:0",
        "classes": "x/detection_classes",
        "scores": "detection_scores",
        "count": "num_detections",
    }
    specs, arrays = final_outputs(order, [names[role] for role in order])
    arrays = [np.ones_like(a) if role == "scores" else a for role, a in zip(order, arrays, strict=True)]
    _, head, _ = build(specs, [POSTPROCESS])
    assert [c for _, _, c in as_list(head.decode(arrays))] == [16, 0]


def test_raw_outputs_of_the_object_detection_api_are_ignored() -> None:
    names = ["detection_boxes", "detection_classes", "detection_scores", "num_detections"]
    specs, arrays = final_outputs(list(FINAL), names)
    extra = {
        "raw_detection_boxes": (1, 500, 4),
        "raw_detection_scores": (1, 500, 91),
        "detection_multiclass_scores": (1, 3, 91),
    }
    extra["detection_anchor_indices"] = (1, 3)
    specs += [spec(name, shape) for name, shape in extra.items()]
    arrays += [np.zeros(shape, np.float32) for shape in extra.values()]
    _, head, _ = build(specs, kind="centernet-decoded")
    assert as_list(head.decode(arrays)) == [(box, score, index - 1) for box, score, index in FINAL_EXPECTED]


def test_an_image_without_detections_settles_nothing_and_gives_nothing() -> None:
    specs, arrays = final_outputs(["scores", "boxes", "classes"], ["a", "b", "c"])
    _, head, _ = build(specs, kind="boxes")
    assert len(head.decode([np.zeros_like(a) for a in arrays]).scores) == 0
    assert as_list(head.decode(arrays))[:2] == FINAL_EXPECTED  # no count: all three
    certain = [np.array([[1, 1, 0]], np.float32), BOXES, np.array([[1, 0, 1]], np.float32)]
    assert [c for _, _, c in as_list(head.decode(certain))] == [1, 0, 1]  # settled: whole scores do not confuse it


def test_scores_of_one_beside_classes_above_one() -> None:
    specs, _ = final_outputs(["scores", "boxes", "classes"], ["a", "b", "c"])
    _, head, _ = build(specs, kind="boxes")
    assert as_list(head.decode([np.array([[1, 1, 0]], np.float32), BOXES, CLASSES]))[0] == ([64, 16, 128, 48], 1.0, 16)


def test_values_that_cannot_tell_classes_from_scores_ask_for_roles() -> None:
    specs, _ = final_outputs(["scores", "boxes", "classes"], ["a", "b", "c"])
    for scores, classes in (([1, 1, 0], [1, 0, 0]), ([0.5, 0.25, 0.1], [0.5, 0.5, 0.5])):
        _, head, _ = build(specs, kind="boxes")
        with pytest.raises(DataError, match=r"cannot tell classes from scores.*head\.roles"):
            head.decode([np.array([scores], np.float32), BOXES, np.array([classes], np.float32)])
    _, head, _ = build(specs, kind="boxes", roles=["scores", "boxes", "classes"])
    assert len(head.decode([np.ones((1, 3), np.float32), BOXES, np.zeros((1, 3), np.float32)]).scores) == 3


def test_integer_classes_are_known_by_their_type() -> None:
    specs = [spec("a", (1, 3), "float32"), spec("b", (1, 3, 4)), spec("c", (1, 3), "int64")]
    _, head, _ = build(specs)
    assert as_list(head.decode([np.ones((1, 3), np.float32), BOXES, CLASSES.astype(np.int64)]))[0][2] == 16


def test_boxes_in_pixels_of_another_format_and_classes_from_one() -> None:
    specs, _ = final_outputs(["boxes", "classes", "scores"], ["boxes", "classes", "scores"])
    kind, head, notes = build(specs, box_format="cxcywh", box_units="pixels", class_offset=1)
    boxes = np.array([[[50, 30, 20, 10]] * 3], np.float32)
    assert kind == "boxes" and len(notes) == 1
    assert as_list(head.decode([boxes, CLASSES, SCORES]))[0] == ([40, 25, 60, 35], 0.875, 15)


def test_assumptions_on_final_boxes_are_said() -> None:
    specs, _ = final_outputs(["boxes", "classes", "scores"], ["boxes", "classes", "scores"])
    _, _, notes = build(specs)
    assert any("class_offset" in n for n in notes) and any("box_format" in n for n in notes)


def test_quantized_outputs_are_dequantized_first() -> None:
    specs = [
        spec("boxes", (1, 3, 4), "uint8", 1 / 128, 0),
        spec("classes", (1, 3), "uint8", 1.0, 0),
        spec("scores", (1, 3), "int8", 1 / 256, -128),
    ]
    _, head, _ = build(specs)
    arrays = [quantize(a, s) for a, s in zip((BOXES, CLASSES, SCORES), specs, strict=True)]
    assert as_list(head.decode(arrays))[:2] == FINAL_EXPECTED


def test_a_count_that_is_no_number_means_none() -> None:
    specs, arrays = final_outputs(["boxes", "classes", "scores", "count"], ["boxes", "classes", "scores", "count"])
    _, head, _ = build(specs)
    assert len(head.decode([*arrays[:3], np.array([np.nan], np.float32)]).scores) == 0
    assert len(head.decode([*arrays[:3], np.array([99], np.float32)]).scores) == 3


@pytest.mark.parametrize(
    ("shapes", "config", "message"),
    [
        ([(1, 3, 4), (1, 3)], {}, "cannot tell which output holds the classes|scores"),
        ([(1, 3, 4), (1, 3, 4), (1, 3), (1, 3)], {}, "cannot tell which output holds the boxes"),
        ([(1, 3, 4), (1, 3), (1, 3)], {"roles": ["boxes", "scores"]}, "names 2 outputs, the model has 3"),
        ([(1, 3, 4), (1, 3), (1, 3)], {"roles": ["scores", "boxes", "classes"]}, "differ in number"),
        ([(1, 3, 4), (1, 5), (1, 5)], {"roles": ["boxes", "scores", "classes"]}, "differ in number"),
    ],
)
def test_final_boxes_that_do_not_fit(shapes: list[tuple[int, ...]], config: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        build([spec(f"o{n}", s) for n, s in enumerate(shapes)], kind="boxes", **config)


# Raw SSD.


def test_ssd_against_anchors_inverts_the_encoding(tmp_path: Path) -> None:
    anchors = np.array([[0.5, 0.5, 0.2, 0.4], [0.25, 0.75, 0.1, 0.1]])  # cy cx h w
    boxes = np.array([[0.5, 0.4, 0.5, 0.2], [0.3, 0.7, 0.2, 0.3]])  # cy cx h w
    encoded = np.column_stack(
        [
            (boxes[:, 0] - anchors[:, 0]) / anchors[:, 2] * 10,
            (boxes[:, 1] - anchors[:, 1]) / anchors[:, 3] * 10,
            np.log(boxes[:, 2] / anchors[:, 2]) * 5,
            np.log(boxes[:, 3] / anchors[:, 3]) * 5,
        ]
    )[None].astype(np.float32)
    np.save(tmp_path / "a.npy", anchors)
    scores = np.array([[[0.9, 0.8, 0.0005], [0.1, 0.0, 0.6]]], np.float32)
    kind, head, _ = build([spec("s", (1, 2, 3)), spec("b", (1, 2, 4))], anchors=str(tmp_path / "a.npy"))
    assert kind == "ssd-raw" and head.class_count == 2
    expected = [([38.4, 16, 64, 48], 0.8, 0), ([70.4, 12.8, 108.8, 25.6], 0.6, 1)]
    assert as_list(head.decode([scores, encoded])) == expected


def test_ssd_with_final_boxes_activation_and_no_background() -> None:
    logits = np.array([[[0.0, 2.0]]], np.float32)
    boxes = np.array([[[8, 4, 16, 12]]], np.float32)
    specs = [spec("b", (1, 1, 4)), spec("s", (1, 1, 2))]
    common: dict[str, Any] = {"box_format": "xyxy", "box_units": "pixels", "background": False}
    _, head, _ = build(specs, score_activation="softmax", **common)
    assert as_list(head.decode([boxes, logits])) == [([8, 4, 16, 12], 0.1192, 0), ([8, 4, 16, 12], 0.8808, 1)]
    _, head, _ = build(specs, score_activation="sigmoid", **common)
    assert [score for _, score, _ in as_list(head.decode([boxes, logits]))] == [0.5, 0.8808]
    _, head, _ = build(specs, **common)
    with pytest.raises(DataError, match=r"set head.score_activation"):
        head.decode([boxes, logits - 4])
    # A coarse output's step above 1 is no logit: the variant must not fail for it.
    assert as_list(head.decode([boxes, logits])) == [([8, 4, 16, 12], 2.0, 1)]


def test_raw_ssd_asks_how_its_boxes_are_meant() -> None:
    with pytest.raises(DataError, match=r"head\.anchors.*head\.box_format"):
        build([spec("b", (1, 9, 4)), spec("s", (1, 9, 3))])
    with pytest.raises(DataError, match="cannot tell boxes from scores"):
        build([spec("p", (1, 9, 4)), spec("q", (1, 9, 4))], box_format="yxyx")
    _, head, _ = build(
        [spec("p", (1, 9, 4)), spec("raw_x/boxes", (1, 9, 4))], roles=["boxes", "scores"], box_format="yxyx"
    )
    assert head.class_count == 3


def test_anchors_of_another_shape_or_kind(tmp_path: Path) -> None:
    specs = [spec("b", (1, 2, 4)), spec("s", (1, 2, 3))]
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((3, 4)))
    with pytest.raises(DataError, match=r"needs floats of \[2, 4\]"):
        build(specs, anchors=str(path))
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="anchors cannot be read"):
        build(specs, anchors=str(path))
    np.save(path, np.full((2, 4), np.inf))
    with pytest.raises(DataError, match="not finite"):
        build(specs, anchors=str(path))


# CenterNet: stride 16 on the 64 x 128 input.


def maps() -> dict[str, NDArray[np.float32]]:
    heat = np.zeros((1, 4, 8, 3), np.float32)
    heat[0, 1, 2, 0], heat[0, 1, 3, 0] = 0.75, 0.5  # the neighbour is no peak
    heat[0, 1, 3, 1] = 0.25  # of another class: a peak
    heat[0, 3, 7, 2] = 0.625  # in the corner
    size = np.zeros((1, 4, 8, 2), np.float32)
    offset = np.zeros((1, 4, 8, 2), np.float32)
    size[0, 1, 2], offset[0, 1, 2] = (2, 1), (0.5, 0.25)
    size[0, 1, 3] = (1, 1)
    size[0, 3, 7], offset[0, 3, 7] = (1, -1), (0.5, 0.5)
    return {"heatmap": heat, "size": size, "offset": offset}


CENTER_EXPECTED = [([24, 12, 56, 28], 0.75, 0), ([112, 56, 128, 56], 0.625, 2), ([40, 8, 56, 24], 0.25, 1)]


@pytest.mark.parametrize("order", list(itertools.permutations(["heatmap", "size", "offset"])))
@pytest.mark.parametrize("named", [True, False])
def test_centernet_by_names_or_roles_in_any_order(order: Sequence[str], named: bool) -> None:
    names = [f"model/{role}_head/BiasAdd" if named else f"StatefulPartitionedCall:{n}" for n, role in enumerate(order)]
    specs = [spec(name, maps()[role].shape) for name, role in zip(names, order, strict=True)]
    kind, head, notes = build(specs, roles=None if named else list(order))
    assert kind == "centernet" and head.class_count == 3 and len(notes) == 1
    assert as_list(head.decode([maps()[role] for role in order])) == CENTER_EXPECTED


def test_size_and_offset_of_one_shape_without_names_are_refused() -> None:
    specs = [spec(f"StatefulPartitionedCall:{n}", (1, 4, 8, c)) for n, c in enumerate((3, 2, 2))]
    with pytest.raises(DataError, match=r"cannot tell heatmap, size and offset apart.*set head\.roles"):
        build(specs)


@pytest.mark.parametrize(
    ("units", "factor"), [("cells", (1.0, 1.0)), ("pixels", (16.0, 16.0)), ("normalized", (1 / 8, 1 / 4))]
)
def test_units_of_the_size(units: str, factor: tuple[float, float]) -> None:
    data = maps()
    data["size"] = data["size"] * np.array(factor, np.float32)
    _, head, _ = build([spec(n, a.shape) for n, a in data.items()], size_units=units)
    assert as_list(head.decode(list(data.values()))) == CENTER_EXPECTED


def test_pairs_in_order_y_x_and_channels_first() -> None:
    data = maps()
    flipped = [data["heatmap"], data["size"][..., ::-1], data["offset"][..., ::-1]]
    _, head, _ = build([spec(n, a.shape) for n, a in data.items()], pair_order="yx")
    assert as_list(head.decode(flipped)) == CENTER_EXPECTED
    _, head, _ = build([spec(n, a.shape) for n, a in data.items()], size_order="yx")
    assert as_list(head.decode([data["heatmap"], data["size"][..., ::-1], data["offset"]])) == CENTER_EXPECTED
    first = [a.transpose(0, 3, 1, 2) for a in data.values()]
    _, head, _ = build([spec(n, a.shape) for n, a in zip(data, first, strict=True)], channels_first=True)
    assert as_list(head.decode(first)) == CENTER_EXPECTED


def test_without_offset_the_centre_of_the_cell_is_taken_and_said() -> None:
    data = maps()
    _, head, notes = build([spec("a", data["heatmap"].shape), spec("b", data["size"].shape)])
    assert any("no offset" in n for n in notes)
    assert as_list(head.decode([data["heatmap"], data["size"]]))[0] == ([24, 16, 56, 32], 0.75, 0)


def test_logits_take_a_sigmoid_and_are_refused_without() -> None:
    data = maps()
    logits = np.full_like(data["heatmap"], -20.0)
    logits[0, 1, 2, 0] = np.log(3)
    specs = [spec(n, a.shape) for n, a in data.items()]
    arrays = [logits, data["size"], data["offset"]]
    _, head, _ = build(specs, score_activation="sigmoid")
    assert as_list(head.decode(arrays)) == [CENTER_EXPECTED[0]]
    _, head, _ = build(specs)
    with pytest.raises(DataError, match=r"set head.score_activation"):
        head.decode(arrays)
    with pytest.raises(DataError, match="softmax"):
        build(specs, score_activation="softmax")


def test_centernet_quantized() -> None:
    data = maps()
    specs = [
        spec("heatmap", (1, 4, 8, 3), "int8", 1 / 256, -128),
        spec("size", (1, 4, 8, 2), "int8", 1 / 16, 0),
        spec("offset", (1, 4, 8, 2), "uint8", 1 / 64, 10),
    ]
    _, head, _ = build(specs)
    arrays = [quantize(a, s) for a, s in zip(data.values(), specs, strict=True)]
    assert as_list(head.decode(arrays)) == CENTER_EXPECTED


def test_the_number_of_peaks_is_limited_to_the_best() -> None:
    rng = np.random.default_rng(0)
    data = maps()
    data["heatmap"] = rng.random((1, 4, 8, 3), dtype=np.float32)
    specs = [spec(n, a.shape) for n, a in data.items()]
    every = build(specs)[1].decode(list(data.values())).scores
    best = build(specs, max_detections=2)[1].decode(list(data.values())).scores
    assert len(every) > 2 and best.tolist() == sorted(every.tolist(), reverse=True)[:2]


def test_nan_in_a_heatmap_is_passed_on_to_be_counted() -> None:
    data = maps()
    data["heatmap"][0, 0, 0, 0] = np.nan
    _, head, _ = build([spec(n, a.shape) for n, a in data.items()])
    scores = head.decode(list(data.values())).scores
    assert np.isnan(scores).sum() == 1 and np.nanmax(scores) == 0.75


def test_maps_on_different_grids_or_of_wrong_width_are_refused() -> None:
    with pytest.raises(DataError, match="fit no known detection head"):
        build([spec("a", (1, 4, 8, 18)), spec("b", (1, 2, 4, 18))])
    with pytest.raises(DataError, match="not on one grid"):
        build([spec("a", (1, 4, 8, 3)), spec("b", (1, 2, 4, 2))], kind="centernet", roles=["heatmap", "size"])
    with pytest.raises(DataError, match="no size map"):
        build([spec("a", (1, 4, 8, 3)), spec("b", (1, 4, 8, 3))], kind="centernet", roles=["heatmap", "size"])


# YOLOX: strides 8, 16, 32 on 64 x 128 make 128 + 32 + 8 cells.

CELLS = 168


def yolox_rows() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The same boxes raw and decoded: cell (x 3, y 2) of stride 8, cell (x 1, y 1) of stride 16, the last of stride
    32."""
    raw, decoded = np.zeros((1, CELLS, 7), np.float32), np.zeros((1, CELLS, 7), np.float32)
    for row, (x, y, stride) in {2 * 16 + 3: (3, 2, 8), 128 + 8 + 1: (1, 1, 16), 167: (3, 1, 32)}.items():
        raw[0, row, :4] = (0.5, 0.25, np.log(2), np.log(0.5))
        decoded[0, row, :4] = ((x + 0.5) * stride, (y + 0.25) * stride, 2 * stride, stride / 2)
        for rows in (raw, decoded):
            rows[0, row, 4:] = (0.5, 0.25, 0.75)
    return raw, decoded


@pytest.mark.parametrize("ops", [("EXP", "CONV_2D"), ("CONV_2D",)])
def test_yolox_raw_and_decoded_agree(ops: tuple[str, ...]) -> None:
    raw, decoded = yolox_rows()
    kind, head, notes = build([spec("o", (1, CELLS, 7))], ops)
    assert kind == "yolox" and head.class_count == 2 and any("head.decoded" in n for n in notes)
    found = head.decode([decoded if "EXP" in ops else raw])
    rows = [(box, score, index) for box, score, index in as_list(found) if score > 0]
    assert rows == [([20, 16, 36, 20], 0.375, 1), ([8, 16, 40, 24], 0.375, 1), ([80, 32, 144, 48], 0.375, 1)]


def test_yolox_setting_overrides_the_ops() -> None:
    raw, _ = yolox_rows()
    _, head, notes = build([spec("o", (1, CELLS, 7))], ["EXP"], decoded=False)
    assert len(notes) == 1
    assert ([20, 16, 36, 20], 0.375, 1) in as_list(head.decode([raw]))


def test_yolox_that_does_not_fit() -> None:
    with pytest.raises(DataError, match="fit no known detection head"):
        build([spec("o", (1, CELLS + 1, 7))])
    with pytest.raises(DataError, match=r"168 rows, strides \[8, 16\] make 160"):
        build([spec("o", (1, CELLS, 7))], kind="yolox", strides=[8, 16], decoded=False)
    with pytest.raises(DataError, match="one output"):
        build([spec("o", (1, CELLS, 5))], kind="yolox")


# Configuration.


def test_what_fits_no_head_names_the_kinds() -> None:
    with pytest.raises(DataError, match=r"boxes, centernet, centernet-decoded, .*ssd-raw, tflite-postprocess, .*yolox"):
        build([spec("probabilities", (1, 1000))])


def test_suppression_is_that_of_the_kind_unless_set() -> None:
    assert suppression_iou(HeadConfig(), "centernet") is None
    assert suppression_iou(HeadConfig(), "yolox") == 0.65
    assert suppression_iou(HeadConfig(nms_iou=0.0), "yolox") == 0.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "fasterrcnn"},
        {"roles": ["box"]},
        {"box_format": "xy"},
        {"box_units": "mm"},
        {"size_units": "mm"},
        {"pair_order": "hw"},
        {"score_activation": "relu"},
        {"variances": [1.0, 1.0, 0.0, 1.0]},
        {"strides": []},
        {"max_detections": 0},
        {"score_threshold": float("nan")},
        {"nms_iou": 1.5},
    ],
)
def test_wrong_configuration_names_the_key(wrong: dict[str, Any]) -> None:
    with pytest.raises(ProfileError, match=f"head.{next(iter(wrong))}"):
        HeadConfig(**wrong)
