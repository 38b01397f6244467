"""Evaluation of boxes, masks and keypoints as COCO defines it: exact, fast, and with every match kept.

from qprof import coco

result = coco.evaluate("instances_val2017.json", "detections.json")
print(result.summary["AP"], coco.bootstrap(result)["AP"])

masks = coco.evaluate("instances_val2017.json", "masks.json", iou_type="segm")  # or "boundary", "keypoints"

truths, found = result.boxes()
kinds = coco.error_analysis(truths, found, images=len(result.image_ids), categories=len(result.category_ids))

Code written for pycocotools runs on the same core after one import: `from qprof.coco import COCO, COCOeval`; and where
the import is not one's own, after `qprof.coco.init_as_pycocotools()`.
"""

from __future__ import annotations

from qprof.coco import mask
from qprof.tasks.coco.analysis import (
    ERROR_KINDS,
    ERROR_NAMES,
    Calibration,
    Confusion,
    DetectionBoxes,
    DetectionKind,
    ErrorAnalysis,
    FixedThresholdScore,
    Reliability,
    ScoreCalibration,
    TruthBoxes,
    TruthKind,
    calibration,
    confusion,
    error_analysis,
    fixed_threshold_score,
)
from qprof.tasks.coco.cocoeval import COCOeval, Params
from qprof.tasks.coco.dataset import COCO
from qprof.tasks.coco.evaluate import evaluate
from qprof.tasks.coco.inputs import Detections, GroundTruth, read_detections, read_ground_truth
from qprof.tasks.coco.intervals import (
    PairedFigure,
    bootstrap,
    bootstrap_per_class,
    paired_bootstrap,
    paired_bootstrap_per_class,
)
from qprof.tasks.coco.result import AreaFigures, ClassFigures, CocoResult, ImageCounts, ImageMatches
from qprof.tasks.coco.substitution import init_as_pycocotools

__all__ = [
    "COCO",
    "ERROR_KINDS",
    "ERROR_NAMES",
    "AreaFigures",
    "COCOeval",
    "Calibration",
    "ClassFigures",
    "CocoResult",
    "Confusion",
    "DetectionBoxes",
    "DetectionKind",
    "Detections",
    "ErrorAnalysis",
    "FixedThresholdScore",
    "GroundTruth",
    "ImageCounts",
    "ImageMatches",
    "PairedFigure",
    "Params",
    "Reliability",
    "ScoreCalibration",
    "TruthBoxes",
    "TruthKind",
    "bootstrap",
    "bootstrap_per_class",
    "calibration",
    "confusion",
    "error_analysis",
    "evaluate",
    "fixed_threshold_score",
    "init_as_pycocotools",
    "mask",
    "paired_bootstrap",
    "paired_bootstrap_per_class",
    "read_detections",
    "read_ground_truth",
]
