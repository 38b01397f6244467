"""What reading a damaged file raises, and what an archive of arrays may hold instead."""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: What NumPy, zipfile, json and msgspec raise for a file that is cut short, overwritten or something else altogether.
#: NumPy reads an array's header as Python writes it, by the tokens of Python.
ARRAY_ERRORS = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    EOFError,
    RuntimeError,
    SyntaxError,
    MemoryError,
    struct.error,
    tokenize.TokenError,
    zlib.error,
    zipfile.BadZipFile,
)


def arrays_in(loaded: Any) -> dict[str, NDArray[Any]]:
    """The arrays of a .npz archive that `numpy.load` opened, by name. Raises what `ARRAY_ERRORS` names, also for a
    record that is no array, which NumPy gives as bytes."""
    found = {}
    for name in loaded.files:
        array = loaded[name]
        if not isinstance(array, np.ndarray):
            raise ValueError(f"its record {name!r} is no array")
        found[name] = array
    return found
