"""Object detection on COCO data."""

from qprof.tasks.detection.categories import CategoryConfig
from qprof.tasks.detection.heads import HeadConfig
from qprof.tasks.detection.task import BadSample, DetectionTask
from qprof.tasks.images.preprocess import PreprocessConfig

__all__ = ["BadSample", "CategoryConfig", "DetectionTask", "HeadConfig", "PreprocessConfig"]
