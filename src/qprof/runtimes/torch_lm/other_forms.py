"""Other forms of a variant of a language model: in another float type, or on a kernel that does not unpack."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from qprof.errors import ModelError, QprofError
from qprof.record.manifest import VariantEntry
from qprof.runtimes.interventions import Impossible, OtherKernel, Section, changed, changed_name, method, model_of
from qprof.runtimes.torch_lm.kernels import DEFAULT, KERNELS, Kernel, choose
from qprof.runtimes.torch_lm.sections import AUTOGPTQ

#: Kernels that do not unpack all weights in every inference, those that are the fastest where they run first.
_FAST = ("marlin", "machete", "exllama-v2", "torch-aten", "torch-fused")
#: What the fast kernels take, all of them: the form that is tried where they do not take a variant's own.
_FAST_BITS, _FAST_GROUP = 4, 64
#: Of the methods whose layers these kernels compute.
_BITS_OF_METHOD = re.compile(r"^((?:gptq|rtn|gptaq|foem)-)(\d)(bit.*)\Z")
_FLOAT = ("float32", "bfloat16", "float16")


def computing_in(entry: VariantEntry, dtype: str) -> Section | Impossible:
    """See `qprof.runtimes.interventions.Interventions.computing_in`."""
    section, now = entry.section, str(entry.options.get("dtype") or "")
    if now == dtype:
        return Impossible(f"it computes in {dtype} already")
    if section.get("library") == AUTOGPTQ:
        return Impossible("AutoGPTQ chooses the type that it computes in")
    kernel = KERNELS.get(str(entry.options.get("kernel") or ""))
    if kernel is not None:
        if dtype not in kernel.dtypes:
            return Impossible(f"kernel {kernel.name} does not compute in {dtype}")
        return changed(section, dtype, dtype=dtype)
    if section.get("file"):
        return changed(section, dtype, dtype=dtype)
    if method(section) not in _FLOAT:
        return Impossible(f"method {method(section)} makes nothing that computes in {dtype}")
    return changed(section, dtype, method=dtype, dtype="")


def wide_from(entry: VariantEntry, name: str) -> Section | Impossible:
    """See `qprof.runtimes.interventions.Interventions.wide_from`."""
    if entry.options.get("kernel"):
        return computing_in(entry, "bfloat16")
    if entry.section.get("parts") or entry.options.get("library") == AUTOGPTQ:
        return Impossible("it has parts of a baseline already, or runs by AutoGPTQ: its modules keep their type")
    own: dict[str, Any] = {key: entry.section[key] for key in ("threads", "batch") if entry.section.get(key)}
    run = {"file": str(model_of(entry)), "dtype": str(entry.options.get("dtype") or ""), "wide_from": name}
    return {**own, **run, "name": changed_name(entry.section, "wide")}


def faster_kernel(entry: VariantEntry) -> OtherKernel | Impossible:
    """See `qprof.runtimes.interventions.Interventions.faster_kernel`."""
    from qprof.runtimes.torch_lm.checkpoint import inspect

    if entry.options.get("kernel") != DEFAULT or entry.section.get("library") == AUTOGPTQ:
        return Impossible("it does not run on the kernel that unpacks its weights in every inference")
    try:
        checkpoint = inspect(model_of(entry))
    except QprofError as error:
        return Impossible(f"what its kernel would have to take is not known: {error}")
    form = checkpoint.quantization
    if form is None:
        return Impossible("it is not quantized")
    asked: dict[str, Any] = {
        "device": entry.device or "cpu",
        "dtype": str(entry.options.get("dtype") or ""),
        "linears": {name: checkpoint.linears[name] for name in checkpoint.linears},
    }
    own = {"bits": form.bits, "group_size": form.group_size, "sym": form.sym, "desc_act": form.desc_act}
    here = [
        kernel
        for name in _FAST
        if (kernel := KERNELS[name]).devices and asked["device"].partition(":")[0] in kernel.devices
    ]
    fits, reasons = _fitting(here, own, asked)
    if fits is not None:
        return OtherKernel(changed(entry.section, fits.name, kernel=fits.name), fits.name)
    for change in ({"bits": _FAST_BITS}, {"group_size": _FAST_GROUP}, {"bits": _FAST_BITS, "group_size": _FAST_GROUP}):
        wanted, _ = _fitting(here, own | change, asked)
        if wanted is not None:
            told = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in change.items())
            return OtherKernel(_made_so(entry, change, wanted), wanted.name, reasons[wanted.name], told)
    return Impossible("; ".join(reasons.values()) or "no kernel of this device computes without unpacking")


def _fitting(
    kernels: list[Kernel], form: Mapping[str, Any], asked: Mapping[str, Any]
) -> tuple[Kernel | None, dict[str, str]]:
    """The first kernel that takes the form, and why those before it do not."""
    reasons: dict[str, str] = {}
    for kernel in kernels:
        try:
            return choose(kernel.name, **form, **asked), reasons
        except ModelError as error:
            # What it takes, without the advice that follows.
            reasons[kernel.name] = str(error).partition(";")[0].replace("choose", "").strip()
    return None, reasons


def _made_so(entry: VariantEntry, change: Mapping[str, Any], kernel: Kernel) -> Section | Impossible:
    """The variant quantized anew in the form that the kernel takes."""
    section = entry.section
    named = _BITS_OF_METHOD.match(method(section))
    if section.get("file"):
        return Impossible("it is a ready-made checkpoint, of which no other form can be made; give the float model")
    if named is None and section.get("bits") is None:
        return Impossible("its method names no width that could be changed")
    made = changed(section, kernel.name, kernel=kernel.name)
    if "bits" in change and named is not None:
        made["method"] = _BITS_OF_METHOD.sub(rf"\g<1>{change['bits']}\g<3>", method(section))
    if "bits" in change and section.get("bits") is not None:
        made["bits"] = change["bits"]
    if "group_size" in change:
        made["group_size"] = change["group_size"]
    return made
