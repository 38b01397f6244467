"""Manifests of earlier schema versions, brought up to the present one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qprof.record.manifest import SCHEMA_VERSION

#: The oldest schema version that can be read. Readings of version 2 do not say which block they are of.
OLDEST = 3

#: Version 3 wrote every key of every runtime and task into each section. Where one has the value that it has by
#: default, it says nothing, and may concern another runtime or task.
_VARIANT_DEFAULTS: Mapping[str, Any] = {
    **{"method": "", "file": "", "ops": [], "skip_ops": [], "skip_layers": [], "io": "float", "threads": None},
    **{"delegate": None, "bits": None, "group_size": None, "desc_act": False, "sym": True, "kernel": "", "dtype": ""},
    **{"library": "gptqmodel", "batch": None},
}
_TASK_DEFAULTS: Mapping[str, Any] = {
    **{"dataset": "", "data": "", "config": "", "split": "test", "scoring": "lambada_openai", "bos": "auto"},
    **{"batch_tokens": 4096, "calibration_data": "", "calibration_split": "train", "calibration_tokens": 128},
    **{"prompt_tokens": 64, "generated_tokens": 16, "batch": 1, "annotations": "", "images": "", "limit": None},
    **{"calibration_annotations": "", "calibration_images": "", "calibration_samples": 100, "inputs": [], "samples": 8},
}
_MODEL_DEFAULTS: Mapping[str, Any] = {"input_shapes": {}, "batch": 1}
#: Sections of a detector, which other tasks had by default.
_DETECTORS = ("preprocess", "head", "categories")

#: What was a runtime of its own is a library of this one.
_TORCH_LM = "torch_lm"
_RENAMED_RUNTIMES = {"gptq": _TORCH_LM, "autogptq": _TORCH_LM}
#: Options of one runtime that version 3 wrote for every one.
_FOREIGN_OPTIONS = {
    "litert": ("dtype", "kernel", "batch", "prompt_tokens", "generated_tokens"),
    _TORCH_LM: ("delegate", "input_shapes"),
}
_MAKING = ("method", "tool", "tool_version", "make_seconds", "run")
_TIMING = ("split", "clocks", "kernels")


def upgraded(manifest: dict[str, Any]) -> dict[str, Any]:
    """A manifest as the present version has it; the same where it is of that already."""
    if manifest["schema_version"] == 3:
        return _from_3(manifest)
    # What came after version 4 has its default where it is not there.
    return {**manifest, "schema_version": SCHEMA_VERSION}


def _from_3(old: Mapping[str, Any]) -> dict[str, Any]:
    new = {**old, "schema_version": SCHEMA_VERSION, "variants": [_variant(entry) for entry in old["variants"]]}
    new["profile"] = profile_from_3(old["profile"])
    if old.get("task") is not None:
        task = dict(old["task"])
        skip = task.pop("skip", [])
        new["task"] = {"section": _task(task), "skip": skip}
    ceilings = old.get("ceilings") or {}
    new["ceilings"] = {_RENAMED_RUNTIMES.get(runtime, runtime): rows for runtime, rows in ceilings.items()}
    for key in ("sensors", "blocks", "score_columns"):
        if new.get(key) is None:
            new.pop(key, None)
    return new


def profile_from_3(profile: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved profile of version 3, without the keys that say nothing."""
    new = dict(profile)
    new["model"] = _without(profile.get("model") or {}, _MODEL_DEFAULTS)
    new["variants"] = [_without(section, _VARIANT_DEFAULTS) for section in profile["variants"]]
    new["task"] = _task(profile.get("task") or {"kind": "latency"})
    return new


def _task(section: Mapping[str, Any]) -> dict[str, Any]:
    kept = _without(section, _TASK_DEFAULTS)
    if kept.get("kind") != "detection":
        kept = {key: value for key, value in kept.items() if key not in _DETECTORS}
    return kept


def _without(section: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in section.items() if key not in defaults or value != defaults[key]}


def _variant(old: Mapping[str, Any]) -> dict[str, Any]:
    new = {**old, "section": _without(old["section"], _VARIANT_DEFAULTS)}
    was = old.get("runtime")
    if was is not None:
        new["runtime"] = _RENAMED_RUNTIMES.get(was, was)
    if new.get("runtime") == _TORCH_LM:
        new["structure"] = "modules"
    making = old.get("making")
    if making is not None:
        own = {key: value for key, value in making.items() if key in _MAKING and value is not None}
        new["making"] = {**own, "facts": {key: value for key, value in making.items() if key not in _MAKING}}
    timing = old.get("timing")
    if timing is not None:
        own = {key: value for key, value in timing.items() if key in _TIMING}
        new["timing"] = {**own, "facts": {key: value for key, value in timing.items() if key not in _TIMING}}
    if old.get("options"):
        foreign = _FOREIGN_OPTIONS.get(str(new.get("runtime")), ())
        new["options"] = {key: value for key, value in old["options"].items() if key not in foreign}
        if was == "autogptq":
            new["options"]["library"] = "autogptq"
    for key in ("memory", "warmup", "facts"):
        if new.get(key) is None:
            new.pop(key, None)
    return new
