"""What of the detector's training needs no TensorFlow: samples, augmentation, decoding, accuracy."""

from __future__ import annotations

from pathlib import Path

import detector
import numpy as np
import pytest
from detector import Samples, coco_ap
from detector_network import CELLS, INPUT, MAX_OBJECTS, decode
from numpy.typing import NDArray

from qprof.tasks.detection.scenes import CLASSES, SIZE, render_scene, write_split


def _empty_maps() -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    size, offset = np.zeros((2, CELLS, CELLS, 2), np.float32)
    return np.zeros((CELLS, CELLS, len(CLASSES)), np.float32), size, offset


def test_decode_reads_a_peak() -> None:
    heatmap, size, offset = _empty_maps()
    heatmap[10, 20, 3], heatmap[10, 21, 3], heatmap[10, 21, 4] = 0.9, 0.8, 0.5
    size[10, 20], offset[10, 20] = (6.0, 3.0), (0.25, 0.5)
    boxes, scores, categories = decode(heatmap, size, offset)
    # The 0.8 beside the 0.9 of its own class is no peak; the 0.5 of another class is one.
    assert scores.tolist() == pytest.approx([0.9, 0.5])
    assert categories.tolist() == [4, 5]
    cell = SIZE / CELLS
    assert boxes[0].tolist() == pytest.approx([17.25 * cell, 9.0 * cell, 6.0 * cell, 3.0 * cell])


def test_decode_clips_to_the_image_and_keeps_the_best() -> None:
    heatmap, size, offset = _empty_maps()
    heatmap[0, 0, 0], heatmap[40, 40, 0], heatmap[20, 20, 0] = 0.3, 0.2, 0.6
    size[0, 0], size[20, 20] = (4.0, 4.0), (-1.0, 2.0)
    boxes, scores, _ = decode(heatmap, size, offset, limit=2)
    assert scores.tolist() == pytest.approx([0.6, 0.3])
    assert boxes[1].tolist() == pytest.approx([0.0, 0.0, 2.0 * SIZE / CELLS, 2.0 * SIZE / CELLS])
    assert boxes[0, 2] == 0.0


def test_coco_ap_of_the_ground_truth_is_one_and_falls_with_its_boxes(tmp_path: Path) -> None:
    annotations = write_split(tmp_path / "val", "val", 12)
    found = [render_scene("val", index) for index in range(12)]
    exact = [(scene.boxes, np.ones(len(scene.areas)), scene.category_ids) for scene in found]
    assert coco_ap(exact, annotations)["AP"] == 1.0
    larger = [(boxes * (1.0, 1.0, 1.2, 1.2), scores, categories) for boxes, scores, categories in exact]
    shifted = coco_ap(larger, annotations)
    assert shifted["AP50"] == 1.0 and shifted["AP75"] < 0.2  # IoU 1 / 1.44


def test_samples_hold_the_boxes_of_their_scene_in_cells() -> None:
    image, objects = detector._sample("train", 5)
    scene = render_scene("train", 5)
    assert image.shape == (INPUT, INPUT, 3) and objects.shape == (MAX_OBJECTS, 5)
    count = len(scene.areas)
    assert (objects[count:] == -1.0).all()
    corners = (objects[:count, :2] - objects[:count, 2:4] / 2) * SIZE / CELLS
    np.testing.assert_allclose(corners, scene.boxes[:, :2], atol=1e-3)
    np.testing.assert_allclose(objects[:count, 2:4] * SIZE / CELLS, scene.boxes[:, 2:], atol=1e-3)
    assert (objects[:count, 4] + 1).tolist() == scene.category_ids.tolist()


def test_augmentation_moves_objects_with_their_pixels() -> None:
    image = np.full((INPUT, INPUT, 3), 128, np.uint8)
    image[20:40, 100:110] = 255
    objects = np.full((MAX_OBJECTS, 5), -1.0, np.float32)
    objects[0] = (105 / 4, 30 / 4, 10 / 4, 20 / 4, 2)
    seen = set()
    for seed in range(40):
        changed, moved = detector._transform(np.random.default_rng(seed), image, objects)
        rows, columns = np.nonzero(np.abs(changed[..., 0].astype(int) - 128) > 2)
        expected = [columns.min() + columns.max() + 1, rows.min() + rows.max() + 1]
        assert (moved[0, :2] * 8).tolist() == expected
        assert (moved[0, 2:4] * 4).tolist() == [np.ptp(columns) + 1, np.ptp(rows) + 1]
        assert moved[0, 4] == 2 and (moved[1:] == -1.0).all()
        seen.add(tuple(expected))
    assert len(seen) == 8  # every symmetry of the square
    assert objects[0, 0] == 105 / 4


def test_batches_cover_every_sample_once_an_epoch() -> None:
    images = np.arange(10, dtype=np.uint8)[:, None, None, None] + np.full((10, INPUT, INPUT, 3), 100, np.uint8)
    objects = np.full((10, MAX_OBJECTS, 5), -1.0, np.float32)
    batches = list(detector._batches(np.random.default_rng(0), Samples(images, objects), 5))
    values = [int(image[0, 0, 0]) for batch, _ in batches for image in batch]
    assert sorted(v if v < 128 else 255 - v for v in values) == list(range(100, 110))
