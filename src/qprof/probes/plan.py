"""How the compiled sampler reads a part, as the part itself tells it; `csrc/sampler` is the other half.

A failure comes back as a number and what had been read; what to call it is decided here, by the part's own Python.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from qprof.probes.base import ProbeError, SensorFile


class Failed(Protocol):
    """The last failure of a part: `qprof.core._sampler.PartFailures`."""

    @property
    def fault(self) -> str: ...
    @property
    def code(self) -> int: ...
    @property
    def which(self) -> int: ...
    @property
    def content(self) -> bytes: ...


class _Recorded(SensorFile):
    """A file that shows what it showed once."""

    def __init__(self, path: Path, content: bytes) -> None:
        self.path = path
        self._content = content
        self._descriptor = -1

    def read(self) -> bytes:
        return self._content


@dataclass(frozen=True, slots=True)
class FilePlan:
    """Files in one of the forms of `csrc/sampler/files.h`, each with the function that reads it in Python."""

    form: str
    files: Sequence[SensorFile]
    parsers: Sequence[Callable[[SensorFile], object]]
    scale: float = 1.0

    def reason(self, failed: Failed) -> str:
        """What Python's reading would have said."""
        path = self.files[failed.which].path
        if failed.fault == "system":
            return f"{path}: {os.strerror(failed.code)}"
        try:
            self.parsers[failed.which](_Recorded(path, failed.content))
        except ProbeError as error:
            return str(error)
        return f"{path}: not in the form that was expected: {failed.content[:40]!r}"


@dataclass(frozen=True, slots=True)
class NvmlPlan:
    """A function of the driver's library, of one of the kinds of `csrc/sampler/nvml.h`.

    `device` is its address in that library; `gone` are the codes after which it never answers again; `told` puts a code
    of a function in words.
    """

    figure: str
    library: str
    function: str
    device: int
    numbers: tuple[int, ...]
    scale: float
    gone: tuple[int, ...]
    told: Callable[[str, int], str]

    def reason(self, failed: Failed) -> str:
        """What Python's reading would have said."""
        if self.figure == "fields" and failed.which > 0:
            return field_refused(self.numbers[failed.which - 1], failed.code)
        return self.told(self.function, failed.code)


def field_refused(field: int, code: int) -> str:
    """A field of `nvmlDeviceGetFieldValues` that has no value."""
    return f"field {field}: NVML error {code}"
