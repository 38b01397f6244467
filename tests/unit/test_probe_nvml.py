"""NVML over a fake driver that replays power whose energy is known."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from fake_clock import FakeClock
from qprof.probes.base import NullProbe, Probe, ProbeError, SensorGoneError
from qprof.probes.nvml import FAST_FIGURES, SLOWED_BITS, open_nvml, throttle_reasons
from sensor_fakes import (
    LIBRARY_NOT_FOUND,
    NO_DATA,
    NO_PERMISSION,
    NOT_SUPPORTED,
    Averaged,
    Constant,
    FakeGpu,
    FakeNvml,
    PartTime,
    Ramp,
    Signal,
    Square,
    SteppedCounter,
)

SIGNALS = [Constant(300.0), Ramp(100.0, 20.0), Square(80.0, 700.0, 0.31)]


def opened(*gpus: FakeGpu, clock: FakeClock | None = None, environ: dict[str, str] | None = None, **rest: Any) -> Probe:
    ticking = clock or FakeClock(round(20e9))
    return open_nvml(module=FakeNvml(ticking, gpus), environ=environ or {}, clock=ticking, **rest)


def values(probe: Probe) -> dict[str, float]:
    return {probe.channels[position].name: value for position, _, value in probe.read()}


def trace(probe: Probe, clock: FakeClock, seconds: float, rate_hz: float) -> dict[str, np.ndarray[Any, Any]]:
    rows: dict[str, list[float]] = {channel.name: [] for channel in probe.channels}
    for _ in range(round(seconds * rate_hz)):
        for name, value in values(probe).items():
            rows[name].append(value)
        clock.advance(1 / rate_hz)
    return {name: np.array(row) for name, row in rows.items()}


def test_every_figure_of_a_gpu() -> None:
    probe = opened(FakeGpu(Constant(300.0)))
    assert values(probe) == {
        "nvml.0.energy": 6_000_000.0,
        "nvml.0.power_instant": 300.0,
        "nvml.0.power_average": 300.0,
        "nvml.0.utilization": 97.0,
        "nvml.0.memory_utilization": 41.0,
        "nvml.0.clock_sm": 1980.0,
        "nvml.0.clock_memory": 3201.0,
        "nvml.0.throttle": 4.0,
        "nvml.0.temperature": 61.0,
        "nvml.0.memory_used": float(40 << 30),
    }
    assert not probe.missing
    energy = probe.channels[0]
    assert (energy.unit, energy.kind, energy.provenance) == ("mJ", "counter", "measured")
    assert energy.sensor == "NVIDIA H200 (GPU-11111111-aaaa) total energy since driver load"
    assert {channel.kind for channel in probe.channels[1:]} == {"gauge"}


def test_only_the_figures_that_are_asked_for() -> None:
    names = [channel.name for channel in opened(FakeGpu(), figures=FAST_FIGURES, name="nvml fast").channels]
    assert names == ["nvml.0.energy", "nvml.0.power_instant", "nvml.0.power_average"]
    with pytest.raises(ValueError, match="fan"):
        opened(FakeGpu(), figures=("fan",))


@pytest.mark.parametrize("signal", SIGNALS)
def test_the_replayed_counter_tells_the_true_energy_to_one_update(signal: Signal) -> None:
    clock = FakeClock(round(10e9))
    probe = opened(FakeGpu(signal), clock=clock)
    energy = trace(probe, clock, 7, 50)["nvml.0.energy"]
    told_j = (energy[-1] - energy[0]) / 1000
    assert told_j == pytest.approx(signal.joules(16.98) - signal.joules(10.0), abs=0.1 * 700 * 2)
    assert len(set(np.flatnonzero(np.diff(energy)) % 5)) == 1  # 100 ms between the steps of a counter read at 50 Hz


@pytest.mark.parametrize("signal", SIGNALS)
def test_the_average_lags_and_keeps_the_energy(signal: Signal) -> None:
    clock = FakeClock(round(10e9))
    watts = trace(opened(FakeGpu(signal), clock=clock), clock, 8, 100)["nvml.0.power_average"]
    assert watts.mean() * 8 == pytest.approx(signal.joules(17.5) - signal.joules(9.5), rel=0.02)


def test_part_time_sampling_can_miss_a_load() -> None:
    """A load whose period is the sensor's is seen always or never: the fake must have the fault of the real ones."""
    clock = FakeClock(round(10e9))
    signal = Square(100.0, 700.0, 0.1, 0.25)
    gpu = FakeGpu(signal, instant=PartTime(signal))
    assert trace(opened(gpu, clock=clock), clock, 2, 100)["nvml.0.power_instant"].mean() == pytest.approx(
        700.0, rel=0.01
    )
    gpu = FakeGpu(signal, instant=PartTime(signal, phase_s=0.05))
    assert trace(opened(gpu, clock=clock), clock, 2, 100)["nvml.0.power_instant"].mean() == pytest.approx(
        100.0, rel=0.01
    )


def test_a_counter_that_wraps_is_told_as_it_is() -> None:
    clock = FakeClock()
    counter = SteppedCounter(Constant(100.0), start_mj=999_000.0, wraps_at_mj=1_000_000.0)
    energy = trace(opened(FakeGpu(counter=counter), clock=clock), clock, 1, 20)["nvml.0.energy"]
    assert (energy[0], energy[-1]) == (999_000.0, 89_000.0)
    assert np.flatnonzero(np.diff(energy) < 0).tolist() == [1]  # the first update, of 10 J, goes past the top


@pytest.mark.parametrize(
    ("architecture", "pci_device", "name", "channel"),
    [
        (9, 0x2335, "NVIDIA H200", "nvml.0.power_average"),
        (8, 0x26B5, "NVIDIA L40", "nvml.0.power_average"),
        (7, 0x2230, "NVIDIA RTX A6000", "nvml.0.power_average"),
        (7, 0x20B2, "NVIDIA A100-SXM4-80GB", "nvml.0.power_instant"),
        (7, 0x20B7, "NVIDIA A30", "nvml.0.power_instant"),
        (6, 0x1EB8, "Tesla T4", "nvml.0.power_instant"),
        (5, 0x1DB1, "Tesla V100-SXM2-16GB", "nvml.0.power_instant"),
        (0xFFFFFFFF, 0x2335, "GPU of tomorrow", "nvml.0.power"),
    ],
)
@pytest.mark.parametrize("why", [{"nvmlDeviceGetFieldValues": 13}, {185: NOT_SUPPORTED, 186: NOT_SUPPORTED}])
def test_power_without_fields_is_called_what_the_architecture_makes_it(
    architecture: int, pci_device: int, name: str, channel: str, why: dict[str | int, int]
) -> None:
    gpu = FakeGpu(Constant(250.0), name=name, architecture=architecture, pci_device=pci_device, refuses=why)
    assert values(opened(gpu, figures=("power",))) == {channel: 250.0}


@pytest.mark.parametrize(
    ("name", "channel"),
    [
        ("NVIDIA A100-PCIE-40GB", "power_instant"),
        ("NVIDIA RTX A1000", "power_average"),
        ("NVIDIA RTX A3000 Laptop GPU", "power_average"),
    ],
)
def test_ampere_is_told_apart_by_name_where_pci_is_silent(name: str, channel: str) -> None:
    gpu = FakeGpu(name=name, architecture=7, refuses={"nvmlDeviceGetFieldValues": 13, "nvmlDeviceGetPciInfo": 3})
    assert [one.name for one in opened(gpu, figures=("power",)).channels] == [f"nvml.0.{channel}"]


def test_one_power_field_alone() -> None:
    probe = opened(FakeGpu(refuses={185: NOT_SUPPORTED}), figures=("power",))
    assert [channel.name for channel in probe.channels] == ["nvml.0.power_instant"]
    (missing,) = probe.missing
    assert missing.probe == "nvml.0.power_average" and "NVML error 3" in missing.reason


@pytest.mark.parametrize(
    ("function", "code", "figure", "remedy"),
    [
        ("nvmlDeviceGetTotalEnergyConsumption", NOT_SUPPORTED, "energy", "Volta or newer"),
        ("nvmlDeviceGetTotalEnergyConsumption", 13, "energy", "update the NVIDIA driver"),
        ("nvmlDeviceGetUtilizationRates", NO_PERMISSION, "utilization", "administrator"),
        ("nvmlDeviceGetTemperature", 999, "temperature", "nvidia-smi -q"),
    ],
)
def test_a_figure_that_is_refused_is_missing_alone(function: str, code: int, figure: str, remedy: str) -> None:
    probe = opened(FakeGpu(refuses={function: code}))
    (missing,) = probe.missing
    assert missing.probe == f"nvml.0.{figure}"
    assert function in missing.reason and remedy in missing.remedy
    assert f"nvml.0.{figure}" not in values(probe) and len(probe.channels) >= 8


def test_an_old_binding_lacks_functions() -> None:
    clock = FakeClock()
    lacking = ("nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetCurrentClocksEventReasons")
    probe = open_nvml(module=FakeNvml(clock, [FakeGpu()], without=lacking), environ={}, clock=clock)
    assert [(one.probe, one.remedy) for one in probe.missing] == [("nvml.0.energy", "pip install -U nvidia-ml-py")]
    assert values(probe)["nvml.0.throttle"] == 0x20  # by its older name


def test_throttle_reasons_have_names() -> None:
    assert throttle_reasons(0) == []
    assert throttle_reasons(0x44) == ["software power cap", "hardware thermal slowdown"]
    assert throttle_reasons(0x401) == ["idle", "bit 10"]
    assert not SLOWED_BITS & 0x1 and SLOWED_BITS & 0x44 == 0x44


def gpus(*names: str) -> list[FakeGpu]:
    return [FakeGpu(name=name, uuid=f"GPU-{i}{i}{i}{i}-x") for i, name in enumerate(names)]


def indices(probe: Probe) -> list[int]:
    return sorted({int(channel.name.split(".")[1]) for channel in probe.channels})


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, [0, 1, 2]),
        ("1", [1]),
        ("2,0", [0, 2]),
        ("1,-1,2", [1]),
        ("GPU-222", [2]),
        (" 0 , 1", [0, 1]),
        ("0,7", [0]),
    ],
)
def test_cuda_visible_devices(visible: str | None, expected: list[int]) -> None:
    environ = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert indices(opened(*gpus("H200", "H200", "H200"), environ=environ)) == expected


@pytest.mark.parametrize("visible", ["", "-1", "none"])
def test_hidden_gpus_are_a_null_probe(visible: str) -> None:
    probe = opened(*gpus("H200"), environ={"CUDA_VISIBLE_DEVICES": visible})
    assert isinstance(probe, NullProbe)
    assert "hides every GPU" in probe.missing[0].reason


def test_the_order_of_unlike_gpus_is_not_guessed() -> None:
    mixed = gpus("T4", "H200")
    probe = opened(*mixed, environ={"CUDA_VISIBLE_DEVICES": "0"})
    assert indices(probe) == [0, 1]
    assert "CUDA_DEVICE_ORDER=PCI_BUS_ID" in probe.missing[0].remedy
    sure = {"CUDA_VISIBLE_DEVICES": "0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert indices(opened(*mixed, environ=sure)) == [0]
    assert indices(opened(*mixed, environ={"CUDA_VISIBLE_DEVICES": "GPU-111"})) == [1]


def test_a_choice_goes_before_the_environment() -> None:
    probe = opened(*gpus("H200", "H200"), environ={"CUDA_VISIBLE_DEVICES": "0"}, devices=[1, 5])
    assert indices(probe) == [1]
    assert [(one.probe, one.reason) for one in probe.missing] == [("nvml.5", "no GPU 5 answers: NVML reads 2")]


def test_a_split_card_gives_no_energy_of_an_instance() -> None:
    gpu = FakeGpu(mig=True, instances=["MIG-abc"])
    probe = opened(gpu, environ={"CUDA_VISIBLE_DEVICES": "MIG-abc"})
    assert [one.probe for one in probe.missing] == ["nvml.0.energy", "nvml.0.power", "nvml.0.utilization"]
    assert all("split by MIG" in one.reason and "nvidia-smi -i 0 -mig 0" in one.remedy for one in probe.missing)
    assert values(probe)["nvml.0.memory_used"] == 10 << 30
    assert "nvml.0.energy" not in {
        channel.name for channel in opened(gpu).channels
    }  # no instance named: split all the same


def test_a_gpu_that_cannot_be_split_is_whole() -> None:
    assert not opened(FakeGpu(refuses={"nvmlDeviceGetMigMode": NOT_SUPPORTED})).missing


def test_no_binding() -> None:
    present = sys.modules.get("pynvml")
    sys.modules["pynvml"] = None  # type: ignore[assignment]
    try:
        probe = open_nvml()
    finally:
        del sys.modules["pynvml"]
        if present is not None:
            sys.modules["pynvml"] = present
    assert isinstance(probe, NullProbe)
    assert probe.missing[0].remedy == "pip install 'qprof[energy]'"


@pytest.mark.parametrize(
    ("code", "remedy"), [(LIBRARY_NOT_FOUND, "--gpus all"), (9, "modprobe nvidia"), (18, "reboot"), (999, "nvidia-smi")]
)
def test_no_driver(code: int, remedy: str) -> None:
    clock = FakeClock()
    module = FakeNvml(clock, [FakeGpu()], init_code=code)
    probe = open_nvml(module=module, environ={}, clock=clock)
    assert isinstance(probe, NullProbe)
    assert f"NVML code {code}" in probe.missing[0].reason and remedy in probe.missing[0].remedy


def test_a_driver_without_gpus_is_shut_down_again() -> None:
    clock = FakeClock()
    module = FakeNvml(clock, [])
    assert isinstance(open_nvml(module=module, environ={}, clock=clock), NullProbe)
    assert module.opened == 0


def test_power_that_drops_out_leaves_a_gap() -> None:
    clock = FakeClock()
    probe = opened(FakeGpu(dropouts=[(1.0, 1.5)]), clock=clock)
    rows = trace(probe, clock, 3, 10)
    assert len(rows["nvml.0.energy"]) == 30
    assert len(rows["nvml.0.power_instant"]) == 25
    assert [one.probe for one in probe.missing] == ["nvml.0.power"]
    assert "failed 5x" in probe.missing[0].reason and f"NVML error {NO_DATA}" in probe.missing[0].reason


def test_a_lost_gpu_leaves_the_other() -> None:
    clock = FakeClock()
    probe = opened(FakeGpu(uuid="GPU-a", lost_at_s=1.0), FakeGpu(uuid="GPU-b"), clock=clock)
    assert {name.split(".")[1] for name in values(probe)} == {"0", "1"}
    clock.advance(2)
    assert {name.split(".")[1] for name in values(probe)} == {"1"}
    assert len(values(probe)) == 10
    assert {one.probe.split(".")[1] for one in probe.missing} == {"0"}


def test_a_gpu_that_is_lost_before_the_run_is_missing() -> None:
    probe = opened(FakeGpu(uuid="GPU-a", lost_at_s=0.0), FakeGpu(uuid="GPU-b"))
    assert indices(probe) == [1]
    assert [one.probe for one in probe.missing] == ["nvml.0"]


def test_a_driver_that_vanishes() -> None:
    clock = FakeClock()
    module = FakeNvml(clock, [FakeGpu()])
    probe = open_nvml(module=module, environ={}, clock=clock)
    probe.read()
    module.unloaded_at_s = 1.0
    clock.advance(2)
    with pytest.raises(SensorGoneError, match="no part answers"):
        probe.read()
    probe.close()
    probe.close()


def test_closing_gives_the_driver_back_once() -> None:
    clock = FakeClock()
    module = FakeNvml(clock, [FakeGpu()])
    first, second = (open_nvml(module=module, environ={}, clock=clock, name=name) for name in ("a", "b"))
    first.close()
    first.close()
    assert module.opened == 1
    second.close()
    assert module.opened == 0


def test_the_fakes_know_their_energy() -> None:
    """The integral of each signal, by brute force."""
    times = np.arange(0, 3, 1e-4) + 5e-5
    for signal in (*SIGNALS, Square(1.0, 9.0, 0.7, 0.2)):
        assert sum(signal.watts(t) for t in times) * 1e-4 == pytest.approx(signal.joules(3.0), rel=1e-3)
        assert Averaged(signal, 0.5, 0.2).watts(2.0) == pytest.approx(
            np.mean([signal.watts(t) for t in np.arange(1.3, 1.8, 1e-4)]), rel=2e-3
        )


def test_errors_are_qprofs() -> None:
    assert issubclass(SensorGoneError, ProbeError)
