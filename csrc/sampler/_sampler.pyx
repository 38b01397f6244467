# distutils: language = c++
# cython: language_level=3
"""Python face of the compiled sampler: says what to read, then looks at what a thread of its own has read."""

from libc.stdint cimport INT64_MAX, INT64_MIN, int64_t, uint64_t
from libc.string cimport memcpy
from libcpp cimport bool as cbool
from libcpp.memory cimport make_shared, shared_ptr, unique_ptr
from libcpp.utility cimport move
from libcpp.vector cimport vector

import collections

import numpy as np

cimport sampler
from sampler cimport Cut, Figure, Form, NvmlCall, Options, PartState, ProbeState, Source

#: What the numbers in files.h, nvml.h, source.h and sampler.h are called here, in their order.
FORMS = ("number", "cpu_ticks", "process", "pressure", "frequencies", "listing")
FIGURES = ("counter", "gauge", "of_sort", "fields", "utilization", "memory")
FAULTS = ("", "system", "form", "driver")
LOSSES = ("", "hung", "gone", "failing", "no memory", "not ended")

State = collections.namedtuple(
    "State",
    "reads failed skipped in_a_row read_ns longest_read_ns longest_late_ns cpu_ns wall_ns lost last_failing_group",
)
PartFailures = collections.namedtuple("PartFailures", "times first fault code which content gone")


cdef class Sampler:
    cdef shared_ptr[sampler.Sampler] _sampler

    def __cinit__(self, *, int64_t timeout_ns, uint64_t failures_in_a_row, size_t first_readings, size_t most_readings):
        cdef Options options
        options.timeout_ns = timeout_ns
        options.failures_in_a_row = failures_in_a_row
        options.first_readings = first_readings
        options.most_readings = most_readings
        self._sampler = make_shared[sampler.Sampler](options)

    def __dealloc__(self):
        if self._sampler.get() != NULL:
            self._sampler.get().ask_to_stop()

    def add_probe(self, int64_t period_ns):
        return self._sampler.get().add_probe(period_ns)

    def drop_last_probe(self):
        self._sampler.get().drop_last_probe()

    def add_group(self, size_t probe):
        self._sampler.get().probe(probe).add_group()

    def add_files(self, size_t probe, str form, descriptors, *, double scale, int64_t every_ns):
        cdef vector[int] numbers = descriptors
        cdef unique_ptr[Source] source = sampler.open_files(<Form><int>FORMS.index(form), numbers, scale)
        return self._add(probe, move(source), every_ns)

    def add_nvml(
        self, size_t probe, str figure, *, library, function, device, numbers, double scale, gone, int64_t every_ns
    ):
        cdef NvmlCall call
        cdef unique_ptr[Source] source
        call.library = library.encode()
        call.function = function.encode()
        call.figure = <Figure><int>FIGURES.index(figure)
        call.device = device
        call.numbers = numbers
        call.scale = scale
        call.gone = 0
        for code in gone:
            if not 0 <= code < 32:
                raise ValueError(f"not one of the codes that say that a device is gone: {code}")
            call.gone |= 1 << <int>code
        source = sampler.open_nvml(call)
        return self._add(probe, move(source), every_ns)

    cdef size_t _add(self, size_t probe, unique_ptr[Source] source, int64_t every_ns) except? 0:
        cdef size_t channels = source.get().channels()
        self._sampler.get().probe(probe).add_part(move(source), every_ns)
        return channels

    def start(self):
        self._sampler.get().start()

    def ask_to_stop(self):
        self._sampler.get().ask_to_stop()

    def wait_for_end(self, int64_t patience_ns):
        cdef cbool ended
        with nogil:
            ended = self._sampler.get().wait_for_end(patience_ns)
        return ended

    def wait_for_all(self):
        # Held here, because what owns this object may be gone when a hung read comes back.
        cdef shared_ptr[sampler.Sampler] held = self._sampler
        with nogil:
            held.get().wait_for_all()

    def read_once(self, size_t probe):
        with nogil:
            self._sampler.get().read_once(probe)

    def state(self, size_t probe):
        cdef ProbeState found = self._sampler.get().state(probe)
        cdef int64_t wall_ns = found.last_seen_ns - self._sampler.get().started_ns()
        return State(
            found.reads, found.failed, found.skipped, found.in_a_row, found.read_ns, found.longest_read_ns,
            found.longest_late_ns, found.cpu_ns, wall_ns, LOSSES[<int>found.lost], found.last_failing_group,
        )

    def failures(self, size_t probe):
        cdef vector[PartState] parts = self._sampler.get().parts(probe)
        cdef size_t i
        return [
            PartFailures(
                parts[i].failures, parts[i].first, FAULTS[<int>parts[i].last.fault], parts[i].last.code,
                parts[i].last.which, <bytes>parts[i].last.content, parts[i].last.gone,
            )
            for i in range(parts.size())
        ]

    def between(self, size_t probe, size_t channel, start_ns, end_ns, size_t neighbours=0):
        cdef vector[int64_t] times
        cdef vector[double] values
        cdef int64_t first = _within(start_ns)
        cdef int64_t last = _within(end_ns)
        cdef Cut cut
        with nogil:
            cut = self._sampler.get().between(probe, channel, first, last, neighbours, times, values)
        if cut == Cut.kForgotten:
            return None
        t_ns = np.empty(times.size(), np.int64)
        found = np.empty(values.size(), np.float64)
        cdef int64_t[::1] into_times = t_ns
        cdef double[::1] into_values = found
        if times.size():
            memcpy(&into_times[0], times.data(), times.size() * sizeof(int64_t))
            memcpy(&into_values[0], values.data(), values.size() * sizeof(double))
        return t_ns, found

    def forget(self, size_t probe, size_t channel, before_ns):
        self._sampler.get().forget(probe, channel, _within(before_ns))


cdef int64_t _within(t_ns) except? -1:
    return min(max(t_ns, INT64_MIN), INT64_MAX)
