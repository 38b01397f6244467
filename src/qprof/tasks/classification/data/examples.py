"""What every source of labelled samples comes down to."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import NDArray

from qprof.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

#: A larger number is no class of any model, and may not fit an index.
MAX_CLASS = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Labels:
    """The class of every sample: `numbers` index `names`, or are the data's own numbers where there are no names.

    `ordered`: whether the data number their classes in this order; `False` where the names are merely sorted.
    """

    numbers: Sequence[int]
    names: Sequence[str] | None = None
    ordered: bool = False

    @property
    def count(self) -> int | None:
        """How many classes the data name, `None` where they only number them."""
        return None if self.names is None else len(self.names)


@dataclass(slots=True)
class Examples(ABC):
    """Samples in the order of their source. `where`: what they were read from; `notes`: remarks with a remedy."""

    where: str
    labels: Labels
    notes: list[str] = field(default_factory=list)

    #: Whether a sample is an image or the arrays of a model's inputs.
    gives: Literal["images", "arrays"] = field(default="images", init=False)

    def __len__(self) -> int:
        return len(self.labels.numbers)

    @abstractmethod
    def place(self, sample: int) -> str:
        """The sample's file, or the row that it stands in."""

    def image(self, sample: int) -> Image:
        """The sample as 8-bit RGB. Raises `DataError`."""
        raise DataError(f"{self.where}: holds arrays, not images")

    def arrays(self, sample: int) -> Mapping[str, NDArray[Any]]:
        """The sample's arrays by name, without a batch axis. Raises `DataError`."""
        raise DataError(f"{self.where}: holds images, not arrays")

    @abstractmethod
    def content(self, sample: int) -> bytes:
        """What is the same where two samples are. Raises `DataError`."""

    @abstractmethod
    def stands_for(self) -> Any:
        """What JSON can hold and differs where the samples do."""

    def length(self, sample: int) -> int:
        """Bytes of `content`, which may be quicker to know. Raises `DataError`."""
        return len(self.content(sample))

    def digest(self, sample: int) -> bytes:
        """SHA-256 of `content`."""
        return hashlib.sha256(self.content(sample)).digest()


def of_texts(texts: Sequence[str]) -> Labels:
    """Labels written as text: numbers where all of them are, names in sorted order otherwise."""
    if texts and all(is_number(text) for text in texts):
        return Labels([int(text) for text in texts])
    names = sorted(set(texts))
    index = {name: position for position, name in enumerate(names)}
    return Labels([index[text] for text in texts], names)


def is_number(text: str) -> bool:
    """Whether a text is a class number and nothing else."""
    return text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) <= MAX_CLASS
