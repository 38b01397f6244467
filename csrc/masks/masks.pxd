# What _masks.pyx uses of these headers.
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libcpp cimport bool as cbool
from libcpp.string cimport string
from libcpp.vector cimport vector


cdef extern from "mask.h" namespace "qprof::masks" nogil:
    cdef cppclass Size:
        uint32_t height
        uint32_t width

    cdef cppclass Box:
        uint32_t left
        uint32_t top
        uint32_t right
        uint32_t bottom

    cdef cppclass Counts:
        Size size
        vector[uint32_t] lengths

    cdef cppclass Mask:
        Size size
        uint32_t area
        Box box

    Size checked_size(int64_t height, int64_t width) except +
    void check_sum(const Counts& counts) except +
    string to_text(const Counts& counts) except +
    Counts from_bytes(const uint8_t* bytes, Size size) except +
    void to_bytes(const Counts& counts, uint8_t* bytes)
    Mask to_mask(const Counts& counts) except +
    Counts to_counts(const Mask& mask) except +


cdef extern from "many.h" namespace "qprof::masks" nogil:
    cdef cppclass Sources:
        Sources()
        void begin(int64_t height, int64_t width) except +
        void add_text(const char* text, size_t size) except +
        void add_lengths(const int64_t* lengths, size_t count) except +
        void add_number(double number) except +
        void end_polygon() except +
        size_t size()

    vector[Counts] read_counts(const Sources& sources, unsigned threads) except +
    vector[Mask] read_masks(const Sources& sources, unsigned threads) except +
    vector[Mask] boundaries(const vector[Mask]& masks, double ratio, unsigned threads) except +
    Counts merge_all(const vector[Counts]& parts, cbool intersect) except +

    cdef cppclass Rows:
        size_t count
        const int32_t* detection
        const int64_t* truth_begin
        const int64_t* truth_count
        const int64_t* out_begin

    void overlaps(const vector[Mask]& detections, const vector[Mask]& truths, const Rows& rows,
                  const int32_t* truth_order, const uint8_t* crowd, double floor, unsigned threads,
                  double* out) except +
