"""A fake driver's library behind the real nvidia-ml-py: built from fake_nvml.c, set by the test."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("fake_nvml.c")


class FakeDriver:
    """What a test sets of the library; see fake_nvml.c."""

    def __init__(self, library: Any) -> None:
        self._library = library

    def refuse(self, function: str, code: int) -> None:
        self._library.fake_refuse(function.encode(), code)

    def refuse_field(self, field: int, code: int) -> None:
        self._library.fake_refuse_field(field, code)

    def show(self, value: int) -> None:
        self._library.fake_value(ctypes.c_ulonglong(value))

    def delay(self, seconds: float) -> None:
        self._library.fake_delay(round(seconds * 1e6))

    def hang(self, whether: bool) -> None:
        self._library.fake_hang(int(whether))

    @property
    def waiting(self) -> int:
        """Calls that are under way."""
        return int(self._library.fake_waiting())

    @property
    def opened(self) -> int:
        return int(self._library.fake_opened())


def build(folder: Path) -> Path | None:
    """The library; `None` where no C compiler is installed."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    library = folder / "libfake-nvml.so"
    command = [compiler, "-std=c11", "-D_DEFAULT_SOURCE", "-O1", "-shared", "-fPIC", str(SOURCE), "-o", str(library)]
    # A sanitizer's runtime that is loaded ahead of this interpreter is not for the compiler.
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return library


@contextmanager
def installed(library: Path) -> Iterator[FakeDriver]:
    """nvidia-ml-py on that library."""
    import pynvml

    before = pynvml.nvmlLib, pynvml._nvmlGetFunctionPointer_cache
    pynvml.nvmlLib = ctypes.CDLL(str(library))
    pynvml._nvmlGetFunctionPointer_cache = {}
    driver = FakeDriver(pynvml.nvmlLib)
    try:
        yield driver
    finally:
        driver.hang(False)
        driver.delay(0)
        driver.show(1234567)
        pynvml.nvmlLib, pynvml._nvmlGetFunctionPointer_cache = before
