"""How pixels of 0..255 become the numbers that models take, as it is mostly done."""

from __future__ import annotations

Value = float | list[float]

#: Channel means and standard deviations of ImageNet, in pixel values, red first: those of torchvision's models.
IMAGENET = ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])

#: In words, mean, std.
RANGES: tuple[tuple[str, Value, Value], ...] = (
    ("pixels scaled to -1..1", 127.5, 127.5),
    ("pixels scaled to 0..1", 0.0, 255.0),
    ("pixels as they are, 0..255", 0.0, 1.0),
    ("pixels normalized by ImageNet's mean and deviation", *IMAGENET),
)
