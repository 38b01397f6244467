"""Arrow's columns as NumPy's arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def one_chunk(column: Any) -> Any:
    """A column of a table, or one of its chunks, as one Arrow array."""
    import pyarrow as pa

    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(whole, pa.ChunkedArray):  # combine_chunks gives one where there is no chunk at all
        whole = whole.chunk(0) if whole.num_chunks else pa.array([], column.type)
    return whole


def as_numpy(column: Any) -> NDArray[Any]:
    """A column of a table, or one of its chunks, as one array: not to be written to.

    pyarrow's own `to_numpy` imports pandas first, where that is installed, which takes a quarter of a second; it is
    left for what DLPack has not: gaps and texts.
    """
    import pyarrow as pa

    whole = one_chunk(column)
    if not whole.null_count:
        if pa.types.is_boolean(whole.type):
            return np.from_dlpack(whole.cast(pa.uint8())).astype(np.bool_)
        if pa.types.is_integer(whole.type) or pa.types.is_floating(whole.type):
            return np.from_dlpack(whole)
    found: NDArray[Any] = whole.to_numpy(zero_copy_only=False)
    return found
