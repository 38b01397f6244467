# distutils: language = c++
# cython: language_level=3
"""Python face of the LiteRT op profiler: one `OpProfiler` per interpreter."""

from libc.string cimport memcpy

import numpy as np

from op_profiler cimport Before, NodeInfo, Record, Session, TensorInfo, can_prepare, fine_clock_cost_ns

#: This file: LiteRT's `load_delegate` opens it a second time, as a delegate plugin.
PLUGIN_PATH = __file__

#: Layout of `Record` in op_profiler.h.
record_dtype = np.dtype(
    [
        ("kind", np.int32),
        ("inference", np.int32),
        ("subgraph", np.int32),
        ("node", np.int32),
        ("kernel", np.int32),
        ("name", np.int32),
        ("start_ns", np.int64),
        ("duration_ns", np.int64),
        ("duration_us", np.int64),
        ("readings", np.int64),
    ]
)
#: What can be done before every op, by the number that it has in machine_state.h.
BEFORE_OPS = ("nothing", "reset-vectors", "reset-vectors-builtin", "flush-caches", "warm-caches")
KIND_NODE = 0
KIND_KERNEL = 1

if record_dtype.itemsize != sizeof(Record):
    raise ImportError("qprof.core._op_profiler: the record layout differs between C++ and NumPy; rebuild qprof")


cdef class OpProfiler:
    cdef Session* _session

    def __cinit__(self, subgraph_sizes, kernels=True):
        self._session = Session.create(kernels)
        for tensors, ops in subgraph_sizes:
            self._session.expect_subgraph(tensors, ops)

    def __dealloc__(self):
        if self._session != NULL:
            self._session.release()

    @property
    def options(self):
        return {"session": str(self._session.id())}

    @property
    def refused(self):
        return self._session.refused()

    @property
    def lost(self):
        return self._session.lost()

    @property
    def subgraph_count(self):
        return self._session.subgraph_count()

    @property
    def kernel_names(self):
        cdef size_t i
        return [self._session.names()[i].decode("utf-8", "replace") for i in range(self._session.names().size())]

    def hook(self):
        return self._session.hook()

    def unhook(self):
        self._session.unhook()

    def reserve(self, size_t records):
        self._session.reserve(records)

    def start(self, int inference):
        self._session.set_inference(inference)
        self._session.set_recording(True)

    def stop(self):
        self._session.set_recording(False)

    def prepare(self, before):
        if before not in BEFORE_OPS:
            raise ValueError(f"there is nothing called {before!r} to do before an op; {', '.join(BEFORE_OPS)}")
        cdef int number = BEFORE_OPS.index(before)
        if not can_prepare(<Before>number):
            raise ValueError(f"this processor cannot {before.replace('-', ' ')}: it has no instruction for it")
        self._session.set_before(<Before>number)

    @staticmethod
    def reading_cost_ns():
        return fine_clock_cost_ns()

    def drain(self):
        cdef size_t count = self._session.records().size()
        records = np.empty(count, dtype=record_dtype)
        cdef unsigned char[::1] view
        if count:
            view = records.view(np.uint8)
            memcpy(&view[0], self._session.records().data(), count * sizeof(Record))
        self._session.clear()
        return records

    def nodes(self, int subgraph=0):
        self._check(subgraph)
        cdef NodeInfo info
        result = []
        for info in self._session.nodes(subgraph):
            members = list(info.members) if info.is_delegate else None
            name = info.custom_name.decode("utf-8", "replace")
            result.append((info.index, info.builtin_code, name, members, info.is_hooked))
        return result

    def builtin_codes(self, int subgraph, int count):
        self._check(subgraph)
        return list(self._session.builtin_codes(subgraph, count))

    def tensors(self, int subgraph=0):
        self._check(subgraph)
        cdef TensorInfo info
        result = []
        for info in self._session.tensors(subgraph):
            result.append((info.name.decode("utf-8", "replace"), info.allocation_type, info.bytes, info.address))
        return result

    def _check(self, int subgraph):
        if not 0 <= subgraph < self._session.subgraph_count():
            raise IndexError(f"subgraph {subgraph} of {self._session.subgraph_count()}")
