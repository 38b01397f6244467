"""Images in Parquet files as the Hugging Face hub keeps them, and data sets of the hub itself. No code of theirs is
run."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qprof.errors import DataError
from qprof.tasks import hub_data
from qprof.tasks.classification.data.examples import Examples, Labels, of_texts
from qprof.tasks.images.reading import rgb_of
from qprof.tasks.parquet import readable

if TYPE_CHECKING:
    from PIL.Image import Image

#: What the columns are called, the likeliest first.
IMAGE_COLUMNS = ("image", "img", "images", "pixel_values", "picture", "jpg", "png", "webp")
LABEL_COLUMNS = ("label", "fine_label", "labels", "class", "cls", "category", "target", "coarse_label")


@dataclass(slots=True)
class RowImages(Examples):
    """Images that are cells of a table: bytes, or `{"bytes": ..., "path": ...}` of which one may be missing."""

    cell: Callable[[int], Any] = lambda row: None
    folder: Path = Path()
    digested: Any = None

    def place(self, sample: int) -> str:
        return f"row {sample}"

    def image(self, sample: int) -> Image:
        return rgb_of(self.content(sample), f"{self.where}, row {sample}")

    def content(self, sample: int) -> bytes:
        cell = self.cell(sample)
        content = cell.get("bytes") if isinstance(cell, Mapping) else cell
        if isinstance(content, bytes) and content:
            return content
        path = cell.get("path") if isinstance(cell, Mapping) else None
        if isinstance(path, str) and path and "\0" not in path:
            file = (self.folder / path).resolve()
            if file.is_relative_to(self.folder.resolve()) and file.is_file():
                return file.read_bytes()
        raise DataError(f"{self.where}, row {sample}: has no image bytes: export the table with its images embedded")

    def stands_for(self) -> Any:
        return self.digested


@dataclass(slots=True)
class _Groups:
    """A column of Parquet files, a row group at a time."""

    paths: Sequence[Path]
    files: list[Any]
    column: str
    starts: list[tuple[int, int, int]] = field(default_factory=list)  # first row, file, row group
    held: tuple[int, list[Any]] = (-1, [])

    def __post_init__(self) -> None:
        row = 0
        for number, file in enumerate(self.files):
            for group in range(file.num_row_groups):
                self.starts.append((row, number, group))
                row += file.metadata.row_group(group).num_rows

    def cell(self, row: int) -> Any:
        place = bisect_right([start for start, _, _ in self.starts], row) - 1
        if self.held[0] != place:
            _, number, group = self.starts[place]
            with readable(self.paths[number]):
                table = self.files[number].read_row_group(group, columns=[self.column])
                self.held = (place, table.column(self.column).to_pylist())
        return self.held[1][row - self.starts[place][0]]


def from_parquet(paths: Sequence[Path]) -> RowImages:
    """Rows of one or more Parquet files of one data set, the images read when they are asked for. Raises
    `DataError`."""
    from pyarrow import parquet

    files, values = list[Any](), list[Any]()
    for path in paths:
        with readable(path):
            files.append(parquet.ParquetFile(path))
            schema = files[0].schema_arrow
    image, label = _columns(str(paths[0]), schema.names)
    for path, file in zip(paths, files, strict=True):
        with readable(path):
            values += file.read(columns=[label]).column(label).to_pylist()
    names = _names_in(schema.metadata or {}, label)
    labels = _labels(str(paths[0]), label, values, names)
    stats = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in paths]
    with readable(paths[0]):
        groups = _Groups(paths, files, image)
    return RowImages(str(paths[0].parent), labels, cell=groups.cell, folder=paths[0].parent, digested=stats)


def from_hub(where: str, split: str, config: str | None) -> RowImages:
    """A split of "hf://datasets/ORG/NAME[@REVISION]", or of a folder in a layout that `datasets` knows, which keeps a
    copy in its cache. Raises `DataError`, `MissingExtraError`."""
    table = hub_data.load(where, split, config, instead="a folder of images or a .parquet file")
    image, label = _columns(where, table.column_names)
    import datasets  # type: ignore[import-untyped,unused-ignore]

    table = table.cast_column(image, datasets.Image(decode=False))
    names = getattr(table.features[label], "names", None)
    labels = _labels(where, label, list(table[label]), list(names) if names else None)
    return RowImages(where, labels, cell=lambda row: table[row][image], digested=[where, split, table._fingerprint])


def _columns(where: str, columns: Sequence[str]) -> tuple[str, str]:
    """The columns of the image and of the label."""
    found = []
    for what, names in (("an image", IMAGE_COLUMNS), ("a label", LABEL_COLUMNS)):
        column = next((name for name in names if name in columns), None)
        if column is None:
            raise DataError(
                f"{where}: has the columns {', '.join(sorted(columns)[:6])}, but none for {what}: name it {names[0]!r}"
            )
        found.append(column)
    return found[0], found[1]


def _names_in(metadata: Mapping[bytes, bytes], label: str) -> list[str] | None:
    """The class names that `datasets` writes beside a schema, `None` where it did not."""
    try:
        names = json.loads(metadata[b"huggingface"])["info"]["features"][label]["names"]
    except (KeyError, ValueError, TypeError, RecursionError):  # written by another tool
        return None
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def _labels(where: str, column: str, values: Sequence[Any], names: list[str] | None) -> Labels:
    if not values:
        raise DataError(f"{where}: has no rows: give another split or file")
    if all(isinstance(value, str) for value in values):
        return of_texts(values)
    highest = len(names) if names else 2**31
    for row, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < highest:
            raise DataError(
                f"{where}, row {row}: {column} is {str(value)[:40]!r}, not a class number"
                f"{f' below {highest}' if names else ''}: give a split that has labels, or correct it"
            )
    return Labels(list(values), names, ordered=names is not None)
