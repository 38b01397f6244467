"""Evaluation of box detections as COCO defines it, on the compiled core."""
