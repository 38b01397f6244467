# distutils: language = c++
# cython: language_level=3
"""Python face of the masks; the stub `_masks.pyi` describes it."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uintptr_t
from libcpp.string cimport string
from libcpp.vector cimport vector

import numpy as np

cimport masks
from masks cimport Counts, Mask, Rows, Size, Sources


def _fail(position, why):
    raise ValueError(f"segmentation {position} (counted from 0): {why}")


def _side(value, position):
    """A side of an image as an integer of 64 bits."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not -(2**63) <= value < 2**63:
        _fail(position, f"the image's size has {str(value)[:40]!r} for a side: give whole numbers of pixels")
    return int(value)


cdef class _Reader:
    """Gathers masks; keeps what `sources` points into."""

    cdef Sources sources
    cdef list kept

    def __cinit__(self):
        self.kept = []

    cdef add(self, object mask, object height, object width):
        """`mask` as COCO writes it; `height` and `width` are those of the image, None where not known."""
        position = self.sources.size()
        if isinstance(mask, dict):
            self.add_counts(mask, position)
        elif isinstance(mask, (list, tuple)):
            if height is None or width is None:
                _fail(position, "a polygon, but the size of its image is not known: add 'height' and 'width' to it")
            self.sources.begin(_side(height, position), _side(width, position))
            # One polygon may stand for itself.
            polygons = [mask] if mask and not isinstance(mask[0], (list, tuple, np.ndarray)) else mask
            for polygon in polygons:
                self.add_polygon(polygon, position)
        else:
            _fail(position, f"a {type(mask).__name__}: give polygons, or an object with 'size' and 'counts'")

    cdef add_counts(self, object mask, object position):
        cdef const char* text
        cdef int64_t[::1] lengths
        size, counts = mask.get("size"), mask.get("counts")
        if not isinstance(size, (list, tuple, np.ndarray)) or len(size) != 2:
            _fail(position, f"'size' is {str(size)[:40]!r}: give [height, width]")
        self.sources.begin(_side(size[0], position), _side(size[1], position))
        if isinstance(counts, str):
            if not counts.isascii():
                _fail(position, "the counts have a character that is none of COCO's")
            counts = counts.encode("ascii")
        if isinstance(counts, bytes):
            self.kept.append(counts)
            text = counts
            self.sources.add_text(text, len(counts))
        elif isinstance(counts, (list, tuple, np.ndarray)):
            given = np.asarray(counts if len(counts) else np.empty(0, np.int64))
            if given.ndim != 1 or given.dtype.kind not in "iu" or (
                given.dtype.kind == "u" and given.size and int(given.max()) >= 2**63
            ):
                whole = given.ndim == 1 and given.dtype.kind == "f" and (np.abs(given) < 2**53).all() and (
                    given == np.floor(given)
                ).all()
                if not whole:
                    _fail(position, "'counts' is no list of whole numbers of 63 bits")
            lengths = np.ascontiguousarray(given, dtype=np.int64)
            self.sources.add_lengths(&lengths[0] if lengths.shape[0] else NULL, lengths.shape[0])
        else:
            _fail(position, f"'counts' is a {type(counts).__name__}: give a text or a list")

    cdef add_polygon(self, object polygon, object position):
        cdef object number
        if not isinstance(polygon, (list, tuple, np.ndarray)):
            _fail(position, f"a polygon is a {type(polygon).__name__}: give a list x, y, x, y ...")
        for number in polygon if not isinstance(polygon, np.ndarray) else polygon.ravel().tolist():
            if type(number) is not float and (isinstance(number, bool) or not isinstance(number, (int, float, np.number))):
                _fail(position, f"a polygon has {str(number)[:40]!r} for a coordinate: give numbers")
            try:
                self.sources.add_number(number)
            except OverflowError:
                _fail(position, "a polygon has a coordinate that is not finite, or beyond 2e8 pixels")
        self.sources.end_polygon()


cdef _Reader _gather(masks_, heights, widths):
    cdef _Reader reader = _Reader()
    if heights is None:
        for mask in masks_:
            reader.add(mask, None, None)
        return reader
    if not (len(masks_) == len(heights) == len(widths)):
        raise ValueError(f"{len(masks_)} masks, {len(heights)} heights, {len(widths)} widths: give as many of each")
    for mask, height, width in zip(masks_, heights, widths):
        # -1: not known.
        reader.add(mask, None if height < 0 else height, None if width < 0 else width)
    return reader


cdef class Masks:
    cdef vector[Mask] all

    def __init__(self, masks_, heights=None, widths=None, *, threads=1):
        cdef _Reader reader = _gather(masks_, heights, widths)
        cdef unsigned workers = _threads(threads)
        with nogil:
            self.all = masks.read_masks(reader.sources, workers)

    def __reduce__(self):
        return Masks, (self.rles(),)

    def __len__(self):
        return self.all.size()

    @property
    def area(self):
        cdef size_t i
        areas = np.empty(self.all.size(), dtype=np.uint32)
        cdef uint32_t[::1] out = areas
        for i in range(self.all.size()):
            out[i] = self.all[i].area
        return areas

    @property
    def size(self):
        cdef size_t i
        sizes = np.empty((self.all.size(), 2), dtype=np.int64)
        cdef int64_t[:, ::1] out = sizes
        for i in range(self.all.size()):
            out[i, 0] = self.all[i].size.height
            out[i, 1] = self.all[i].size.width
        return sizes

    @property
    def boxes(self):
        cdef size_t i
        boxes = np.empty((self.all.size(), 4), dtype=np.float64)
        cdef double[:, ::1] out = boxes
        for i in range(self.all.size()):
            _write_box(self.all[i], &out[i, 0])
        return boxes

    def boundary(self, ratio=0.02, *, threads=1):
        cdef Masks found = Masks([])
        cdef unsigned workers = _threads(threads)
        cdef double share = ratio
        if not 0 < share < 1e3:
            raise ValueError(f"ratio: {ratio} where a share of the image's diagonal is expected")
        with nogil:
            found.all = masks.boundaries(self.all, share, workers)
        return found

    def rles(self):
        return [_rle(masks.to_counts(mask)) for mask in self.all]


cdef void _write_box(const Mask& mask, double* out) noexcept:
    out[0] = mask.box.left
    out[1] = mask.box.top
    out[2] = mask.box.right - mask.box.left
    out[3] = mask.box.bottom - mask.box.top


cdef unsigned _threads(threads) except 0:
    if threads < 1:
        raise ValueError(f"threads: {threads} where at least 1 is expected")
    return threads


def _indices(name, values, dtype, least, beyond):
    given = np.ascontiguousarray(values, dtype=dtype)
    if given.ndim != 1 or (given.size and (given.min() < least or given.max() >= beyond)):
        raise ValueError(f"{name}: a value is not in {least}..{beyond - 1}, or there is more than one axis")
    return given


def overlaps(
    Masks detections, Masks truths, detection, truth_begin, truth_count, truth_order, crowd, *, floor=0.0, threads=1
):
    cdef Rows rows
    cdef unsigned workers = _threads(threads)
    cdef double lowest = floor
    order = _indices("truth_order", truth_order, np.int32, 0, len(truths))
    which = _indices("detection", detection, np.int32, 0, len(detections))
    begins = _indices("truth_begin", truth_begin, np.int64, 0, len(order) + 1)
    counts = _indices("truth_count", truth_count, np.int64, 0, len(order) + 1)
    crowds = np.ascontiguousarray(np.asarray(crowd) != 0, dtype=np.uint8)
    if not len(which) == len(begins) == len(counts) or len(crowds) != len(truths):
        raise ValueError("detection, truth_begin, truth_count: of different length; or one crowd flag per truth missing")
    if (begins + counts > len(order)).any():
        raise ValueError("truth_begin, truth_count: a row goes beyond truth_order")
    ends = np.cumsum(counts)
    outs = ends - counts
    found = np.empty(int(counts.sum()))
    rows.count = len(which)
    rows.detection = <const int32_t*><uintptr_t>which.ctypes.data
    rows.truth_begin = <const int64_t*><uintptr_t>begins.ctypes.data
    rows.truth_count = <const int64_t*><uintptr_t>counts.ctypes.data
    rows.out_begin = <const int64_t*><uintptr_t>outs.ctypes.data
    cdef const int32_t* order_in = <const int32_t*><uintptr_t>order.ctypes.data
    cdef const uint8_t* crowd_in = <const uint8_t*><uintptr_t>crowds.ctypes.data
    cdef double* out = <double*><uintptr_t>found.ctypes.data
    with nogil:
        masks.overlaps(detections.all, truths.all, rows, order_in, crowd_in, lowest, workers, out)
    return found


cdef _rle(const Counts& counts):
    cdef string text = masks.to_text(counts)
    return {"size": [counts.size.height, counts.size.width], "counts": <bytes>text}


def compress(masks_, heights=None, widths=None):
    cdef _Reader reader = _gather(masks_, heights, widths)
    cdef vector[Counts] found = masks.read_counts(reader.sources, 1)
    return [_rle(counts) for counts in found]


def encode(const uint8_t[::1] pixels, height, width, count):
    cdef Size size = masks.checked_size(height, width)
    cdef size_t i, each = <size_t>size.height * size.width
    cdef Counts counts
    if <size_t>pixels.shape[0] != each * <size_t>count:
        raise ValueError(f"{pixels.shape[0]} pixels where {each} x {count} are expected")
    encoded = []
    for i in range(<size_t>count):
        counts = masks.from_bytes(&pixels[i * each] if each else NULL, size)
        encoded.append(_rle(counts))
    return encoded


def decode(rles):
    cdef _Reader reader = _gather(rles, None, None)
    cdef vector[Counts] found = masks.read_counts(reader.sources, 1)
    cdef size_t i, each
    if found.empty():
        raise ValueError("no masks: give one at least")
    for i in range(found.size()):
        if found[i].size.height != found[0].size.height or found[i].size.width != found[0].size.width:
            _fail(i, "of another size than the first one: decode it alone")
    each = <size_t>found[0].size.height * found[0].size.width
    pixels = np.zeros(each * found.size(), dtype=np.uint8)
    cdef uint8_t* out = <uint8_t*><uintptr_t>pixels.ctypes.data
    for i in range(found.size()):
        masks.to_bytes(found[i], out + i * each)
    return pixels.reshape((found[0].size.height, found[0].size.width, found.size()), order="F")


def merge(rles, intersect=False):
    cdef _Reader reader = _gather(rles, None, None)
    cdef vector[Counts] found = masks.read_counts(reader.sources, 1)
    if found.empty():
        return {"size": [0, 0], "counts": b""}
    return _rle(masks.merge_all(found, intersect))

