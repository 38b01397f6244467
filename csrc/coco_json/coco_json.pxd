# What _coco_json.pyx uses of these headers.
from libc.stdint cimport int64_t, uint8_t
from libcpp.string cimport string
from libcpp.vector cimport vector


cdef extern from "reader.h" namespace "qprof::coco_json" nogil:
    cdef cppclass Int64Column "qprof::coco_json::Column<int64_t>":
        int64_t* release()

    cdef cppclass FloatColumn "qprof::coco_json::Column<double>":
        double* release()

    cdef cppclass BoxColumn "qprof::coco_json::Column<double, 4>":
        double* release()

    cdef cppclass FlagColumn "qprof::coco_json::Column<uint8_t>":
        uint8_t& operator[](size_t row)
        uint8_t* release()

    cdef cppclass Text:
        int open(const char* path) except +
        void copy(const char* bytes, size_t size) except +

    cdef cppclass Detections:
        size_t size()
        Int64Column image_id
        Int64Column category_id
        BoxColumn bbox
        FloatColumn score
        vector[string] skipped

    cdef cppclass Annotations:
        size_t size()
        Int64Column id
        Int64Column image_id
        Int64Column category_id
        BoxColumn bbox
        FloatColumn area
        FlagColumn iscrowd
        FlagColumn ignore
        size_t without_area

    cdef cppclass Images:
        size_t size()
        Int64Column id
        Int64Column width
        Int64Column height

    cdef cppclass Categories:
        size_t size()
        Int64Column id
        FlagColumn is_named
        vector[string] names

    cdef cppclass GroundTruth:
        Images images
        Categories categories
        Annotations annotations

    string read_results(
        const Text& text, int threads, Detections& detections
    ) except +
    string read_ground_truth(
        const Text& text, int threads, GroundTruth& truth
    ) except +
