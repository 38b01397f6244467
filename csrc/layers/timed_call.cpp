#include "timed_call.h"

#include <structmember.h>

#include <cstddef>
#include <new>
#include <utility>

namespace qprof::layers {
namespace {

struct TimedCall {
  PyObject_HEAD
  vectorcallfunc vectorcall;
  PyObject* target;
  std::shared_ptr<Recorder> recorder;
  int32_t layer;
};

TimedCall* cast(PyObject* self) { return reinterpret_cast<TimedCall*>(self); }

PyObject* call(PyObject* self, PyObject* const* args, size_t nargsf, PyObject* names) {
  TimedCall* timed = cast(self);
  Recorder& recorder = *timed->recorder;
  if (!recorder.enter(timed->layer)) return PyObject_Vectorcall(timed->target, args, nargsf, names);
  PyObject* result = PyObject_Vectorcall(timed->target, args, nargsf, names);
  recorder.leave();
  return result;
}

PyObject* get_attribute(PyObject* self, PyObject* name) {
  PyObject* found = PyObject_GenericGetAttr(self, name);
  if (found != nullptr || !PyErr_ExceptionMatches(PyExc_AttributeError)) return found;
  PyErr_Clear();
  return PyObject_GetAttr(cast(self)->target, name);
}

int traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(cast(self)->target);
  return 0;
}

// The target stays: a call may still be under way, and the cycle through the module's dictionary is broken there.
int clear(PyObject*) { return 0; }

void deallocate(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  Py_XDECREF(cast(self)->target);
  cast(self)->recorder.~shared_ptr();
  type->tp_free(self);
  Py_DECREF(type);
}

PyMemberDef members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(TimedCall, vectorcall), READONLY, nullptr},
    {"__wrapped__", T_OBJECT_EX, offsetof(TimedCall, target), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr},
};

PyType_Slot slots[] = {
    {Py_tp_call, reinterpret_cast<void*>(PyVectorcall_Call)},
    {Py_tp_getattro, reinterpret_cast<void*>(get_attribute)},
    {Py_tp_traverse, reinterpret_cast<void*>(traverse)},
    {Py_tp_clear, reinterpret_cast<void*>(clear)},
    {Py_tp_dealloc, reinterpret_cast<void*>(deallocate)},
    {Py_tp_members, members},
    {0, nullptr},
};

PyType_Spec spec = {
    "qprof.core._layers.TimedCall",
    sizeof(TimedCall),
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    slots,
};

PyTypeObject* timed_call_type() {
  static PyObject* type = nullptr;  // made once, under the GIL, and kept
  if (type == nullptr) type = PyType_FromSpec(&spec);
  return reinterpret_cast<PyTypeObject*>(type);
}

}  // namespace

PyObject* timed_call(PyObject* target, int32_t layer, const std::shared_ptr<Recorder>& recorder) {
  PyTypeObject* type = timed_call_type();
  if (type == nullptr) return nullptr;
  PyObject* self = type->tp_alloc(type, 0);
  if (self == nullptr) return nullptr;
  TimedCall* timed = cast(self);
  timed->vectorcall = call;
  timed->target = Py_NewRef(target);
  new (&timed->recorder) std::shared_ptr<Recorder>(recorder);
  timed->layer = layer;
  return self;
}

}  // namespace qprof::layers
