"""What qprof finds on a machine: every sensor is there or missing with a reason and a remedy."""

from __future__ import annotations

import importlib
import json
from typing import Any

import pytest

from qprof.cli.main import main
from qprof.errors import MissingExtraError
from qprof.measure import doctor
from qprof.measure.doctor import Finding, diagnose, probe_findings
from qprof.probes.base import NullProbe
from qprof.record.sensors import Channel, Missing
from qprof.report.doctor import doctor_table
from qprof.report.table import render
from qprof.runtimes import registry


class FakeProbe:
    name = "nvml"
    channels = (
        Channel("nvml.0.energy", "mJ", "counter", "measured", "a counter"),
        Channel("nvml.0.clock_sm", "MHz", "gauge", "measured", "a clock"),
    )
    missing = (Missing("nvml.0.power_instant", "not supported", "use the counter"),)

    def read(self) -> list[tuple[int, int, float]]:
        return []

    def close(self) -> None: ...


def test_a_probe_is_one_line_and_each_missing_part_another() -> None:
    there, gone = probe_findings(FakeProbe())
    assert (there.name, there.present) == ("nvml", True)
    assert there.detail == "2 figures, measured: 0.energy, 0.clock_sm"
    assert gone == Finding("sensor", "nvml.0.power_instant", False, "", "not supported", "use the counter")


def test_a_probe_that_is_not_there_is_missing_with_its_remedy() -> None:
    (gone,) = probe_findings(NullProbe("rapl", "no zones", "measure on the host"))
    assert (gone.name, gone.present, gone.reason, gone.remedy) == ("rapl", False, "no zones", "measure on the host")


def test_everything_is_looked_at_and_what_is_missing_has_a_reason() -> None:
    found = {(finding.group, finding.name): finding for finding in diagnose()}
    assert {("runtime", name) for name in registry.names()} <= set(found)
    assert {name for group, name in found if group == "core"} == set(doctor._CORE)
    assert found["runtime", "litert"].present and "ai-edge-litert" in found["runtime", "litert"].detail
    assert any(name.startswith("rapl") for group, name in found if group == "sensor")
    for finding in found.values():
        assert bool(finding.detail) == finding.present
        assert finding.present or finding.reason


def test_a_runtime_without_its_packages_and_a_core_that_is_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lacking:
        packages = ()

        def require(self) -> None:
            raise MissingExtraError("language models need torch: pip install 'qprof[gptq]'")

    real = importlib.import_module

    def without_core(name: str, *rest: Any) -> Any:
        if name == "qprof.core._topk":
            raise ImportError("no such module")
        return real(name, *rest)

    monkeypatch.setattr(registry, "names", lambda: ["torch_lm"])
    monkeypatch.setattr(registry, "get", lambda name: Lacking())
    monkeypatch.setattr(doctor.importlib, "import_module", without_core)
    found = {finding.name: finding for finding in diagnose()}
    assert not found["torch_lm"].present
    assert (found["torch_lm"].reason, found["torch_lm"].remedy) == (
        "language models need torch",
        "pip install 'qprof[gptq]'",
    )
    assert not found["_topk"].present and "not built" in str(found["_topk"].reason)


@pytest.mark.parametrize("version", ["3.3.2", None])
def test_codecarbon_is_there_or_missing(version: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "find_codecarbon", lambda: version)
    (found,) = (finding for finding in doctor._sensors() if finding.name == "codecarbon")
    assert found.present == (version is not None)
    if version is None:
        assert (found.reason, found.remedy) == ("CodeCarbon is not installed", "pip install 'qprof[energy]'")
    else:
        assert "CodeCarbon 3.3.2" in found.detail and "estimated" in found.detail


def test_the_table_says_in_full_what_to_do() -> None:
    findings = [
        Finding("sensor", "host", True, "14 figures"),
        Finding("sensor", "nvml", False, "", "no driver answers", "install one"),
    ]
    text = render(doctor_table(findings), width=80, color=False)
    assert "1 there, 1 missing" in text
    assert "nvml: no driver answers: install one" in text


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    assert "litert" in capsys.readouterr().out
    assert main(["doctor", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"sensor", "runtime", "core"} == {row["group"] for row in rows}
