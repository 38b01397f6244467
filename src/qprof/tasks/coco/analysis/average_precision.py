"""Average precision by COCO's 101-point interpolation, from detections that are already known to be right or wrong."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qprof.tasks.coco.analysis.boxes import Indices, Mask

#: `Params.recThrs` of pycocotools (https://cocodataset.org/#detection-eval).
RECALL_POINTS = np.linspace(0.0, 1.0, 101)


def mean_average_precision(
    category: Indices, right: Mask, truths: NDArray[np.int64], measured: Mask | None = None
) -> float | None:
    """Mean over categories of the average precision, 0 to 1.

    `category` int32[n] and `right` bool[n]: all detections of the data set, best first; `truths` int64[K]: ground
    truths to find per category; `measured` bool[K]: categories that enter the mean (those with ground truth unless
    given; one without any has the value 0). `None` where no category enters.
    """
    measured = truths > 0 if measured is None else measured
    if not measured.any():
        return None
    order = np.argsort(category, kind="stable")
    ends = np.cumsum(np.bincount(category, minlength=len(truths)))
    right_by_category = np.split(right[order], ends[:-1])
    values = [average_precision(right_by_category[k], int(truths[k])) for k in np.flatnonzero(measured)]
    return float(np.mean(values))


def average_precision(right: Mask, truths: int) -> float:
    """Average precision of one category, 0 to 1: `right` bool[n] best first, `truths` to find (0 to find: 0)."""
    if not truths or not len(right):
        return 0.0
    hits = np.cumsum(right)
    recall = hits / truths
    precision = hits / np.arange(1, len(right) + 1)
    # Precision at a recall is the best one at that recall or a higher one.
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    place = np.searchsorted(recall, RECALL_POINTS, side="left")
    return float(envelope[place[place < len(right)]].sum() / len(RECALL_POINTS))
