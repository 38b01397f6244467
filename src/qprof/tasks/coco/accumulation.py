"""From matches image by image (`evalImgs`) to the curves, as pycocotools' `accumulate` has them: for matches that were
changed, or put together from those of several processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError

Curves = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def accumulate(entries: Sequence[Any], evaluated: Any, p: Any) -> Curves:
    """precision [T, R, K, A, M], recall [T, K, A, M] and scores [T, R, K, A, M], -1 where there is nothing to find.

    `entries`: one per category, area and image of `evaluated`, in this order. `p` may ask for some of these ids, areas
    and numbers of detections; what was not evaluated stays -1. `DataError` where their number is another.
    """
    categories = list(evaluated.catIds) if evaluated.useCats else [-1]
    areas = [tuple(pair) for pair in evaluated.areaRng]
    images = list(evaluated.imgIds)
    if len(entries) != len(categories) * len(areas) * len(images):
        raise DataError(
            f"COCOeval: {len(entries)} entries in evalImgs for {len(categories)} categories, {len(areas)} areas and "
            f"{len(images)} images: give one for each, and the params that they are of"
        )
    wanted = list(p.catIds) if p.useCats else [-1]
    recalls = np.asarray(p.recThrs)
    shape = (len(p.iouThrs), len(recalls), len(wanted), len(p.areaRng), len(p.maxDets))
    precision, scores = -np.ones(shape), -np.ones(shape)
    recall = -np.ones((shape[0], *shape[2:]))
    category_places = {number: place for place, number in enumerate(categories)}
    kept = set(p.imgIds)
    image_places = [place for place, number in enumerate(images) if number in kept]
    known_limits = set(evaluated.maxDets)
    for k, category in enumerate(wanted):
        for a, area in enumerate(p.areaRng):
            if category not in category_places or tuple(area) not in areas:
                continue
            begin = (category_places[category] * len(areas) + areas.index(tuple(area))) * len(images)
            found = [entries[begin + place] for place in image_places]
            table = _Table([entry for entry in found if entry is not None], shape[0])
            for m, limit in enumerate(p.maxDets):
                if limit in known_limits:
                    table.write(limit, recalls, recall[:, k, a, m], precision[:, :, k, a, m], scores[:, :, k, a, m])
    return precision, recall, scores


class _Table:
    """The matches of a category in an area over all images, best score first."""

    def __init__(self, entries: list[Any], thresholds: int) -> None:
        self._positives = 0
        if not entries:
            return
        matches = [np.asarray(entry["dtMatches"]) for entry in entries]
        if any(len(match) != thresholds for match in matches):
            raise DataError(
                f"COCOeval: evalImgs has matches at other than {thresholds} IoU thresholds: evaluate by these iouThrs"
            )
        scores = np.concatenate([entry["dtScores"] for entry in entries])
        # A place among the detections of its image: the first few of each image count, whatever their scores are.
        rank = np.concatenate([np.arange(len(entry["dtScores"])) for entry in entries])
        order = np.argsort(-scores, kind="mergesort")
        self._scores, self._rank = scores[order], rank[order]
        self._matched = np.concatenate(matches, axis=1)[:, order] != 0
        self._ignored = np.concatenate([entry["dtIgnore"] for entry in entries], axis=1)[:, order] != 0
        ignored = np.concatenate([entry["gtIgnore"] for entry in entries])
        self._positives = int(np.count_nonzero(ignored == 0))

    def write(self, limit: int, recalls: NDArray[Any], recall: Any, precision: Any, scores: Any) -> None:
        """Fill [T], [T, R], [T, R]; leave them where there is nothing to find."""
        if not self._positives:
            return
        within = self._rank < limit
        ranked = self._scores[within]
        matched, ignored = self._matched[:, within], self._ignored[:, within]
        hits = np.cumsum(matched & ~ignored, axis=1).astype(float)
        misses = np.cumsum(~matched & ~ignored, axis=1).astype(float)
        precision[:], scores[:] = 0, 0
        recall[:] = hits[:, -1] / self._positives if hits.shape[1] else 0
        for t in range(len(hits)):
            reached = hits[t] / self._positives
            level = hits[t] / (misses[t] + hits[t] + np.spacing(1))
            level = np.maximum.accumulate(level[::-1])[::-1]
            at = np.searchsorted(reached, recalls, side="left")
            # The first recall that is not reached ends the curve, also where the thresholds do not ascend.
            beyond = np.flatnonzero(at >= len(level))
            count = int(beyond[0]) if beyond.size else len(at)
            precision[t, :count] = level[at[:count]]
            scores[t, :count] = ranked[at[:count]]
