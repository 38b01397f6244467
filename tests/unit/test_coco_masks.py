"""The mask functions give what pycocotools' give, byte for byte, and refuse what is no mask."""

from __future__ import annotations

import json
import pickle
import resource
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st
from pycocotools import mask as reference
from scipy import ndimage

from coco_shapes import blob, lengths_of, rle
from qprof.coco import mask
from qprof.core import _masks
from qprof.errors import DataError

sides = st.integers(1, 70)
coordinates = st.one_of(
    st.floats(-40, 110),
    st.integers(-3, 75).map(float),
    st.sampled_from([0.0, 0.5, 0.1, -0.1, 1e-9, 69.5, 70.0, 1e6, -1e6]),
)
polygons = st.lists(coordinates, min_size=5, max_size=24)


@budget(max_examples=120, deadline=None)
@given(height=sides, width=sides, parts=st.lists(polygons, min_size=1, max_size=4), closed=st.booleans())
def test_polygons_fill_the_same_pixels(height: int, width: int, parts: list[list[float]], closed: bool) -> None:
    parts = [part + part[:2] if closed and len(part) % 2 == 0 else part for part in parts]
    theirs = reference.frPyObjects(parts, height, width)
    assert mask.frPyObjects(parts, height, width) == theirs
    for intersect in (False, True):
        assert mask.merge(theirs, intersect) == reference.merge(theirs, intersect)
    assert np.array_equal(mask.decode(theirs), reference.decode(theirs))


def test_large_polygons_fill_the_same_pixels() -> None:
    rng = np.random.default_rng(3)
    for _ in range(60):
        height, width = (int(side) for side in rng.integers(200, 2000, 2))
        parts = [(rng.uniform(-0.3, 1.3, (int(rng.integers(3, 40)), 2)) * [width, height]).ravel().round(2).tolist()]
        assert mask.frPyObjects(parts, height, width) == reference.frPyObjects(parts, height, width)


@budget(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), height=sides, width=sides, fill=st.floats(0, 1))
def test_masks_have_the_same_runs_areas_boxes_and_overlaps(seed: int, height: int, width: int, fill: float) -> None:
    rng = np.random.default_rng(seed)
    pixels = (rng.random((height, width, 4)) < fill).astype(np.uint8)
    pixels[..., 3] = 0
    theirs = reference.encode(np.asfortranarray(pixels))
    assert mask.encode(pixels) == theirs
    assert mask.encode(pixels[..., 0]) == theirs[0]
    assert np.array_equal(mask.decode(theirs), pixels) and np.array_equal(mask.decode(theirs[1]), pixels[..., 1])
    assert np.array_equal(mask.area(theirs), reference.area(theirs)) and mask.area(theirs[0]) == pixels[..., 0].sum()
    assert np.array_equal(mask.toBbox(theirs), reference.toBbox(theirs))
    assert np.array_equal(mask.toBbox(theirs[0]), reference.toBbox(theirs[0]))
    crowd = rng.integers(0, 2, 4).tolist()
    assert np.array_equal(mask.iou(theirs, theirs, crowd), reference.iou(theirs, theirs, crowd))
    lists = [{"size": [height, width], "counts": lengths_of(pixels[..., n])} for n in range(4)]
    assert mask.frPyObjects(lists, height, width) == reference.frPyObjects(lists, height, width)
    assert mask.frPyObjects(lists[0], height, width) == theirs[0]
    as_text = json.loads(json.dumps([{**each, "counts": each["counts"].decode()} for each in theirs]))
    assert np.array_equal(mask.area(as_text), reference.area(theirs))


def test_boxes_are_taken_as_pycocotools_takes_them() -> None:
    rng = np.random.default_rng(4)
    boxes = rng.uniform(-20, 60, (30, 4))
    crowd = rng.integers(0, 2, 30).tolist()
    assert np.array_equal(mask.iou(boxes, boxes, crowd), reference.iou(boxes, boxes, crowd), equal_nan=True)
    assert np.array_equal(mask.iou(boxes.tolist(), boxes.tolist(), crowd), mask.iou(boxes, boxes, crowd))
    assert mask.frPyObjects(boxes, 50, 40) == reference.frPyObjects(boxes, 50, 40)
    assert mask.frPyObjects(boxes[0].tolist(), 50, 40) == reference.frPyObjects(boxes[:1], 50, 40)[0]
    assert mask.iou([], [rle(np.ones((2, 2), np.uint8), "bytes")], [0]) == []


def test_masks_of_different_sizes_are_minus_one_where_their_boxes_meet() -> None:
    one, other = rle(np.ones((4, 6), np.uint8), "bytes"), rle(np.ones((6, 4), np.uint8), "bytes")
    assert mask.iou([one], [other], [0]) == reference.iou([one], [other], [0]) == -1
    assert mask.merge([one, other])["size"] == [0, 0] == reference.merge([one, other])["size"]


def test_what_certainly_stays_below_the_floor_need_not_be_known_and_the_rest_is_exact() -> None:
    rng = np.random.default_rng(5)
    made = _masks.Masks([rle(blob(rng, 60, 60), "bytes") for _ in range(40)])
    every = np.arange(40)
    arguments = (made, made, every, every * 0, every * 0 + 40, every, every % 7 == 0)
    exact, above = _masks.overlaps(*arguments), _masks.overlaps(*arguments, floor=0.5, threads=3)
    assert (above[exact >= 0.5] == exact[exact >= 0.5]).all() and (above <= exact).all() and (above < exact).any()


@pytest.mark.parametrize("ratio", [0.001, 0.02, 0.1])
def test_a_boundary_is_what_an_erosion_takes_away(ratio: float) -> None:
    """cv2.erode with a square of 3 x 3, as the authors of Boundary IoU call it, with nothing set around the image."""
    rng = np.random.default_rng(6)
    for _ in range(60):
        height, width = (int(side) for side in rng.integers(6, 90, 2))
        pixels = blob(rng, height, width) | blob(rng, height, width)
        if rng.random() < 0.2:
            pixels[:] = 1
        reach = max(1, round(ratio * float(np.hypot(height, width))))
        square = np.ones((3, 3))
        eroded = ndimage.binary_erosion(pixels, square, iterations=reach, border_value=0)
        found = _masks.Masks([rle(pixels, "list")]).boundary(ratio)
        assert np.array_equal(mask.decode(found.rles()[0]), pixels & ~eroded)
        assert found.area[0] == (pixels & ~eroded).sum()


HOSTILE: dict[str, tuple[Any, str]] = {
    "negative": ({"size": [4, 4], "counts": [3, -1, 14]}, "negative"),
    "overlong": ({"size": [4, 4], "counts": [3, 14]}, "beyond"),
    "wrapping": ({"size": [4, 4], "counts": [2**63 - 1, 2**63 - 1]}, "beyond"),
    "over 64 bits": ({"size": [4, 4], "counts": [2**70]}, "whole numbers"),
    "fraction": ({"size": [4, 4], "counts": [1.5]}, "whole numbers"),
    "NaN": ({"size": [4, 4], "counts": [float("nan")]}, "whole numbers"),
    "nested": ({"size": [4, 4], "counts": [[1], [2]]}, "whole numbers"),
    "ragged": ({"size": [4, 4], "counts": [[1], 2]}, "counts|inhomogeneous"),
    "text cut short": ({"size": [4, 4], "counts": "P"}, "end within"),
    "text without end": ({"size": [4, 4], "counts": b"o" * 60}, "more than 32 bits"),
    "text too long": ({"size": [4, 4], "counts": "a0"}, "beyond"),
    "negative text": ({"size": [4, 4], "counts": b"O"}, "negative"),
    "other letters": ({"size": [4, 4], "counts": "\x00"}, "character"),
    "no letters": ({"size": [4, 4], "counts": "é"}, "character"),
    "huge image": ({"size": [10**6, 10**6], "counts": [5]}, "2\\^31"),
    "overflowing image": ({"size": [2**33, 2**31], "counts": [5]}, "2\\^31"),
    "beyond 64 bits": ({"size": [2**70, 1], "counts": [5]}, "whole numbers of pixels"),
    "negative image": ({"size": [-4, 4], "counts": [5]}, "negative"),
    "image of text": ({"size": ["4", 4], "counts": [5]}, "whole numbers of pixels"),
    "no size": ({"counts": [5]}, "size"),
    "no counts": ({"size": [4, 4]}, "counts"),
    "nothing": (None, "NoneType"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_damaged_masks_are_one_clear_error(name: str) -> None:
    given, message = HOSTILE[name]
    with pytest.raises(DataError, match=message):
        mask.area([given])


@pytest.mark.parametrize(
    "polygon",
    [
        [float("nan")] * 6,
        [float("inf")] * 6,
        [1e300] * 6,
        [1, 2, 3, "4", 5, 6],
        [10**400, 1, 2, 3, 4, 5],
        [1, 2, None, 4, 5],
    ],
)
def test_damaged_polygons_are_one_clear_error(polygon: list[Any]) -> None:
    with pytest.raises(DataError, match="coordinate"):
        mask.frPyObjects([polygon], 10, 10)


def test_memory_is_bounded_by_what_is_given() -> None:
    far = [[-1e8, -1e8, 1e8, 1e8, 1e8, -1e8]]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert mask.area(mask.frPyObjects(far, 40_000, 50_000))[0] > 0
    full = _masks.Masks([{"size": [20_000, 20_000], "counts": [0, 20_000 * 20_000]}]).boundary()
    assert full.area[0] > 0
    # Kibibytes; the pixels of either would be 390,000 and more.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000


def test_counts_that_end_early_mean_background() -> None:
    early = {"size": [4, 4], "counts": [2, 3]}
    assert mask.decode(early).sum() == 3 == mask.area(early)
    assert mask.decode({"size": [0, 5], "counts": []}).shape == (0, 5)


def test_masks_are_pickled() -> None:
    made = _masks.Masks([rle(np.eye(9, dtype=np.uint8), "bytes")])
    assert pickle.loads(pickle.dumps(made)).rles() == made.rles()


def test_indices_of_pairs_are_checked() -> None:
    made = _masks.Masks([rle(np.ones((2, 2), np.uint8), "bytes")])
    assert _masks.overlaps(made, made, [0], [0], [1], [0], [0]).tolist() == [1]
    for bad in (
        ([1], [0], [1], [0], [0]),
        ([0], [1], [1], [0], [0]),
        ([0], [0], [1], [1], [0]),
        ([0], [0], [1], [0], []),
    ):
        with pytest.raises(ValueError):
            _masks.overlaps(made, made, *bad)
