"""NVIDIA GPUs through NVML (nvidia-ml-py; https://docs.nvidia.com/deploy/nvml-api/): energy, power, clocks and more.

Power has two meanings, told by the channel's name: "power_instant", and "power_average", which is a mean over the
last second. nvmlDeviceGetPowerUsage gives the mean on Ampere and newer except GA100, the instant elsewhere. NVML
counts GPUs in the order of the PCI bus and ignores CUDA_VISIBLE_DEVICES, which is therefore read here.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from qprof.probes.base import NullProbe, Part, PartsProbe, Probe, ProbeError, SensorGoneError
from qprof.probes.clock import Clock
from qprof.probes.nvml_devices import choose
from qprof.probes.nvml_driver import (
    DRIVER_NOT_LOADED,
    FUNCTION_NOT_FOUND,
    GONE,
    LIBRARY_NOT_FOUND,
    NO_PERMISSION,
    NOT_SUPPORTED,
    UNINITIALIZED,
    VERSION_MISMATCH,
    Device,
    Nvml,
    RefusedError,
)
from qprof.probes.plan import NvmlPlan, field_refused
from qprof.record.sensors import Channel, Missing

#: What is cheap to read and needs a high rate.
FAST_FIGURES = ("energy", "power")
FIGURES = (*FAST_FIGURES, "utilization", "clocks", "throttle", "temperature", "memory")

#: Bits of the "throttle" channel (nvmlClocksEventReasons, nvml.h).
THROTTLE_BITS = {
    0x001: "idle",
    0x002: "application clocks set",
    0x004: "software power cap",
    0x008: "hardware slowdown",
    0x010: "sync boost",
    0x020: "software thermal slowdown",
    0x040: "hardware thermal slowdown",
    0x080: "hardware power brake",
    0x100: "display clocks set",
}
#: Bits that say that clocks were held down: a window with one of them measures the cooling, not the variant.
SLOWED_BITS = 0x004 | 0x008 | 0x020 | 0x040 | 0x080

# Values of nvml.h; they are part of its ABI.
_AMPERE, _UNKNOWN_ARCHITECTURE = 7, 0xFFFFFFFF
_FIELD_AVERAGE, _FIELD_INSTANT = 185, 186
_CLOCK_SM, _CLOCK_MEMORY, _TEMPERATURE_GPU = 1, 2, 0
_MILLI = 1000.0
#: PCI device ids of GA100 (A100, A800, A30, CMP 170HX); the other Ampere chips are GA10x, from 0x2200 on.
_GA100_IDS = range(0x2080, 0x2100)
_GA100_NAME = re.compile(r"\b(A100X?|AX?800|A30X?|CMP 170HX)\b")

_INIT_REMEDIES = {
    LIBRARY_NOT_FOUND: "install the NVIDIA driver; start a container with --gpus all, or with the NVIDIA runtime and "
    "NVIDIA_DRIVER_CAPABILITIES=compute,utility",
    DRIVER_NOT_LOADED: "sudo modprobe nvidia; see `nvidia-smi` and `sudo dmesg | grep NVRM`",
    NO_PERMISSION: "make /dev/nvidiactl and /dev/nvidia* readable for this user (group video), or pass them into the "
    "container",
    VERSION_MISMATCH: "the driver was updated beneath a loaded module: reboot, or unload and load the nvidia modules",
}
_REMEDIES = {
    "energy": "the counter needs Volta or newer; the power's integral stands in",
    "power": "this board has no power sensor that NVML reads; use a meter at the wall",
    "utilization": "none on this device; torch's own times tell how busy it was",
    "clocks": "none on this device",
    "throttle": "none on this device; look at its temperature and power instead",
    "temperature": "none on this device",
    "memory": "none on this device; torch.cuda.memory_allocated tells of the process",
}
_MIG_REMEDY = "let no other instance work and read the whole card, or turn MIG off: sudo nvidia-smi -i {index} -mig 0"
#: Figures of the whole card that an instance has no part of its own in.
_OF_THE_CARD = ("energy", "power", "utilization")

_Reader = Callable[[], Sequence[float]]


def throttle_reasons(mask: int) -> list[str]:
    """Names of the bits of a "throttle" reading; a bit that is not known by its number."""
    mask = int(mask)
    known = [name for bit, name in THROTTLE_BITS.items() if mask & bit]
    rest = mask & ~sum(THROTTLE_BITS)
    return known + [f"bit {bit}" for bit in range(rest.bit_length()) if rest >> bit & 1]


def open_nvml(
    devices: Sequence[int | str] | None = None,
    *,
    figures: Collection[str] = FIGURES,
    name: str = "nvml",
    module: Any | None = None,
    environ: Mapping[str, str] = os.environ,
    clock: Clock | None = None,
) -> Probe:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves, or `devices` (NVML indices or UUIDs); a `NullProbe` where none is.

    `figures` are of `FIGURES`. `module` stands for pynvml. Channels are called "nvml.0.energy" with the NVML index.
    """
    unknown = set(figures) - set(FIGURES)
    if unknown:
        raise ValueError(f"no such figures of NVML: {', '.join(sorted(unknown))}")
    if module is None:
        try:
            module = importlib.import_module("pynvml")
        except ImportError:
            return NullProbe(name, "nvidia-ml-py is not installed", "pip install 'qprof[energy]'")
    nvml = Nvml(module)
    try:
        nvml.call("nvmlInit")
    except ProbeError as error:
        return NullProbe(name, f"no NVIDIA driver answers: {error}", _init_remedy(error))
    missing: list[Missing] = []
    try:
        chosen = choose(nvml, devices, environ, missing)
        parts = [part for device in chosen for part in _parts(nvml, device, figures, missing)]
    except ProbeError as error:
        nvml.shut_down()
        return NullProbe(name, str(error), _init_remedy(error))
    if not parts:
        nvml.shut_down()
        first = missing[0] if missing else Missing(name, "NVML finds no GPU", "see `nvidia-smi -L`")
        return NullProbe(name, first.reason, first.remedy)
    return PartsProbe(name, parts, missing, clock, nvml.shut_down)


def _init_remedy(error: ProbeError) -> str:
    code = error.code if isinstance(error, RefusedError) else None
    return _INIT_REMEDIES.get(code or 0, "see whether `nvidia-smi` works")


# --- which figures


def _parts(nvml: Nvml, device: Device, figures: Collection[str], missing: list[Missing]) -> list[Part]:
    """The figures that the device has; the others go to `missing`."""
    parts: list[Part] = []
    for figure in figures:
        name = f"nvml.{device.index}.{figure}"
        if device.mig and figure in _OF_THE_CARD:
            reason = f"{device.label} is split by MIG: the sensor is the whole card's, shared by its instances"
            missing.append(Missing(name, reason, _MIG_REMEDY.format(index=device.index)))
            continue
        try:
            parts.append(_BUILDERS[figure](nvml, device, missing))
        except ProbeError as error:
            missing.append(Missing(name, f"{device.label}: {error}", _figure_remedy(figure, error)))
    return parts


def _figure_remedy(figure: str, error: ProbeError) -> str:
    code = error.code if isinstance(error, RefusedError) else UNINITIALIZED
    if code is None:
        return "pip install -U nvidia-ml-py"
    if code == FUNCTION_NOT_FOUND:
        return "update the NVIDIA driver: it is older than this figure"
    if code == NO_PERMISSION:
        return "the administrator has withheld it from users: run as root, or ask for it to be allowed"
    return _REMEDIES[figure] if code == NOT_SUPPORTED else "see whether `nvidia-smi -q` shows it"


def _part(
    figure: str, device: Device, channels: Sequence[tuple[str, str, str, str]], read: _Reader, plan: NvmlPlan | None
) -> Part:
    """A part of channels (suffix, unit, kind, what it is), read once to see whether the device has them."""
    made = tuple(
        Channel(f"nvml.{device.index}.{suffix}", unit, kind, "measured", f"{device.label} {what}")
        for suffix, unit, kind, what in channels
    )
    read()
    return Part(f"nvml.{device.index}.{figure}", made, read, "see whether `nvidia-smi` still works", plan=plan)


def _energy(nvml: Nvml, device: Device, missing: list[Missing]) -> Part:
    def read() -> tuple[float]:
        return (float(nvml.call("nvmlDeviceGetTotalEnergyConsumption", device.handle)),)

    plan = nvml.plan("counter", "nvmlDeviceGetTotalEnergyConsumption", device.handle)
    return _part("energy", device, [("energy", "mJ", "counter", "total energy since driver load")], read, plan)


def _power(nvml: Nvml, device: Device, missing: list[Missing]) -> Part:
    """By field where the driver has it, so that what is read is known; else as the architecture has it."""
    wanted = {_FIELD_INSTANT: ("power_instant", "power now"), _FIELD_AVERAGE: ("power_average", "mean power over 1 s")}
    fields: list[int] = []
    refusals: list[str] = []
    for field, (suffix, _) in wanted.items():
        try:
            _field_watts(nvml, device, [field])
            fields.append(field)
        except ProbeError as error:
            refusals.append(f"{suffix}: {error}")
    if not fields:
        return _power_usage(nvml, device)
    for refusal in refusals:
        suffix, _, reason = refusal.partition(": ")
        missing.append(
            Missing(f"nvml.{device.index}.{suffix}", reason, "a newer driver or GPU; the other power is read")
        )
    channels = [(wanted[field][0], "W", "gauge", wanted[field][1]) for field in fields]
    plan = nvml.plan("fields", "nvmlDeviceGetFieldValues", device.handle, fields, _MILLI)
    return _part("power", device, channels, lambda: _field_watts(nvml, device, fields), plan)


def _field_watts(nvml: Nvml, device: Device, fields: list[int]) -> list[float]:
    watts: list[float] = []
    for value in nvml.call("nvmlDeviceGetFieldValues", device.handle, fields):
        if value.nvmlReturn != 0:
            text = field_refused(value.fieldId, value.nvmlReturn)
            raise SensorGoneError(text) if value.nvmlReturn in GONE else RefusedError(text, value.nvmlReturn)
        watts.append(value.value.uiVal / _MILLI)
    return watts


def _power_usage(nvml: Nvml, device: Device) -> Part:
    def read() -> tuple[float]:
        return (nvml.call("nvmlDeviceGetPowerUsage", device.handle) / _MILLI,)

    averaged = _usage_is_averaged(nvml, device)
    suffix, what = {
        True: ("power_average", "mean power over 1 s"),
        False: ("power_instant", "power now"),
        None: ("power", "power, of an architecture that is not told: now, or a mean over 1 s"),
    }[averaged]
    plan = nvml.plan("gauge", "nvmlDeviceGetPowerUsage", device.handle, scale=_MILLI)
    return _part("power", device, [(suffix, "W", "gauge", what)], read, plan)


def _usage_is_averaged(nvml: Nvml, device: Device) -> bool | None:
    """What nvmlDeviceGetPowerUsage means here (its documentation); `None` where the architecture is not told."""
    try:
        architecture = nvml.call("nvmlDeviceGetArchitecture", device.handle)
    except RefusedError:
        return None
    if architecture == _UNKNOWN_ARCHITECTURE:
        return None
    return architecture > _AMPERE or (architecture == _AMPERE and not _is_ga100(nvml, device))


def _is_ga100(nvml: Nvml, device: Device) -> bool:
    try:
        return nvml.call("nvmlDeviceGetPciInfo", device.handle).pciDeviceId >> 16 in _GA100_IDS
    except RefusedError:
        return _GA100_NAME.search(device.name) is not None


def _utilization(nvml: Nvml, device: Device, missing: list[Missing]) -> Part:
    def read() -> tuple[float, float]:
        rates = nvml.call("nvmlDeviceGetUtilizationRates", device.handle)
        return float(rates.gpu), float(rates.memory)

    channels = [
        ("utilization", "%", "gauge", "share of the last sampling period in which a kernel ran"),
        ("memory_utilization", "%", "gauge", "share of the last sampling period in which memory was used"),
    ]
    plan = nvml.plan("utilization", "nvmlDeviceGetUtilizationRates", device.handle)
    return _part("utilization", device, channels, read, plan)


def _clocks(nvml: Nvml, device: Device, missing: list[Missing]) -> Part:
    clocks = (_CLOCK_SM, _CLOCK_MEMORY)

    def read() -> tuple[float, ...]:
        return tuple(float(nvml.call("nvmlDeviceGetClockInfo", device.handle, clock)) for clock in clocks)

    channels = [("clock_sm", "MHz", "gauge", "SM clock"), ("clock_memory", "MHz", "gauge", "memory clock")]
    plan = nvml.plan("of_sort", "nvmlDeviceGetClockInfo", device.handle, clocks)
    return _part("clocks", device, channels, read, plan)


def _throttle(nvml: Nvml, device: Device, missing: list[Missing]) -> Part:
    try:
        return _throttle_by(nvml, device, "nvmlDeviceGetCurrentClocksEventReasons")
    except RefusedError as error:
        if error.code not in (None, FUNCTION_NOT_FOUND):
            raise
        return _throttle_by(nvml, device, "nvmlDeviceGetCurrentClocksThrottleReasons")  # before driver 535


def _throttle_by(nvml: Nvml, device: Device, function: str) -> Part:
    def read() -> tuple[float]:
        return (float(nvml.call(function, device.handle)),)

    channels = [("throttle", "1", "gauge", "reasons that hold the clocks, a bit each")]
    return _part("throttle", device, channels, read, nvml.plan("counter", function, device.handle))


def _temperature(nvml: Nvml, device: Device, missing: list[Missing]) -> Part:
    def read() -> tuple[float]:
        return (float(nvml.call("nvmlDeviceGetTemperature", device.handle, _TEMPERATURE_GPU)),)

    plan = nvml.plan("of_sort", "nvmlDeviceGetTemperature", device.handle, (_TEMPERATURE_GPU,))
    return _part("temperature", device, [("temperature", "C", "gauge", "temperature of the GPU")], read, plan)


def _memory(nvml: Nvml, device: Device, missing: list[Missing]) -> Part:
    """Of the MIG instance where one was asked for."""
    handle = device.handle if device.instance is None else device.instance

    def read() -> tuple[float]:
        return (float(nvml.call("nvmlDeviceGetMemoryInfo", handle).used),)

    of = "" if device.instance is None else " of its MIG instance"
    channels = [("memory_used", "bytes", "gauge", f"memory in use{of}, all processes")]
    return _part("memory", device, channels, read, nvml.plan("memory", "nvmlDeviceGetMemoryInfo", handle))


_BUILDERS: dict[str, Callable[[Nvml, Device, list[Missing]], Part]] = {
    "energy": _energy,
    "power": _power,
    "utilization": _utilization,
    "clocks": _clocks,
    "throttle": _throttle,
    "temperature": _temperature,
    "memory": _memory,
}
