"""Labelled samples from every layout that people keep them in, and one line for what is none."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from colour_models import COLOURS, write_colours
from qprof.errors import DataError
from qprof.tasks.classification.data.source import read_examples


def picture(path: Path, value: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (value, 10, 20)).save(path)
    return path


def flat(root: Path, names: tuple[str, ...]) -> Path:
    for n, name in enumerate(names):
        picture(root / name, n)
    return root


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    write_colours(tmp_path / "data", each=2)
    found = read_examples(str(tmp_path / "data"))
    assert list(found.labels.names or ()) == sorted(COLOURS) and not found.labels.ordered
    assert list(found.labels.numbers) == [n // 2 for n in range(18)]
    assert found.place(2) == "blue/000.png" and found.image(2).size == (8, 8)
    assert found.notes == []


def test_class_folders_may_hold_folders_and_links(tmp_path: Path) -> None:
    picture(tmp_path / "data/a/deep/x.JPEG")
    (tmp_path / "data/b").mkdir()
    (tmp_path / "data/b/y.JPEG").symlink_to(tmp_path / "data/a/deep/x.JPEG")
    (tmp_path / "data/empty").mkdir()
    (tmp_path / "data/a/readme.txt").write_text("no image")
    picture(tmp_path / "data/loose.png")
    found = read_examples(str(tmp_path / "data"))
    assert [found.place(n) for n in range(len(found))] == ["a/deep/x.JPEG", "b/y.JPEG"]
    assert any("1 images" in note and "no class" in note for note in found.notes)
    assert any("1 folders" in note and "empty" in note for note in found.notes)


def test_folders_that_are_numbers_are_numbers(tmp_path: Path) -> None:
    for name in ("0", "2", "10"):
        picture(tmp_path / name / "x.png")
    labels = read_examples(str(tmp_path)).labels
    assert sorted(labels.numbers) == [0, 2, 10] and labels.names is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("file,label\na.png,cat\nb.png,dog\n", ["cat", "dog"]),
        ("b.png,dog\na.png,cat\n", ["cat", "dog"]),
        ("label\tfilename\ncat\ta.png\ndog\tb.png\n", ["cat", "dog"]),
        ("a.png cat\nb.png dog\n", ["cat", "dog"]),
        ("ImageId,PredictionString\na,n01440764 85 1 499 272\nb,n01443537 1 2 3 4 n01443537 5 6 7 8\n", None),
        ("\ufefffile;label\na.png;cat\nb.png;dog\n", ["cat", "dog"]),
    ],
)
def test_lists_of_files_and_labels(tmp_path: Path, text: str, expected: list[str] | None) -> None:
    flat(tmp_path, ("a.png", "b.png"))
    (tmp_path / "truth.csv").write_text(text, encoding="utf-8")
    found = read_examples(str(tmp_path / "truth.csv"))
    assert list(found.labels.names or ()) == (expected or ["n01440764", "n01443537"])
    assert {found.place(n): found.labels.numbers[n] for n in range(2)} == {"a.png": 0, "b.png": 1}


def test_imagenets_validation_set_has_a_label_on_each_line(tmp_path: Path) -> None:
    names = tuple(f"ILSVRC2012_val_{n:08}.JPEG" for n in (3, 1, 2))
    flat(tmp_path / "val", names)
    (tmp_path / "truth.txt").write_text("490\n361\n171\n")
    found = read_examples(str(tmp_path / "val"), str(tmp_path / "truth.txt"))
    assert [found.place(n)[-6] for n in range(3)] == ["1", "2", "3"]
    assert list(found.labels.numbers) == [490, 361, 171]


def test_files_that_are_missing_or_named_twice_are_told(tmp_path: Path) -> None:
    flat(tmp_path, ("a.png",))
    (tmp_path / "t.csv").write_text("file,label\na.png,1\na.png,1\ngone.png,0\n")
    found = read_examples(str(tmp_path / "t.csv"))
    assert len(found) == 1 and ["1 files" in note for note in found.notes] == [True, True]


@pytest.mark.parametrize("classes", [10, 100])
def test_cifar(tmp_path: Path, classes: int) -> None:
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (7, 3072), dtype=np.uint8)
    labels = rng.integers(0, classes, 7).astype(np.uint8)
    heads = labels[:, None] if classes == 10 else np.stack([labels // 5, labels], axis=1)
    name = "test_batch.bin" if classes == 10 else "test.bin"
    (tmp_path / name).write_bytes(np.concatenate([heads, pixels], axis=1).tobytes())
    if classes == 100:
        (tmp_path / "fine_label_names.txt").write_text("\n".join(f"class{n}" for n in range(100)))
    for where in (tmp_path, tmp_path / name):
        found = read_examples(str(where))
        assert list(found.labels.numbers) == labels.tolist() and found.labels.ordered
        assert found.labels.count == classes
        image = np.asarray(found.image(3))
        assert image.shape == (32, 32, 3) and np.array_equal(image[:, :, 0].reshape(-1), pixels[3, :1024])


def test_cifars_pickles_are_never_opened(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "exploded"),)

    (tmp_path / "py").mkdir()
    (tmp_path / "py/test_batch").write_bytes(pickle.dumps(Bomb()))
    for where in (tmp_path / "py", tmp_path / "py/test_batch"):
        with pytest.raises(DataError, match="version for Python, a pickle"):
            read_examples(str(where))
    assert not (tmp_path / "exploded").exists()


def parquet(path: Path, labels: list[object], names: list[str] | None = None, group: int = 2) -> Path:
    import pyarrow as pa
    from pyarrow import parquet as files

    path.parent.mkdir(parents=True, exist_ok=True)
    cells = []
    for n in range(len(labels)):
        file = picture(path.parent / "one.png", n)
        cells.append({"bytes": file.read_bytes(), "path": "one.png"})
        file.unlink()
    table = pa.table({"image": cells, "label": labels})
    if names is not None:
        features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    files.write_table(table, path, row_group_size=group)
    return path


@pytest.mark.parametrize("column", ["image", "label"])
def test_a_parquet_file_whose_pages_are_damaged(tmp_path: Path, column: str) -> None:
    """Its footer is whole, so that it is opened; what is wrong is found when a page is read."""
    from pyarrow import parquet as files

    path = parquet(tmp_path / "t.parquet", [1, 0, 1, 1])
    group = files.ParquetFile(path).metadata.row_group(0)
    of = next(group.column(n) for n in range(group.num_columns) if group.column(n).path_in_schema.startswith(column))
    begin = of.dictionary_page_offset or of.data_page_offset
    content = bytearray(path.read_bytes())
    content[begin : begin + of.total_compressed_size] = b"\xff" * of.total_compressed_size
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read as Parquet") as caught:
        read_examples(str(path)).image(0)
    assert "\n" not in str(caught.value)


def test_parquet_as_the_hub_keeps_it(tmp_path: Path) -> None:
    parquet(tmp_path / "data/test-00000-of-00002.parquet", [1, 0, 1, 1, 0], ["cat", "dog"])
    parquet(tmp_path / "data/test-00001-of-00002.parquet", [0, 1], ["cat", "dog"])
    parquet(tmp_path / "data/train-00000-of-00001.parquet", [0], ["cat", "dog"])
    found = read_examples(str(tmp_path), split="test")
    assert list(found.labels.numbers) == [1, 0, 1, 1, 0, 0, 1]
    assert list(found.labels.names or ()) == ["cat", "dog"] and found.labels.ordered
    # In any order, across row groups and files: the red of an image is its row in its file.
    assert [found.image(n).getpixel((0, 0))[0] for n in (6, 0, 4, 3, 5)] == [1, 0, 4, 3, 0]  # type: ignore[index]
    assert len(read_examples(str(tmp_path / "data/train-00000-of-00001.parquet"))) == 1


def test_datasets_reads_the_same_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasets")
    from qprof.tasks.classification.data.tables import from_hub

    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    parquet(tmp_path / "set/data/test-00000-of-00001.parquet", [1, 0, 1], ["cat", "dog"])
    found = from_hub(str(tmp_path / "set"), "test", None)
    assert list(found.labels.numbers) == [1, 0, 1]
    assert found.image(2).getpixel((0, 0)) == (2, 10, 20)
    with pytest.raises(DataError, match="split 'nope'"):
        from_hub(str(tmp_path / "set"), "nope", None)


def test_arrays_and_lines(tmp_path: Path) -> None:
    ids = np.arange(12, dtype=np.int32).reshape(3, 4)
    np.savez(tmp_path / "a.npz", ids=ids, mask=np.ones((3, 4), np.int32), label=np.array([1, 0, 1]))
    np.save(tmp_path / "b.npy", ids)
    (tmp_path / "truth.txt").write_text("positive\nnegative\npositive\n")
    lines = [{"ids": [1, 2, 3], "label": "positive", "text": "x"}, {"ids": [4], "label": "negative", "text": "y"}]
    (tmp_path / "c.jsonl").write_text("\n".join(map(json.dumps, lines)))
    a, b = read_examples(str(tmp_path / "a.npz")), read_examples(str(tmp_path / "b.npy"), str(tmp_path / "truth.txt"))
    c = read_examples(str(tmp_path / "c.jsonl"))
    assert a.gives == "arrays" and sorted(a.arrays(1)) == ["ids", "mask"] and list(a.labels.numbers) == [1, 0, 1]
    assert list(b.arrays(2)["ids"]) == [8, 9, 10, 11] and list(b.labels.numbers) == [1, 0, 1]
    assert sorted(c.arrays(0)) == ["ids"] and list(c.labels.names or ()) == ["negative", "positive"]


def npz(path: Path, **arrays: object) -> None:
    np.savez(path, **arrays)  # type: ignore[arg-type]


def hostile(root: Path) -> dict[str, tuple[str, str]]:
    """What is wrong -> data, truth."""
    flat(root / "flat", ("a.png", "b.png"))
    (root / "none").mkdir()
    (root / "none/x.pdf").write_text("x")
    picture(root / "parts/train/cat/a.png")
    picture(root / "parts/val/cat/a.png")
    (root / "two.csv").write_text("file,label\nflat/a.png,1\nflat/a.png,2\n")
    (root / "out.csv").write_text("file,label\n../secret.png,1\n")
    (root / "gone.csv").write_text("file,label\nx.png,1\n")
    (root / "columns.csv").write_text("file,score\nflat/a.png,1\n")
    (root / "cells.csv").write_text("file,label\nflat/a.png,\n")
    (root / "empty.csv").write_text("\n")
    (root / "latin.csv").write_bytes("file,label\nflat/a.png,caf\u00e9\n".encode("latin-1"))
    (root / "three.txt").write_text("1\n2\n3\n")
    (root / "short.bin").write_bytes(b"\0" * 3000)
    (root / "no.parquet").write_bytes(b"PAR1 but no more")
    npz(root / "unlabelled.npz", ids=np.zeros((2, 3)))
    npz(root / "uneven.npz", ids=np.zeros((2, 3)), label=np.zeros(3, np.int64))
    npz(root / "floats.npz", ids=np.zeros((2, 3)), label=np.zeros(2))
    npz(root / "object.npz", ids=np.array([{}, {}], object), label=np.zeros(2, np.int64))
    (root / "bad.jsonl").write_text('{"ids": [1], "label": 0}\n{"ids": ')
    (root / "x.pkl").write_bytes(b"x")
    npz(root / "text.npz", ids=np.zeros((2, 3)))
    with zipfile.ZipFile(root / "text.npz", "a") as file:
        file.writestr("label", "no array")
    at = {name: str(root / name) for name in os.listdir(root)}
    return {
        "no such file or folder": (str(root / "nowhere"), ""),
        "holds no images": (at["none"], ""),
        "without classes": (at["flat"], ""),
        "holds the parts train, val": (at["parts"], ""),
        "keep one label": (at["two.csv"], ""),
        "leaves the folder": (at["out.csv"], ""),
        "none of the 1 files": (at["gone.csv"], ""),
        "name those of the file and of the label": (at["columns.csv"], ""),
        "has no file and label": (at["cells.csv"], ""),
        "is empty": (at["empty.csv"], ""),
        "not text in UTF-8": (at["latin.csv"], ""),
        "3 labels for the 2 images": (at["flat"], at["three.txt"]),
        "no such file of labels": (at["flat"], str(root / "gone.txt")),
        "no multiple of CIFAR": (at["short.bin"], ""),
        "cannot be read as Parquet": (at["no.parquet"], ""),
        "but no labels": (at["unlabelled.npz"], ""),
        "samples for 3 labels": (at["uneven.npz"], ""),
        "its labels are float64": (at["floats.npz"], ""),
        "cannot be read as NumPy's .npy": (at["object.npz"], ""),
        "line 2: is not JSON": (at["bad.jsonl"], ""),
        "a pickle": (at["x.pkl"], ""),
        "its record 'label' is no array": (str(root / "text.npz"), ""),
    }


def test_what_is_no_data_is_refused_in_one_line(tmp_path: Path) -> None:
    for message, (data, truth) in hostile(tmp_path).items():
        with pytest.raises(DataError) as caught:
            read_examples(data, truth)
        assert message in str(caught.value) and "\n" not in str(caught.value), (message, str(caught.value))
