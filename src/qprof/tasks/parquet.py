"""Reading Parquet files of data sets: whatever a damaged one raises becomes a `DataError`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from qprof.errors import DataError


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Around all that is read of a file, its cells too: a page is decoded, and a text, when it is asked for."""
    import pyarrow as pa

    try:
        yield
    except (OSError, ValueError, LookupError, ArithmeticError, pa.ArrowException) as error:
        told = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(
            f"{path}: cannot be read as Parquet ({told}): correct the path, or download it again"
        ) from error
