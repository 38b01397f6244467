# distutils: language = c++
# cython: language_level=3
"""COCO files as NumPy arrays, without a Python object per entry."""

from cython cimport view
from libc.stdint cimport int64_t, uint8_t
from libc.stdlib cimport free
from libcpp.string cimport string

import os

import numpy as np

cimport coco_json
from coco_json cimport Detections, GroundTruth, Text

from qprof.errors import DataError


def read_results(source, int threads=1):
    cdef Text text
    cdef Detections found
    cdef string problem
    where = _open(&text, source, threads)
    with nogil:
        problem = coco_json.read_results(text, threads, found)
    _check(where, problem)
    cdef size_t rows = found.size()
    return {
        "image_id": _int64(found.image_id.release(), rows),
        "category_id": _int64(found.category_id.release(), rows),
        "bbox": _float64(found.bbox.release(), rows * 4).reshape(-1, 4),
        "score": _float64(found.score.release(), rows),
        "skipped": [_text(name) for name in found.skipped],
    }


def read_ground_truth(source, int threads=1):
    cdef Text text
    cdef GroundTruth found
    cdef string problem
    where = _open(&text, source, threads)
    with nogil:
        problem = coco_json.read_ground_truth(text, threads, found)
    _check(where, problem)
    cdef size_t i, rows = found.images.size()
    images = {
        "id": _int64(found.images.id.release(), rows),
        "width": _int64(found.images.width.release(), rows),
        "height": _int64(found.images.height.release(), rows),
    }
    rows = found.categories.size()
    names = [_text(found.categories.names[i]) if found.categories.is_named[i] else None for i in range(rows)]
    categories = {"id": _int64(found.categories.id.release(), rows), "name": names}
    rows = found.annotations.size()
    annotations = {
        "id": _int64(found.annotations.id.release(), rows),
        "image_id": _int64(found.annotations.image_id.release(), rows),
        "category_id": _int64(found.annotations.category_id.release(), rows),
        "bbox": _float64(found.annotations.bbox.release(), rows * 4).reshape(-1, 4),
        "area": _float64(found.annotations.area.release(), rows),
        "iscrowd": _uint8(found.annotations.iscrowd.release(), rows),
        "ignore": _uint8(found.annotations.ignore.release(), rows),
    }
    return {
        "images": images,
        "categories": categories,
        "annotations": annotations,
        "without_area": found.annotations.without_area,
    }


cdef object _open(Text* text, object source, int threads):
    """Fill `text`; what to call it in messages."""
    if threads < 1:
        raise ValueError(f"threads is {threads}: give 1 or more")
    cdef const unsigned char[::1] content
    if not isinstance(source, (str, os.PathLike)):
        content = memoryview(source).cast("B")
        text.copy(<const char*>&content[0] if content.shape[0] else NULL, content.shape[0])
        return "the given bytes"
    path = os.fspath(source)
    cdef bytes name = os.fsencode(path)
    if b"\0" in name:
        raise DataError(f"{path!r}: cannot be read (a NUL in its name): correct the path")
    cdef const char* c_name = name
    cdef int error
    with nogil:
        error = text.open(c_name)
    if error:
        raise DataError(f"{os.fsdecode(name)}: cannot be read ({os.strerror(error)}): correct the path")
    return os.fsdecode(name)


cdef object _check(object where, string problem):
    if not problem.empty():
        raise DataError(f"{where}: {_text(problem)}")


cdef object _text(string text):
    # Python's json keeps a lone surrogate of an escape as well.
    return (<bytes>text).decode("utf-8", "surrogatepass")


# The arrays below own the memory that they are given.

cdef object _int64(int64_t* data, size_t rows):
    if rows == 0:
        free(data)
        return np.empty(0, np.int64)
    cdef view.array owner = <int64_t[:rows]>data
    owner.callback_free_data = free
    return np.asarray(owner)


cdef object _float64(double* data, size_t rows):
    if rows == 0:
        free(data)
        return np.empty(0, np.float64)
    cdef view.array owner = <double[:rows]>data
    owner.callback_free_data = free
    return np.asarray(owner)


cdef object _uint8(uint8_t* data, size_t rows):
    if rows == 0:
        free(data)
        return np.empty(0, np.uint8)
    cdef view.array owner = <uint8_t[:rows]>data
    owner.callback_free_data = free
    return np.asarray(owner)
