"""Files that calibrate must not be samples under another name."""

from __future__ import annotations

from pathlib import Path

import pytest

from qprof.tasks.detection import calibration_files
from qprof.tasks.detection.calibration_files import Twins, file_digest


def test_of_many_files_of_one_length_each_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def counted(path: Path) -> bytes:
        read.append(path.name)
        return file_digest(path)

    monkeypatch.setattr(calibration_files, "file_digest", counted)
    samples = [tmp_path / f"sample{number}" for number in range(5)]
    others = [tmp_path / f"other{number}" for number in range(4)]
    contents = [b"one", b"two", b"six", b"long", b"longer still"], [b"two", b"ten", b"a length of its own", b"six"]
    for paths, content in zip((samples, others), contents, strict=True):
        for path, of_file in zip(paths, content, strict=True):
            path.write_bytes(of_file)
    twins = Twins(samples)
    assert [twins.has(path) for path in others] == [True, False, False, True]
    assert sorted(read) == ["other0", "other1", "other3", "sample0", "sample1", "sample2"]
