"""Box evaluation as COCO defines it, compiled (sources: csrc/coco).

Results equal pycocotools 2.0.11 to the last bit: precision, recall and scores, and every per-image match. Everything is
in indices: image i and category k are places in the ascending ids of the ground truth (`index_of` makes them); an area
range, an IoU threshold and a number of detections per image are places in the settings. Long calls release the GIL.
"""

from collections.abc import Sequence
from typing import Literal, TypedDict, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

class CategoryMatches(TypedDict):
    """Matches of one category in one area: what pycocotools' `evalImgs` has, image after image, without its dicts.

    D detections within the largest `max_dets`, G ground truths, T IoU thresholds, I images. The entries of image i are
    `dt_begins[i]:dt_begins[i + 1]` and `gt_begins[i]:gt_begins[i + 1]`.
    """

    dt_begins: NDArray[np.int64]
    """[I + 1]"""
    dt: NDArray[np.int32]
    """[D] positions in the input, by image, best score first (`dtIds` after `loadRes`: plus one)"""
    dt_matches: NDArray[np.int32]
    """[T, D] position of the ground truth that was matched, -1 for none"""
    dt_ignored: NDArray[np.bool_]
    """[T, D] neither right nor wrong: matched to an ignored ground truth, or unmatched and outside the area"""
    gt_begins: NDArray[np.int64]
    """[I + 1]"""
    gt: NDArray[np.int32]
    """[G] positions in the input, by image, those ignored in this area last"""
    gt_matches: NDArray[np.int32]
    """[T, G] position of the detection that was matched (of several to a crowd the last), -1 for none"""
    gt_ignored: NDArray[np.bool_]
    """[G]"""

class BestOverlaps(TypedDict):
    """Per detection, in the order of the input; IoU 0 and position -1 where nothing overlaps it."""

    same_iou: NDArray[np.float64]
    """largest IoU with a ground truth of the same image and category"""
    same_gt: NDArray[np.int32]
    """position of that ground truth, the first of equal ones"""
    other_iou: NDArray[np.float64]
    """largest IoU with a ground truth of the same image and another category"""
    other_gt: NDArray[np.int32]

class Evaluation:
    """What `evaluate` found. T IoU thresholds, R recall thresholds, K categories (1 without `use_cats`), A areas, M
    numbers of detections per image. -1 where a category has no ground truth in an area."""

    @property
    def precision(self) -> NDArray[np.float64]:
        """[T, R, K, A, M], drawn when it is first asked for"""

    def precision_at(self, area: int, limit: int) -> NDArray[np.float64]:
        """[T, R, K]: `precision[..., area, limit]`, without the rest of the table where that is not there yet.
        ValueError for an index that there is not."""

    @property
    def recall(self) -> NDArray[np.float64]:
        """[T, K, A, M]"""

    @property
    def scores(self) -> NDArray[np.float64]:
        """[T, R, K, A, M]: score at which that recall is reached; 0 where it is not. Drawn when it is first asked
        for, and precision with it."""

    @property
    def kept(self) -> bool:
        """Whether the matches were kept; without, everything below raises ValueError."""

    @property
    def images(self) -> int: ...
    def truth_counts(self) -> NDArray[np.int64]:
        """[K, A] ground truths that are not ignored."""

    def category_matches(self, category: int, area: int = 0) -> CategoryMatches:
        """The matches of one category, image by image. ValueError for an index that there is not."""

    def assignments(self, iou: int, area: int = 0) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Per detection, in the order of the input, at one IoU threshold and in one area: the position of its ground
        truth (-1 for none, -2 for a detection that was left out: image or category -1, or beyond the largest
        `max_dets`), and whether it is ignored. A true positive has a ground truth and is not ignored; a false positive
        has -1 and is not ignored. With `id_zero="pycocotools"` a match to id 0 is given as -1."""

    @overload
    def bootstrap(
        self,
        weights: ArrayLike,
        metrics: Sequence[tuple[str, int | None, int, int]],
        *,
        threads: int = 1,
        per_class: Literal[False] = False,
    ) -> NDArray[np.float64]:
        """Figures of resampled data sets, in which image i counts `weights[r, i]` times; nothing is matched again.

        `weights`: [resamples, images] whole numbers 0..65535. `metrics`: (kind, IoU threshold or None for the mean over
        all, area, place in `max_dets`); for the 12 of `COCOeval.summarize` with default settings ("precision", None, 0,
        2), ("precision", 0, 0, 2), ("precision", 5, 0, 2), ("precision", None, 1..3, 2), ("recall", None, 0, 0..2) and
        ("recall", None, 1..3, 2). Returns [resamples, metrics], with `per_class` also [resamples, metrics, K]. NaN, not
        -1, where no category has ground truth in the area.

        The figures are those of pycocotools on a data set that has each image that many times under ids next to each
        other. So a tie between images keeps the order of the images, copies together, and where detections of one image
        have equal scores the copies take turns: all of the first copy, then all of the second. Every precision and
        recall is the same to the last bit; only their mean is summed in another order (differences about 1e-16). The
        result does not depend on `threads`, nor a resample's on the others. For the difference of two detectors give
        both the same weights and subtract.

        ValueError for other shapes and values, recall thresholds that do not ascend, and a resample with more than
        2^27 - 1 detections and ground truths.
        """

    @overload
    def bootstrap(
        self,
        weights: ArrayLike,
        metrics: Sequence[tuple[str, int | None, int, int]],
        *,
        threads: int = 1,
        per_class: Literal[True],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...

def evaluate(
    gt_image: ArrayLike,
    gt_category: ArrayLike,
    gt_boxes: ArrayLike,
    gt_area: ArrayLike,
    gt_crowd: ArrayLike,
    gt_ignore: ArrayLike | None,
    gt_id: ArrayLike,
    dt_image: ArrayLike,
    dt_category: ArrayLike,
    dt_boxes: ArrayLike,
    dt_area: ArrayLike | None,
    dt_score: ArrayLike,
    *,
    given_begin: ArrayLike | None = None,
    given_ious: ArrayLike | None = None,
    images: int,
    categories: int,
    iou_thresholds: ArrayLike,
    recall_thresholds: ArrayLike,
    area_ranges: ArrayLike,
    max_dets: ArrayLike,
    use_cats: bool = True,
    id_zero: Literal["match", "pycocotools"] = "match",
    threads: int = 1,
    keep: bool = False,
) -> Evaluation:
    """Match and accumulate.

    Per ground truth and detection: `*_image`, `*_category` int32 indices, -1 to leave the element out; `*_boxes`
    float64 [n, 4] of x, y, width, height in pixels; `*_area` float64 square pixels, for detections None for width x
    height (as `COCO.loadRes` has it); `gt_crowd` and `gt_ignore` flags; `gt_id` int64; `dt_score` float64. The order of
    the input decides between equal scores and equal overlaps, as in pycocotools. Columns of larger tables are read in
    place; other types are converted, whole numbers never from fractions.

    `gt_crowd` may be matched many times, `gt_ignore` (None: nothing) once; neither counts as found or as missed.
    pycocotools overwrites "ignore" by "iscrowd": for its figures give None. `iou_thresholds` [T <= 32],
    `recall_thresholds` [R] in any order, `area_ranges` [A <= 16, 2] with both bounds inside, `max_dets` [M] ascending:
    for COCO's figures the grids must be NumPy's `linspace(0.5, 0.95, 10)` and `linspace(0, 1, 101)`. Without `use_cats`
    all categories are one, detections and ground truths of an image by category and then in input order.

    `given_begin`, `given_ious`: IoUs of other shapes than the boxes, or figures that stand for them. Detection i has
    one with each ground truth of its image and class, in input order (without `use_cats`: by category first), from
    `given_ious[given_begin[i]]` on; -1: it overlaps none. `dt_boxes` then only have to be finite.

    `id_zero`: pycocotools takes a match to the annotation with id 0 for no match; "match" counts it like any other,
    "pycocotools" reproduces that. `keep` keeps the matches for the methods of `Evaluation` (about 25 bytes per
    detection). `threads`: none is started for 1; the result is the same for any number.

    ValueError, naming the first element at fault, for a NaN score or area, a box that is not finite, an index out of
    range, lengths that differ, and settings beyond these bounds. Zero-area and negative boxes are as in pycocotools:
    they overlap nothing.
    """

def best_overlaps(
    gt_image: ArrayLike,
    gt_category: ArrayLike,
    gt_boxes: ArrayLike,
    gt_crowd: ArrayLike,
    dt_image: ArrayLike,
    dt_category: ArrayLike,
    dt_boxes: ArrayLike,
    *,
    images: int,
    categories: int,
    threads: int = 1,
) -> BestOverlaps:
    """Where each detection lies best, whether the ground truth is taken or not: for confusions and kinds of error.

    Arguments and errors as in `evaluate`; an element with an image or category of -1 is left out, so that ground truths
    can be masked. The IoU with a crowd is, as COCO has it, the share of the detection inside it.
    """

def index_of(ids: ArrayLike, sorted_ids: ArrayLike, *, threads: int = 1) -> tuple[NDArray[np.int32], int]:
    """Per id its place in `sorted_ids` (int64, strictly ascending, else ValueError) or -1, and how many have none.

    `ids`: whole numbers, or a float column of a table, in which a fraction, NaN or infinity is no id.
    """
