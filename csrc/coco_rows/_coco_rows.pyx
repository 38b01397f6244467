# distutils: language = c++
# cython: language_level=3
"""Annotations that are Python dicts as columns; the stub `_coco_rows.pyi` describes it."""

from cpython.dict cimport PyDict_CheckExact
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_AsDouble, PyFloat_CheckExact
from cpython.list cimport PyList_CheckExact, PyList_GET_ITEM, PyList_GET_SIZE
from cpython.object cimport PyObject, PyObject_IsTrue
from cpython.tuple cimport PyTuple_CheckExact, PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.math cimport NAN
from libc.stdint cimport int32_t, int64_t, uint8_t, uintptr_t

import numpy as np

from qprof.errors import DataError

cdef extern from "Python.h":
    PyObject* PyDict_GetItemWithError(object mapping, object key) except? NULL
    int64_t PyLong_AsLongLongAndOverflow(object number, int* overflow) except? -1
    bint PyLong_CheckExact(object number)

cdef object _shown(object value):
    return repr(value)[:60]


cdef object _name(object row, Py_ssize_t position):
    """How a message calls an entry."""
    return f"entry {position} (id {_shown(row['id'])})" if isinstance(row, dict) and "id" in row else f"entry {position}"


cdef inline object _member(object row, object key, object where, Py_ssize_t position):
    cdef PyObject* found
    if PyDict_CheckExact(row):
        found = PyDict_GetItemWithError(row, key)
        if found is not NULL:
            return <object>found
    elif hasattr(row, "__getitem__") and hasattr(row, "keys"):
        if key in row:
            return row[key]
    else:
        raise DataError(f"{where}: entry {position} is not an object: give the COCO format")
    raise DataError(f"{where}: {_name(row, position)} has no {key}: add it")


cdef inline object _optional(object row, object key):
    cdef PyObject* found
    if PyDict_CheckExact(row):
        found = PyDict_GetItemWithError(row, key)
        return None if found is NULL else <object>found
    return row[key] if key in row else None


cdef double _number(object value, object key, object row, object where, Py_ssize_t position) except? -1:
    if PyFloat_CheckExact(value):
        return PyFloat_AS_DOUBLE(value)
    if isinstance(value, (str, bytes)):
        raise DataError(f"{where}: {key} of {_name(row, position)} is {_shown(value)}: give a number")
    try:
        return PyFloat_AsDouble(value)
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"{where}: {key} of {_name(row, position)} is {_shown(value)}: give a number") from None


cdef int _box(object box, double* out, object row, object where, Py_ssize_t position) except -1:
    cdef Py_ssize_t n
    if PyList_CheckExact(box) and PyList_GET_SIZE(box) == 4:
        for n in range(4):
            out[n] = _number(<object>PyList_GET_ITEM(box, n), "bbox", row, where, position)
        return 0
    if PyTuple_CheckExact(box) and PyTuple_GET_SIZE(box) == 4:
        for n in range(4):
            out[n] = _number(<object>PyTuple_GET_ITEM(box, n), "bbox", row, where, position)
        return 0
    if isinstance(box, (str, bytes, dict)) or not hasattr(box, "__len__") or len(box) != 4:
        raise DataError(f"{where}: bbox of {_name(row, position)} is {_shown(box)}: give x, y, width, height in pixels")
    for n, value in enumerate(box):
        out[n] = _number(value, "bbox", row, where, position)
    return 0


cdef inline int32_t _place(object index, object number) except? -2:
    cdef PyObject* found = PyDict_GetItemWithError(index, number)
    return -1 if found is NULL else <int32_t><object>found


cdef int64_t _id(object number, Py_ssize_t position) except? -1:
    """`number` where it is a whole one of 64 bits, else one that is taken for no other and not for 0."""
    cdef int overflow = 0
    cdef int64_t value
    if not PyLong_CheckExact(number):
        try:
            if number != int(number):
                return position + 1
            number = int(number)
        except (TypeError, ValueError, OverflowError):
            return position + 1
    value = PyLong_AsLongLongAndOverflow(number, &overflow)
    return position + 1 if overflow else value


def select(img_to_anns, anns, image_ids, category_ids, where):
    if not isinstance(img_to_anns, dict) or not isinstance(anns, dict):
        raise TypeError("img_to_anns, anns: dicts are expected")
    cdef list rows = []
    cdef object wanted = None if category_ids is None else dict.fromkeys(category_ids)
    cdef PyObject* found
    cdef object identifier
    cdef Py_ssize_t position
    for image in image_ids:
        found = PyDict_GetItemWithError(img_to_anns, image)
        if found is NULL:
            continue
        position = 0
        for row in <object>found:
            if wanted is None or _member(row, "category_id", where, position) in wanted:
                identifier = _member(row, "id", where, position)
                found = PyDict_GetItemWithError(anns, identifier)
                if found is NULL:
                    raise DataError(f"{where}: annotation {_shown(identifier)} is not in the index: call createIndex()")
                rows.append(<object>found)
            position += 1
    return rows


def of_categories(rows, category_ids, where):
    cdef list kept = []
    cdef object wanted = dict.fromkeys(category_ids)
    cdef Py_ssize_t position = 0
    for row in rows:
        if _member(row, "category_id", where, position) in wanted:
            kept.append(row)
        position += 1
    return kept


def columns(rows, dict images, categories, bint truths, where):
    cdef Py_ssize_t count = len(rows)
    cdef Py_ssize_t n = 0, without_area = 0, without_crowd = 0
    image = np.empty(count, dtype=np.int32)
    category = np.zeros(count, dtype=np.int32)
    identifier = np.empty(count, dtype=np.int64)
    boxes = np.empty((count, 4))
    area = np.empty(count)
    score = np.empty(0 if truths else count)
    crowd = np.zeros(count if truths else 0, dtype=np.uint8)
    cdef int32_t* image_out = <int32_t*><uintptr_t>image.ctypes.data
    cdef int32_t* category_out = <int32_t*><uintptr_t>category.ctypes.data
    cdef int64_t* id_out = <int64_t*><uintptr_t>identifier.ctypes.data
    cdef double* box_out = <double*><uintptr_t>boxes.ctypes.data
    cdef double* area_out = <double*><uintptr_t>area.ctypes.data
    cdef double* score_out = <double*><uintptr_t>score.ctypes.data
    cdef uint8_t* crowd_out = <uint8_t*><uintptr_t>crowd.ctypes.data
    cdef object value
    cdef list listed = rows if PyList_CheckExact(rows) else list(rows)
    for row in listed:
        if n == count:
            raise DataError(f"{where}: the list changed while it was read")
        image_out[n] = _place(images, _member(row, "image_id", where, n))
        if categories is not None:
            category_out[n] = _place(categories, _member(row, "category_id", where, n))
        value = _optional(row, "id")
        id_out[n] = n + 1 if value is None else _id(value, n)
        _box(_member(row, "bbox", where, n), box_out + 4 * n, row, where, n)
        value = _optional(row, "area")
        if value is None:
            without_area += 1
            area_out[n] = box_out[4 * n + 2] * box_out[4 * n + 3]
        else:
            area_out[n] = _number(value, "area", row, where, n)
        if truths:
            value = _optional(row, "iscrowd")
            crowd_out[n] = 0 if value is None else PyObject_IsTrue(value)
        else:
            score_out[n] = _number(_member(row, "score", where, n), "score", row, where, n)
        n += 1
    found = {"image": image, "category": category, "id": identifier, "bbox": boxes, "area": area}
    if truths:
        found["iscrowd"] = crowd
    else:
        found["score"] = score
    found["without_area"] = without_area
    return found


def prepare_boxes(list rows, bint polygons):
    """See the stub."""
    cdef Py_ssize_t n = 0
    cdef object box, x, y, width, height
    for row in rows:
        box = _member(row, "bbox", "the results", n)
        if isinstance(box, (str, bytes, dict)) or not hasattr(box, "__len__") or len(box) < 4:
            raise DataError(f"the results: bbox of entry {n} is {_shown(box)}: give x, y, width, height in pixels")
        x, y, width, height = box[0], box[1], box[2], box[3]
        n += 1
        try:
            if polygons and "segmentation" not in row:
                right, low = x + width, y + height
                row["segmentation"] = [[x, y, x, low, right, low, right, y]]
            row["area"] = width * height
        except TypeError:
            raise DataError(f"the results: bbox of entry {n - 1} is {_shown(box)}: give x, y, width, height in pixels") from None
        row["id"] = n
        row["iscrowd"] = 0


def index(list rows):
    """See the stub."""
    cdef dict anns = {}
    cdef dict images = {}
    cdef dict categories = {}
    cdef Py_ssize_t n = 0
    cdef PyObject* found
    cdef object image
    cdef bint classed = True
    for row in rows:
        image = _member(row, "image_id", "annotations", n)
        anns[_member(row, "id", "annotations", n)] = row
        found = PyDict_GetItemWithError(images, image)
        if found is NULL:
            images[image] = [row]
        else:
            (<list><object>found).append(row)
        if classed:
            category = _optional(row, "category_id")
            if category is None:
                classed = False
            else:
                found = PyDict_GetItemWithError(categories, category)
                if found is NULL:
                    categories[category] = [image]
                else:
                    (<list><object>found).append(image)
        n += 1
    return anns, images, categories if classed else None
