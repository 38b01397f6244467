"""A folder with a stranger's files in it is only looked at: no module that lies there is run."""

from __future__ import annotations

from pathlib import Path

import pytest

from command_line import QUICK, CommandLine

#: Names of modules that qprof's workers and their libraries import, and that people give their own scripts.
NAMES = [
    "token",
    "queue",
    "code",
    "types",
    "random",
    "select",
    "signal",
    "copy",
    "json",
    "re",
    "numpy",
    "random",
    "string",
    "struct",
    "calendar",
    "inspect",
    "logging",
    "ai_edge_litert",
    "msgspec",
    "pyarrow",
    "qprof",
    "PIL",
    "bisect",
    "statistics",
    "uuid",
    "secrets",
]


@pytest.fixture
def planted(qprof: CommandLine) -> CommandLine:
    """Every module leaves a mark when it is run."""
    for name in NAMES:
        (qprof.folder / f"{name}.py").write_text(
            f"from pathlib import Path\nPath({str(qprof.folder)!r}, 'ran-{name}').touch()\nraise SystemExit(99)\n"
        )
    return qprof


def test_modules_beside_a_model_are_not_imported(planted: CommandLine, models: Path) -> None:
    done = planted("run", models / "a.tflite", models / "b.tflite", *QUICK, "-o", planted.folder / "run")
    assert sorted(path.name for path in planted.folder.glob("ran-*")) == []
    assert done.code == 0, done.err
    assert planted("explain", planted.folder / "run", "--verify").code == 0
    assert sorted(path.name for path in planted.folder.glob("ran-*")) == []
