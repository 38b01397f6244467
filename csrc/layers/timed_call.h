// A Python callable that stands in front of another and times it.
#pragma once

#include <Python.h>

#include <cstdint>
#include <memory>

#include "recorder.h"

namespace qprof::layers {

// A new callable that hands every call on to `target` and records it as `layer`; NULL with an exception set where there
// is no memory. Attributes that it lacks are those of `target`, which is its `__wrapped__`.
PyObject* timed_call(PyObject* target, int32_t layer, const std::shared_ptr<Recorder>& recorder);

}  // namespace qprof::layers
