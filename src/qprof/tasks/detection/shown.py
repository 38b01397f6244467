"""Images of a detector's run with the boxes of every variant, and its AP and AR by what they depend on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qprof.store.run import Run
from qprof.tasks.coco.result import CocoResult
from qprof.tasks.detection.dataset import image_file, load_annotations
from qprof.tasks.detection.recorded import recorded_detections
from qprof.tasks.images.reading import read_rgb
from qprof.tasks.shown import CurvePoint, ScoreCurve, ShownAnswer, ShownBox, ShownSample, changed_first, picture

#: Boxes that are drawn and counted here: as sure as this, the surest first. What AP counts below is too much to see.
_SURE = 0.5
_MOST_BOXES = 40


def shown(run: Run, variants: Sequence[str], count: int) -> Iterator[ShownSample]:
    """See `TaskKind.shown`. Raises `DataError` where images, annotations or predictions are gone."""
    recorded = recorded_detections(run)
    found = {name: _Sure(recorded.of(name).result) for name in variants}
    baseline = found[variants[0]]
    annotations = load_annotations(recorded.annotations)
    task = run.manifest.task
    folder = Path(task.section["images"]) if task is not None else Path()
    merits = {name: dict(enumerate(one.merits().tolist())) for name, one in found.items()}
    for position in changed_first(merits, variants[0], count):
        image = annotations.images[int(baseline.result.image_ids[position])]
        pixels = read_rgb(image_file(folder, image, annotations.path), image.size)
        size = image.size or pixels.size
        truths = baseline.truths(position, size)
        yield ShownSample(
            title=image.file_name,
            truth=f"{len(truths)} object{'s' * (len(truths) != 1)} (counted: score {_SURE:g} and above, IoU 0.5)",
            picture=picture(pixels, truths),
            said={name: one.answer(position, size, merits[name][position]) for name, one in found.items()},
        )


class _Sure:
    """The sure detections of one variant, matched with the truth at IoU 0.5."""

    def __init__(self, result: CocoResult) -> None:
        self.result = result
        matched, ignored = result.evaluation.assignments(result.settings.iou_index(0.5), result.area_index(None))
        sure = (result.detections.score >= _SURE) & (result.detection_image >= 0) & ~ignored & (matched > -2)
        self._right, self._wrong = sure & (matched >= 0), sure & (matched == -1)
        self._sure = sure
        self._asked = (result.truth_image >= 0) & (result.truth_category >= 0) & (result.truth.crowd == 0)
        hit = np.zeros(len(result.truth_image), np.bool_)
        hit[matched[self._right]] = True
        self._hit = hit

    def merits(self) -> NDArray[np.float64]:
        """Of every image: objects found, less half of what is found beside them."""
        images = len(self.result.image_ids)
        right, wrong = (
            np.bincount(self.result.detection_image[mask], minlength=images) for mask in (self._right, self._wrong)
        )
        return np.asarray(right - 0.5 * wrong, np.float64)

    def truths(self, position: int, size: tuple[int, int], missed: bool = False) -> list[ShownBox]:
        """The objects of one image, or those of them that are missed."""
        mine = self._asked & (self.result.truth_image == position)
        chosen = np.flatnonzero(mine & ~self._hit if missed else mine)
        return self._boxes(chosen, self.result.truth.boxes, self.result.truth_category, size)

    def answer(self, position: int, size: tuple[int, int], merit: float) -> ShownAnswer:
        """What the variant made of one image."""
        result = self.result
        mine = np.flatnonzero(self._sure & (result.detection_image == position))
        mine = mine[np.argsort(-result.detections.score[mine], kind="stable")]
        objects = int((self._asked & (result.truth_image == position)).sum())
        missed = self.truths(position, size, missed=True)
        wrong = int(self._wrong[mine].sum())
        boxes = self._boxes(mine[:_MOST_BOXES], result.detections.boxes, result.detection_category, size, True)
        return ShownAnswer(
            merit=merit,
            outcome=f"{objects - len(missed)} of {objects} found" + (f", {wrong} wrong" if wrong else ""),
            answers=[f"{box.label} {box.score:.2f}" for box in boxes[:5] if box.score is not None],
            boxes=boxes,
            missed=missed,
        )

    def _boxes(
        self,
        rows: NDArray[np.intp],
        boxes: NDArray[np.float64],
        category: NDArray[np.int32],
        size: tuple[int, int],
        found: bool = False,
    ) -> list[ShownBox]:
        names, (width, height) = self.result.category_names, size
        shown = []
        for n in rows.tolist():
            x, y, w, h = boxes[n].tolist()
            score = float(self.result.detections.score[n]) if found else None
            matched = bool(self._right[n]) if found else None
            label = names[int(category[n])]
            shown.append(ShownBox(label, x / width, y / height, w / width, h / height, score, matched))
        return shown


def curves(run: Run, variants: Sequence[str]) -> Iterator[ScoreCurve]:
    """AP by IoU threshold, AP by size, AR by size. Raises `DataError` as `shown` does."""
    recorded = recorded_detections(run)
    found = {name: recorded.of(name).result for name in variants}
    by_iou = ScoreCurve("ap-iou", "AP by IoU threshold", "IoU threshold", "AP", ordered=True)
    by_area = ScoreCurve("ap-area", "AP by object size", "object size", "AP", ordered=False)
    recall = ScoreCurve("ar-area", "AR by object size", "object size", "AR", ordered=False)
    for name, result in found.items():
        settings = result.settings
        precision = result.precision[..., settings.main_area, len(settings.max_dets) - 1]  # [T, R, K]
        for n, threshold in enumerate(settings.iou_thresholds):
            values = precision[n][precision[n] > -1]
            if values.size:
                by_iou.points.append(CurvePoint(name, f"{threshold:.2f}", float(values.mean())))
        last = f"AR{settings.max_dets[-1]}"
        for area in result.per_area():
            for curve, figure in ((by_area, "AP"), (recall, last)):
                value = area.figures.get(figure)
                if value is not None:
                    curve.points.append(CurvePoint(name, area.area, value))
    yield from (by_iou, by_area, recall)
