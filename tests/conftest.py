"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def qprof_data() -> Path:
    """Folder of real models, images and annotations, named by QPROF_DATA; tests that need it are skipped without."""
    folder = os.environ.get("QPROF_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("QPROF_DATA does not name a folder of real models and images")
    return Path(folder)
