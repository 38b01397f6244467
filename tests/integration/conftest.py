"""What the tests of whole commands share: models, a command line, and one finished run to read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import tflite_builder
from command_line import QUICK, CommandLine


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """a.tflite (float32), b.tflite (int8) and loop.tflite (a WHILE): made by hand, and whole."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "a.tflite").write_bytes(tflite_builder.tiny_conv_net(size=32, channels=8))
    (folder / "b.tflite").write_bytes(tflite_builder.tiny_int8_net(size=32, channels=8))
    (folder / "loop.tflite").write_bytes(tflite_builder.while_net())
    return folder


@pytest.fixture
def qprof(tmp_path: Path) -> Iterator[CommandLine]:
    """A command line of the test's own; no process of it may outlive the test."""
    line = CommandLine(tmp_path)
    yield line
    assert line.left_behind() == []


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Path:
    """The directory of a finished run of all three models, of as many rounds as an interval needs; only to be read."""
    line = CommandLine(tmp_path_factory.mktemp("small"))
    files = [models / name for name in ("a.tflite", "b.tflite", "loop.tflite")]
    done = line("run", *files, *QUICK, "--set=protocol.rounds=5", "-o", line.folder / "runs" / "small")
    assert done.code == 0, done.err
    assert line.left_behind() == []
    return line.folder / "runs" / "small"
