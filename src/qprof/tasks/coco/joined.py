"""More IoU thresholds than the compiled core takes at once: several evaluations that answer as one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qprof.core._coco import Evaluation

if TYPE_CHECKING:  # a name of the stub alone
    from qprof.core._coco import CategoryMatches

#: IoU thresholds of one evaluation: a bit of a word each (csrc/coco/inputs.h).
MOST_THRESHOLDS = 32

Metric = tuple[str, "int | None", int, int]


class JoinedEvaluation:
    """Evaluations that differ in their IoU thresholds alone: matching at one threshold knows nothing of the others.

    Has the interface of `Evaluation`, which see.
    """

    def __init__(self, parts: Sequence[Evaluation]) -> None:
        self._parts = list(parts)
        self._counts = [len(part.recall) for part in parts]
        self.recall = np.concatenate([part.recall for part in parts])
        self.kept = parts[0].kept
        self.images = parts[0].images

    @cached_property
    def precision(self) -> NDArray[np.float64]:
        return np.concatenate([part.precision for part in self._parts])

    @cached_property
    def scores(self) -> NDArray[np.float64]:
        return np.concatenate([part.scores for part in self._parts])

    def precision_at(self, area: int, limit: int) -> NDArray[np.float64]:
        return np.concatenate([part.precision_at(area, limit) for part in self._parts])

    def truth_counts(self) -> NDArray[np.int64]:
        return self._parts[0].truth_counts()

    def category_matches(self, category: int, area: int = 0) -> CategoryMatches:
        found = [part.category_matches(category, area) for part in self._parts]
        joined = found[0].copy()
        joined["dt_matches"] = np.concatenate([one["dt_matches"] for one in found])
        joined["dt_ignored"] = np.concatenate([one["dt_ignored"] for one in found])
        joined["gt_matches"] = np.concatenate([one["gt_matches"] for one in found])
        return joined

    def assignments(self, iou: int, area: int = 0) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        part, place = self._place(iou)
        return self._parts[part].assignments(place, area)

    def bootstrap(
        self, weights: ArrayLike, metrics: Sequence[Metric], *, threads: int = 1, per_class: bool = False
    ) -> Any:
        """A mean over all thresholds is that of the parts' means, weighted by how many thresholds each has: what is
        undefined is so at every threshold."""
        wanted: list[list[tuple[int, Metric]]] = [[] for _ in self._parts]
        for n, (kind, iou, area, limit) in enumerate(metrics):
            if iou is None:
                for asked in wanted:
                    asked.append((n, (kind, None, area, limit)))
            else:
                p, place = self._place(iou)
                wanted[p].append((n, (kind, place, area, limit)))
        sums: list[NDArray[np.float64]] | None = None
        for part, count, asked in zip(self._parts, self._counts, wanted, strict=True):
            chosen = [metric for _, metric in asked]
            found = (
                part.bootstrap(weights, chosen, threads=threads, per_class=True)
                if per_class
                else (part.bootstrap(weights, chosen, threads=threads),)
            )
            if sums is None:
                sums = [np.zeros((len(table), len(metrics), *table.shape[2:])) for table in found]
            share = [count / sum(self._counts) if metrics[n][1] is None else 1.0 for n, _ in asked]
            for total, table in zip(sums, found, strict=True):
                for place, (n, _) in enumerate(asked):
                    total[:, n] += share[place] * table[:, place]
        assert sums is not None
        return tuple(sums) if per_class else sums[0]

    def _place(self, iou: int) -> tuple[int, int]:
        """The part that has this threshold, and its place there."""
        for part, count in enumerate(self._counts):
            if 0 <= iou < count:
                return part, iou
            iou -= count
        raise ValueError(f"iou: no threshold has the index {iou + sum(self._counts)}")
