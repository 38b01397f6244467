# What _layers.pyx uses of these headers.
from libc.stdint cimport int32_t, int64_t, uint64_t
from libcpp cimport bool as cbool
from libcpp.memory cimport shared_ptr
from libcpp.vector cimport vector


cdef extern from "recorder.h" namespace "qprof::layers" nogil:
    cdef struct Record:
        int32_t inference
        int32_t layer
        int64_t start_ns
        int64_t duration_ns
        int64_t own_ns

    cdef cppclass Recorder:
        Recorder()
        void reserve(size_t records) except +
        void start(int32_t inference) except +
        void stop()
        cbool recording()
        const vector[Record]& records()
        void clear()
        uint64_t lost()
        uint64_t foreign()


cdef extern from "timed_call.h" namespace "qprof::layers":
    object timed_call(object target, int32_t layer, const shared_ptr[Recorder]& recorder)
