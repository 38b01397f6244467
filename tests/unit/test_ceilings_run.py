"""Ceilings of a machine: measured once in a worker, then taken from the cache."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from qprof.errors import ModelError
from qprof.run import ceilings
from qprof.run.ceilings import machine_ceilings, measure_ceilings
from qprof.runtimes.base import RunOptions
from qprof.runtimes.ceilings import Ceiling

ONE = Ceiling("memory", "L2", "float32", "GB/s", "by hand", 90.5, 1.25, 7, up_to_bytes=1 << 20)
NONE = Ceiling("compute", "matmul", "int8", "GMAC/s", "by hand", reason="torch does not compute it here")


class Measured:
    """Stands for a runtime's module `ceilings`, and counts."""

    OPTIONS = ("threads", "device")
    PACKAGES = ("numpy",)

    def __init__(self) -> None:
        self.asked: list[RunOptions] = []
        self.found = [ONE, NONE]

    def measure_all(self, options: RunOptions) -> list[Ceiling]:
        self.asked.append(options)
        return self.found


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Measured]:
    """A runtime in the place of LiteRT, asked without a process between."""
    module = Measured()
    real = ceilings._module
    monkeypatch.setenv("QPROF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(ceilings, "_module", lambda runtime: module if runtime == "litert" else real(runtime))

    @contextlib.contextmanager
    def closing_worker(label: str, log: Path) -> Iterator[Any]:
        def ask(request: Mapping[str, Any], *, timeout_s: float) -> tuple[dict[str, Any], dict[str, Any]]:
            assert request["do"] == "ceilings" and log.parent.is_dir()
            return measure_ceilings(request), {}

        yield SimpleNamespace(ask=ask)

    monkeypatch.setattr(ceilings, "closing_worker", closing_worker)
    yield module


def test_the_second_time_they_come_from_the_cache(measured: Measured) -> None:
    assert machine_ceilings("litert", RunOptions(threads=2)) == [ONE, NONE]
    assert machine_ceilings("litert", RunOptions(threads=2)) == [ONE, NONE]
    assert measured.asked == [RunOptions(threads=2)]


def test_what_they_do_not_depend_on_asks_for_no_new_ones(measured: Measured) -> None:
    machine_ceilings("litert", RunOptions())
    machine_ceilings("litert", RunOptions(delegate="none", prompt_tokens=128))
    assert len(measured.asked) == 1


@pytest.mark.parametrize("other", [{"threads": 2}, {"device": "cuda"}])
def test_what_they_depend_on_does(measured: Measured, other: dict[str, Any]) -> None:
    machine_ceilings("litert", RunOptions())
    machine_ceilings("litert", RunOptions(**other))
    assert len(measured.asked) == 2


@pytest.mark.parametrize("fact, value", [("cpu_model", "another"), ("affinity", [0]), ("governor", "powersave")])
def test_another_machine_measures_its_own(
    measured: Measured, monkeypatch: pytest.MonkeyPatch, fact: str, value: Any
) -> None:
    machine_ceilings("litert", RunOptions())
    facts = ceilings.describe_machine()
    monkeypatch.setattr(ceilings, "describe_machine", lambda root: {**facts, fact: value})
    machine_ceilings("litert", RunOptions())
    assert len(measured.asked) == 2


@pytest.mark.parametrize("what", ["packages", "qprof"])
def test_another_version_measures_anew(measured: Measured, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    machine_ceilings("litert", RunOptions())
    if what == "packages":
        monkeypatch.setattr(ceilings, "packages", lambda names: dict.fromkeys(names, "0.1"))
    else:
        monkeypatch.setattr("qprof.__version__", "999")
    machine_ceilings("litert", RunOptions())
    assert len(measured.asked) == 2


def test_disturbed_ones_are_not_kept(measured: Measured) -> None:
    measured.found = [dataclasses.replace(ONE, disturbed=True)]
    assert machine_ceilings("litert", RunOptions())[0].disturbed
    measured.found = [ONE]
    assert machine_ceilings("litert", RunOptions()) == [ONE]
    assert len(measured.asked) == 2


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"ceilings": [{"kind": "memory"}]}', '{"ceilings": [{"color": 1}]}']
)
def test_a_damaged_record_is_measured_again(measured: Measured, tmp_path: Path, damage: str) -> None:
    machine_ceilings("litert", RunOptions())
    (record,) = (tmp_path / "cache").rglob("ceilings.json")
    record.write_text(damage)
    assert machine_ceilings("litert", RunOptions()) == [ONE, NONE]
    assert len(measured.asked) == 2


def test_a_gpu_is_known_by_its_model_and_driver(measured: Measured, tmp_path: Path) -> None:
    driver = tmp_path / "proc/driver/nvidia"
    (driver / "gpus/0000:01:00.0").mkdir(parents=True)
    (driver / "gpus/0000:01:00.0/information").write_text("Model: \t NVIDIA H200\nIRQ: 44\nGPU UUID: GPU-1234\n")
    (driver / "version").write_text("NVRM version: NVIDIA UNIX 570.1\nGCC version: 12\n")
    facts = ceilings._facts("litert", RunOptions(device="cuda:1"), tmp_path)
    assert facts["gpus"] == ["NVIDIA H200", "NVIDIA UNIX 570.1"]
    assert facts["options"]["device"] == "cuda:1"
    assert "gpus" not in ceilings._facts("litert", RunOptions(), tmp_path)


@pytest.mark.parametrize("runtime", ["litert", "gptq", "autogptq"])
def test_each_runtime_says_what_its_ceilings_depend_on(runtime: str) -> None:
    module = ceilings._module(runtime)
    assert set(module.OPTIONS) <= {field.name for field in dataclasses.fields(RunOptions)}
    assert "threads" in module.OPTIONS and module.PACKAGES


def test_a_runtime_without_ceilings_is_refused() -> None:
    with pytest.raises(ModelError, match="no ceilings are measured for runtime 'tvm'"):
        machine_ceilings("tvm", RunOptions())
