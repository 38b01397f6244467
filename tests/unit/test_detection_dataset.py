"""COCO files: what is accepted, and one line of help for everything that is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qprof.errors import DataError, ProfileError
from qprof.tasks.detection.categories import COCO_CATEGORIES, CategoryConfig, CategoryMap
from qprof.tasks.detection.dataset import existing_images, image_file, load_annotations, load_detections


def content() -> dict[str, Any]:
    return {
        "images": [
            {"id": 7, "file_name": "b.png", "width": 20, "height": 10},
            {"id": 2, "file_name": "a.png"},
        ],
        "categories": [{"id": 5, "name": "five"}, {"id": 3, "name": "three"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4], "area": 9.5, "iscrowd": 1},
            {"id": 2, "image_id": 2, "category_id": 5, "bbox": [0.5, 0, 3, 0]},
        ],
    }


def written(folder: Path, data: Any) -> Path:
    path = folder / "instances.json"
    path.write_text(json.dumps(data))
    return path


def test_ids_ascend_and_missing_area_is_width_times_height(tmp_path: Path) -> None:
    data = load_annotations(written(tmp_path, content()))
    assert list(data.images) == [2, 7]
    assert data.images[7].size == (20, 10) and data.images[2].size is None
    assert data.categories == {3: "three", 5: "five"}
    assert [(b.area, b.is_crowd) for b in data.boxes] == [(9.5, True), (0.0, False)]
    assert any("1 annotations of instances.json state no area" in note for note in data.notes)
    assert any("1 boxes of instances.json have no width or height" in note for note in data.notes)


def set_value(*keys: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(data: dict[str, Any]) -> None:
        place: Any = data
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("images"), "no list 'images'"),
        (lambda d: d.pop("categories"), "no list 'categories'"),
        (set_value("annotations", value={}), "no list 'annotations'"),
        (set_value("images", value=[]), "lists no images"),
        (set_value("images", 0, value="x"), "entry 0 of 'images' is not an object"),
        (set_value("images", 1, "id", value=7), "entry 1 of 'images' repeats the id 7"),
        (set_value("annotations", 1, "id", value=1), "repeats the id 1"),
        (set_value("images", 0, "id", value="7"), "not an integer id"),
        (set_value("images", 0, "id", value=True), "not an integer id"),
        (set_value("images", 0, "id", value=2**70), "not an integer id"),
        (set_value("images", 0, "file_name", value=None), "image 7 has no file_name"),
        (set_value("images", 0, "file_name", value="."), "image 7 has no file_name"),
        (set_value("images", 0, "width", value=-5), "width -5 of image 7"),
        (set_value("annotations", 0, "image_id", value=99), "annotation 1 is of image 99"),
        (set_value("annotations", 0, "category_id", value=9), "annotation 1 is of category 9"),
        (set_value("annotations", 0, "bbox", value=[1, 2, 3]), "annotation 1: bbox .* is not four finite numbers"),
        (set_value("annotations", 0, "bbox", value="1234"), "is not four finite numbers"),
        (set_value("annotations", 0, "bbox", value=[1, 2, 3, None]), "is not four finite numbers"),
        (set_value("annotations", 0, "bbox", value=[1, 2, 3, float("nan")]), "is not four finite numbers"),
        (set_value("annotations", 0, "bbox", value=[1, 2, 3, 10**400]), "is not four finite numbers"),
        (set_value("annotations", 0, "bbox", value=[9, 9, -3, 1]), "negative size"),
        (set_value("annotations", 0, "area", value="big"), "area big is not a finite number"),
        (set_value("categories", 0, "name", value=3), "category 5 has no name"),
    ],
)
def test_wrong_annotations_are_one_line_that_names_the_place(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    data = content()
    change(data)
    path = written(tmp_path, data)
    with pytest.raises(DataError, match=message) as caught:
        load_annotations(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000])
def test_what_is_no_json_is_a_data_error(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(text)
    with pytest.raises(DataError, match="is not valid JSON"):
        load_annotations(path)


def test_a_file_that_is_not_there_or_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            load_annotations(path)
    with pytest.raises(DataError, match="no JSON object at the top"):
        load_annotations(written(tmp_path, [1]))


def test_images_are_split_into_present_and_missing(tmp_path: Path) -> None:
    data = load_annotations(written(tmp_path, content()))
    (tmp_path / "a.png").touch()
    present, missing = existing_images(data, tmp_path)
    assert [i.id for i in present] == [2] and [i.id for i in missing] == [7]


def test_no_image_present_names_an_example(tmp_path: Path) -> None:
    data = load_annotations(written(tmp_path, content()))
    with pytest.raises(DataError, match=r"none of the 2 files named by .* is in .*, e.g. a.png"):
        existing_images(data, tmp_path)
    with pytest.raises(DataError, match="not a folder of images"):
        existing_images(data, tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["../a.png", "/etc/passwd", "x/../../a.png", "..\\a.png", "C:\\a.png", "a\0.png"])
def test_a_file_name_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    data = content()
    data["images"][0]["file_name"] = name
    annotations = load_annotations(written(tmp_path, data))
    with pytest.raises(DataError, match="leaves the image folder"):
        image_file(tmp_path, annotations.images[7], annotations.path)


def test_file_names_may_hold_folders(tmp_path: Path) -> None:
    data = content()
    data["images"][0]["file_name"] = "val/b..1.png"
    annotations = load_annotations(written(tmp_path, data))
    assert image_file(tmp_path, annotations.images[7], annotations.path) == tmp_path / "val" / "b..1.png"


def test_detections_are_read_and_checked(tmp_path: Path) -> None:
    annotations = load_annotations(written(tmp_path, content()))
    path = tmp_path / "dt.json"
    good = {"image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5}
    path.write_text(json.dumps([good]))
    assert load_detections(path, annotations) == [good]
    for change, message in (
        ({"image_id": 1}, "of image 1, which"),
        ({"bbox": [1]}, "four finite numbers"),
        ({"score": "high"}, "score high is not a finite number"),
        ({"category_id": None}, "not an integer id"),
    ):
        path.write_text(json.dumps([good, {**good, **change}]))
        with pytest.raises(DataError, match=rf"detection 1.*{message}"):
            load_detections(path, annotations)
    path.write_text("{}")
    with pytest.raises(DataError, match="no JSON list"):
        load_detections(path, annotations)


NAMES = {3: "three", 5: "five", 9: "nine"}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (CategoryConfig(), {0: 3, 1: 5, 2: 9, 3: None, -1: None}),
        (CategoryConfig("coco91"), {0: 1, 16: 17, 89: 90, 90: 91, 91: None}),
        (CategoryConfig("coco80"), {0: 1, 11: 13, 15: 17, 79: 90, 80: None}),
        (CategoryConfig("ids", offset=4), {0: 4, 5: 9}),
        (CategoryConfig("list", ids=[9, 3]), {0: 9, 1: 3, 2: None, -1: None}),
    ],
)
def test_rules_from_class_index_to_category_id(config: CategoryConfig, expected: dict[int, int | None]) -> None:
    mapping = CategoryMap(config, NAMES)
    assert {index: mapping.category_id(index) for index in expected} == expected


def test_the_coco_table_equals_that_of_real_annotations(qprof_data: Path) -> None:
    assert load_annotations(qprof_data / "coco_fake100/instances_val2014_100.json").categories == COCO_CATEGORIES


def test_a_model_with_another_number_of_classes_is_refused() -> None:
    CategoryMap(CategoryConfig(), NAMES).check_class_count(3)
    CategoryMap(CategoryConfig(), NAMES).check_class_count(None)
    CategoryMap(CategoryConfig("coco91"), NAMES).check_class_count(90)
    with pytest.raises(DataError, match=r"80 classes, categories.rule 'order' gives 3"):
        CategoryMap(CategoryConfig(), NAMES).check_class_count(80)
    with pytest.raises(DataError, match=r"91 classes, categories.rule 'coco80' gives 80"):
        CategoryMap(CategoryConfig("coco80"), NAMES).check_class_count(91)


def test_a_coco_rule_on_other_annotations_is_remarked() -> None:
    assert "3 is 'three'" in CategoryMap(CategoryConfig("coco80"), NAMES).notes()[0]
    assert CategoryMap(CategoryConfig("coco80"), {1: "person"}).notes() == []
    assert CategoryMap(CategoryConfig(), NAMES).notes() == []


def test_wrong_rules_are_refused() -> None:
    for wrong in ({"rule": "coco"}, {"rule": "list"}, {"ids": [1]}, {"rule": "list", "ids": [1, 1]}):
        with pytest.raises(ProfileError, match="categories"):
            CategoryConfig(**wrong)
