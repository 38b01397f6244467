"""More threads than cores."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from planted.cases_speed import conv, switches
from planted.litert_machine import Machine
from planted.world import World, hypotheses
from qprof.findings.causes.base import Hypothesis
from qprof.findings.causes.thread_starvation import CAUSE, usable_cores
from qprof.record.machine import Machine as MachineFacts


def world(threads: int, per_s: float, **more: Any) -> World:
    machine = Machine([conv()], threads_factor={4: 0.4}, readings={threads: switches(per_s)})
    return machine.world({"name": "int8", "threads": threads}, **more)


def found(world: World, folder: Path) -> list[Hypothesis]:
    return [claim.hypothesis for claim in hypotheses(world.record(folder), [CAUSE])]


@pytest.mark.parametrize(
    ("machine", "cores"),
    [
        ({"affinity": [0, 1, 5], "logical_cpus": 8, "cgroup_cpus": None}, 3),
        ({"affinity": [0, 1, 5], "logical_cpus": 8, "cgroup_cpus": 2.5}, 2),
        ({"affinity": None, "logical_cpus": 8, "cgroup_cpus": 16.0}, 8),
        ({"affinity": [0, 1], "cgroup_cpus": 0.5}, 1),
        ({"logical_cpus": None}, None),
        ({}, None),
    ],
)
def test_cores_that_a_run_may_use(machine: dict[str, Any], cores: int | None) -> None:
    assert usable_cores(MachineFacts(**machine)) == cores


def test_a_thread_for_each_core_is_to_be_faster(tmp_path: Path) -> None:
    (hypothesis,) = found(world(16, 400.0), tmp_path / "run")
    assert hypothesis.intervention is not None
    (section,) = hypothesis.intervention.variants
    assert (section["name"], section["threads"]) == ("int8+4-threads", 4)
    prediction = hypothesis.intervention.prediction
    assert prediction.relative and (prediction.a, prediction.b) == ("int8", "int8+4-threads")
    # Four times too many, and each that loses its core, 400 times a second, waits for three others, 3 ms each.
    most = -math.log(4.0 * (1.0 + 400.0 * 3e-3 * 3.0))
    assert prediction.value == pytest.approx(most / 2.0, rel=0.02) and prediction.high < 0.0
    assert prediction.low == pytest.approx(most / 2.0 * (1.0 + 1.96 / math.sqrt(3.0)), rel=0.02)
    assert "16 threads on 4 cores, which were taken from them 400 times a second" in hypothesis.claim
    assert {e.what: e.value for e in hypothesis.evidence}["CPU time per second"] == pytest.approx(3.9)


@pytest.mark.parametrize(("threads", "per_s"), [(4, 400.0), (2, 400.0), (16, 5.0)])
def test_threads_that_have_their_cores_are_no_cause(tmp_path: Path, threads: int, per_s: float) -> None:
    assert found(world(threads, per_s), tmp_path / "run") == []


def test_without_the_counters_there_is_no_evidence(tmp_path: Path) -> None:
    assert found(Machine([conv()]).world({"name": "int8", "threads": 16}), tmp_path / "run") == []


def test_threads_of_the_host_do_not_bind_an_accelerator(tmp_path: Path) -> None:
    on_cpu = world(16, 400.0)
    on_gpu = replace(on_cpu, variants=[replace(each, options={"device": "cuda"}) for each in on_cpu.variants])
    assert found(on_gpu, tmp_path / "run") == []
