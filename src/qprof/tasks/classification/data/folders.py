"""Image files: a folder for each class, or a list of files and labels."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from qprof.errors import DataError
from qprof.tasks.classification.data.examples import Examples, of_texts
from qprof.tasks.images.reading import read_rgb, refuse_outside

if TYPE_CHECKING:
    from PIL.Image import Image

#: Endings of the files that are taken for images.
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".jfif")
#: Folders that hold a part of a data set each, and no class.
PARTS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing", "eval"})
#: Columns that hold a file, and a label, in lists that people publish; the first is that of this task.
FILE_COLUMNS = (
    "file",
    "filename",
    "file_name",
    "image",
    "img",
    "path",
    "filepath",
    "imageid",
    "image_id",
    "id",
    "name",
)
LABEL_COLUMNS = ("label", "class", "labels", "category", "target", "class_name", "label_name", "predictionstring", "y")


_KAGGLE = re.compile(r"^n\d{8} -?\d+ ", re.ASCII)


@dataclass(slots=True)
class ImageFiles(Examples):
    """Images that are files in `folder`."""

    folder: Path = Path()
    files: Sequence[Path] = ()

    def __post_init__(self) -> None:
        for path in self.files:
            refuse_outside(path, self.folder)

    def place(self, sample: int) -> str:
        return self.files[sample].relative_to(self.folder).as_posix()

    def image(self, sample: int) -> Image:
        return read_rgb(self.files[sample], None)

    def content(self, sample: int) -> bytes:
        path = self.files[sample]
        try:
            return path.read_bytes()
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}): restore it") from error

    def length(self, sample: int) -> int:
        path = self.files[sample]
        try:
            return path.stat().st_size
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}): restore it") from error

    def stands_for(self) -> Any:
        stats = [path.stat() for path in self.files]
        listed = zip(map(self.place, range(len(self))), stats, self.labels.numbers, strict=True)
        return [[place, stat.st_size, stat.st_mtime_ns, number] for place, stat, number in listed]


def class_folders(root: Path) -> list[Path]:
    """Folders inside `root` that hold images, at any depth, in the order of their names."""
    return sorted(path for path in root.iterdir() if path.is_dir() and next(_images(path), None) is not None)


def from_class_folders(root: Path) -> ImageFiles:
    """ROOT/CLASS/IMAGE, as ImageNet and torchvision's ImageFolder have it. Raises `DataError`."""
    folders = class_folders(root)
    parts = [path.name for path in folders if path.name.lower() in PARTS]
    if parts and len(parts) == len(folders):
        raise DataError(f"{root}: holds the parts {', '.join(parts)} of a data set, not classes: name one of them")
    files, texts = [], []
    for folder in folders:
        found = sorted(_images(folder))
        files += found
        texts += [folder.name] * len(found)
    notes = []
    loose = sum(path.suffix.lower() in SUFFIXES for path in root.iterdir() if path.is_file())
    if loose:
        notes.append(f"{loose} images of {root} lie beside its class folders and have no class: they are left out")
    empty = sorted(path.name for path in root.iterdir() if path.is_dir() and path not in folders)
    if empty:
        named = ", ".join(empty[:3])
        notes.append(f"{len(empty)} folders of {root} hold no image and are no class here (e.g. {named})")
    return ImageFiles(str(root), of_texts(texts), notes, folder=root, files=files)


def from_list(listed: Path, folder: Path) -> ImageFiles:
    """Files and labels that a list names: CSV or TSV with or without a header, "FILE LABEL" on each line, or a label on
    each line for the images of `folder` in the order of their names (ImageNet's validation set). Raises `DataError`."""
    rows = _rows(listed)
    if max(len(cells) for _, cells in rows) == 1:
        return _by_order(listed, folder, [cells[0] for _, cells in rows])
    seen: dict[Path, str] = {}
    repeated, missing = 0, []
    for line, cells in rows:
        if len(cells) < 2 or not cells[0] or not cells[1]:
            raise DataError(f"{listed}, line {line}: has no file and label: write FILE,LABEL")
        path = _found(listed, line, folder, cells[0])
        if path is None:
            missing.append(cells[0])
            continue
        if seen.get(path, cells[1]) != cells[1]:
            raise DataError(
                f"{listed}, line {line}: {cells[0]} is {cells[1]!r} here and {seen[path]!r} before: keep one label"
            )
        repeated += path in seen
        seen[path] = cells[1]
    if not seen:
        raise DataError(
            f"{listed}: none of the {len(missing)} files that it names is in {folder}, e.g. {missing[0]}; correct one "
            "of the two paths"
        )
    notes = []
    if missing:
        notes.append(
            f"{len(missing)} files that {listed.name} names are not in {folder} and are left out (e.g. "
            f"{', '.join(missing[:3])}): add them, or accept fewer samples"
        )
    if repeated:
        notes.append(f"{listed.name} names {repeated} files more than once: they are scored once")
    return ImageFiles(str(listed), of_texts(list(seen.values())), notes, folder=folder, files=list(seen))


def _by_order(listed: Path, folder: Path, texts: Sequence[str]) -> ImageFiles:
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    if len(files) != len(texts):
        raise DataError(
            f"{listed}: has {len(texts)} labels for the {len(files)} images of {folder}: one is needed for each, in "
            "the order of the file names; or write FILE,LABEL on each line"
        )
    note = f"{listed.name} has a label on each line, taken for the images of {folder} in the order of their names"
    return ImageFiles(str(folder), of_texts(texts), [note], folder=folder, files=files)


def _found(listed: Path, line: int, folder: Path, name: str) -> Path | None:
    """The file that a list names, with or without its ending; `DataError` for a name that leaves the folder."""
    relative = PurePosixPath(name.replace("\\", "/"))
    if relative.is_absolute() or ".." in relative.parts or "\0" in name:
        raise DataError(f"{listed}, line {line}: {name!r} leaves the folder {folder}: use names inside it")
    path = folder / relative
    try:
        if path.is_file():
            return path
        tried = (path.with_name(path.name + suffix) for suffix in (*SUFFIXES, *map(str.upper, SUFFIXES[:2])))
        return next((one for one in tried if one.is_file()), None)
    except OSError as error:  # a name too long to be one
        raise DataError(f"{listed}, line {line}: {name[:60]!r} is no file name ({error.strerror})") from error


def _rows(listed: Path) -> list[tuple[int, list[str]]]:
    """Line and cells, file first and label second, without a header."""
    text = text_of(listed)
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise DataError(f"{listed}: is empty: write FILE,LABEL on each line")
    delimiter = next((mark for mark in (",", "\t", ";") if mark in lines[0][1]), None)
    if delimiter is None:
        # "ILSVRC2012_val_00000001.JPEG 65": the label is what stands behind the last space.
        return [(number, _split_at_last_space(line)) for number, line in lines]
    try:
        parsed = [(number, next(csv.reader(io.StringIO(line), delimiter=delimiter))) for number, line in lines]
    except (csv.Error, StopIteration) as error:
        raise DataError(
            f"{listed}: is not {'CSV' if delimiter != chr(9) else 'TSV'} ({error}): export it again"
        ) from error
    head = [cell.strip().lower() for cell in parsed[0][1]]
    file, label = _column(head, FILE_COLUMNS), _column(head, LABEL_COLUMNS)
    if file is None and label is None:
        return [(number, [cell.strip() for cell in cells]) for number, cells in parsed]
    if file is None or label is None or len(parsed) == 1:
        raise DataError(
            f"{listed}: has the columns {', '.join(head[:6])}: name those of the file and of the label so "
            "(file,label), and write a line for each image"
        )
    return [(number, [_cell(cells, file), _cell(cells, label)]) for number, cells in parsed[1:]]


def _column(head: Sequence[str], names: Sequence[str]) -> int | None:
    return next((head.index(name) for name in names if name in head), None)


def _cell(cells: Sequence[str], position: int) -> str:
    """A cell without what Kaggle's list of ImageNet writes behind the class (boxes: "n03995372 85 1 499 272")."""
    text = cells[position].strip() if position < len(cells) else ""
    return text[:9] if _KAGGLE.match(text) else text


def _split_at_last_space(line: str) -> list[str]:
    file, space, label = line.strip().rpartition(" ")
    is_file = space and PurePosixPath(file.strip()).suffix.lower() in SUFFIXES
    return [file.strip(), label] if is_file else [line.strip()]


def text_of(path: Path) -> str:
    """A text file's content. Raises `DataError`."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}): correct the path") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not text in UTF-8 ({error.reason}): save it as UTF-8") from error


def _images(folder: Path) -> Iterator[Path]:
    """The image files of a folder and of those inside it."""
    for place, _, names in os.walk(folder):
        yield from (Path(place, name) for name in names if os.path.splitext(name)[1].lower() in SUFFIXES)
