"""Ceilings of a machine: measured once in a worker, then taken from the cache."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from qprof.errors import ModelError
from qprof.measure.parent import ceilings
from qprof.measure.parent.ceilings import machine_ceilings
from qprof.measure.requests import CeilingsAnswer, MeasureCeilings
from qprof.measure.worker.ceilings import measure_ceilings
from qprof.record.ceilings import Ceiling
from qprof.record.model import RunOptions
from qprof.runtimes import registry
from qprof.runtimes.litert.sections import LiteRTOptions

LITERT = registry.get("litert")

ONE = Ceiling("memory", "L2", "float32", "GB/s", "by hand", 90.5, 1.25, 7, up_to_bytes=1 << 20)
NONE = Ceiling("compute", "matmul", "int8", "GMAC/s", "by hand", reason="torch does not compute it here")


class Measured:
    """A runtime's bench of ceilings that counts; satisfies `CeilingBench`."""

    name = "counted"
    options: Sequence[str] = ("threads", "device")
    packages: Sequence[str] = ("numpy",)

    def __init__(self) -> None:
        self.asked: list[RunOptions] = []
        self.found = [ONE, NONE]

    def measure(self, options: RunOptions) -> list[Ceiling]:
        self.asked.append(options)
        return self.found


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Measured]:
    """Ceilings in the place of LiteRT's, measured without a process between."""
    bench = Measured()
    monkeypatch.setenv("QPROF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(type(LITERT), "ceilings", bench)

    @contextlib.contextmanager
    def closing_worker(label: str, log: Path) -> Iterator[Any]:
        def ask(request: MeasureCeilings, *, timeout_s: float) -> CeilingsAnswer:
            assert log.parent.is_dir()
            return measure_ceilings(request)

        yield SimpleNamespace(ask=ask)

    monkeypatch.setattr(ceilings, "closing_worker", closing_worker)
    yield bench


def test_the_second_time_they_come_from_the_cache(measured: Measured) -> None:
    assert machine_ceilings(LITERT, LiteRTOptions(threads=2)) == [ONE, NONE]
    assert machine_ceilings(LITERT, LiteRTOptions(threads=2)) == [ONE, NONE]
    assert measured.asked == [LiteRTOptions(threads=2)]


def test_what_they_do_not_depend_on_asks_for_no_new_ones(measured: Measured) -> None:
    machine_ceilings(LITERT, LiteRTOptions())
    machine_ceilings(LITERT, LiteRTOptions(delegate="none", input_shapes={"x": [1]}))
    assert len(measured.asked) == 1


@pytest.mark.parametrize("other", [{"threads": 2}, {"device": "cuda"}])
def test_what_they_depend_on_does(measured: Measured, other: dict[str, Any]) -> None:
    machine_ceilings(LITERT, LiteRTOptions())
    machine_ceilings(LITERT, LiteRTOptions(**other))
    assert len(measured.asked) == 2


@pytest.mark.parametrize("fact, value", [("cpu_model", "another"), ("affinity", [4095]), ("governor", "powersave")])
def test_another_machine_measures_its_own(
    measured: Measured, monkeypatch: pytest.MonkeyPatch, fact: str, value: Any
) -> None:
    machine_ceilings(LITERT, LiteRTOptions())
    facts = ceilings.describe_machine()
    monkeypatch.setattr(ceilings, "describe_machine", lambda root: msgspec.structs.replace(facts, **{fact: value}))
    machine_ceilings(LITERT, LiteRTOptions())
    assert len(measured.asked) == 2


@pytest.mark.parametrize("what", ["packages", "qprof"])
def test_another_version_measures_anew(measured: Measured, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    machine_ceilings(LITERT, LiteRTOptions())
    if what == "packages":
        monkeypatch.setattr(ceilings, "packages", lambda names: dict.fromkeys(names, "0.1"))
    else:
        monkeypatch.setattr("qprof.__version__", "999")
    machine_ceilings(LITERT, LiteRTOptions())
    assert len(measured.asked) == 2


def test_disturbed_ones_are_not_kept(measured: Measured) -> None:
    measured.found = [dataclasses.replace(ONE, disturbed=True)]
    assert machine_ceilings(LITERT, LiteRTOptions())[0].disturbed
    measured.found = [ONE]
    assert machine_ceilings(LITERT, LiteRTOptions()) == [ONE]
    assert len(measured.asked) == 2


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"ceilings": [{"kind": "memory"}]}', '{"ceilings": [{"color": 1}]}']
)
def test_a_damaged_record_is_measured_again(measured: Measured, tmp_path: Path, damage: str) -> None:
    machine_ceilings(LITERT, LiteRTOptions())
    (record,) = (tmp_path / "cache").rglob("ceilings.json")
    record.write_text(damage)
    assert machine_ceilings(LITERT, LiteRTOptions()) == [ONE, NONE]
    assert len(measured.asked) == 2


def test_a_gpu_is_known_by_its_model_and_driver(measured: Measured, tmp_path: Path) -> None:
    driver = tmp_path / "proc/driver/nvidia"
    (driver / "gpus/0000:01:00.0").mkdir(parents=True)
    (driver / "gpus/0000:01:00.0/information").write_text("Model: \t NVIDIA H200\nIRQ: 44\nGPU UUID: GPU-1234\n")
    (driver / "version").write_text("NVRM version: NVIDIA UNIX 570.1\nGCC version: 12\n")
    facts = ceilings._facts(measured, LiteRTOptions(device="cuda:1"), tmp_path)
    assert facts["gpus"] == ["NVIDIA H200", "NVIDIA UNIX 570.1"]
    assert facts["options"]["device"] == "cuda:1"
    assert "gpus" not in ceilings._facts(measured, LiteRTOptions(), tmp_path)


@pytest.mark.parametrize("name", [name for name in registry.names() if registry.get(name).ceilings is not None])
def test_each_runtime_says_what_its_ceilings_depend_on(name: str) -> None:
    runtime = registry.get(name)
    assert runtime.ceilings is not None
    assert set(runtime.ceilings.options) <= set(runtime.options_type.__struct_fields__)
    assert "threads" in runtime.ceilings.options and runtime.ceilings.packages


def test_the_runtimes_whose_machines_are_measured() -> None:
    assert {"litert", "torch_lm"} <= {name for name in registry.names() if registry.get(name).ceilings is not None}


def test_a_runtime_without_ceilings_is_refused(measured: Measured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(LITERT), "ceilings", None)
    with pytest.raises(ModelError, match="no ceilings are measured for runtime 'litert'"):
        machine_ceilings(LITERT, LiteRTOptions())
    with pytest.raises(ModelError, match="no ceilings are measured for runtime 'litert'"):
        measure_ceilings(MeasureCeilings(runtime="litert", options={}))
