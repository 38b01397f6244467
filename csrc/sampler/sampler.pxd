# What _sampler.pyx uses of these headers.
from libc.stdint cimport int64_t, uint32_t, uint64_t, uintptr_t
from libcpp cimport bool as cbool
from libcpp.memory cimport shared_ptr, unique_ptr
from libcpp.string cimport string
from libcpp.vector cimport vector


cdef extern from "source.h" namespace "qprof::sampler" nogil:
    cdef enum class Fault(int):
        pass

    cdef struct Failure:
        Fault fault
        cbool gone
        int code
        size_t which
        string content

    cdef cppclass Source:
        size_t channels()


cdef extern from "files.h" namespace "qprof::sampler" nogil:
    cdef enum class Form(int):
        pass

    unique_ptr[Source] open_files(Form form, const vector[int]& descriptors, double scale) except +


cdef extern from "nvml.h" namespace "qprof::sampler" nogil:
    cdef enum class Figure(int):
        pass

    cdef cppclass NvmlCall:
        string library
        string function
        Figure figure
        uintptr_t device
        vector[int] numbers
        double scale
        uint32_t gone

    unique_ptr[Source] open_nvml(const NvmlCall& call) except +


cdef extern from "probe.h" namespace "qprof::sampler" nogil:
    cdef cppclass Probe:
        void add_group() except +
        void add_part(unique_ptr[Source] source, int64_t every_ns) except +


cdef extern from "sampler.h" namespace "qprof::sampler" nogil:
    cdef enum class Loss(int):
        pass

    cdef enum class Cut:
        kFound
        kForgotten

    cdef struct ProbeState:
        uint64_t reads
        uint64_t failed
        uint64_t skipped
        uint64_t in_a_row
        int64_t read_ns
        int64_t longest_read_ns
        int64_t longest_late_ns
        int64_t cpu_ns
        int64_t last_seen_ns
        Loss lost
        size_t last_failing_group

    cdef struct PartState:
        uint64_t failures
        uint64_t first
        Failure last

    cdef struct Options:
        int64_t timeout_ns
        uint64_t failures_in_a_row
        size_t first_readings
        size_t most_readings

    cdef cppclass Sampler:
        Sampler(const Options& options)
        size_t add_probe(int64_t period_ns) except +
        void drop_last_probe() except +
        Probe& probe(size_t number) except +
        void start() except +
        void ask_to_stop()
        cbool wait_for_end(int64_t patience_ns)
        void wait_for_all()
        void read_once(size_t number) except +
        ProbeState state(size_t number) except +
        vector[PartState] parts(size_t number) except +
        int64_t started_ns()
        Cut between(
            size_t number, size_t channel, int64_t start_ns, int64_t end_ns, size_t neighbours,
            vector[int64_t]& times, vector[double]& values,
        ) except +
        void forget(size_t number, size_t channel, int64_t before_ns) except +
