"""The interface of pycocotools' `COCOeval` on the compiled core, for code that is written for it."""

from __future__ import annotations

import copy
import datetime
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

from qprof.errors import DataError
from qprof.probes.machine import available_cores
from qprof.tasks.coco import accumulation, per_image, summary
from qprof.tasks.coco.dataset import COCO
from qprof.tasks.coco.eval_images import eval_images, overlap_tables
from qprof.tasks.coco.objects import Gathered, gather, selected
from qprof.tasks.coco.parameters import Params, copied, same, settings_of
from qprof.tasks.coco.result import CocoResult
from qprof.tasks.coco.results import as_detections, as_truth
from qprof.tasks.coco.scoring import score
from qprof.tasks.coco.settings import IdZero
from qprof.tasks.coco.shapes import shape_kind

__all__ = ["COCO", "COCOeval", "Params"]


class COCOeval:
    """Evaluation by the calls of pycocotools: `evaluate()`, `accumulate()`, `summarize()`, then `stats`, `eval`.

    `cocoGt` and `cocoDt` are `COCO` objects, pycocotools' or ours, or what `qprof.coco.evaluate` takes.

    Boxes, masks and keypoints are matched by the compiled core. `evalImgs`, `ious`, `_gts` and `_dts` are made when
    first read, and are what counts from there on: `accumulate` goes by `evalImgs` once that was read or set, so that
    entries may be changed, or put together from several processes. Where a subclass, or the object, has a `_prepare`,
    `computeIoU`, `computeOks` or `evaluateImg` of its own, matching runs image by image through them, as slowly as in
    pycocotools; so does what the core does not take, such as scores that are NaN. iouType "boundary" is Boundary IoU
    (`dilation_ratio` in `params`).

    Figures and text are those of pycocotools, but for these: AP, which has -1 there where `maxDets` has no 100 (see
    `summary.figures`); `accumulate` with other ids than were evaluated finds them by id, not by place; a match to the
    annotation id 0 counts (`id_zero="pycocotools"` is the switch; `evalImgs` has `MATCHED_ID_ZERO` for it); `params`
    keeps its `catIds` where `useCats` is 0. `print_function` (default: print) gets each line. What makes figures
    doubtful is printed, once. Errors are `DataError`.
    """

    def __init__(
        self,
        cocoGt: Any = None,
        cocoDt: Any = None,
        iouType: str = "segm",
        *,
        id_zero: IdZero = "correct",
        threads: int | None = None,
        print_function: Callable[[str], None] | None = None,
        lvis_style: bool = False,
    ) -> None:
        if lvis_style:
            raise DataError("COCOeval: lvis_style is not evaluated here: leave it out")
        if id_zero not in ("correct", "pycocotools"):
            raise DataError(f"id_zero = {id_zero!r}: give 'correct' or 'pycocotools'")
        self.cocoGt: Any = None if cocoGt is None else as_truth(cocoGt)
        self.cocoDt: Any = None if cocoDt is None else as_detections(cocoDt)
        self.params = Params(iouType)
        self.eval: dict[str, Any] = {}
        self.stats: Any = []
        self.result: CocoResult | None = None  # of the compiled core, else None
        self._paramsEval: Any = {}
        self._id_zero: IdZero = id_zero
        self._print_function = print_function
        self._threads = available_cores() if threads is None else threads
        self._evaluated: Params | None = None  # what `result` is of
        self._gathered: Gathered | None = None
        self._images: Any = None
        self._overlaps: Any = None
        self._truths: Any = None
        self._detections: Any = None
        self._said: set[str] = set()
        if self.cocoGt is not None:
            self.params.imgIds = sorted(self.cocoGt.getImgIds())
            self.params.catIds = sorted(self.cocoGt.getCatIds())

    def evaluate(self) -> None:
        """Match every image."""
        begin = time.time()
        self._print("Running per image evaluation...")
        p = self.params
        if p.useSegm is not None:
            p.iouType = "segm" if p.useSegm == 1 else "bbox"
            self._print(f"useSegm (deprecated) is not None. Running {p.iouType} evaluation")
        self._print(f"Evaluate annotation type *{p.iouType}*")
        p.imgIds = np.unique(p.imgIds).tolist()
        if p.useCats:
            p.catIds = np.unique(p.catIds).tolist()
        p.maxDets = sorted(p.maxDets)
        self._wrap()
        self.eval, self.result, self._evaluated, self._gathered = {}, None, None, None
        self._images = self._overlaps = self._truths = self._detections = None
        if not self._evaluate_compiled(p):
            self._evaluate_by_image(p)
        self._paramsEval = copied(p)
        self._print(f"DONE (t={time.time() - begin:0.2f}s).")

    def accumulate(self, p: Params | None = None) -> None:
        """Fill `eval` with precision, recall and scores, by `p` (default: `params`)."""
        begin = time.time()
        self._print("Accumulating evaluation results...")
        p = self.params if p is None else p
        precision, recall, scores = self._curves(p)
        self.eval = {
            "params": p,
            "counts": list(precision.shape),
            "date": datetime.datetime.now().strftime("%Y-%m-%d %H:%M:%S"),
            "precision": precision,
            "recall": recall,
            "scores": scores,
        }
        self._print(f"DONE (t={time.time() - begin:0.2f}s).")

    def summarize(self) -> None:
        """Print the figures and fill `stats`: 12, or 10 of keypoints, -1 where there is none."""
        if not self.eval:
            raise DataError("COCOeval: nothing to summarize: call accumulate() first")
        self.stats, lines = summary.figures(self.params, self.eval)
        for line in lines:
            self._print(line)

    def __str__(self) -> str:
        if not self.eval:
            return repr(self)
        self.stats, lines = summary.figures(self.params, self.eval)  # as pycocotools' `__str__` does
        return "\n".join(lines)

    @property
    def stats_as_dict(self) -> dict[str, float]:
        """`stats` under the names of faster-coco-eval: AP_all, AP_50, AP_75, AP_small, ..., AR_all, AR_second, ..."""
        return dict(zip(summary.names(self.params), np.asarray(self.stats, dtype=float).tolist(), strict=False))

    def computeIoU(self, imgId: Any, catId: Any) -> Any:
        """float64[detections best first, ground truths] of an image and category, or an empty list."""
        p = self.params
        return per_image.overlaps(
            p, per_image.chosen(p, self._gts, imgId, catId), per_image.chosen(p, self._dts, imgId, catId)
        )

    def computeOks(self, imgId: Any, catId: Any) -> Any:
        """As `computeIoU`: the object keypoint similarity."""
        return per_image.keypoint_similarity(self.params, self._gts[imgId, catId], self._dts[imgId, catId])

    def evaluateImg(self, imgId: Any, catId: Any, aRng: Any, maxDet: int) -> dict[str, Any] | None:
        """The entry of `evalImgs` for an image and category, by `ious`."""
        p = self.params
        truths, found = (per_image.chosen(p, groups, imgId, catId) for groups in (self._gts, self._dts))
        zero_is_none = self._id_zero == "pycocotools"
        ious = self.ious[imgId, catId] if truths or found else []
        return per_image.match(p, imgId, catId, aRng, maxDet, truths, found, ious, zero_is_none)

    def _prepare(self) -> None:
        """Fill `_gts` and `_dts`, (image id, category id) -> annotations, by `params`."""
        self._wrap()
        self._truths, self._detections = self._groups()
        self._images, self.eval = defaultdict(list), {}

    @property
    def evalImgs(self) -> Any:
        """One dict per category, area and image, in this order; `None` where the image has neither objects nor
        detections of the category. Empty before `evaluate`."""
        if self._images is None:
            if self.result is None or self._evaluated is None:
                return []
            self._images = eval_images(self.result, self._evaluated)
        return self._images

    @evalImgs.setter
    def evalImgs(self, given: Any) -> None:
        self._images = given

    @property
    def ious(self) -> Any:
        """(image id, category id) -> float64[detections best first, ground truths in input order], or an empty list."""
        if self._overlaps is None:
            if self.result is None or self._evaluated is None:
                return {}
            self._overlaps = overlap_tables(self.result, self._evaluated)
        return self._overlaps

    @ious.setter
    def ious(self, given: Any) -> None:
        self._overlaps = given

    @property
    def _gts(self) -> Any:
        if self._truths is None:
            self._make_groups()
        return self._truths

    @_gts.setter
    def _gts(self, given: Any) -> None:
        self._truths = given

    @property
    def _dts(self) -> Any:
        if self._detections is None:
            self._make_groups()
        return self._detections

    @_dts.setter
    def _dts(self, given: Any) -> None:
        self._detections = given

    def _make_groups(self) -> None:
        """What `_prepare` would have filled, after an evaluation that did not need it; empty before one."""
        made = self._groups() if self.result is not None else (defaultdict(list), defaultdict(list))
        self._truths = made[0] if self._truths is None else self._truths
        self._detections = made[1] if self._detections is None else self._detections

    def _groups(self) -> tuple[Any, Any]:
        p = self.params
        truths, found = (selected(coco, p.imgIds, p.catIds, bool(p.useCats)) for coco in (self.cocoGt, self.cocoDt))
        if p.iouType in ("segm", "boundary"):
            for coco, rows in ((self.cocoGt, truths), (self.cocoDt, found)):
                for row in rows:
                    row["segmentation"] = coco.annToRLE(row)
        per_image.mark_ignored(truths, p.iouType)
        return per_image.grouped(truths), per_image.grouped(found)

    def _wrap(self) -> None:
        """Both sides as `COCO` objects, also where they were set later."""
        if self.cocoGt is None or self.cocoDt is None:
            raise DataError("COCOeval: no ground truth or no detections: give cocoGt and cocoDt")
        self.cocoGt, self.cocoDt = as_truth(self.cocoGt), as_detections(self.cocoDt)

    def _evaluate_compiled(self, p: Params) -> bool:
        """Whether the compiled core could do it."""
        fast = FAST.get(p.iouType)
        return fast is not None and _has_own_steps(self) and fast(self, p)

    def _evaluate_by_core(self, p: Params) -> bool:
        if not p.useCats and (p.iouType == "keypoints" or list(p.catIds) != sorted(set(p.catIds))):
            return False  # matched in this order, and what is there twice twice; keypoints not at all
        try:
            gathered = self._gather(p)
        except DataError as error:
            if p.iouType == "bbox":
                raise
            self._say([f"{error} (evaluated as pycocotools does it)"])
            return False
        self._say(gathered.notes)
        if self._id_zero == "pycocotools" and (np.asarray(gathered.detections.id) <= 0).any():
            return False  # which leaves a ground truth free for the next detection
        found = self._scored(p, gathered)
        if found is None:
            return False
        self.result, self._gathered, self._evaluated = found, gathered, copied(p)
        return True

    def _scored(self, p: Params, given: Gathered) -> CocoResult | None:
        """The compiled evaluation by `p`, None for what the core does not take."""
        images, categories = given.truth.image_ids, given.truth.category_ids
        try:
            settings = settings_of(p, self._id_zero)
            evaluation = score(
                given.truth,
                given.truth_image,
                given.truth_category,
                given.detections,
                given.image,
                given.category,
                settings,
                len(images),
                len(categories),
                self._threads,
            )
        except DataError as error:
            self._say([f"{error} (evaluated as pycocotools does it)"])
            return None
        return CocoResult(
            settings=settings,
            image_ids=images,
            category_ids=categories,
            category_names=given.truth.category_names,
            truth=given.truth,
            truth_image=given.truth_image,
            truth_category=given.truth_category,
            detections=given.detections,
            detection_image=given.image,
            detection_category=given.category,
            evaluation=evaluation,
            notes=given.notes,
        )

    def _evaluate_by_image(self, p: Params) -> None:
        self._prepare()
        categories = p.catIds if p.useCats else [-1]
        compute = self.computeOks if p.iouType == "keypoints" else self.computeIoU
        self.ious = {(image, category): compute(image, category) for image in p.imgIds for category in categories}
        self.evalImgs = [
            self.evaluateImg(image, category, area, p.maxDets[-1])
            for category in categories
            for area in p.areaRng
            for image in p.imgIds
        ]

    def _curves(self, p: Params) -> accumulation.Curves:
        """By `evalImgs` where somebody has them, else by the compiled evaluation, anew where `p` is another."""
        if self._images is None or (not len(self._images) and self._paramsEval == {}):
            if self.result is None or self._evaluated is None or self._gathered is None:
                self._print("Please run evaluate() first")
                raise DataError("COCOeval: nothing to accumulate: call evaluate() first")
            found: CocoResult | None = self.result
            if not same(p, self._evaluated):
                found = self._anew(p)
            if found is not None:
                scores = found.scores  # draws the precision, too
                return found.precision, found.recall, scores
        evaluated = self._paramsEval or self.params
        return accumulation.accumulate(list(self.evalImgs), evaluated, p)

    def _anew(self, p: Params) -> CocoResult | None:
        """The evaluation by other parameters."""
        other = copy.copy(p)
        other.imgIds, other.catIds = np.unique(p.imgIds).tolist(), np.unique(p.catIds).tolist()
        other.maxDets = sorted(p.maxDets)
        if list(other.maxDets) != list(p.maxDets) or other.catIds != list(p.catIds):
            return None
        return self._scored(other, self._gather(other))

    def _gather(self, p: Params) -> Gathered:
        kind = None
        if p.iouType != "bbox":
            kind = shape_kind(p.iouType, getattr(p, "kpt_oks_sigmas", None), p.dilation_ratio, self._threads)
        return gather(self.cocoGt, self.cocoDt, p.imgIds, p.catIds, bool(p.useCats), self._threads, kind)

    def _print(self, text: str) -> None:
        (self._print_function or print)(text)

    def _say(self, notes: list[str]) -> None:
        """Print each note once."""
        for note in notes:
            if note not in self._said:
                self._said.add(note)
                self._print(f"Note: {note}")


#: iouType -> its compiled evaluation, which fills `result`, `_gathered` and `_evaluated`, or says by False that it
#: cannot. What is not here is evaluated image by image.
FAST: dict[str, Callable[[COCOeval, Params], bool]] = dict.fromkeys(
    ("bbox", "segm", "boundary", "keypoints"), COCOeval._evaluate_by_core
)
#: The steps that the compiled evaluation stands for: where one is another's, it has to run.
_STEPS = {name: vars(COCOeval)[name] for name in ("_prepare", "computeIoU", "computeOks", "evaluateImg")}


def _has_own_steps(evaluation: COCOeval) -> bool:
    return all(
        getattr(type(evaluation), name) is step and name not in vars(evaluation) for name, step in _STEPS.items()
    )
