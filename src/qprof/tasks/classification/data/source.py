"""Which reader a source of labelled samples takes."""

from __future__ import annotations

import os
from pathlib import Path

from qprof.errors import DataError
from qprof.tasks.classification.data import arrays, cifar, folders, tables, texts
from qprof.tasks.classification.data.examples import Examples
from qprof.tasks.hub_data import HUB

#: What is taken, for whoever named something else.
TAKEN = (
    "a folder with a folder of images for each class, a folder of images with a list of labels (truth), a CSV of "
    "FILE,LABEL or TEXT,LABEL, CIFAR's .bin, .parquet, .npz, .jsonl, or hf://datasets/ORG/NAME"
)


def read_examples(data: str, truth: str = "", split: str = "test", config: str | None = None) -> Examples:
    """The samples of `data` with their labels, or with those of the file `truth`. Raises `DataError`."""
    listed = Path(truth) if truth else None
    if listed is not None and not os.path.isfile(listed):
        raise DataError(f"{listed}: no such file of labels: correct the path (truth)")
    if data.startswith(HUB):
        return tables.from_hub(data, split, config)
    path = Path(data)
    if not os.path.exists(path):
        raise DataError(f"{path}: no such file or folder: correct the path of the data")
    return _of_folder(path, listed, split, config) if path.is_dir() else _of_file(path, listed)


def _of_folder(path: Path, truth: Path | None, split: str, config: str | None) -> Examples:
    if truth is not None:
        return folders.from_list(truth, path)
    if cifar.is_pickled(path):
        cifar.refuse_pickled(path)
    if folders.class_folders(path):
        return folders.from_class_folders(path)
    if binary := cifar.binary_files(path):
        return cifar.from_binary(binary)
    found = sorted(path.rglob("*.parquet"))
    if parts := [one for one in found if one.name.startswith((f"{split}-", f"{split}.")) or one.parent.name == split]:
        return tables.from_parquet(parts)
    if found:
        splits = sorted({one.name.partition("-")[0] for one in found})
        if len(splits) == 1:
            return tables.from_parquet(found)
        raise DataError(f"{path}: holds no split {split!r}, but {', '.join(splits[:5])}: name one (split)")
    if any(one.suffix.lower() in folders.SUFFIXES for one in path.iterdir()):
        raise DataError(
            f"{path}: holds images without classes: put them into a folder for each class, or name a list of their "
            "labels (truth)"
        )
    raise DataError(f"{path}: holds no images, nor anything else that is known; give {TAKEN}")


def _of_file(path: Path, truth: Path | None) -> Examples:
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv") and (columns := texts.columns_of(path)) is not None:
        return texts.from_table(path, columns)
    if suffix in (".csv", ".tsv", ".txt"):
        return folders.from_list(path, path.parent)
    if suffix == ".bin":
        return cifar.from_binary([path])
    if suffix == ".parquet":
        return tables.from_parquet([path])
    if suffix == ".npz":
        return arrays.from_archive(path, truth)
    if suffix == ".npy":
        return arrays.from_array(path, truth)
    if suffix in (".jsonl", ".json"):
        return texts.from_lines(path) or arrays.from_lines(path)
    if cifar.is_pickled(path) or suffix in (".pkl", ".pickle"):
        cifar.refuse_pickled(path)
    raise DataError(f"{path}: ends in {suffix or 'nothing'}; give {TAKEN}")
