"""What a task shows of single samples, and of a score that depends on a setting."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

#: Longer sides of pictures are shrunk to this, so that a dozen of them weigh less than a megabyte.
PICTURE_PX = 360
_QUALITY = 78
#: Pictures of so few pixels are kept exact.
_EXACT_PX = 64


@dataclass(frozen=True, slots=True)
class ShownBox:
    """A box in parts of the picture's width and height. `matched`: whether it and an object of the truth are each
    other's, `None` where that is not asked."""

    label: str
    x: float
    y: float
    width: float
    height: float
    score: float | None = None
    matched: bool | None = None


@dataclass(frozen=True, slots=True)
class ShownPicture:
    """A picture of a sample, small, as a data URL, and the boxes that are true."""

    image: str
    width_px: int
    height_px: int
    truth: Sequence[ShownBox] = ()


@dataclass(frozen=True, slots=True)
class ShownAnswer:
    """What a variant made of a sample. `merit`: the higher the better, to tell flips by; `right`: where there is such a
    thing; `outcome`: in words; `answers`: the best first; `boxes` that were found, and true ones that were `missed`."""

    merit: float
    right: bool | None = None
    outcome: str = ""
    answers: Sequence[str] = ()
    boxes: Sequence[ShownBox] = ()
    missed: Sequence[ShownBox] = ()


@dataclass(frozen=True, slots=True)
class ShownSample:
    """A sample with what every variant made of it: variant -> answer."""

    title: str
    said: Mapping[str, ShownAnswer]
    truth: str = ""
    text: str | None = None
    picture: ShownPicture | None = None


@dataclass(frozen=True, slots=True)
class CurvePoint:
    variant: str
    x: str
    y: float


@dataclass(frozen=True, slots=True)
class ScoreCurve:
    """A score by what it depends on. `name`: short, for the command line; `ordered`: whether x is a number."""

    name: str
    title: str
    x: str
    y: str
    ordered: bool
    points: list[CurvePoint] = field(default_factory=list)


def picture(image: Image, truth: Sequence[ShownBox] = ()) -> ShownPicture:
    """An RGB image, shrunk to what a page shows."""
    small = image.copy()
    small.thumbnail((PICTURE_PX, PICTURE_PX))
    stream = io.BytesIO()
    exact = max(small.size) <= _EXACT_PX
    small.save(stream, "PNG" if exact else "JPEG", **({} if exact else {"quality": _QUALITY, "optimize": True}))
    data = base64.b64encode(stream.getvalue()).decode("ascii")
    return ShownPicture(f"data:image/{'png' if exact else 'jpeg'};base64,{data}", *small.size, truth)


def changed_first(merits: Mapping[str, Mapping[int, float]], baseline: str, count: int) -> list[int]:
    """Samples, `count` at most: those first whose merit differs most between the baseline and a variant, then those in
    which that is so of most variants, then by number. `merits`: variant -> sample -> merit."""
    own = merits.get(baseline, {})
    others = [found for name, found in merits.items() if name != baseline]

    def order(sample: int) -> tuple[float, float, int]:
        changes = [abs(found[sample] - own[sample]) for found in others if sample in found]
        return -max(changes, default=0.0), -sum(changes), sample

    return sorted(own, key=order)[:count]
