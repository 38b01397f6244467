"""A clock that was held down foretells by how much; the latencies of the same rounds agree or do not."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from planted.cases_environment import QUIET, gpu, host, pair
from planted.cases_language import ceilings
from planted.world import PlantedOp, PlantedVariant, Readings, World
from qprof.findings.causes.base import Finding
from qprof.findings.causes.throttling import CAUSE
from qprof.record.readings import Reading
from qprof.record.sensors import Channel

SLOW = {4: 2400.0, 5: 2400.0, 6: 2000.0}
ON_GPU = {"device": "cuda:0"}


def explained(folder: Path, world: World) -> list[Finding]:
    return world.explain(folder, causes=[CAUSE])


def on_processor(power: float, mhz: dict[int, float] = SLOW) -> World:
    """Latency goes as 1 / clock ** power."""
    noise = replace(QUIET, by_round={round_: (3000.0 / clock) ** power for round_, clock in mhz.items()})
    return World(pair(readings=host({}, mhz)), noise)


@pytest.mark.parametrize(
    ("power", "status"),
    [(1.0, "consistent"), (0.7, "consistent"), (0.0, "inconclusive"), (3.0, "refuted"), (-1.0, "refuted")],
)
def test_latency_must_follow_the_clock(tmp_path: Path, power: float, status: str) -> None:
    (finding,) = explained(tmp_path, on_processor(power))
    assert finding.status == status, finding
    prediction = finding.hypothesis.intervention.prediction
    # Without ceilings, memory may have any part of it.
    ratio = math.log(3000.0 / (2400.0 * 2400.0 * 2000.0) ** (1 / 3))
    assert prediction.value == pytest.approx(ratio / 2.0, abs=0.01)
    assert prediction.high == pytest.approx(ratio / 2.0 * (1.0 + 1.96 / math.sqrt(3.0)), abs=0.01)
    mhz = re.search(r"in rounds 5 to 7 \((\d+) MHz, (\d+) MHz in the others\)", finding.hypothesis.claim)
    assert [float(value) for value in mhz.groups()] == pytest.approx([2259.0, 3000.0], rel=0.003)


@pytest.mark.parametrize("memory_us", [0.0, 240.0])
def test_what_memory_takes_keeps_its_pace(tmp_path: Path, memory_us: float) -> None:
    """A latency of 480 us that goes as 1 / clock whole, of which memory would take so much at its ceiling."""
    ops = [PlantedOp("conv", "CONV_2D", 460.0, weight_bytes=int(1e4 * memory_us), activation_bytes=0, macs=0)]
    world = on_processor(1.0)
    variants = [replace(variant, ops=ops) for variant in world.variants]
    manifest = {"ceilings": ceilings("litert")}
    (finding,) = explained(tmp_path, replace(world, variants=variants, manifest=manifest))
    prediction = finding.hypothesis.intervention.prediction
    longer = 3000.0 / (2400.0 * 2400.0 * 2000.0) ** (1 / 3) - 1.0
    least, most = math.log1p((1.0 - memory_us / 480.0) * longer), math.log1p(longer)
    assert prediction.value == pytest.approx((least + most) / 2.0, abs=0.01)
    step = 100.0 / math.sqrt(12.0)
    error = math.hypot((most - least) / math.sqrt(12.0), step / 2259.0, step / 3000.0)
    assert prediction.high - prediction.value == pytest.approx(1.96 * error, abs=0.003)


def test_small_changes_of_the_clock_are_none(tmp_path: Path) -> None:
    assert explained(tmp_path, on_processor(1.0, {2: 2900.0, 3: 2880.0, 4: 2900.0})) == []
    assert explained(tmp_path / "one", on_processor(1.0, {2: 2000.0})) == []


def test_a_processor_without_a_clock_says_nothing(tmp_path: Path) -> None:
    noise = replace(QUIET, by_round={2: 1.5, 3: 1.5})
    assert explained(tmp_path, World(pair(readings=host({})), noise)) == []


def on_gpu(read: Readings, rounds: tuple[int, ...] = (2, 3, 7), factor: float = 1.65, **changes: object) -> World:
    variants = pair(readings=read, options=ON_GPU)
    return World(variants, replace(QUIET, by_round=dict.fromkeys(rounds, factor)), **changes)  # type: ignore[arg-type]


def test_a_gpu_says_why(tmp_path: Path) -> None:
    clocks = dict.fromkeys((2, 3, 7), 1200.0)
    (finding,) = explained(tmp_path, on_gpu(gpu(clocks, clocks, 0x60)))
    assert finding.status == "consistent"
    assert "hardware thermal slowdown, software thermal slowdown" in finding.hypothesis.claim
    assert finding.hypothesis.evidence[0].value == pytest.approx(1200.0)
    assert finding.hypothesis.evidence[0].source == "readings.parquet, nvml.0.clock_sm"


def test_a_processors_clock_is_not_that_of_a_gpu(tmp_path: Path) -> None:
    slow = dict.fromkeys((2, 3, 7), 1500.0)
    assert explained(tmp_path, on_gpu(host({}, slow))) == []


def test_bits_without_a_clock_stay_a_hypothesis(tmp_path: Path) -> None:
    (finding,) = explained(tmp_path, on_gpu(gpu(None, (2, 3, 7), 0x4)))
    assert finding.status == "hypothesis" and "the clock itself was not read" in finding.because
    assert "in rounds 3 to 4 and 8; software power cap" in finding.hypothesis.claim
    assert finding.hypothesis.evidence[0].value == pytest.approx(0.3)
    idle = gpu(None, (), 0x4)
    assert explained(tmp_path / "idle", on_gpu(idle)) == []


def test_bits_with_a_full_clock_are_no_cause(tmp_path: Path) -> None:
    assert explained(tmp_path, on_gpu(gpu({}, (2, 3, 7), 0x4), factor=1.0)) == []


def test_another_gpu_of_the_machine_does_not_count(tmp_path: Path) -> None:
    clocks = dict.fromkeys((2, 3, 7), 1200.0)
    first = gpu({}, ())
    second = gpu(clocks, clocks)

    def read(round_: int, start_ns: int, end_ns: int) -> list[Reading]:
        other = [replace(r, probe=r.probe.replace(".0.", ".1.")) for r in second(round_, start_ns, end_ns)]
        return [*first(round_, start_ns, end_ns), *other]

    names = ("clock_sm", "throttle")
    channels = [
        asdict(Channel(f"nvml.{i}.{name}", "1", "gauge", "measured", f"NVIDIA (GPU-{i}) {name}"))
        for i in (0, 1)
        for name in names
    ]

    def ran_on(uuid: str) -> World:
        return on_gpu(read, manifest={"sensors": {"device_uuid": uuid, "channels": channels}})

    assert explained(tmp_path / "0", ran_on("GPU-0")) == []
    (finding,) = explained(tmp_path / "1", ran_on("GPU-1"))
    assert finding.status == "consistent" and "nvml.1.clock_sm" in finding.hypothesis.evidence[0].source


def test_the_baseline_is_looked_at_where_the_variant_ran_at_full_clock(tmp_path: Path) -> None:
    factors = {round_: 3000.0 / clock for round_, clock in SLOW.items()}
    first, second = pair()
    slowed = PlantedVariant(**{**vars(first), "readings": host({}, SLOW), "by_round": factors})
    (finding,) = explained(tmp_path, World([slowed, second], QUIET))
    assert finding.status == "consistent" and "the p50 of float32 is" in finding.hypothesis.claim
