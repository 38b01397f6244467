"""The driver's library, called by name: what it refuses, and what is lost with a device."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qprof.probes.base import ProbeError, SensorGoneError
from qprof.probes.plan import NvmlPlan

UNINITIALIZED, NOT_SUPPORTED, NO_PERMISSION, _NOT_FOUND = 1, 3, 4, 6
DRIVER_NOT_LOADED, LIBRARY_NOT_FOUND, FUNCTION_NOT_FOUND, _GPU_IS_LOST = 9, 12, 13, 15
_RESET_REQUIRED, VERSION_MISMATCH, _GPU_NOT_FOUND = 16, 18, 28
GONE = {UNINITIALIZED, DRIVER_NOT_LOADED, _GPU_IS_LOST, _RESET_REQUIRED, _GPU_NOT_FOUND}


class RefusedError(ProbeError):
    """NVML said no; `code` is its nvmlReturn_t, `None` where nvidia-ml-py has no such function."""

    def __init__(self, text: str, code: int | None) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class Device:
    index: int
    handle: Any
    name: str
    uuid: str
    mig: bool  # the card is split
    instance: Any | None  # handle of the MIG instance that was asked for

    @property
    def label(self) -> str:
        return f"{self.name} ({self.uuid})"


class Nvml:
    """pynvml with its errors turned into `ProbeError`."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._error: type[Exception] = module.NVMLError

    def call(self, function: str, *arguments: Any) -> Any:
        """Raises `ProbeError`; `SensorGoneError` where driver or device are no more."""
        found = getattr(self._module, function, None)
        if found is None:
            raise RefusedError(f"{function} is not in this nvidia-ml-py", None)
        try:
            return found(*arguments)
        except self._error as error:
            code = int(getattr(error, "value", 0))
            text = _told(function, error)
            if function != "nvmlInit" and code in GONE:
                raise SensorGoneError(text) from error
            raise RefusedError(text, code) from error

    def plan(
        self, figure: str, function: str, handle: Any, numbers: Sequence[int] = (), scale: float = 1.0
    ) -> NvmlPlan | None:
        """How compiled code calls the function; `None` where the module is no face of a library."""
        library = getattr(getattr(self._module, "nvmlLib", None), "_name", None)
        if not isinstance(library, str):
            return None
        address = ctypes.cast(handle, ctypes.c_void_p).value or 0
        return NvmlPlan(
            figure, library, function, address, tuple(numbers), scale, tuple(sorted(GONE)), self._told_of_code
        )

    def _told_of_code(self, function: str, code: int) -> str:
        return _told(function, self._error(code))

    def shut_down(self) -> None:
        try:
            self.call("nvmlShutdown")
        except ProbeError:
            return  # the driver went first: there is nothing left to give back


def _told(function: str, error: Exception) -> str:
    return f"{function}: {' '.join(str(error).split())}"


def as_text(value: str | bytes) -> str:
    """Older nvidia-ml-py gives bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
