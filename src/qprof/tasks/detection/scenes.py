"""Rendered detection scenes: shapes on busy backgrounds with exact boxes, so that a detector can be scored offline.

Every scene is a pure function of (split, index). Shapes are drawn from signed distances with one pixel of
antialiasing (formulas: I. Quilez, "2D distance functions", https://iquilezles.org/articles/distfunctions2d/), and
a map of which object owns each pixel gives boxes and areas of what is really visible after occlusion.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError
from qprof.store.own import OwnFolder, sweep

_Pixels = NDArray[np.float32]
_Distance = Callable[[_Pixels, _Pixels, float], _Pixels]

#: Edge of a scene in pixels.
SIZE = 320
#: Class names; the COCO category id is the position + 1.
CLASSES = ("disc", "square", "triangle", "star", "ring", "cross")
#: First word of the seed of each split. They differ, so that no two splits share a scene.
SPLITS = {"train": 101, "val": 202, "calibration": 303}
#: An object of which less than this fraction is visible (occluded or outside the image) is not annotated.
MIN_VISIBLE = 0.35
#: An object with fewer visible pixels than this is not annotated.
MIN_PIXELS = 24
#: So many scenes are rendered at once, where there are cores for them.
_MOST_THREADS = 4


@dataclass(frozen=True, slots=True)
class Scene:
    """One rendered scene and its ground truth.

    `image` is RGB uint8 [320, 320, 3]; `boxes` float64 [n, 4] as COCO x, y, width, height in pixels, the extent of
    the visible pixels; `areas` float64 [n], the number of visible pixels; `category_ids` int64 [n], 1-based.
    """

    image: NDArray[np.uint8]
    boxes: NDArray[np.float64]
    areas: NDArray[np.float64]
    category_ids: NDArray[np.int64]


# Signed distances: x, y are offsets from the centre in pixels, r the radius of the circle around the shape.


def _disc(x: _Pixels, y: _Pixels, r: float) -> _Pixels:
    distance: _Pixels = np.hypot(x, y) - np.float32(r)
    return distance


def _square(x: _Pixels, y: _Pixels, r: float) -> _Pixels:
    distance: _Pixels = np.maximum(np.abs(x), np.abs(y)) - np.float32(r * 0.7071)
    return distance


def _triangle(x: _Pixels, y: _Pixels, r: float) -> _Pixels:
    return np.maximum(np.float32(0.8660) * np.abs(x) - np.float32(0.5) * y, y) - np.float32(r * 0.5)


def _star(x: _Pixels, y: _Pixels, r: float) -> _Pixels:
    # Fold the plane onto one of the ten half-points, then take the distance to its single edge.
    cos36, sin36 = np.float32(0.809017), np.float32(0.587785)
    x = np.abs(x)
    for sign in (1, -1):
        fold = np.float32(2.0) * np.maximum(sign * cos36 * x - sin36 * y, np.float32(0.0))
        x, y = x - fold * (sign * cos36), y + fold * sin36
    x = np.abs(x)
    y = y - np.float32(r)
    edge_x, edge_y = np.float32(0.45) * sin36, np.float32(0.45) * cos36 - np.float32(1.0)
    along = np.clip((x * edge_x + y * edge_y) / (edge_x**2 + edge_y**2), 0.0, np.float32(r))
    distance: _Pixels = np.hypot(x - edge_x * along, y - edge_y * along) * np.sign(y * edge_x - x * edge_y)
    return distance


def _ring(x: _Pixels, y: _Pixels, r: float) -> _Pixels:
    return np.abs(np.hypot(x, y) - np.float32(r * 0.78)) - np.float32(r * 0.22)


def _cross(x: _Pixels, y: _Pixels, r: float) -> _Pixels:
    x, y = np.abs(x), np.abs(y)
    long, short = np.maximum(x, y), np.minimum(x, y)
    return np.maximum(long - np.float32(r * 0.95), short - np.float32(r * 0.31))


def _ellipse(x: _Pixels, y: _Pixels, r: float) -> _Pixels:
    # First-order distance f / |grad f|: exact enough within the one pixel where it is used.
    a, b = r, r * 0.42
    level = np.hypot(x / np.float32(a), y / np.float32(b))
    slope = np.hypot(x / np.float32(a * a), y / np.float32(b * b)) / np.maximum(level, np.float32(1e-6))
    distance: _Pixels = (level - np.float32(1.0)) / np.maximum(slope, np.float32(1e-6))
    return distance


def _crescent(x: _Pixels, y: _Pixels, r: float) -> _Pixels:
    return np.maximum(_disc(x, y, r), -_disc(x - np.float32(0.5 * r), y, 0.85 * r))


def _line(x: _Pixels, y: _Pixels, r: float) -> _Pixels:
    return np.maximum(np.abs(x) - np.float32(r), np.abs(y) - np.float32(1.0 + 0.02 * r))


_SHAPES: tuple[_Distance, ...] = (_disc, _square, _triangle, _star, _ring, _cross)
_DISTRACTORS: tuple[_Distance, ...] = (_ellipse, _crescent, _line)


@lru_cache(maxsize=16)
def _upsampling(cells: int) -> _Pixels:
    """Matrix [SIZE, cells] that interpolates linearly from `cells` samples to SIZE pixels."""
    position = np.linspace(0.0, cells - 1.0, SIZE)
    weights = np.maximum(0.0, 1.0 - np.abs(position[:, None] - np.arange(cells)[None, :]))
    return weights.astype(np.float32)


def _noise(rng: np.random.Generator, cells: int, channels: int) -> _Pixels:
    """Value noise [SIZE, SIZE, channels] in -1..1 with features of SIZE / cells pixels."""
    grid = rng.uniform(-1.0, 1.0, (channels, cells, cells)).astype(np.float32)
    up = _upsampling(cells)
    noise = np.empty((SIZE, SIZE, channels), np.float32)
    for channel in range(channels):
        noise[..., channel] = up @ grid[channel] @ up.T
    return noise


def _wave(rng: np.random.Generator, period: float, angle: float) -> _Pixels:
    """A plane square-ish or sine wave [SIZE, SIZE] in -1..1."""
    axis = np.arange(SIZE, dtype=np.float32) * np.float32(2.0 * np.pi / period)
    phase = axis[None, :] * np.float32(np.cos(angle)) + axis[:, None] * np.float32(np.sin(angle))
    wave: _Pixels = np.sin(phase + np.float32(rng.uniform(0.0, 6.28)))
    return np.clip(wave * np.float32(6.0), -1.0, 1.0) if rng.random() < 0.5 else wave


def _background(rng: np.random.Generator) -> _Pixels:
    """A background [SIZE, SIZE, 3] of one of six kinds, in 0..255 (not clipped)."""
    base = rng.uniform(30.0, 225.0, 3).astype(np.float32)
    tint = (rng.choice([-1.0, 1.0], 3) * rng.uniform(8.0, 60.0, 3)).astype(np.float32)
    kind = rng.integers(6)
    pattern: _Pixels
    if kind == 0:
        pattern = np.zeros((SIZE, SIZE, 1), np.float32)
    elif kind == 1:
        axis = np.linspace(-1.0, 1.0, SIZE, dtype=np.float32)
        angle = rng.uniform(0.0, 6.28)
        pattern = (axis[None, :] * np.float32(np.cos(angle)) + axis[:, None] * np.float32(np.sin(angle)))[..., None]
    elif kind == 2:
        pattern = _wave(rng, rng.uniform(8.0, 60.0), rng.uniform(0.0, 6.28))[..., None]
    elif kind == 3:
        angle, period = rng.uniform(0.0, 6.28), rng.uniform(14.0, 70.0)
        pattern = (_wave(rng, period, angle) * _wave(rng, period, angle + np.pi / 2.0))[..., None]
    elif kind == 4:
        coarse, fine = (_noise(rng, int(rng.integers(*cells)), 3) for cells in ((3, 9), (14, 48)))
        pattern = np.float32(0.6) * coarse + np.float32(0.4) * fine
    else:
        pattern = np.clip(np.float32(4.0) * _noise(rng, int(rng.integers(5, 16)), 1) - np.float32(1.0), -1.0, 1.0)
    return base + tint * pattern


def _fill(rng: np.random.Generator, x: _Pixels, y: _Pixels, r: float, colour: _Pixels) -> _Pixels:
    """The paint of an object: [h, w, 3] or [3], solid, a gradient, or stripes, of average `colour`."""
    kind = rng.random()
    if kind < 0.5:
        return colour
    angle = rng.uniform(0.0, 6.28)
    along: _Pixels = x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))
    along = np.divide(along, r, dtype=np.float32)
    change = rng.uniform(-45.0, 45.0, 3).astype(np.float32)
    if kind >= 0.8:
        along = np.clip(np.sin(along * np.float32(rng.uniform(5.0, 14.0))) * np.float32(4.0), -1.0, 1.0)
    paint: _Pixels = colour + along[..., None] * change
    return paint


@dataclass(frozen=True, slots=True)
class _Drawn:
    window: tuple[slice, slice]  # rows and columns of the image that the shape can have touched
    pixels: int  # that it would cover with nothing in its way and no image edge


@dataclass(slots=True)
class _Canvas:
    image: _Pixels  # [SIZE, SIZE, 3]
    owner: NDArray[np.int16]  # [SIZE, SIZE]: object number, -1 for background and distractors

    def draw(self, rng: np.random.Generator, shape: _Distance, x: float, y: float, r: float, number: int) -> _Drawn:
        """Paint one shape of radius r at (x, y), in pixels, and take its pixels of the owner map for `number`."""
        reach = int(np.ceil(r)) + 2
        left, top = int(x) - reach, int(y) - reach
        dx = (np.arange(left, left + 2 * reach + 1) + 0.5 - x).astype(np.float32)[None, :]
        dy = (np.arange(top, top + 2 * reach + 1) + 0.5 - y).astype(np.float32)[:, None]
        angle = rng.uniform(0.0, 2.0 * np.pi)
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        u, v = dx * cos + dy * sin, dy * cos - dx * sin
        coverage = np.clip(np.float32(0.5) - shape(u, v, r), 0.0, 1.0)
        inside = coverage > 0.5

        rows = slice(max(0, -top), min(coverage.shape[0], SIZE - top))
        columns = slice(max(0, -left), min(coverage.shape[1], SIZE - left))
        window = (slice(max(0, top), top + coverage.shape[0]), slice(max(0, left), left + coverage.shape[1]))
        below = self.image[window]
        colour = _contrasting(rng, below.mean(axis=(0, 1)))
        paint = _fill(rng, u[rows, columns], v[rows, columns], r, colour)
        below += coverage[rows, columns, None] * (paint - below)
        self.owner[window][inside[rows, columns]] = number
        return _Drawn(window, int(inside.sum()))


def _contrasting(rng: np.random.Generator, ground: _Pixels) -> _Pixels:
    """A colour at a random distance from `ground` [3]: from barely visible to strong."""
    direction = rng.normal(size=3)
    direction *= rng.uniform(28.0, 170.0) / np.linalg.norm(direction)
    # Turned around where it would leave 0..255 and be clipped back towards the background.
    direction = np.where((ground + direction < 5.0) | (ground + direction > 250.0), -direction, direction)
    return np.clip(ground + direction, 0.0, 255.0).astype(np.float32)


def _layout(rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """Centres and radii (x, y, r) in drawing order: some scenes sparse, some crowded around a point."""
    crowded = rng.random() < 0.25
    count = int(rng.integers(9, 22)) if crowded else int(rng.integers(1, 9))
    low, high = (6.0, 36.0) if crowded else (6.5, 130.0)
    radii = np.exp(rng.uniform(np.log(low), np.log(high), count))
    # Large ones first, so that small ones lie on top of them; in a third of the scenes any order.
    radii = np.sort(radii)[::-1] if rng.random() < 0.67 else radii
    focus, spread = rng.uniform(80.0, 240.0, 2), rng.uniform(45.0, 90.0)
    overlap_allowed = 0.8 if crowded else 0.95
    placed: list[tuple[float, float, float]] = []
    for r in radii:
        for _ in range(12):
            x, y = focus + spread * rng.normal(size=2) if crowded else rng.uniform(0.0, SIZE, 2)
            x, y = (float(np.clip(c, 0.4 * r, SIZE - 0.4 * r)) for c in (x, y))
            if all(np.hypot(x - px, y - py) > overlap_allowed * max(r, pr) for px, py, pr in placed):
                placed.append((x, y, float(r)))
                break
    return placed


def _sensor(rng: np.random.Generator, image: _Pixels) -> NDArray[np.uint8]:
    """Blur (a third of the scenes) and noise, as a camera adds them; rounded to uint8."""
    if rng.random() < 0.33:
        side = np.float32(rng.uniform(0.1, 0.3))
        for axis in (0, 1):
            image = image + side * (np.roll(image, 1, axis) + np.roll(image, -1, axis) - 2 * image)
    sigma = np.float32(rng.choice([0.0, 3.0, 8.0, 14.0]))
    if sigma:
        # The sum of two uniform variables, standard deviation 256 / sqrt(6): ten times as fast as a normal one.
        draws = rng.integers(-128, 128, (2, *image.shape), np.int8)
        image = image + np.add(draws[0], draws[1], dtype=np.int16) * np.float32(sigma * 6.0**0.5 / 256.0)
    return np.clip(image + np.float32(0.5), 0.0, 255.0).astype(np.uint8)


def _ground_truth(canvas: _Canvas, drawn: list[_Drawn], categories: list[int], image: NDArray[np.uint8]) -> Scene:
    boxes, areas, kept = [], [], []
    for number, (shape, category) in enumerate(zip(drawn, categories, strict=True)):
        visible = canvas.owner[shape.window] == number
        area = int(np.count_nonzero(visible))
        if area < max(MIN_PIXELS, MIN_VISIBLE * shape.pixels):
            continue
        rows, columns = np.flatnonzero(visible.any(axis=1)), np.flatnonzero(visible.any(axis=0))
        top, left = shape.window[0].start, shape.window[1].start
        boxes.append((left + columns[0], top + rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0]))
        areas.append(area)
        kept.append(category)
    return Scene(
        image=image,
        boxes=np.asarray(boxes, np.float64).reshape(-1, 4),
        areas=np.asarray(areas, np.float64),
        category_ids=np.asarray(kept, np.int64),
    )


def render_scene(split: str, index: int) -> Scene:
    """Render scene number `index` (>= 0) of `split` ("train", "val" or "calibration"); raise `DataError` otherwise."""
    if split not in SPLITS:
        raise DataError(f"no split {split!r} of the rendered scenes: use one of {', '.join(SPLITS)}")
    if index < 0:
        raise DataError(f"scene index {index} of split {split!r} is negative: scenes are numbered from 0")
    rng = np.random.default_rng([SPLITS[split], index])
    canvas = _Canvas(_background(rng), np.full((SIZE, SIZE), -1, np.int16))
    drawn: list[_Drawn] = []
    categories: list[int] = []
    for x, y, r in _layout(rng):
        if rng.random() < 0.2:
            distractor = _DISTRACTORS[rng.integers(len(_DISTRACTORS))]
            at_x, at_y = rng.uniform(0.0, SIZE, 2)
            canvas.draw(rng, distractor, at_x, at_y, rng.uniform(10.0, 45.0), -1)
        category = int(rng.integers(len(CLASSES)))
        drawn.append(canvas.draw(rng, _SHAPES[category], x, y, r, len(drawn)))
        categories.append(category + 1)
    return _ground_truth(canvas, drawn, categories, _sensor(rng, canvas.image))


def _annotations(scene: Scene, image_id: int) -> Iterator[dict[str, Any]]:
    """All but their numbers."""
    rows = zip(scene.boxes.tolist(), scene.areas.tolist(), scene.category_ids.tolist(), strict=True)
    for box, area, category_id in rows:
        yield {
            "image_id": image_id,
            "category_id": category_id,
            "bbox": box,
            "area": area,
            "iscrowd": 0,
        }


def _write_scene(folder: Path, split: str, index: int) -> tuple[str, list[dict[str, Any]]]:
    """Render one scene into the folder; the name of its file, and its annotations."""
    from PIL import Image

    scene = render_scene(split, index)
    # Not packed: a PNG is a quarter smaller, and takes 30 times as long to read as this and 50 times as long to write.
    name = f"{split}_{index:06d}.bmp"
    Image.fromarray(scene.image).save(folder / name)
    return name, list(_annotations(scene, index + 1))


def _fill_folder(folder: Path, split: str, count: int) -> None:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    (folder / "images").mkdir()
    # Nearly all of it is done by numpy outside of Python's lock.
    with ThreadPoolExecutor(min(_MOST_THREADS, len(os.sched_getaffinity(0)))) as threads:
        written = threads.map(partial(_write_scene, folder / "images", split), range(count))
        for index, (name, found) in enumerate(written):
            images.append({"id": index + 1, "file_name": name, "width": SIZE, "height": SIZE})
            annotations += [{"id": number, **entry} for number, entry in enumerate(found, len(annotations) + 1)]
    document = {
        "info": {"description": f"qprof rendered scenes, split {split}, {count} images"},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i, "name": name, "supercategory": "shape"} for i, name in enumerate(CLASSES, start=1)],
    }
    (folder / "annotations.json").write_text(json.dumps(document), encoding="utf-8")


def write_split(folder: Path, split: str, count: int) -> Path:
    """Write scenes 0 .. count-1 of `split` as `folder`/images/*.bmp and return `folder`/annotations.json (COCO format).

    The folder appears complete or not at all: it is filled under a temporary name beside it and renamed. Image ids
    are index + 1. Raises `DataError` for an unknown split, a count below 1, or a folder that exists or cannot be
    written.
    """
    if count < 1:
        raise DataError(f"cannot write {count} scenes to {folder}: ask for at least 1")
    if folder.exists():
        raise DataError(f"{folder} exists already: remove it or name another folder for the rendered scenes")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = f".{folder.name}.new-"
        sweep(folder.parent, beside)  # what a process left that was killed while it rendered
        with OwnFolder(folder.parent, beside) as filled:
            _fill_folder(filled, split, count)
            filled.chmod(0o755)
            os.rename(filled, folder)
    except OSError as error:
        raise DataError(f"cannot write the rendered scenes to {folder}: {error.strerror or error}") from error
    return folder / "annotations.json"
