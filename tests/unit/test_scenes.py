"""The rendered scenes: repeatable, truthfully annotated, varied, and written as a COCO data set."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from qprof.errors import DataError
from qprof.tasks.detection import scenes
from qprof.tasks.detection.scenes import CLASSES, SIZE, SPLITS, Scene, render_scene, write_split


@pytest.fixture(scope="module")
def sample() -> list[Scene]:
    return [render_scene("val", index) for index in range(80)]


@pytest.mark.parametrize("split", SPLITS)
def test_a_scene_is_a_function_of_split_and_index(split: str) -> None:
    first, again = render_scene(split, 7), render_scene(split, 7)
    for field in ("image", "boxes", "areas", "category_ids"):
        np.testing.assert_array_equal(getattr(first, field), getattr(again, field))
    assert not np.array_equal(first.image, render_scene(split, 8).image)


def test_no_scene_is_in_two_splits() -> None:
    assert len(set(SPLITS.values())) == len(SPLITS)
    images = [render_scene(split, index).image.tobytes() for split in SPLITS for index in range(10)]
    assert len(set(images)) == len(images)


def test_shapes_and_dtypes(sample: list[Scene]) -> None:
    for scene in sample:
        count = len(scene.areas)
        assert scene.image.shape == (SIZE, SIZE, 3) and scene.image.dtype == np.uint8
        assert scene.boxes.shape == (count, 4) and scene.boxes.dtype == np.float64
        assert scene.areas.shape == (count,) and scene.areas.dtype == np.float64
        assert scene.category_ids.shape == (count,) and scene.category_ids.dtype == np.int64


def test_boxes_lie_inside_the_image_and_hold_their_area(sample: list[Scene]) -> None:
    for scene in sample:
        x, y, width, height = scene.boxes.T
        assert (x >= 0).all() and (y >= 0).all()
        assert (x + width <= SIZE).all() and (y + height <= SIZE).all()
        assert (scene.areas >= scenes.MIN_PIXELS).all()
        assert (scene.areas <= width * height).all()


def _plain_scene(monkeypatch: pytest.MonkeyPatch, layout: list[tuple[float, float, float]], shape: int) -> Scene:
    """A scene of one class in pure red on black, without distractors, noise and blur."""
    monkeypatch.setattr(scenes, "_layout", lambda rng: layout)
    monkeypatch.setattr(scenes, "_SHAPES", (scenes._SHAPES[shape],) * len(CLASSES))
    monkeypatch.setattr(scenes, "_DISTRACTORS", (lambda x, y, r: np.ones_like(x + y),))
    monkeypatch.setattr(scenes, "_background", lambda rng: np.zeros((SIZE, SIZE, 3), np.float32))
    monkeypatch.setattr(scenes, "_contrasting", lambda rng, ground: np.array([255.0, 0.0, 0.0], np.float32))
    monkeypatch.setattr(scenes, "_fill", lambda rng, x, y, r, colour: colour)
    monkeypatch.setattr(scenes, "_sensor", lambda rng, image: np.rint(image).astype(np.uint8))
    return render_scene("val", 0)


def _extent(mask: NDArray[np.bool_]) -> list[float]:
    rows, columns = np.nonzero(mask)
    x, y = columns.min(), rows.min()
    return [float(v) for v in (x, y, columns.max() + 1 - x, rows.max() + 1 - y)]


@pytest.mark.parametrize("shape", range(len(CLASSES)), ids=CLASSES)
@pytest.mark.parametrize("radius", [6.0, 23.4, 90.0])
def test_a_box_is_tight_to_the_pixels_of_its_object(monkeypatch: pytest.MonkeyPatch, shape: int, radius: float) -> None:
    scene = _plain_scene(monkeypatch, [(150.3, 161.8, radius)], shape)
    painted = scene.image[..., 0] > 127  # more than half covered
    assert scene.areas.tolist() == [painted.sum()]
    assert scene.boxes.tolist() == [_extent(painted)]
    assert not scene.image[..., 1:].any()


@pytest.mark.parametrize("shape", range(len(CLASSES)), ids=CLASSES)
def test_a_shape_has_the_area_of_its_formula(monkeypatch: pytest.MonkeyPatch, shape: int) -> None:
    r = 80.0
    inner = 0.45 * 2 * r * np.sin(np.radians(36))  # of the star's edge, seen from its tip
    expected = {
        "disc": np.pi * r**2,
        "square": 2 * r**2,
        "triangle": 3 * 3**0.5 / 4 * r**2,
        "ring": np.pi * r**2 * (1 - 0.56**2),
        "cross": (2 * 0.95 * 2 * 0.31 * 2 - (2 * 0.31) ** 2) * r**2,
        "star": 5 * r * inner / 2,
    }
    area = float(_plain_scene(monkeypatch, [(160.0, 160.0, r)], shape).areas[0])
    assert area == pytest.approx(expected[CLASSES[shape]], rel=0.02)


def test_a_later_object_hides_an_earlier_one(monkeypatch: pytest.MonkeyPatch) -> None:
    disc = CLASSES.index("disc")
    covered = _plain_scene(monkeypatch, [(100.0, 160.0, 40.0), (140.0, 160.0, 40.0)], disc)
    assert covered.areas[0] < 0.7 * covered.areas[1]
    assert covered.boxes[0, 0] == 60 and covered.boxes[0, 0] + covered.boxes[0, 2] < 135
    hidden = _plain_scene(monkeypatch, [(100.0, 160.0, 40.0), (105.0, 160.0, 40.0)], disc)
    assert len(hidden.areas) == 1


@pytest.mark.parametrize(("x", "kept"), [(-30.0, 0), (-5.0, 1), (320.0, 1), (352.0, 0)])
def test_an_object_that_is_mostly_outside_the_image_is_dropped(
    monkeypatch: pytest.MonkeyPatch, x: float, kept: int
) -> None:
    scene = _plain_scene(monkeypatch, [(x, 160.0, 50.0)], CLASSES.index("disc"))
    assert len(scene.areas) == kept
    assert ((scene.boxes[:, 0] >= 0) & (scene.boxes[:, 0] + scene.boxes[:, 2] <= SIZE)).all()


@pytest.mark.parametrize(("radius", "kept"), [(2.4, 0), (3.2, 1)])
def test_an_object_of_too_few_pixels_is_dropped(monkeypatch: pytest.MonkeyPatch, radius: float, kept: int) -> None:
    assert len(_plain_scene(monkeypatch, [(160.0, 160.0, radius)], CLASSES.index("disc")).areas) == kept


def test_all_classes_and_all_coco_sizes_occur(sample: list[Scene]) -> None:
    categories = np.concatenate([scene.category_ids for scene in sample])
    assert set(categories.tolist()) == set(range(1, len(CLASSES) + 1))
    areas = np.concatenate([scene.areas for scene in sample])
    for low, high in ((0, 32**2), (32**2, 96**2), (96**2, SIZE**2)):
        assert ((areas >= low) & (areas < high)).mean() > 0.04


def test_scenes_are_sparse_and_crowded(sample: list[Scene]) -> None:
    counts = [len(scene.areas) for scene in sample]
    assert min(counts) <= 2 and max(counts) >= 12


def test_write_split_is_a_valid_coco_data_set(tmp_path: Path) -> None:
    from PIL import Image
    from pycocotools.coco import COCO

    annotations = write_split(tmp_path / "shapes", "calibration", 6)
    assert annotations == tmp_path / "shapes" / "annotations.json"
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(annotations))
    assert coco.getImgIds() == [1, 2, 3, 4, 5, 6]
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == list(CLASSES)
    document = json.loads(annotations.read_text())
    assert [entry["id"] for entry in document["annotations"]] == list(range(1, len(document["annotations"]) + 1))
    for image in coco.loadImgs(coco.getImgIds()):
        scene = render_scene("calibration", image["id"] - 1)
        stored = np.asarray(Image.open(annotations.parent / "images" / image["file_name"]))
        np.testing.assert_array_equal(stored, scene.image)
        entries = coco.loadAnns(coco.getAnnIds(image["id"]))
        assert [entry["bbox"] for entry in entries] == scene.boxes.tolist()
        assert [entry["area"] for entry in entries] == scene.areas.tolist()
        assert [entry["category_id"] for entry in entries] == scene.category_ids.tolist()
        assert {entry["iscrowd"] for entry in entries} <= {0}


def test_a_split_is_the_same_by_one_thread_and_by_several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow_at_first(split: str, index: int) -> Scene:
        if index == 0:
            late.wait(60)
        elif index == 3:
            late.set()
        return render_scene(split, index)

    late = threading.Event()
    monkeypatch.setattr(scenes, "render_scene", slow_at_first)
    found = []
    for cores in (4, 1):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        if cores == 1:
            late.set()
        found.append(write_split(tmp_path / f"{cores}", "val", 6).read_text())
    assert found[0] == found[1]
    files = [sorted((tmp_path / cores / "images").iterdir()) for cores in "41"]
    assert [path.name for path in files[0]] == [path.name for path in files[1]]
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]


def test_write_split_leaves_nothing_behind_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(split: str, index: int) -> Scene:
        if index == 2:
            raise KeyboardInterrupt
        return render_scene(split, index)

    monkeypatch.setattr(scenes, "render_scene", broken)
    with pytest.raises(KeyboardInterrupt):
        write_split(tmp_path / "shapes", "val", 4)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_rendered_is_removed_by_the_next(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from qprof.tasks.detection import scenes\n"
        "def killed(folder, split, index): (folder / 'half').touch(); os.kill(os.getpid(), 9)\n"
        "scenes._write_scene = killed; scenes.write_split(Path(sys.argv[1]), 'val', 1)"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path / "shapes"], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    write_split(tmp_path / "shapes", "val", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["shapes"]


def test_bad_requests_are_data_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no split 'test'"):
        render_scene("test", 0)
    with pytest.raises(DataError, match="negative"):
        render_scene("val", -1)
    with pytest.raises(DataError, match="at least 1"):
        write_split(tmp_path / "none", "val", 0)
    with pytest.raises(DataError, match="no split 'test'"):
        write_split(tmp_path / "unknown", "test", 1)
    with pytest.raises(DataError, match="exists already"):
        write_split(tmp_path, "val", 1)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        write_split(tmp_path / "file" / "shapes", "val", 1)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
