"""Which output stands for which class of the data: by names, numbers, offsets, and never by chance."""

from __future__ import annotations

from pathlib import Path

import pytest

from qprof.errors import DataError
from qprof.tasks.classification.classes import ClassNames, mapped, read_names
from qprof.tasks.classification.data.examples import Labels

IMAGENET = (
    "background",
    "tench, Tinca tinca",
    "goldfish, Carassius auratus",
    "crane",
    "n02123045 tabby, tabby cat",
    "crane",
)


def names(*lines: str) -> ClassNames:
    return ClassNames(Path("labels.txt"), lines)


def of(labels: Labels, outputs: int, known: ClassNames | None = None, **settings: object) -> dict[int, int]:
    return dict(mapped(labels, "data", outputs, known, **settings).of)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cat\ndog\n\n", ["cat", "dog"]),
        ("0 person\n2 car\n", ["person", "", "car"]),
        ("0: person\n1: bicycle\n", ["person", "bicycle"]),
        ("1000 islands\ncat\n", ["1000 islands", "cat"]),
    ],
)
def test_files_of_names(tmp_path: Path, text: str, expected: list[str]) -> None:
    (tmp_path / "l.txt").write_text(text)
    assert list(read_names(tmp_path / "l.txt").names) == expected


def test_json_of_names(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"1": ["n01443537", "goldfish"], "0": ["n01440764", "tench"]}')
    (tmp_path / "b.json").write_text('["tench", "goldfish"]')
    found = read_names(tmp_path / "a.json")
    assert found.find("goldfish") == 1 and found.find("n01440764") == 0
    assert list(read_names(tmp_path / "b.json").names) == ["tench", "goldfish"]
    for text in ("{}", "[1]", '{"x": "y"}', "[", "[]"):
        (tmp_path / "c.json").write_text(text)
        with pytest.raises(DataError):
            read_names(tmp_path / "c.json")


def test_names_are_found_whole_in_part_and_by_wordnet_id() -> None:
    known = names(*IMAGENET)
    assert [known.find(name) for name in ("Tinca_tinca", "goldfish", "N02123045", "tabby cat", "no such")] == [
        1,
        2,
        4,
        4,
        None,
    ]
    with pytest.raises(DataError, match=r"'crane' is the name of 2 classes \(3, 5\)"):
        known.find("crane")


def test_named_classes_go_by_the_models_names() -> None:
    labels = Labels([1, 0], ["goldfish", "tench"])
    assert of(labels, 6, names(*IMAGENET)) == {0: 2, 1: 1}


@pytest.mark.parametrize(
    ("labels", "outputs", "known", "expected"),
    [
        (Labels([0, 1, 2], ["a", "b", "c"]), 3, None, {0: 0, 1: 1, 2: 2}),
        (Labels([0, 1, 2], ["a", "b", "c"]), 4, None, {0: 1, 1: 2, 2: 3}),  # a background class first
        (Labels([0, 1], ["a", "b"]), 2, names("background", "a", "b"), {0: 0, 1: 1}),
        (Labels([0, 1], ["a", "b"]), 4, names("a", "b", "c"), {0: 1, 1: 2}),
        (Labels([0, 3]), 4, None, {0: 0, 3: 3}),
        (Labels([1, 4]), 4, None, {1: 0, 4: 3}),  # numbered from 1
    ],
)
def test_offsets_that_are_found(
    labels: Labels, outputs: int, known: ClassNames | None, expected: dict[int, int]
) -> None:
    found = mapped(labels, "data", outputs, known)
    assert dict(found.of) == expected
    assert bool([note for note in found.notes if "output 0" in note]) == (found.offset != 0)


def test_an_offset_or_order_of_a_profile_is_taken() -> None:
    labels = Labels([0, 1, 2], ["a", "b", "c"])
    assert of(labels, 5, offset=2) == {0: 2, 1: 3, 2: 4}
    assert of(labels, 4, offset=0) == {0: 0, 1: 1, 2: 2}
    assert of(labels, 3, order=[2, 0, 1]) == {0: 2, 1: 0, 2: 1}


@pytest.mark.parametrize(
    ("labels", "outputs", "known", "settings", "message"),
    [
        (Labels([0, 1], ["a", "b"]), 5, None, {}, "data has 2 classes, the model has 5 outputs"),
        (Labels([0], ["a"]), 2, None, {}, "data has 1 classes, the model has 2 outputs"),
        (Labels([0], ["a"]), 2, names("a", "b", "c", "d"), {}, "labels.txt has 4 classes, the model has 2 outputs"),
        (Labels([0], ["x"]), 2, names("a", "b"), {}, "labels.txt: has no class 'x'"),
        (Labels([7]), 4, None, {}, "class '7' would be output 7 of a model that has 4"),
        (Labels([0, 1], ["a", "b"]), 2, None, {"offset": 1}, "class 'b' would be output 2"),
        (Labels([0, 1], ["a", "b"]), 2, None, {"order": [0]}, "order has 1 numbers"),
        (Labels([0, 1], ["a", "b"]), 2, None, {"order": [0, 9]}, "order has 2 numbers, 9 among them"),
    ],
)
def test_what_does_not_fit_is_refused(
    labels: Labels, outputs: int, known: ClassNames | None, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError) as caught:
        of(labels, outputs, known, **settings)
    assert message in str(caught.value)


def test_one_class_and_repeated_names_are_told() -> None:
    notes = mapped(Labels([0, 0], ["tench"]), "data", 6, names(*IMAGENET)).notes
    assert any("all samples of data are of one class ('tench')" in note for note in notes)
    assert any("gives the same name to more than one class (1 such, e.g. 'crane')" in note for note in notes)
