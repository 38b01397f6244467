"""Arrow's columns as NumPy's arrays, of every kind that a run's tables have, and without pandas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from qprof.store.arrays import as_numpy

KINDS = [pa.int8(), pa.int32(), pa.int64(), pa.uint8(), pa.float16(), pa.float32(), pa.float64(), pa.bool_()]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_column_is_what_pyarrow_makes_of_it(kind: Any) -> None:
    whole = pa.array(np.array([0, 1, 1, 0, 1]), pa.int64()).cast(kind)
    for column in (whole, whole[1:4], whole[5:], pa.chunked_array([whole[:2], whole[2:]]), pa.chunked_array([], kind)):
        found, expected = as_numpy(column), column.to_numpy(zero_copy_only=False)
        assert found.dtype == expected.dtype and found.tolist() == expected.tolist()


def test_gaps_and_texts() -> None:
    assert np.array_equal(as_numpy(pa.array([1.0, None])), [1.0, np.nan], equal_nan=True)
    assert as_numpy(pa.array(["a", None])).tolist() == ["a", None]
