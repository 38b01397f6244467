# What _topk.pyx uses of these headers.
from libc.stdint cimport int32_t, int64_t
from libcpp cimport bool as cbool


cdef extern from "topk.h" namespace "qprof::topk" nogil:
    cdef enum class Dtype(int32_t):
        kFloat32
        kFloat16
        kBfloat16

    cdef enum class Ties(int32_t):
        kFirst
        kOptimistic
        kPessimistic

    cdef enum class Measure(int32_t):
        kRank
        kLogLikelihood
        kEntropy

    cdef enum class SimdLevel(int32_t):
        kBaseline
        kAvx2
        kAvx512

    cdef enum class Fault(int32_t):
        kNone
        kTarget
        kNan

    cdef cppclass Logits:
        const void* data
        int64_t rows
        int64_t vocabulary
        int64_t row_stride_bytes
        Dtype dtype

    cdef cppclass Scores:
        int64_t* rank
        int64_t* argmax
        double* log_likelihood
        double* entropy

    cdef cppclass Options:
        Ties ties
        Measure measure
        SimdLevel simd
        int threads

    cdef cppclass Outcome:
        Fault fault
        int64_t row
        int64_t column

    Outcome score(const Logits& logits, const int64_t* targets, const Options& options, const Scores& scores)
    cbool supports(SimdLevel level)
