"""Messages between qprof and its workers: JSON, with NumPy arrays beside it. Nothing is pickled."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]


class Channel:
    """One end of the connection between the parent and one worker."""

    def __init__(self, descriptor: int) -> None:
        self._connection = Connection(descriptor)

    def send(self, message: Mapping[str, Any], arrays: Arrays | None = None) -> None:
        """Send a message and its arrays. Raises `OSError` where the other end is gone."""
        arrays = arrays or {}
        shapes = {name: [array.dtype.str, list(array.shape)] for name, array in arrays.items()}
        self._connection.send_bytes(json.dumps({"message": message, "arrays": shapes}, allow_nan=False).encode())
        for array in arrays.values():
            self._connection.send_bytes(np.ascontiguousarray(array).tobytes())

    def receive(self, timeout_s: float | None = None) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """The next message and its arrays.

        Raises `EOFError` or `OSError` where the other end is gone, `TimeoutError` after `timeout_s` seconds.
        """
        if timeout_s is not None and not self._connection.poll(timeout_s):
            raise TimeoutError
        header = json.loads(self._connection.recv_bytes())
        arrays: dict[str, NDArray[Any]] = {}
        for name, (dtype, shape) in header["arrays"].items():
            flat = np.frombuffer(self._connection.recv_bytes(), np.dtype(dtype))
            arrays[name] = flat.reshape(shape)
        return header["message"], arrays

    def close(self) -> None:
        self._connection.close()


def json_safe(value: Any) -> Any:
    """`value` with NaN and infinities as None and NumPy scalars as Python's: what JSON can hold."""
    if isinstance(value, Mapping):
        return {str(key): json_safe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_safe(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
