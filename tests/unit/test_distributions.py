"""The source distribution holds all that is in the repository, the wheel all that the package reads when it runs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: What no distribution needs: settings of the repository itself, and its tests' own.
LEFT_OUT = {".gitignore", ".ci/run"}

#: Prints what the wheel would hold of each package beside its modules.
DATA_FILES = """
import sys
from setuptools import Distribution
dist = Distribution({"packages": sys.argv[1:]})
dist.parse_config_files(["pyproject.toml"])
command = dist.get_command_obj("build_py")
command.ensure_finalized()
for package, source, _, names in command.data_files:
    for name in names:
        print(f"{source}/{name}")
"""


def tracked() -> list[str]:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a checkout: there is no list of its files")
    return subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")


def test_the_source_distribution_holds_the_repository(tmp_path: Path) -> None:
    pytest.importorskip("Cython")
    files = {name for name in tracked() if name}
    # Of sources alone: setup.py translates what is compiled before it does anything.
    for name in files:
        if (ROOT / name).exists():
            copy = tmp_path / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.symlink_to(ROOT / name) if name.endswith((".npz", ".safetensors")) else shutil.copy(ROOT / name, copy)
    script = "import Cython.Build as b; b.cythonize = lambda given, **_: given; exec(open('setup.py').read())"
    command = [sys.executable, "-c", script, "-q", "egg_info"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    held = set((tmp_path / "src/qprof.egg-info/SOURCES.txt").read_text().split("\n"))
    assert sorted(name for name in files - held - LEFT_OUT if (ROOT / name).exists()) == []


def test_the_wheel_holds_the_data_that_the_package_reads() -> None:
    files = {name for name in tracked() if name.startswith(("src/", "profiles/"))}
    files = {name for name in files if Path(name).suffix not in (".py", ".md", ".png") and (ROOT / name).exists()}
    packages = sorted({str(Path(name).parent) for name in tracked() if name.endswith("__init__.py")})
    names = [name.removeprefix("src/").replace("/", ".") for name in packages if name.startswith("src/")]
    command = [sys.executable, "-c", DATA_FILES, *names, "qprof.profiles"]
    found = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\n")
    assert "src/qprof/embedded/shapes_detector_qat.tflite" in files
    assert sorted(files - set(found)) == []
