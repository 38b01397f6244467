# What _op_profiler.pyx uses of these headers.
from libc.stdint cimport int32_t, int64_t, uint64_t
from libcpp cimport bool as cbool
from libcpp.string cimport string
from libcpp.vector cimport vector


cdef extern from "machine_state.h" namespace "qprof::litert" nogil:
    cdef cppclass Before:
        pass

    cbool can_prepare(Before before)


cdef extern from "fine_clock.h" namespace "qprof::litert" nogil:
    int64_t fine_clock_cost_ns()


cdef extern from "op_profiler.h" namespace "qprof::litert" nogil:
    cdef struct Record:
        pass

    cdef struct NodeInfo:
        int index
        int builtin_code
        string custom_name
        cbool is_delegate
        cbool is_hooked
        vector[int] members

    cdef struct TensorInfo:
        string name
        int allocation_type
        uint64_t bytes
        uint64_t address

    cdef cppclass Session:
        @staticmethod
        Session* create(cbool kernels) except +
        void release()
        int64_t id()
        void expect_subgraph(uint64_t tensors, uint64_t ops) except +
        cbool refused()
        int subgraph_count()
        int hook() except +
        void unhook()
        void set_before(Before before)
        void set_recording(cbool on)
        void set_inference(int inference)
        const vector[Record]& records()
        void clear()
        void reserve(size_t count) except +
        uint64_t lost()
        const vector[string]& names()
        vector[NodeInfo] nodes(int subgraph) except +
        vector[int] builtin_codes(int subgraph, int count) except +
        vector[TensorInfo] tensors(int subgraph) except +
