"""A classifier that is right by construction: it tells the colour that an image is filled with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from tflite_builder import Graph, build_model

#: Class -> colour, in the order of their names. Some are others with red and blue swapped, some with more contrast.
COLOURS: Mapping[str, tuple[int, int, int]] = {
    "ash": (175, 175, 175),
    "blue": (20, 40, 220),
    "brown": (130, 80, 20),
    "coal": (65, 65, 65),
    "green": (30, 200, 30),
    "grey": (120, 120, 120),
    "orange": (240, 140, 20),
    "red": (220, 20, 40),
    "white": (235, 235, 235),
}


def colour_net(
    names: tuple[str, ...] = tuple(COLOURS), size: int = 8, background: bool = False, softmax: bool = True
) -> bytes:
    """A .tflite that takes pixels of -1..1 and gives a number for each of `names`, behind one of a background that is
    never likely."""
    graph = Graph("main")
    image = graph.input("image", (1, size, size, 3))
    colours = np.array([COLOURS[name] for name in names], np.float32) / 127.5 - 1.0
    weights, bias = 16.0 * colours, -8.0 * np.square(colours).sum(axis=1)
    if background:
        weights = np.concatenate([np.zeros((1, 3), np.float32), weights])
        bias = np.concatenate([np.full(1, -60.0, np.float32), bias])
    pooled = graph.mean_pool("pooled", image)
    flat = graph.constant("weights", weights.astype(np.float32))
    logits = graph.fully_connected("logits", pooled, flat, graph.constant("bias", bias.astype(np.float32)))
    graph.outputs = [graph.softmax("softmax", logits) if softmax else logits]
    return build_model([graph])


def write_colours(root: Path, each: int = 5, size: int = 8, names: Mapping[str, str] | None = None) -> Path:
    """A folder for each colour with so many noisy images of it; `names`: other names for the folders."""
    rng = np.random.default_rng(0)
    for colour, rgb in COLOURS.items():
        folder = root / (names or {}).get(colour, colour)
        folder.mkdir(parents=True)
        for n in range(each):
            pixels = np.clip(np.array(rgb) + rng.normal(0, 12, (size, size, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{n:03}.png")
    return root
