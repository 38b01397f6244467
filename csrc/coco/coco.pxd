# What _coco.pyx uses of these headers.
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t
from libcpp cimport bool as cbool
from libcpp.vector cimport vector


cdef extern from "inputs.h" namespace "qprof::coco" nogil:
    const size_t kMostThresholds
    const size_t kMostAreas

    cdef cppclass Column[T]:
        const char* data
        ptrdiff_t stride

    cdef cppclass GroundTruths:
        size_t count
        Column[int32_t] image
        Column[int32_t] category
        Column[double] box
        Column[double] area
        Column[uint8_t] crowd
        Column[uint8_t] ignore
        Column[int64_t] id

    cdef cppclass Detections:
        size_t count
        Column[int32_t] image
        Column[int32_t] category
        Column[double] box
        Column[double] area
        Column[double] score
        Column[int64_t] given_begin
        const double* given_ious
        size_t given_count

    cdef cppclass AreaRange:
        double low
        double high

    cdef cppclass Settings:
        size_t images
        size_t categories
        vector[double] iou_thresholds
        vector[double] recall_thresholds
        vector[AreaRange] areas
        vector[uint32_t] max_detections
        cbool use_categories
        cbool match_id_zero
        cbool keep
        unsigned threads


cdef extern from "matching.h" namespace "qprof::coco" nogil:
    cdef cppclass MatchedClass:
        vector[uint32_t] truths_in_area


cdef extern from "curves.h" namespace "qprof::coco" nogil:
    cdef cppclass CurveColumn:
        uint32_t area
        uint32_t limit

    cdef cppclass CurveTables:
        double* precision
        double* scores

    void draw_curves(
        const vector[MatchedClass]&, const Settings&, const vector[CurveColumn]&, const CurveTables&
    ) except +


cdef extern from "evaluation.h" namespace "qprof::coco" nogil:
    vector[MatchedClass] evaluate(
        const GroundTruths&, const Detections&, const Settings&, double*
    ) except +


cdef extern from "category_matches.h" namespace "qprof::coco" nogil:
    cdef cppclass CategoryMatches:
        vector[int64_t] detection_begins
        vector[int32_t] detections
        vector[int32_t] detection_matches
        vector[uint8_t] detection_ignored
        vector[int64_t] truth_begins
        vector[int32_t] truths
        vector[int32_t] truth_matches
        vector[uint8_t] truth_ignored

    CategoryMatches category_matches(
        const MatchedClass&, const Settings&, size_t
    ) except +
    void assignments(
        const vector[MatchedClass]&, const Settings&, size_t, size_t, int32_t*, uint8_t*, size_t
    ) except +


cdef extern from "bootstrap.h" namespace "qprof::coco" nogil:
    cdef cppclass Metric:
        cbool is_recall
        int32_t threshold
        uint32_t area
        uint32_t limit

    void bootstrap(
        const vector[MatchedClass]&,
        const Settings&,
        const uint16_t*,
        size_t,
        const vector[Metric]&,
        unsigned,
        double*,
        double*,
    ) except +


cdef extern from "overlaps.h" namespace "qprof::coco" nogil:
    cdef cppclass Overlaps:
        double* same_iou
        int32_t* same_truth
        double* other_iou
        int32_t* other_truth

    void best_overlaps(
        const GroundTruths&, const Detections&, const Settings&, const Overlaps&
    ) except +


cdef extern from *:
    """
    #include <span>
    #include "lookup.h"
    namespace qprof::coco {
    template <class Id>
    size_t look_up(const Column<Id>& ids, size_t count, const int64_t* sorted, size_t known, int32_t* out,
                   unsigned threads) {
      return index_of(ids, count, std::span<const int64_t>(sorted, known), out, threads);
    }
    }
    """
    size_t look_up "qprof::coco::look_up"[Id](
        const Column[Id]&, size_t, const int64_t*, size_t, int32_t*, unsigned
    ) except + nogil
