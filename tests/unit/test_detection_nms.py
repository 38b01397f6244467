"""Non-maximum suppression against a plain oracle and by known answers."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from qprof.tasks.detection.nms import iou_with, non_maximum_suppression


def oracle(boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, threshold: float, limit: int) -> list[int]:
    kept: list[int] = []
    for n in sorted(range(len(scores)), key=lambda n: -scores[n]):
        if all(classes[n] != classes[k] or plain_iou(boxes[n], boxes[k]) <= threshold for k in kept):
            kept.append(n)
    return kept[:limit]


def plain_iou(a: np.ndarray, b: np.ndarray) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inner = max(width, 0.0) * max(height, 0.0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inner
    return inner / union if union > 0 else 0.0


@given(st.integers(0, 40), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.3, 0.5, 1.0]), st.integers(1, 50))
def test_equals_the_oracle(count: int, seed: int, threshold: float, limit: int) -> None:
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 10, (count, 2))
    boxes = np.hstack([low, low + rng.integers(0, 8, (count, 2))]).astype(np.float64)
    scores, classes = rng.integers(0, 6, count) / 5, rng.integers(0, 3, count)
    kept = non_maximum_suppression(boxes, scores, classes, threshold, limit)
    assert kept.tolist() == oracle(boxes, scores, classes, threshold, limit)


def test_only_the_own_class_is_suppressed_and_only_above_the_threshold() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 6]], dtype=np.float64)
    scores, classes = np.array([0.9, 0.8, 0.7, 0.6]), np.array([0, 1, 0, 0])
    assert non_maximum_suppression(boxes, scores, classes, 0.5, 100).tolist() == [0, 1, 2]  # IoU 0.5 stays, 0.6 goes


def test_none_suppresses_nothing_but_keeps_the_limit() -> None:
    boxes = np.tile([0.0, 0.0, 1.0, 1.0], (4, 1))
    scores = np.array([0.1, 0.4, 0.4, 0.2])
    assert non_maximum_suppression(boxes, scores, np.zeros(4, np.int64), None, 3).tolist() == [1, 2, 3]


def test_boxes_without_area_overlap_nothing() -> None:
    point = np.array([5.0, 5.0, 5.0, 5.0])
    assert iou_with(point, np.array([point, [0, 0, 10, 10]])).tolist() == [0.0, 0.0]
