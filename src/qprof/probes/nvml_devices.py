"""Which of a machine's GPUs are read: those that the process can use, by the numbers that CUDA gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qprof.probes.base import ProbeError
from qprof.probes.nvml_driver import (
    Device,
    Nvml,
    RefusedError,
    as_text,
)
from qprof.record.sensors import Missing

# --- which devices


def choose(
    nvml: Nvml, devices: Sequence[int | str] | None, environ: Mapping[str, str], missing: list[Missing]
) -> list[Device]:
    everyone = _everyone(nvml, missing)
    wanted: Sequence[int | str]
    if devices is not None:
        wanted = devices
    elif "CUDA_VISIBLE_DEVICES" in environ:
        visible = environ["CUDA_VISIBLE_DEVICES"].strip()
        wanted = _visible(visible)
        if not wanted:
            missing.append(
                Missing("nvml", f"CUDA_VISIBLE_DEVICES={visible!r} hides every GPU", "unset CUDA_VISIBLE_DEVICES")
            )
        elif _order_is_unknown(wanted, everyone, environ):
            missing.append(
                Missing(
                    "nvml",
                    f"CUDA_VISIBLE_DEVICES={visible} counts in CUDA's order, fastest first, which NVML does not know: "
                    "every GPU is read",
                    "export CUDA_DEVICE_ORDER=PCI_BUS_ID, or name the GPU by its UUID (nvidia-smi -L)",
                )
            )
            return everyone
    else:
        return everyone
    chosen: dict[tuple[int, str], Device] = {}
    for one in wanted:
        try:
            device = _find(nvml, one, everyone)
        except ProbeError as error:
            missing.append(Missing(f"nvml.{one}", str(error), "see `nvidia-smi -L` for what there is"))
            continue
        if any(device.index == index for index, _ in chosen):
            continue  # a second instance of the same card shares its sensors
        chosen[device.index, str(one)] = device
    return list(chosen.values())


def _everyone(nvml: Nvml, missing: list[Missing]) -> list[Device]:
    """Every GPU that answers; a lost one goes to `missing`."""
    answering: list[Device] = []
    for index in range(nvml.call("nvmlDeviceGetCount")):
        try:
            answering.append(_device(nvml, index, nvml.call("nvmlDeviceGetHandleByIndex", index), None))
        except ProbeError as error:
            remedy = "see `nvidia-smi` and `sudo dmesg | grep NVRM`; a lost GPU needs a reset or a reboot"
            missing.append(Missing(f"nvml.{index}", str(error), remedy))
    return answering


def _visible(text: str) -> list[int | str]:
    """What CUDA takes from the variable: entries up to the first that is not valid (CUDA C++ Programming Guide)."""
    entries: list[int | str] = []
    for entry in (part.strip() for part in text.split(",")):
        if entry.isdecimal():
            entries.append(int(entry))
        elif entry.startswith(("GPU-", "MIG-")):
            entries.append(entry)
        else:
            break
    return entries


def _order_is_unknown(wanted: Sequence[int | str], everyone: list[Device], environ: Mapping[str, str]) -> bool:
    by_number = any(isinstance(one, int) for one in wanted)
    alike = len({device.name for device in everyone}) == 1
    return by_number and not alike and environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID"


def _find(nvml: Nvml, wanted: int | str, everyone: list[Device]) -> Device:
    """Raises `ProbeError` where there is no such device."""
    if isinstance(wanted, int):
        for device in everyone:
            if device.index == wanted:
                return device
        raise ProbeError(f"no GPU {wanted} answers: NVML reads {len(everyone)}")
    if wanted.startswith("MIG-"):
        instance = nvml.call("nvmlDeviceGetHandleByUUID", wanted)
        parent = nvml.call("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", instance)
        return _device(nvml, nvml.call("nvmlDeviceGetIndex", parent), parent, instance)
    matching = [device for device in everyone if device.uuid.startswith(wanted)]  # CUDA allows a prefix
    if len(matching) != 1:
        raise ProbeError(f"{len(matching)} GPUs have a UUID that starts with {wanted}")
    return matching[0]


def _device(nvml: Nvml, index: int, handle: Any, instance: Any | None) -> Device:
    try:
        mig = instance is not None or nvml.call("nvmlDeviceGetMigMode", handle)[0] == 1
    except RefusedError:
        mig = False  # not supported: a GPU that cannot be split
    name, uuid = (as_text(nvml.call(function, handle)) for function in ("nvmlDeviceGetName", "nvmlDeviceGetUUID"))
    return Device(index, handle, name, uuid, mig, instance)
