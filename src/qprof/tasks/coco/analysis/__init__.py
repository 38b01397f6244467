"""What lies below a detector's AP: one-threshold scores, confusion, kinds of errors, calibration of scores."""

from qprof.tasks.coco.analysis.boxes import Boxes, DetectionBoxes, Overlaps, TruthBoxes, find_overlaps
from qprof.tasks.coco.analysis.calibration import Calibration, Reliability, ScoreCalibration, calibration
from qprof.tasks.coco.analysis.confusion import Confusion, confusion
from qprof.tasks.coco.analysis.errors import (
    ERROR_KINDS,
    ERROR_NAMES,
    DetectionKind,
    ErrorAnalysis,
    TruthKind,
    error_analysis,
)
from qprof.tasks.coco.analysis.fixed_threshold import FixedThresholdScore, fixed_threshold_score

__all__ = [
    "ERROR_KINDS",
    "ERROR_NAMES",
    "Boxes",
    "Calibration",
    "Confusion",
    "DetectionBoxes",
    "DetectionKind",
    "ErrorAnalysis",
    "FixedThresholdScore",
    "Overlaps",
    "Reliability",
    "ScoreCalibration",
    "TruthBoxes",
    "TruthKind",
    "calibration",
    "confusion",
    "error_analysis",
    "find_overlaps",
    "fixed_threshold_score",
]
