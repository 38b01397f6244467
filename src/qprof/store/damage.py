"""What reading a damaged file raises."""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib

#: What NumPy, zipfile, json and msgspec raise for a file that is cut short, overwritten or something else altogether.
#: NumPy reads an array's header as Python writes it, by the tokens of Python.
ARRAY_ERRORS = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    EOFError,
    RuntimeError,
    SyntaxError,
    MemoryError,
    struct.error,
    tokenize.TokenError,
    zlib.error,
    zipfile.BadZipFile,
)
