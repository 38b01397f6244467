"""The evaluation: from ground truth and detections to a `CocoResult`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qprof.core import _coco
from qprof.errors import DataError
from qprof.probes.machine import available_cores
from qprof.tasks.coco.federated import FREQUENCIES, LVIS_MAX_DETS, apply
from qprof.tasks.coco.inputs import Detections, GroundTruth, named
from qprof.tasks.coco.result import CocoResult
from qprof.tasks.coco.scoring import score
from qprof.tasks.coco.settings import (
    COCO_MAX_DETS,
    KEYPOINT_MAX_DETS,
    AreaRanges,
    IdZero,
    IouType,
    Settings,
    make_settings,
)
from qprof.tasks.coco.shapes import shape_kind
from qprof.tasks.coco.sides import Style, read_sides


def evaluate(
    ground_truth: Any,
    detections: Any,
    *,
    iou_thresholds: ArrayLike | None = None,
    recall_thresholds: ArrayLike | None = None,
    iou_type: IouType = "bbox",
    style: Style = "coco",
    max_dets: Sequence[int] | None = None,
    area_ranges: AreaRanges | None = None,
    use_cats: bool = True,
    image_ids: Iterable[int] | None = None,
    category_ids: Iterable[int] | None = None,
    threads: int | None = None,
    keep: bool = True,
    id_zero: IdZero = "correct",
    strict: bool = False,
    sigmas: ArrayLike | None = None,
    dilation_ratio: float = 0.02,
) -> CocoResult:
    """Evaluate as COCO does; every figure and match equals pycocotools 2.0.11 to the last bit.

    `ground_truth`: see `read_ground_truth`; `detections`: see `read_detections`. Thresholds and `area_ranges` (name ->
    bounds in square pixels, both inside) are COCO's by default. `max_dets`: detections per image and category, best
    first; see `Settings.figures` for how the summary uses it. Without `use_cats` all categories are one.

    `iou_type`: what is compared: "bbox", "segm" (masks), "boundary" (the smaller of the IoUs of the masks and of their
    boundaries: Cheng et al., CVPR 2021; they reach `dilation_ratio` of the image's diagonal inwards), or "keypoints"
    (their similarity; `sigmas`: one per keypoint, those of COCO's 17 by default). All but boxes are read from files,
    loaded content and `COCO` objects; a detection's size is that of its box where the first states one, as in
    pycocotools, else of its mask or keypoints.

    `style="lvis"`: by the rules of LVIS (see `federated`), which `ground_truth` has to state; the summary then has APr,
    APc and APf, over rare, common and frequent categories. Equal to lvis-api.

    `image_ids`, `category_ids`: evaluate those alone. `threads`: by default as many as the process may use; the result
    is the same for any number. `keep` keeps the matches, for intervals, `image_matches` and error analysis.

    `id_zero`: pycocotools takes a match to the annotation of id 0 for a miss. "correct" counts it as found;
    "pycocotools" reproduces their figures. Either way a note says that there is one.

    Detections of images or categories that the ground truth does not list are left out and counted in the notes, as are
    such annotations; with `strict` they are an error. Raises `DataError` for that, for input that cannot be read, ids
    that are there twice, scores that are NaN and boxes that are not finite.
    """
    if style not in ("coco", "lvis"):
        raise DataError(f"style = {str(style)[:40]!r}: give 'coco' or 'lvis'")
    if max_dets is None:
        usual = KEYPOINT_MAX_DETS if iou_type == "keypoints" else COCO_MAX_DETS
        max_dets = (LVIS_MAX_DETS,) if style == "lvis" else usual
    settings = make_settings(iou_thresholds, recall_thresholds, max_dets, area_ranges, use_cats, id_zero, iou_type)
    workers = available_cores() if threads is None else threads
    if workers < 1:
        raise DataError(f"threads = {workers}: give 1 or more")
    kind = shape_kind(iou_type, sigmas, dilation_ratio, workers)
    truth, found = read_sides(ground_truth, detections, kind, style)
    images = _chosen("image", image_ids, truth.image_ids, truth.source)
    categories = _chosen("category", category_ids, truth.category_ids, truth.source)
    return run(truth, found, settings, images, categories, workers, keep=keep, strict=strict)


def run(
    truth: GroundTruth,
    detections: Detections,
    settings: Settings,
    images: NDArray[np.int64],
    categories: NDArray[np.int64],
    threads: int,
    *,
    keep: bool = True,
    strict: bool = False,
) -> CocoResult:
    """Evaluate what is read already, on the given ascending ids."""
    truth_image, lost_images = _indices(truth.image_id, truth.image_ids, images, threads)
    truth_category, lost_categories = _indices(truth.category_id, truth.category_ids, categories, threads)
    image, unknown_images = _indices(detections.image_id, truth.image_ids, images, threads)
    category, unknown_categories = _indices(detections.category_id, truth.category_ids, categories, threads)
    of_truth = f"{truth.source}: {{}} of {len(truth.id)} annotations are of"
    found = f"{detections.source}: {{}} of {len(detections.score)} detections are of"
    unknown = [
        _unknown(of_truth, "images", lost_images, "it", "add them to its 'images'"),
        _unknown(of_truth, "categories", lost_categories, "it", "add them to its 'categories'"),
        _unknown(found, "images", unknown_images, truth.source, "give results of the same data set"),
        _unknown(found, "categories", unknown_categories, truth.source, "check how classes map to category ids"),
    ]
    remarks = [remark for remark in unknown if remark]
    if strict and remarks:
        raise DataError(remarks[0])
    if truth.federation is not None:
        detections, category = _by_federation(truth, detections, image, category, settings, images, categories, threads)
    evaluation = score(
        truth,
        truth_image,
        truth_category,
        detections,
        image,
        category,
        settings,
        len(images),
        len(categories),
        threads,
        keep=keep,
    )
    names = dict(zip(truth.category_ids.tolist(), truth.category_names, strict=True))
    return CocoResult(
        settings=settings,
        image_ids=images,
        category_ids=categories,
        category_names=[names.get(number, str(number)) for number in categories.tolist()],
        truth=truth,
        truth_image=truth_image,
        truth_category=truth_category,
        detections=detections,
        detection_image=image,
        detection_category=category,
        evaluation=evaluation,
        notes=[*truth.notes, *remarks, *_remarks(truth, detections, settings, truth_image, truth_category)],
        groups=_frequencies(truth, categories),
    )


def _by_federation(
    truth: GroundTruth,
    detections: Detections,
    image: NDArray[np.int32],
    category: NDArray[np.int32],
    settings: Settings,
    images: NDArray[np.int64],
    categories: NDArray[np.int64],
    threads: int,
) -> tuple[Detections, NDArray[np.int32]]:
    """The detections as LVIS has them, and the categories of those that count."""
    assert truth.federation is not None
    # By places in the whole file: what else there is in an image counts towards its 300.
    truth_image, _ = _coco.index_of(truth.image_id, truth.image_ids, threads=threads)
    truth_category, _ = _coco.index_of(truth.category_id, truth.category_ids, threads=threads)
    of_image, _ = _coco.index_of(detections.image_id, truth.image_ids, threads=threads)
    of_category, _ = _coco.index_of(detections.category_id, truth.category_ids, threads=threads)
    boxes = detections.boxes
    area = np.asarray(boxes[:, 2] * boxes[:, 3] if detections.area is None else detections.area, dtype=np.float64)
    counted, area = apply(
        truth.federation,
        truth_image,
        truth_category,
        of_image,
        of_category,
        detections.score,
        area,
        settings.max_dets[-1],
    )
    return replace(detections, area=area), np.where(counted < 0, -1, category).astype(np.int32)


def _frequencies(truth: GroundTruth, categories: NDArray[np.int64]) -> dict[str, NDArray[np.intp]]:
    """Places of the categories of each frequency."""
    if truth.federation is None:
        return {}
    frequency = np.array(truth.federation.frequency)[np.isin(truth.category_ids, categories)]
    return {name: np.flatnonzero(frequency == name) for name in FREQUENCIES}


def _chosen(what: str, wanted: Iterable[int] | None, known: NDArray[np.int64], source: str) -> NDArray[np.int64]:
    if wanted is None:
        return known
    chosen = np.unique(np.array(list(wanted), dtype=np.int64))
    missing = chosen[~np.isin(chosen, known)]
    if missing.size:
        raise DataError(f"{what}_ids: {source} has no {what} {named(missing)}: give ids that it lists")
    return chosen


def _indices(
    ids: NDArray[Any], known: NDArray[np.int64], chosen: NDArray[np.int64], threads: int
) -> tuple[NDArray[np.int32], NDArray[Any]]:
    """Per entry its place in `chosen`, or -1; and the ids that are not even known."""
    if known is chosen:
        index, missing = _coco.index_of(ids, known, threads=threads)
        return index, ids[index < 0] if missing else ids[:0]
    place, missing = _coco.index_of(ids, known, threads=threads)
    unknown = ids[place < 0] if missing else ids[:0]
    index, _ = _coco.index_of(ids, chosen, threads=threads)
    return index, unknown


def _unknown(counted: str, what: str, ids: NDArray[Any], where: str, remedy: str) -> str | None:
    """A remark on entries whose image or category nobody lists."""
    if not ids.size:
        return None
    return f"{counted.format(len(ids))} {what} that {where} does not list ({named(ids)}) and were left out: {remedy}"


def _remarks(
    truth: GroundTruth,
    detections: Detections,
    settings: Settings,
    image: NDArray[np.int32],
    category: NDArray[np.int32],
) -> list[str]:
    remarks = []
    scored = (image >= 0) & (category >= 0)
    if (truth.id[scored] == 0).any():
        how = (
            "it is counted as found here, so that figures of pycocotools are lower"
            if settings.id_zero == "correct"
            else "as asked for by id_zero, the same is done here, and true positives are lost"
        )
        remarks.append(
            f"{truth.source}: an annotation has the id 0, a match to which pycocotools takes for none: {how}; number "
            "annotations from 1"
        )
    if not (scored & (truth.crowd == 0)).any():
        remarks.append(f"{truth.source}: nothing to find, so that AP and AR are undefined: evaluate more images")
    if not len(detections.score):
        remarks.append(f"{detections.source}: no detections at all")
    return remarks
