# distutils: language = c++
# cython: language_level=3
"""Python face of the COCO box evaluation; the stub `_coco.pyi` describes it."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uintptr_t
from libc.string cimport memcpy
from libcpp.vector cimport vector

import operator

import numpy as np

cimport coco
from coco cimport (
    AreaRange,
    CategoryMatches,
    Column,
    CurveColumn,
    CurveTables,
    Detections,
    GroundTruths,
    MatchedClass,
    Metric,
    Overlaps,
    Settings,
    kMostAreas,
    kMostThresholds,
)

ctypedef fused Number:
    int32_t
    int64_t
    uint8_t
    double


cdef object copy_of(vector[Number]& values, object dtype):
    """A NumPy array of its own with the values."""
    copied = np.empty(values.size(), dtype=dtype)
    cdef Number* out = <Number*><uintptr_t>copied.ctypes.data
    if values.size() > 0:
        memcpy(out, values.data(), values.size() * sizeof(Number))
    return copied


cdef void point(Column[Number]& column, object array):
    column.data = <const char*><uintptr_t>array.ctypes.data
    column.stride = array.strides[0] if array.ndim else 0


def _column(name, values, dtype, count=None):
    """`values` as an aligned array of that type with one axis; no copy where it is one, in steps or not."""
    given = np.asarray(values)
    wanted = np.dtype(dtype)
    if given.size == 0:
        given = given.astype(wanted)
    if given.ndim != 1:
        raise ValueError(f"{name}: shape {given.shape} where one axis is expected")
    if count is not None and len(given) != count:
        raise ValueError(f"{name}: {len(given)} values where {count} are expected")
    if given.dtype != wanted:
        if wanted.kind != "f" and given.dtype.kind not in "iub":
            raise ValueError(f"{name}: {given.dtype} values where whole numbers are expected")
        if given.dtype.kind not in "iubf":
            raise ValueError(f"{name}: {given.dtype} values where numbers are expected")
        if wanted.kind != "f" and given.size:
            bounds = np.iinfo(wanted)
            if int(given.min()) < bounds.min or int(given.max()) > bounds.max:
                raise ValueError(f"{name}: a value is out of range for {wanted}")
    return np.require(given, wanted, ["ALIGNED"])


def _boxes(name, values, count):
    given = np.asarray(values, dtype=np.float64)
    if given.size == 0:
        given = given.reshape(0, 4)
    if given.ndim != 2 or given.shape[1] != 4 or len(given) != count:
        raise ValueError(f"{name}: shape {given.shape} where ({count}, 4) is expected")
    given = np.require(given, np.float64, ["ALIGNED"])
    return given if given.strides[1] == given.itemsize else np.ascontiguousarray(given)


def _flags(name, values, count):
    given = np.asarray(values)
    return _column(name, given if given.dtype == np.uint8 else given.astype(bool).astype(np.uint8), np.uint8, count)


def _no_nan(name, values):
    if np.isnan(values).any():
        raise ValueError(f"{name}: a value is NaN")
    return values


def _index(name, value, count):
    """`value` as an index below `count`."""
    index = operator.index(value)
    if not 0 <= index < count:
        raise ValueError(f"{name}: index {index} where one below {count} is expected")
    return index


cdef Settings _settings(
    images, categories, iou_thresholds, recall_thresholds, area_ranges, max_dets, use_cats, id_zero, threads, keep
) except *:
    cdef Settings settings
    cdef AreaRange area_range
    if images < 0 or categories < 0:
        raise ValueError("images, categories: negative")
    if threads < 1:
        raise ValueError(f"threads: {threads} where at least 1 is expected")
    if id_zero not in ("match", "pycocotools"):
        raise ValueError(f"id_zero: {id_zero!r} where 'match' or 'pycocotools' is expected")
    if len(iou_thresholds) > <Py_ssize_t>kMostThresholds:
        raise ValueError(f"iou_thresholds: {len(iou_thresholds)} where at most {kMostThresholds} are possible")
    if area_ranges.ndim != 2 or area_ranges.shape[1] != 2 or len(area_ranges) > <Py_ssize_t>kMostAreas:
        raise ValueError(f"area_ranges: shape {area_ranges.shape} where (at most {kMostAreas}, 2) is expected")
    if (max_dets < 0).any() or (np.diff(max_dets) < 0).any() or len(max_dets) > 0xFFFF:
        raise ValueError(f"max_dets: {max_dets.tolist()} where ascending numbers from 0 are expected")
    settings.images = images
    settings.categories = categories
    settings.iou_thresholds = _no_nan("iou_thresholds", iou_thresholds)
    settings.recall_thresholds = _no_nan("recall_thresholds", recall_thresholds)
    for low, high in _no_nan("area_ranges", area_ranges):
        area_range.low = low
        area_range.high = high
        settings.areas.push_back(area_range)
    settings.max_detections = max_dets
    settings.use_categories = use_cats
    settings.match_id_zero = id_zero == "match"
    settings.keep = keep
    settings.threads = threads
    return settings


cdef class Evaluation:
    cdef readonly object recall
    cdef object _precision
    cdef object _scores
    cdef dict _columns
    cdef Settings settings
    cdef vector[MatchedClass] classes
    cdef size_t detection_count

    def __init__(self):
        raise TypeError("made by evaluate()")

    @property
    def kept(self):
        return bool(self.settings.keep)

    @property
    def images(self):
        return self.settings.images

    @property
    def precision(self):
        if self._precision is None:
            self._draw_all(True, False)
        return self._precision

    @property
    def scores(self):
        if self._scores is None:
            self._draw_all(self._precision is None, True)
        return self._scores

    def precision_at(self, area, limit):
        cdef size_t a = _index("area", area, self.settings.areas.size())
        cdef size_t m = _index("max_dets", limit, self.settings.max_detections.size())
        if self._precision is not None:
            return self._precision[..., a, m]
        if (a, m) not in self._columns:
            self._columns[a, m] = self._draw([(a, m)], True, False)[0][..., 0]
        return self._columns[a, m]

    cdef _draw_all(self, bint with_precision, bint with_scores):
        areas, limits = self.settings.areas.size(), self.settings.max_detections.size()
        drawn = self._draw([(a, m) for a in range(areas) for m in range(limits)], with_precision, with_scores)
        shape = (*drawn[0 if with_precision else 1].shape[:3], areas, limits)
        if with_precision:
            self._precision = drawn[0].reshape(shape)
            self._columns.clear()
        if with_scores:
            self._scores = drawn[1].reshape(shape)

    cdef _draw(self, columns, bint with_precision, bint with_scores):
        """Precision and scores [T, R, K, columns], None for what is not asked for."""
        cdef vector[CurveColumn] wanted
        cdef CurveColumn column
        cdef CurveTables tables
        for area, limit in columns:
            column.area = area
            column.limit = limit
            wanted.push_back(column)
        shape = (
            self.settings.iou_thresholds.size(),
            self.settings.recall_thresholds.size(),
            self.classes.size(),
            wanted.size(),
        )
        precision = np.empty(shape) if with_precision else None
        scores = np.empty(shape) if with_scores else None
        if with_precision:
            tables.precision = <double*><uintptr_t>precision.ctypes.data
        if with_scores:
            tables.scores = <double*><uintptr_t>scores.ctypes.data
        with nogil:
            coco.draw_curves(self.classes, self.settings, wanted, tables)
        return precision, scores

    cdef _require_kept(self, need):
        if not self.settings.keep:
            raise ValueError(f"{need}: the matches were not kept; evaluate with keep=True")

    def truth_counts(self):
        self._require_kept("truth_counts")
        cdef size_t c, a
        cdef size_t areas = self.settings.areas.size()
        counts = np.zeros((self.classes.size(), areas), dtype=np.int64)
        for c in range(self.classes.size()):
            for a in range(areas):
                counts[c, a] = self.classes[c].truths_in_area[a]
        return counts

    def category_matches(self, category, area=0):
        self._require_kept("category_matches")
        cdef size_t c = _index("category", category, self.classes.size())
        cdef size_t a = _index("area", area, self.settings.areas.size())
        cdef CategoryMatches found
        with nogil:
            found = coco.category_matches(self.classes[c], self.settings, a)
        thresholds = self.settings.iou_thresholds.size()
        return {
            "dt_begins": copy_of[int64_t](found.detection_begins, np.int64),
            "dt": copy_of[int32_t](found.detections, np.int32),
            "dt_matches": copy_of[int32_t](found.detection_matches, np.int32).reshape(thresholds, -1),
            "dt_ignored": copy_of[uint8_t](found.detection_ignored, np.uint8).view(bool).reshape(thresholds, -1),
            "gt_begins": copy_of[int64_t](found.truth_begins, np.int64),
            "gt": copy_of[int32_t](found.truths, np.int32),
            "gt_matches": copy_of[int32_t](found.truth_matches, np.int32).reshape(thresholds, -1),
            "gt_ignored": copy_of[uint8_t](found.truth_ignored, np.uint8).view(bool),
        }

    def assignments(self, iou, area=0):
        self._require_kept("assignments")
        cdef size_t t = _index("iou", iou, self.settings.iou_thresholds.size())
        cdef size_t a = _index("area", area, self.settings.areas.size())
        truths = np.empty(self.detection_count, dtype=np.int32)
        ignored = np.empty(self.detection_count, dtype=np.uint8)
        cdef int32_t* truths_out = <int32_t*><uintptr_t>truths.ctypes.data
        cdef uint8_t* ignored_out = <uint8_t*><uintptr_t>ignored.ctypes.data
        with nogil:
            coco.assignments(self.classes, self.settings, t, a, truths_out, ignored_out, self.detection_count)
        return truths, ignored.view(bool)

    def bootstrap(self, weights, metrics, *, threads=1, per_class=False):
        self._require_kept("bootstrap")
        cdef vector[Metric] wanted
        cdef Metric metric
        cdef unsigned workers
        cdef size_t resamples
        cdef const uint16_t* weights_in
        cdef double* means_out
        cdef double* classes_out = NULL
        if threads < 1:
            raise ValueError(f"threads: {threads} where at least 1 is expected")
        workers = threads
        if (np.diff(self.settings.recall_thresholds) < 0).any():
            raise ValueError("bootstrap: the recall thresholds do not ascend")
        for kind, threshold, area, limit in metrics:
            if kind not in ("precision", "recall"):
                raise ValueError(f"metrics: {kind!r} where 'precision' or 'recall' is expected")
            metric.is_recall = kind == "recall"
            metric.threshold = (
                -1 if threshold is None else _index("iou", threshold, self.settings.iou_thresholds.size())
            )
            metric.area = _index("area", area, self.settings.areas.size())
            metric.limit = _index("max_dets", limit, self.settings.max_detections.size())
            wanted.push_back(metric)
        given = np.asarray(weights)
        if given.ndim != 2 or given.shape[1] != self.settings.images:
            raise ValueError(f"weights: shape {given.shape} where (resamples, {self.settings.images}) is expected")
        if given.dtype.kind not in "iub":
            raise ValueError(f"weights: {given.dtype} values where whole numbers are expected")
        if given.size and (int(given.min()) < 0 or int(given.max()) > 0xFFFF):
            raise ValueError("weights: a value is not in 0..65535")
        given = np.ascontiguousarray(given, dtype=np.uint16)
        resamples = len(given)
        means = np.empty((resamples, wanted.size()))
        weights_in = <const uint16_t*><uintptr_t>given.ctypes.data
        means_out = <double*><uintptr_t>means.ctypes.data
        if per_class:
            of_classes = np.empty((resamples, wanted.size(), self.classes.size()))
            classes_out = <double*><uintptr_t>of_classes.ctypes.data
        with nogil:
            coco.bootstrap(
                self.classes, self.settings, weights_in, resamples, wanted, workers, means_out, classes_out
            )
        return (means, of_classes) if per_class else means


def evaluate(
    gt_image,
    gt_category,
    gt_boxes,
    gt_area,
    gt_crowd,
    gt_ignore,
    gt_id,
    dt_image,
    dt_category,
    dt_boxes,
    dt_area,
    dt_score,
    *,
    given_begin=None, given_ious=None,
    images,
    categories,
    iou_thresholds,
    recall_thresholds,
    area_ranges,
    max_dets,
    use_cats=True,
    id_zero="match",
    threads=1,
    keep=False,
):
    cdef GroundTruths truths
    cdef Detections detections
    cdef double* recall
    cdef Evaluation evaluation = Evaluation.__new__(Evaluation)
    iou_thresholds = _column("iou_thresholds", iou_thresholds, np.float64)
    recall_thresholds = _column("recall_thresholds", recall_thresholds, np.float64)
    max_dets = _column("max_dets", max_dets, np.int32)
    area_ranges = np.asarray(area_ranges, dtype=np.float64)
    evaluation.settings = _settings(
        images, categories, iou_thresholds, recall_thresholds, area_ranges, max_dets, use_cats, id_zero, threads, keep
    )

    gt_image = _column("gt_image", gt_image, np.int32)
    truths.count = len(gt_image)
    gt_category = _column("gt_category", gt_category, np.int32, truths.count)
    gt_boxes = _boxes("gt_boxes", gt_boxes, truths.count)
    gt_area = _column("gt_area", gt_area, np.float64, truths.count)
    gt_crowd = _flags("gt_crowd", gt_crowd, truths.count)
    gt_id = _column("gt_id", gt_id, np.int64, truths.count)
    point(truths.image, gt_image)
    point(truths.category, gt_category)
    point(truths.box, gt_boxes)
    point(truths.area, gt_area)
    point(truths.crowd, gt_crowd)
    point(truths.id, gt_id)
    if gt_ignore is not None:
        gt_ignore = _flags("gt_ignore", gt_ignore, truths.count)
        point(truths.ignore, gt_ignore)

    dt_image = _column("dt_image", dt_image, np.int32)
    detections.count = len(dt_image)
    dt_category = _column("dt_category", dt_category, np.int32, detections.count)
    dt_boxes = _boxes("dt_boxes", dt_boxes, detections.count)
    dt_score = _column("dt_score", dt_score, np.float64, detections.count)
    point(detections.image, dt_image)
    point(detections.category, dt_category)
    point(detections.box, dt_boxes)
    point(detections.score, dt_score)
    if dt_area is not None:
        dt_area = _column("dt_area", dt_area, np.float64, detections.count)
        point(detections.area, dt_area)
    if given_begin is not None:
        given_begin = _column("given_begin", given_begin, np.int64, detections.count)
        given_ious = np.ascontiguousarray(_column("given_ious", given_ious, np.float64))
        point(detections.given_begin, given_begin)
        detections.given_ious = <const double*><uintptr_t>given_ious.ctypes.data
        detections.given_count = len(given_ious)

    classes = categories if use_cats else 1
    evaluation.detection_count = detections.count
    evaluation._columns = {}
    evaluation.recall = np.empty((len(iou_thresholds), classes, len(area_ranges), len(max_dets)))
    recall = <double*><uintptr_t>evaluation.recall.ctypes.data
    with nogil:
        evaluation.classes = coco.evaluate(truths, detections, evaluation.settings, recall)
    return evaluation


def best_overlaps(
    gt_image, gt_category, gt_boxes, gt_crowd, dt_image, dt_category, dt_boxes, *, images, categories, threads=1
):
    cdef GroundTruths truths
    cdef Detections detections
    cdef Settings settings
    cdef Overlaps out
    if images < 0 or categories < 0 or threads < 1:
        raise ValueError("images, categories, threads: negative, or no thread")
    settings.images = images
    settings.categories = categories
    settings.threads = threads
    gt_image = _column("gt_image", gt_image, np.int32)
    truths.count = len(gt_image)
    gt_category = _column("gt_category", gt_category, np.int32, truths.count)
    gt_boxes = _boxes("gt_boxes", gt_boxes, truths.count)
    gt_crowd = _flags("gt_crowd", gt_crowd, truths.count)
    point(truths.image, gt_image)
    point(truths.category, gt_category)
    point(truths.box, gt_boxes)
    point(truths.crowd, gt_crowd)
    dt_image = _column("dt_image", dt_image, np.int32)
    detections.count = len(dt_image)
    dt_category = _column("dt_category", dt_category, np.int32, detections.count)
    dt_boxes = _boxes("dt_boxes", dt_boxes, detections.count)
    point(detections.image, dt_image)
    point(detections.category, dt_category)
    point(detections.box, dt_boxes)
    found = {
        "same_iou": np.empty(detections.count),
        "same_gt": np.empty(detections.count, dtype=np.int32),
        "other_iou": np.empty(detections.count),
        "other_gt": np.empty(detections.count, dtype=np.int32),
    }
    out.same_iou = <double*><uintptr_t>found["same_iou"].ctypes.data
    out.same_truth = <int32_t*><uintptr_t>found["same_gt"].ctypes.data
    out.other_iou = <double*><uintptr_t>found["other_iou"].ctypes.data
    out.other_truth = <int32_t*><uintptr_t>found["other_gt"].ctypes.data
    with nogil:
        coco.best_overlaps(truths, detections, settings, out)
    return found


def index_of(ids, sorted_ids, *, threads=1):
    cdef Column[int64_t] whole
    cdef Column[double] real
    cdef unsigned workers = threads
    cdef size_t count, known, missing
    cdef const int64_t* table
    cdef int32_t* out
    sorted_ids = np.ascontiguousarray(_column("sorted_ids", sorted_ids, np.int64))
    if (sorted_ids[1:] <= sorted_ids[: len(sorted_ids) - 1]).any():
        raise ValueError("sorted_ids: not ascending, or an id twice")
    is_real = np.asarray(ids).dtype.kind == "f"
    ids = _column("ids", ids, np.float64 if is_real else np.int64)
    indices = np.empty(len(ids), dtype=np.int32)
    count = len(ids)
    known = len(sorted_ids)
    table = <const int64_t*><uintptr_t>sorted_ids.ctypes.data
    out = <int32_t*><uintptr_t>indices.ctypes.data
    if is_real:
        point(real, ids)
        with nogil:
            missing = coco.look_up(real, count, table, known, out, workers)
    else:
        point(whole, ids)
        with nogil:
            missing = coco.look_up(whole, count, table, known, out, workers)
    return indices, missing
