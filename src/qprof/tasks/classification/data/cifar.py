"""CIFAR-10 and CIFAR-100 in their binary form (https://www.cs.toronto.edu/~kriz/cifar.html)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError
from qprof.tasks.classification.data.examples import Examples, Labels
from qprof.tasks.classification.data.folders import text_of

if TYPE_CHECKING:
    from PIL.Image import Image

_SIDE, _CHANNELS = 32, 3
_PIXELS = _SIDE * _SIDE * _CHANNELS

#: The order of batches.meta.txt.
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

#: Files of the version for Python, which only unpickling reads.
PICKLED = ("test_batch", "data_batch_1", "batches.meta", "test", "train", "meta")


@dataclass(slots=True)
class CifarImages(Examples):
    """Records of one byte (CIFAR-10) or two (CIFAR-100: coarse and fine class) and a 32x32 image, red plane first."""

    files: Sequence[Path] = ()
    records: NDArray[np.uint8] = field(default_factory=lambda: np.zeros((0, _PIXELS), np.uint8))

    def place(self, sample: int) -> str:
        return f"record {sample}"

    def image(self, sample: int) -> Image:
        from PIL import Image

        planes = self.records[sample].reshape(_CHANNELS, _SIDE, _SIDE)
        return Image.fromarray(np.ascontiguousarray(planes.transpose(1, 2, 0)))

    def content(self, sample: int) -> bytes:
        return bytes(self.records[sample])

    def stands_for(self) -> Any:
        stats = [path.stat() for path in self.files]
        return [[path.name, stat.st_size, stat.st_mtime_ns] for path, stat in zip(self.files, stats, strict=True)]


def binary_files(folder: Path) -> list[Path]:
    """The test files of a folder in the binary layout; those of training where there is no other."""
    for pattern in ("test_batch.bin", "test.bin", "*.bin"):
        found = sorted(folder.glob(pattern))
        if found:
            return found
    return []


def is_pickled(folder: Path) -> bool:
    """Whether a folder (or file) is the version of CIFAR for Python."""
    if folder.is_file():
        return folder.name in PICKLED or folder.name.startswith("data_batch_")
    return any((folder / name).is_file() for name in PICKLED[:3]) or all(
        (folder / name).is_file() for name in PICKLED[3:]
    )


def refuse_pickled(path: Path) -> None:
    """Raise `DataError`: unpickling runs whatever a file says."""
    raise DataError(
        f"{path}: is CIFAR's version for Python, a pickle, and reading one runs code of the file: download the binary "
        "version (cifar-10-binary.tar.gz, cifar-100-binary.tar.gz)"
    )


def from_binary(files: Sequence[Path]) -> CifarImages:
    """All records of one or more files of one kind. Raises `DataError`."""
    parts = []
    heads = set()
    for path in files:
        content = _bytes(path)
        head = _head_bytes(path, content)
        heads.add(head)
        parts.append(content.reshape(-1, head + _PIXELS))
    if len(heads) > 1:
        raise DataError(f"{files[0].parent}: holds files of CIFAR-10 and of CIFAR-100: name one of them")
    records = np.concatenate(parts)
    head = heads.pop()
    names = _names(files[0].parent, head)
    numbers = records[:, head - 1].astype(np.int64)  # the fine class of CIFAR-100 is the second byte
    if names is not None and int(numbers.max()) >= len(names):
        raise DataError(f"{files[0]}: has class {int(numbers.max())}, and there are {len(names)}: it is no CIFAR file")
    labels = Labels(numbers.tolist(), names, ordered=True)
    return CifarImages(str(files[0]), labels, files=list(files), records=records[:, head:])


def _bytes(path: Path) -> NDArray[np.uint8]:
    try:
        return np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}): correct the path") from error


def _head_bytes(path: Path, content: NDArray[np.uint8]) -> int:
    """Bytes before the pixels of a record; what fits CIFAR-10 and CIFAR-100 alike is what its classes say."""
    fitting = [head for head in (1, 2) if len(content) and len(content) % (head + _PIXELS) == 0]
    if len(fitting) == 2:
        fitting = [1] if content[:: 1 + _PIXELS].max() < len(CIFAR10) else [2]
    if not fitting:
        raise DataError(
            f"{path}: has {len(content)} bytes, no multiple of CIFAR's records of {1 + _PIXELS} or {2 + _PIXELS}: "
            "download it again"
        )
    return fitting[0]


def _names(folder: Path, head: int) -> list[str] | None:
    """The names that lie beside the files; for CIFAR-10 those that everybody knows."""
    path = folder / ("batches.meta.txt" if head == 1 else "fine_label_names.txt")
    if path.is_file():
        return [line.strip() for line in text_of(path).splitlines() if line.strip()]
    return list(CIFAR10) if head == 1 else None
