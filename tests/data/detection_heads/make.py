"""Raw outputs of detection heads, and what their authors' own code makes of them: one small .npz a head.

    python make.py HEAD [FOLDER]

FOLDER is a checkout of the peer's repository, where HEAD needs one (see `PEERS`); its packages must be importable. The
tests need none of that. Outputs come from the peer's own head, with random weights, where it can run alone; else they
are random. Each file holds `output_0`, ..., `names`, `size` (height, width of the input), `boxes` (x0, y0, x1, y1 in
pixels of the input), `scores`, `classes`, best first, and `peer`: what decoded them, its version, and how.
"""

from __future__ import annotations

import importlib.machinery
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np

HEIGHT, WIDTH, CLASSES, SEED = 128, 160, 5, 0
THRESHOLD, MOST = 0.001, 100
#: HEAD -> what it is made with.
PEERS = {
    "yolov5": "github.com/ultralytics/yolov5 at 5081342 (2026-08-21): models.yolo.Detect, utils.general",
    "yolov8": "ultralytics 8.4.190: nn.modules.head.Detect, utils.nms",
    "yolo_end2end": "ultralytics 8.4.190: nn.modules.head.Detect with end2end, utils.nms",
    "yolox": "github.com/Megvii-BaseDetection/YOLOX at 6ddff48 (2025-06-08): YOLOXHead, utils.boxes.postprocess",
    "detr": "transformers: DetrImageProcessor.post_process_object_detection",
    "rt_detr": "transformers: RTDetrImageProcessor.post_process_object_detection",
    "centernet": "github.com/xingyizhou/CenterNet at 4c50fd3 (2022-11-10): models.decode.ctdet_decode",
    "efficientdet": "github.com/google/automl at 6a54c87 (2025-03-01): efficientdet.tf2, postprocess_per_class",
}


def write(
    name: str, outputs: Mapping[str, Any], found: tuple[Any, Any, Any], peer: str, size: Sequence[int] = (HEIGHT, WIDTH)
) -> None:
    boxes, scores, classes = (np.asarray(values) for values in found)
    order = np.argsort(-scores, kind="stable")
    arrays = {f"output_{n}": np.asarray(array, np.float32) for n, array in enumerate(outputs.values())}
    np.savez_compressed(
        Path(__file__).parent / f"{name}.npz",
        names=np.array(list(outputs)),
        size=np.array(size),
        boxes=boxes[order].astype(np.float32),
        scores=scores[order].astype(np.float32),
        classes=classes[order].astype(np.int64),
        peer=np.array(peer),
        allow_pickle=False,
        **arrays,
    )
    print(name, {n: a.shape for n, a in outputs.items()}, len(scores), "boxes, best", scores.max())


def features(torch: Any, channels: int = 16) -> list[Any]:
    torch.manual_seed(SEED)
    return [torch.randn(1, channels, HEIGHT // stride, WIDTH // stride) for stride in (8, 16, 32)]


def stand_in_for_torchvision() -> None:
    """The two functions that peers take from torchvision, where that does not fit the torch at hand: the NMS of
    ultralytics, which is written in torch alone."""
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        from ultralytics.utils.nms import TorchNMS

        def batched_nms(boxes: Any, scores: Any, classes: Any, iou: float) -> Any:
            return TorchNMS.nms(boxes + classes[:, None] * 1e5, scores, iou)

        ops = types.ModuleType("torchvision.ops")
        ops.nms, ops.batched_nms = TorchNMS.nms, batched_nms  # type: ignore[attr-defined]
        package = types.ModuleType("torchvision")
        package.ops, package.__version__, package.__path__ = ops, "0", []  # type: ignore[attr-defined]
        package.datasets = types.SimpleNamespace(ImageFolder=object)  # type: ignore[attr-defined]
        package.__spec__ = importlib.machinery.ModuleSpec("torchvision", None)
        sys.modules |= {"torchvision": package, "torchvision.ops": ops}
        for name in ("io", "transforms", "transforms.functional", "transforms.v2", "transforms.v2.functional"):
            sys.modules[f"torchvision.{name}"] = MagicMock()  # of images alone


def livelier(torch: Any, branches: Any) -> None:
    """Scores all over 0 to 1, which random weights do not give."""
    for branch in branches:
        last = branch[-1] if isinstance(branch, torch.nn.Sequential) else branch
        with torch.no_grad():
            last.weight *= 200.0
            last.bias -= last.bias + 2.0


def split(rows: Any) -> tuple[Any, Any, Any]:
    return rows[:, :4], rows[:, 4], rows[:, 5]


def yolov5() -> None:
    stand_in_for_torchvision()
    import torch
    from models.yolo import Detect
    from utils.general import non_max_suppression

    torch.manual_seed(SEED)
    anchors = ((10, 13, 16, 30, 33, 23), (30, 61, 62, 45, 59, 119), (116, 90, 156, 198, 373, 326))
    head = Detect(CLASSES, anchors, (16, 16, 16)).eval()
    head.stride = torch.tensor([8.0, 16.0, 32.0])
    head.anchors /= head.stride.view(-1, 1, 1)
    with torch.no_grad():
        rows = head(features(torch))[0]
        for name, units in (("yolov5_pixels", np.ones(4)), ("yolov5_normalized", np.array([WIDTH, HEIGHT] * 2))):
            raw = rows.clone()
            raw[..., :4] /= torch.tensor(units, dtype=torch.float32)  # as models.tf.TFDetect does
            found = non_max_suppression(rows.clone(), THRESHOLD, 0.6, multi_label=True, max_det=MOST)[0]
            write(name, {"Identity": raw}, split(found), PEERS["yolov5"] + ", multi_label, IoU 0.6")
        found = non_max_suppression(rows.clone(), THRESHOLD, 0.6, multi_label=False, max_det=MOST)[0]
        write("yolov5_best_class", {"Identity": rows}, split(found), PEERS["yolov5"] + ", best class, IoU 0.6")


def yolov8() -> None:
    import torch
    from ultralytics.nn.modules.head import Detect
    from ultralytics.utils.nms import non_max_suppression

    torch.manual_seed(SEED)
    head = Detect(CLASSES, ch=(16, 16, 16)).eval()
    head.stride = torch.tensor([8.0, 16.0, 32.0])
    head.bias_init()
    livelier(torch, head.cv3)
    with torch.no_grad():
        rows = head(features(torch))[0]
        found = non_max_suppression(rows.clone(), THRESHOLD, 0.7, multi_label=True, max_det=MOST)[0]
        peer = PEERS["yolov8"] + ", multi_label, IoU 0.7"
        write("yolov8_pixels", {"output0": rows}, split(found), peer)
        shares = rows.clone()
        shares[:, :4] /= torch.tensor([WIDTH, HEIGHT] * 2).view(1, 4, 1)  # as utils.export.engine._NormalizeCoords does
        write("yolov8_normalized", {"output_0": shares}, split(found), peer)
        write("yolov8_rows", {"Identity": shares.transpose(1, 2)}, split(found), peer)


def yolo_end2end() -> None:
    import torch
    from ultralytics.nn.modules.head import Detect
    from ultralytics.utils.nms import non_max_suppression

    torch.manual_seed(SEED)
    head = Detect(CLASSES, end2end=True, ch=(16, 16, 16)).eval()
    head.stride, head.export, head.max_det = torch.tensor([8.0, 16.0, 32.0]), True, 300
    head.end2end = True
    head.bias_init()
    livelier(torch, head.one2one_cv3)
    with torch.no_grad():
        rows = head(features(torch))
        found = non_max_suppression(rows.clone(), THRESHOLD, end2end=True, max_det=MOST)[0]
        write("yolo_end2end_pixels", {"output0": rows}, split(found), PEERS["yolo_end2end"])
        shares = rows.clone()
        shares[..., :4] /= torch.tensor([WIDTH, HEIGHT] * 2)
        write("yolo_end2end_normalized", {"Identity": shares}, split(found), PEERS["yolo_end2end"])


def yolox() -> None:
    stand_in_for_torchvision()
    import torch
    from yolox.models.yolo_head import YOLOXHead
    from yolox.utils.boxes import postprocess

    torch.manual_seed(SEED)
    head = YOLOXHead(CLASSES, width=0.0625, in_channels=[256, 256, 256]).eval()
    head.initialize_biases(0.2)
    livelier(torch, [*head.cls_preds, *head.obj_preds])
    given = features(torch)
    with torch.no_grad():
        rows = head(given)
        head.decode_in_inference = False
        raw = head(given)
        found = postprocess(rows.clone(), CLASSES, THRESHOLD, 0.65)[0][:MOST]
        best = found[:, :4], found[:, 4] * found[:, 5], found[:, 6]
        write("yolox_decoded", {"output": rows}, best, PEERS["yolox"] + ", IoU 0.65")
        write("yolox_raw", {"output": raw}, best, PEERS["yolox"] + ", decode_in_inference = False, IoU 0.65")


def detr() -> None:
    stand_in_for_torchvision()
    import torch
    import transformers
    from transformers.models.detr.image_processing_detr import DetrImageProcessor

    torch.manual_seed(SEED)
    logits, boxes = torch.randn(1, 100, CLASSES + 1) * 2, torch.rand(1, 100, 4) * 0.6 + 0.1
    logits[0, 10:, -1] += 6.0  # most queries find nothing
    _transformers("detr", transformers, DetrImageProcessor(), logits, boxes)


def rt_detr() -> None:
    stand_in_for_torchvision()
    import torch
    import transformers
    from transformers.models.rt_detr.image_processing_rt_detr import RTDetrImageProcessor

    torch.manual_seed(SEED)
    logits, boxes = torch.randn(1, 300, CLASSES) * 2 - 4, torch.rand(1, 300, 4) * 0.6 + 0.1
    _transformers("rt_detr", transformers, RTDetrImageProcessor(), logits, boxes)


def _transformers(name: str, transformers: Any, processor: Any, logits: Any, boxes: Any) -> None:
    outputs = types.SimpleNamespace(logits=logits, pred_boxes=boxes)
    (found,) = processor.post_process_object_detection(outputs, threshold=THRESHOLD, target_sizes=[(HEIGHT, WIDTH)])
    order = np.argsort(-found["scores"].numpy(), kind="stable")[:MOST]
    best = found["boxes"].numpy()[order], found["scores"].numpy()[order], found["labels"].numpy()[order]
    peer = f"{PEERS[name]} of {transformers.__version__}"
    write(name, {"logits": logits, "pred_boxes": boxes}, best, peer)


def centernet() -> None:
    import torch
    from models.decode import ctdet_decode

    torch.manual_seed(SEED)
    rows, columns = HEIGHT // 4, WIDTH // 4
    logits = torch.randn(1, CLASSES, rows, columns) - 2.0
    size, offset = torch.rand(1, 2, rows, columns) * 10, torch.rand(1, 2, rows, columns)
    found = ctdet_decode(logits.sigmoid(), size, offset, K=MOST)[0].numpy()
    found = found[found[:, 4] > THRESHOLD]
    boxes = found[:, :4] * 4.0  # cells of the map -> pixels of the input
    write("centernet", {"hm": logits, "wh": size, "reg": offset}, (boxes, *found[:, 4:].T), PEERS["centernet"])


def efficientdet() -> None:
    for name in ("tensorflow.python.tpu.tpu_function", "object_detection"):  # of training alone
        sys.modules.setdefault(name, types.ModuleType(name))
    for name in (
        "argmax_matcher",
        "box_list",
        "faster_rcnn_box_coder",
        "region_similarity_calculator",
        "target_assigner",
    ):
        module = types.ModuleType(f"object_detection.{name}")
        setattr(sys.modules["object_detection"], name, module)
        sys.modules[module.__name__] = module
    import tensorflow as tf
    from tf2 import anchors, postprocess

    for name, size, scale in (("efficientdet_lite", (320, 320), 3.0), ("efficientdet_d", (512, 128), 4.0)):
        rng = np.random.default_rng(SEED)
        made = anchors.Anchors(3, 7, 3, [1.0, 2.0, 0.5], scale, size)
        maps: dict[str, np.ndarray] = {}
        # Logits on a coarse grid of values: the files stay small, and no two scores decide by rounding alone.
        for level in range(3, 8):
            grid = (made.feat_sizes[level]["height"], made.feat_sizes[level]["width"])
            logits = np.full((1, *grid, 9 * 2), -12.0, np.float32)
            chosen = rng.random(logits.shape) < 60 / logits.size
            logits[chosen] = rng.permutation(np.linspace(-4, 3, int(chosen.sum()))).astype(np.float32)
            maps[f"class_net/class-predict_{level}"] = logits
        for level in range(3, 8):
            grid = (made.feat_sizes[level]["height"], made.feat_sizes[level]["width"])
            maps[f"box_net/box-predict_{level}"] = (rng.integers(-8, 9, (1, *grid, 36)) / 16).astype(np.float32)
        params = {
            "min_level": 3,
            "max_level": 7,
            "num_scales": 3,
            "aspect_ratios": [1.0, 2.0, 0.5],
            "anchor_scale": scale,
            "image_size": size,
            "num_classes": 2,
            "data_format": "channels_last",
            "max_instances_per_image": MOST,
            "nms_configs": {
                "method": "hard",
                "iou_thresh": 0.5,
                "score_thresh": THRESHOLD,
                "sigma": None,
                "max_nms_inputs": 0,
                "max_output_size": MOST,
            },
        }
        maps_of = [[tf.constant(maps[n]) for n in maps if n.startswith(kind)] for kind in ("class", "box")]
        boxes, scores, classes, count = (
            part.numpy()[0] for part in postprocess.postprocess_per_class(params, *maps_of)
        )
        kept = slice(0, int(count))
        best = boxes[kept][:, [1, 0, 3, 2]], scores[kept], classes[kept] - postprocess.CLASS_OFFSET
        write(name, maps, best, f"{PEERS['efficientdet']}, anchor_scale {scale}, IoU 0.5", size)


MAKERS: Mapping[str, Callable[[], None]] = {
    "yolov5": yolov5,
    "yolov8": yolov8,
    "yolo_end2end": yolo_end2end,
    "yolox": yolox,
    "detr": detr,
    "rt_detr": rt_detr,
    "centernet": centernet,
    "efficientdet": efficientdet,
}

if __name__ == "__main__":
    sys.path[:0] = sys.argv[2:]
    MAKERS[sys.argv[1]]()
