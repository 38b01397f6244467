"""A .tflite as objects that can be changed, and back as bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from qprof.errors import ModelError
from qprof.runtimes.tool_output import first_line

_FILE_IDENTIFIER = b"TFL3"


def read_content(path: Path) -> bytes:
    """The bytes of a .tflite file.

    Raises:
        ModelError: the file cannot be read or is no .tflite.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); check the path of the model") from error
    if content[4:8] != _FILE_IDENTIFIER:
        raise ModelError(f"{path}: is not a .tflite file (no TFL3 identifier); give a LiteRT model")
    return content


def unpack(path: Path, content: bytes) -> Any:
    """The flatbuffer as objects (`schema_py_generated.ModelT`); `path` is named in errors.

    Raises:
        ModelError: the file is damaged. The Python reader checks no offset, so that anything can come out of it.
    """
    from ai_edge_litert.tools import flatbuffer_utils  # type: ignore[import-untyped,unused-ignore]

    try:
        model = flatbuffer_utils.read_model_from_bytearray(content)
        if not model.subgraphs:
            raise ValueError("it has no subgraph")
        return model
    except Exception as error:
        raise ModelError(f"{path}: is damaged ({first_line(error)}); fetch or convert the model again") from error


def packed(model: Any) -> bytes:
    """The bytes of a model that was unpacked, changed or not."""
    from ai_edge_litert.tools import flatbuffer_utils

    for buffer in model.buffers:
        if buffer.data is not None and not isinstance(buffer.data, np.ndarray):
            buffer.data = np.frombuffer(buffer.data, np.uint8)  # what is no array is packed byte by byte
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))
