"""A folder with a stranger's files in it is only looked at: no module that lies there is run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from command_line import QUICK, CommandLine
from tflite_builder import tiny_conv_net

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
    "sitecustomize",
    "usercustomize",
    "conftest",
    "onnx",
    "onnxruntime",
    "torch",
    "duckdb",
    "altair",
    "vl_convert",
    "pandas",
    "typing_extensions",
    "html",
    "csv",
    "colorsys",
]
#: The like in folders of their own.
PACKAGES = ["xml", "importlib", "concurrent", "multiprocessing", "site-packages"]


@pytest.fixture
def planted(qprof: CommandLine) -> CommandLine:
    """Every module leaves a mark when it is run."""

    def mark(name: str) -> str:
        return f"from pathlib import Path\nPath({str(qprof.folder)!r}, 'ran-{name}').touch()\nraise SystemExit(99)\n"

    for name in NAMES:
        (qprof.folder / f"{name}.py").write_text(mark(name))
    for name in PACKAGES:
        (qprof.folder / name).mkdir()
        (qprof.folder / name / "__init__.py").write_text(mark(name))
    (qprof.folder / "stranger.pth").write_text("import sitecustomize\n")
    (qprof.folder / ".pythonrc").write_text(mark("startup"))
    # It is of interactive sessions alone, and none may be started.
    qprof.environment["PYTHONSTARTUP"] = str(qprof.folder / ".pythonrc")
    return qprof


def ran(line: CommandLine) -> list[str]:
    return sorted(path.name for path in line.folder.glob("ran-*"))


def test_modules_beside_a_model_are_not_imported(planted: CommandLine, models: Path) -> None:
    done = planted("run", models / "a.tflite", models / "b.tflite", *QUICK, "-o", planted.folder / "run")
    assert ran(planted) == []
    assert done.code == 0, done.err
    assert planted("explain", planted.folder / "run", "--verify").code == 0
    assert ran(planted) == []


@pytest.mark.parametrize(
    "words",
    [
        ("report", "run"),
        ("list", "."),
        ("doctor",),
        ("flame", "run", "-o", "flame.svg"),
        ("sql", "run", "select count(*) from samples"),
        ("plot", "run", "latency", "-o", "figure.svg"),
        *(("export", "run", "--format", name, "-o", "made") for name in ("json", "csv", "perfetto", "parquet")),
    ],
    ids=lambda words: "-".join(words[::3]),
)
def test_commands_import_nothing_from_where_they_are_given(
    planted: CommandLine, small_run: Path, words: tuple[str, ...]
) -> None:
    shutil.copytree(small_run, planted.folder / "run")
    done = planted(*words)
    assert ran(planted) == []
    assert done.code in (0, 2) and "Traceback" not in done.err, done.err  # 2: an extra is not installed


def test_a_search_imports_nothing_from_where_it_is_started(planted: CommandLine) -> None:
    pytest.importorskip("ai_edge_quantizer")
    (planted.folder / "net.tflite").write_bytes(tiny_conv_net(size=16, channels=4))
    protocol = ("--set=protocol.output_samples=8", "--set=task.calibration_samples=4")
    planted("search", "net.tflite", "--figure", "size", "--budget", "1s", "-q", "-o", "found", *QUICK, *protocol)
    assert ran(planted) == []
    assert (planted.folder / "found" / "start" / "manifest.json").is_file()


def test_the_other_runtimes_import_nothing_from_where_they_are_started(planted: CommandLine) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx_models import residual_net

    (planted.folder / "m.onnx").write_bytes(residual_net().SerializeToString())
    done = planted("run", "m.onnx", *QUICK, "-o", "run", "-q")
    assert ran(planted) == []
    assert done.code == 0, done.err


def test_the_runtime_of_exported_programs_imports_nothing_either(planted: CommandLine) -> None:
    pytest.importorskip("torch")
    from torch_networks import save_images

    save_images(planted.folder / "m.pt2")
    done = planted("run", "m.pt2", *QUICK, "-o", "run", "-q")
    assert ran(planted) == []
    assert done.code == 0, done.err
