"""A runtime and a task that another distribution brings, each in one file, go through every command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from qprof.errors import ModelError
from qprof.record.model import RunOptions
from qprof.runtimes.base import Runtime
from qprof.store.run import Run

PLUGINS = Path(__file__).parents[1] / "plugins"

PROFILE = """
name = "toys"
variants = ["float", "rounded"]
[model]
path = "model.toy"
[task]
kind = "directions"
samples = 60
[protocol]
rounds = 6
block_ms = 10
profiled_block_ms = 10
warmup_max_s = 1
stacks_s = 0
energy = "off"
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and a profile, and the metadata by which an installed distribution is found."""
    folder = tmp_path_factory.mktemp("toys")
    found = folder / "site" / "toys-1.0.dist-info"
    found.mkdir(parents=True)
    (found / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n")
    points = "[qprof.runtimes]\ntoy = toy_runtime:RUNTIME\n[qprof.tasks]\ndirections = toy_task:KIND\n"
    (found / "entry_points.txt").write_text(points)
    rng = np.random.default_rng(3)
    layers = {
        name: (np.eye(8) + rng.normal(0.0, 0.12, (8, 8))).tolist() for name in ("first", "second", "third", "fourth")
    }
    (folder / "model.toy").write_text(json.dumps({"layers": layers}))
    (folder / "toys.toml").write_text(PROFILE)
    return folder


def qprof(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    paths = [str(place / "site"), str(PLUGINS), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "QPROF_RUNS": str(place / "runs"),
        "QPROF_CACHE": str(place / "cache"),
    }
    command = [sys.executable, "-m", "qprof", *arguments]
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def run(place: Path) -> Path:
    done = qprof(place, "run", "toys.toml", "-o", "run", "-q")
    assert done.returncode == 0, done.stderr
    return place / "run"


def test_it_is_measured_and_scored(run: Path) -> None:
    found = Run(run)
    assert [(entry.name, entry.status, entry.runtime) for entry in found.variants] == [
        ("float", "ok", "toy"),
        ("rounded", "ok", "toy"),
    ]
    assert found.score("float", "accuracy") > 0.6 and found.score("rounded", "accuracy") is not None
    assert len(found.sample_scores("rounded", "correct")) == 60
    assert {row.name for row in found.layer_errors} == {"first", "second", "third", "fourth"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["show", "run"], ["float", "rounded", "accuracy"]),
        (["layers", "run", "-v", "rounded"], ["first", "fourth", "PRODUCT", "blas"]),
        (["layers", "run", "-v", "rounded", "--errors"], ["second", "SQNR"]),
        (["diff", "run", "float", "rounded"], ["third", "matched 4 ops"]),
        (["explain", "run"], ["float -> rounded", "deploy"]),
        (["flame", "run", "-v", "rounded", "-o", "flame.svg"], ["flame.svg"]),
        (["doctor"], ["toy"]),
    ],
)
def test_every_command_takes_it(place: Path, run: Path, arguments: list[str], expected: list[str]) -> None:
    done = qprof(place, *arguments)
    assert done.returncode == 0, done.stderr
    for text in expected:
        assert text in done.stdout, done.stdout


def test_layers_are_left_in_float_by_its_own_intervention(place: Path, run: Path) -> None:
    done = qprof(place, "explain", "run", "--float-layers", "rounded", "--most", "2", "--json", "-q")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [row["count"] for row in rows] == [0, 1, 2]
    assert all(row["score"] is not None and row["reason"] is None for row in rows)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ('variants=[{name = "rounded", level = 3}]', "unknown key variants[0].level; did you mean variants[0].levels?"),
        ('variants=[{name = "float", levels = 3}]', "unknown key variants[0].levels"),
        ("task.direction=3", "unknown key task.direction; did you mean task.directions?"),
        ("model.batch=3", "unknown key model.batch"),
        ("protocol.device=cuda", "protocol.device: 'cuda' is not what toy runs on"),
    ],
)
def test_its_sections_are_read_as_strictly_as_any(place: Path, override: str, message: str) -> None:
    done = qprof(place, "run", "toys.toml", "-q", "--set", override)
    assert done.returncode == 2 and message in done.stderr, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_run_of_a_runtime_that_is_gone_can_still_be_read(run: Path) -> None:
    for command in ("show", "layers", "explain"):
        arguments = [sys.executable, "-m", "qprof.cli.main", command, str(run)]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_what_a_runtime_leaves_out_it_says_that_it_cannot_do() -> None:
    class Bare(Runtime):
        name = "bare"

        def accepts(self, path: Path) -> bool:
            return False

        def load(self, path: Path, options: RunOptions) -> None:  # type: ignore[override]
            raise AssertionError

        def maker(self, model: object, device: str) -> None:  # type: ignore[override]
            raise AssertionError

    bare = Bare()
    assert bare.ceilings is None
    with pytest.raises(ModelError, match="bare does not time ops"):
        bare.instrument(None, Path("x"), RunOptions())  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="bare does not compare layers"):
        bare.compare_layers(None, None, [])  # type: ignore[arg-type]
