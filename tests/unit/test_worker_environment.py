"""What a worker process is started with."""

from __future__ import annotations

import pytest

from qprof.measure.parent.process import _environment


def test_numpy_multiplies_in_one_thread_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    assert _environment()["OPENBLAS_NUM_THREADS"] == "1"
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "4")
    assert _environment()["OPENBLAS_NUM_THREADS"] == "4"
