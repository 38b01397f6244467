# distutils: language = c++
# cython: language_level=3
"""Python face of the layer timer: stands in front of `forward` of a torch model's modules while it records."""

from libc.string cimport memcpy
from libcpp.memory cimport make_shared, shared_ptr

import numpy as np

from layers cimport Record, Recorder, timed_call

#: Layout of `Record` in recorder.h.
record_dtype = np.dtype(
    [
        ("inference", np.int32),
        ("layer", np.int32),
        ("start_ns", np.int64),
        ("duration_ns", np.int64),
        ("own_ns", np.int64),
    ]
)

if record_dtype.itemsize != sizeof(Record):
    raise ImportError("qprof.core._layers: the record layout differs between C++ and NumPy; rebuild qprof")


cdef class LayerTimer:
    cdef shared_ptr[Recorder] _recorder
    cdef list _dicts
    cdef list _calls
    cdef list _before
    cdef bint _in_place

    def __cinit__(self, modules):
        self._recorder = make_shared[Recorder]()
        self._dicts = [module.__dict__ for module in modules]
        self._calls = [timed_call(module.forward, layer, self._recorder) for layer, module in enumerate(modules)]
        self._before = []
        self._in_place = False

    def __dealloc__(self):
        self._recorder.get().stop()

    @property
    def lost(self):
        return self._recorder.get().lost()

    @property
    def foreign_calls(self):
        return self._recorder.get().foreign()

    def reserve(self, size_t records):
        self._recorder.get().reserve(records)

    def start(self, int inference):
        cdef dict attributes
        cdef Py_ssize_t i
        self._recorder.get().start(inference)
        if self._in_place:
            return
        self._before = [(<dict>attributes).get("forward") for attributes in self._dicts]
        self._in_place = True
        for i in range(len(self._dicts)):
            (<dict>self._dicts[i])["forward"] = self._calls[i]

    def stop(self):
        cdef dict attributes
        cdef Py_ssize_t i
        self._recorder.get().stop()
        if not self._in_place:
            return
        self._in_place = False
        for i in range(len(self._dicts)):
            attributes = <dict>self._dicts[i]
            if attributes.get("forward") is not self._calls[i]:
                continue  # replaced by someone else since: theirs to undo
            if self._before[i] is None:
                del attributes["forward"]
            else:
                attributes["forward"] = self._before[i]

    def drain(self):
        cdef size_t count = self._recorder.get().records().size()
        records = np.empty(count, dtype=record_dtype)
        cdef unsigned char[::1] view
        if count:
            view = records.view(np.uint8)
            memcpy(&view[0], self._recorder.get().records().data(), count * sizeof(Record))
        self._recorder.get().clear()
        return records
