"""What a format of finished language models offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from qprof.errors import ModelError
from qprof.record.stored import StoredFiles
from qprof.runtimes.base import Made
from qprof.runtimes.torch_lm.load import LoadedModule
from qprof.runtimes.torch_lm.sections import CheckpointVariant


class Format(ABC):
    """One format. `is_finished`: whether its models are run as they are, since no variants are made of them."""

    is_finished: bool = True

    @abstractmethod
    def has(self, path: Path) -> bool:
        """Whether a path looks like it. What is wrong with it is for the others to say."""

    @abstractmethod
    def make(self, path: Path, section: CheckpointVariant, device: str) -> Made:
        """The variant that runs it. Raises `ModelError`, and `MissingExtraError` where a package is missing."""

    def load(self, path: Path, device: str, dtype: str, kernel: str) -> LoadedModule:
        """Load it to run. Raises `ModelError`."""
        raise ModelError(f"{path}: is run from what is made of it; name it as a variant's file")

    def stored(self, path: Path) -> StoredFiles:
        """The parts of its files. Raises `ModelError`."""
        raise ModelError(f"{path}: its parts are not told")


def refuse_kernel(path: Path, kernel: str) -> None:
    """Raise `ModelError` where a kernel is asked for: those that are known compute GPTQ's layers."""
    if kernel:
        raise ModelError(f"{path}: kernel = {kernel!r} computes GPTQ layers, and this has none; leave it out")
