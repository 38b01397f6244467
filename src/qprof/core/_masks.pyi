"""Masks as run lengths, compiled (sources: csrc/masks).

Results equal pycocotools 2.0.11 byte for byte. A mask is given as COCO's files have it: {"size": [height, width],
"counts": compressed text or bytes, or a list of lengths}, or a list of polygons, which needs the size of the image. An
RLE is such an object with bytes. Everything raises ValueError, naming the mask, for counts that are damaged, negative
or go beyond the image (counts that end early mean background), for images of more than 2^31 - 1 pixels and for polygons
that are none. Memory is bounded by what is given. Long calls release the GIL.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

class Masks:
    """n masks, for comparing."""

    def __init__(
        self,
        masks: Sequence[Any],
        heights: Sequence[int] | NDArray[np.integer[Any]] | None = None,
        widths: Sequence[int] | NDArray[np.integer[Any]] | None = None,
        *,
        threads: int = 1,
    ) -> None:
        """`heights`, `widths`: of the image of each, below 0 where not known."""

    def __len__(self) -> int: ...
    @property
    def area(self) -> NDArray[np.uint32]:
        """[n] pixels"""

    @property
    def size(self) -> NDArray[np.int64]:
        """[n, 2]: height and width of the image"""

    @property
    def boxes(self) -> NDArray[np.float64]:
        """[n, 4]: x, y, width, height in pixels; zeros where there is no foreground"""

    def boundary(self, ratio: float = 0.02, *, threads: int = 1) -> Masks:
        """What of each lies near its outline or the image's border: within `ratio` of the image's diagonal, rounded,
        and one pixel at least (Cheng et al., "Boundary IoU", CVPR 2021)."""

    def rles(self) -> list[dict[str, Any]]: ...

def overlaps(
    detections: Masks,
    truths: Masks,
    detection: ArrayLike,
    truth_begin: ArrayLike,
    truth_count: ArrayLike,
    truth_order: ArrayLike,
    crowd: ArrayLike,
    *,
    floor: float = 0.0,
    threads: int = 1,
) -> NDArray[np.float64]:
    """IoUs of chosen pairs, row after row: row r is `detection[r]` with `truth_order[truth_begin[r] + i]`, i from 0 to
    `truth_count[r]` - 1. `crowd` per truth: its IoU is the share of the detection inside it. -1 where the images are of
    different sizes (as in pycocotools). What is certainly below `floor` may be given as 0. The result is the same for
    any number of `threads`."""

def compress(
    masks: Sequence[Any],
    heights: Sequence[int] | None = None,
    widths: Sequence[int] | None = None,
) -> list[dict[str, Any]]:
    """The RLEs of masks in any form."""

def encode(pixels: NDArray[np.uint8], height: int, width: int, count: int) -> list[dict[str, Any]]:
    """The RLEs of `count` masks of uint8 pixels, each column by column, all in one contiguous array."""

def decode(rles: Sequence[Any]) -> NDArray[np.uint8]:
    """[height, width, n] in Fortran order; all have to be of one size."""

def merge(rles: Sequence[Any], intersect: bool = False) -> dict[str, Any]:
    """What all cover together, or every one; of size [0, 0] where there are none or their sizes differ."""
