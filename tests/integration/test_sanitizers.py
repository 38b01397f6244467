"""The compiled core under sanitizers of addresses, undefined behaviour and threads; the other builds of setup.py."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("Cython")
lifetimes = pytest.importorskip("op_profiler_lifetimes", reason="the builder of tiny models needs ai_edge_litert")

ROOT = Path(__file__).resolve().parent.parent.parent
TESTS = ROOT / "tests"


def library_of(compiler: str, name: str) -> str | None:
    """Path of one of the compiler's runtime libraries, `None` where it is not installed."""
    found = subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    path = found.stdout.strip()
    return path if os.path.isabs(path) and os.path.exists(path) else None


def build(folder: Path, **switches: str) -> Path:
    """Build the core with setup.py's switches, outside of the source tree."""
    command = [sys.executable, "setup.py", "-q", "build_ext", "--build-lib", str(folder / "lib")]
    command += ["--build-temp", str(folder / "temp")]
    # Nothing of the interpreter's own optimization: the build is run for seconds and compiled for as long.
    environment = os.environ | {"CFLAGS": "-O1"} | switches
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    (library,) = (folder / "lib").rglob("_op_profiler*.so")
    return library


def run(library: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    search = {"PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
    command = [sys.executable, str(TESTS / "op_profiler_lifetimes.py"), "--core", str(library), *arguments]
    return subprocess.run(command, env=os.environ | search | environment, capture_output=True, text=True, timeout=900)


@pytest.fixture(scope="module")
def compiler() -> str:
    found = shutil.which("g++")
    if found is None or not sys.platform.startswith("linux") or not (ROOT / "setup.py").exists():
        pytest.skip("needs Linux, g++ and the source tree")
    return found


@pytest.fixture(scope="module")
def sanitized(compiler: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The op profiler of a build under both sanitizers, and the environment that such a build runs in."""
    preloaded = [library_of(compiler, name) for name in ("libasan.so", "libubsan.so", "libstdc++.so")]
    if None in preloaded:
        pytest.skip("needs libasan and libubsan")
    environment = {
        "LD_PRELOAD": " ".join(str(path) for path in preloaded),
        # Freed memory is overwritten, so that the runtime's own code, which is not checked, stumbles over it too.
        "ASAN_OPTIONS": "detect_leaks=0:max_free_fill_size=65536:free_fill_byte=219",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    return build(tmp_path_factory.mktemp("sanitized"), QPROF_SANITIZE="address,undefined"), environment


def test_no_sanitizer_has_anything_to_report(sanitized: tuple[Path, dict[str, str]]) -> None:
    library, environment = sanitized
    done = run(library, "--repeat", "5", **environment)
    report = done.stdout + done.stderr
    assert "Sanitizer" not in report and "runtime error:" not in report, report[-6000:]
    assert done.returncode == 0 and done.stdout.splitlines()[-1:] == ["all well"], report[-3000:]


SUITES = ["test_coco_core.py", "test_coco_bootstrap.py", "test_coco_json.py", "test_coco_masks.py", "test_topk.py"]
SUITES += ["test_compiled_sampler.py"]


@pytest.mark.parametrize("suite", SUITES)
def test_the_core_passes_its_tests_under_sanitizers(
    sanitized: tuple[Path, dict[str, str]], tmp_path: Path, suite: str
) -> None:
    library, environment = sanitized
    package = tmp_path / "qprof"
    shutil.copytree(ROOT / "src/qprof", package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for built in library.parent.glob("*.so"):
        shutil.copy(built, package / "core")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", str(TESTS / "unit" / suite)]
    variables = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(TESTS)])} | environment
    where = [sys.executable, "-c", "import qprof.core._topk as built; print(built.__file__)"]
    assert subprocess.check_output(where, env=variables, text=True).startswith(str(tmp_path)), "not the build to test"
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=900)
    report = done.stdout + done.stderr
    assert "Sanitizer" not in report and "runtime error:" not in report, report[-6000:]
    assert done.returncode == 0, report[-3000:]


def test_the_samplers_threads_do_not_race(compiler: str, tmp_path: Path) -> None:
    if library_of(compiler, "libtsan.so") is None:
        pytest.skip("needs libtsan")
    program = tmp_path / "sampler_threads"
    folder = ROOT / "csrc/sampler"
    sources = [str(TESTS / "sampler_threads.cpp"), *(str(path) for path in sorted(folder.glob("*.cpp")))]
    flags = ["-std=c++20", "-O1", "-g", "-fsanitize=thread", f"-I{folder}", "-pthread"]
    command = [compiler, *flags, *sources, "-ldl", "-o", str(program)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert built.returncode == 0, built.stderr[-3000:]
    done = subprocess.run([str(program)], capture_output=True, text=True, timeout=300)
    report = done.stdout + done.stderr
    if "unexpected memory mapping" in report:
        pytest.skip("ThreadSanitizer does not run on this kernel's memory layout")
    assert "Sanitizer" not in report, report[-6000:]
    assert done.returncode == 0 and done.stdout == "all well\n", report[-3000:]


@pytest.mark.parametrize("switch", ["QPROF_DEBUG", "QPROF_COVERAGE"])
def test_the_other_builds_work(compiler: str, tmp_path: Path, switch: str) -> None:
    library = build(tmp_path, **{switch: "1"})
    done = run(library, "interleave", "regrow_a_loop")
    assert done.returncode == 0 and done.stdout.splitlines()[-1:] == ["all well"], done.stderr[-3000:]
    if switch == "QPROF_COVERAGE":
        assert list((tmp_path / "temp").rglob("op_profiler.gcda")), "no counters were written"
