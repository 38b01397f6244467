"""Checkpoints that are there already, run as they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from qprof.errors import ModelError
from qprof.runtimes.base import Calibration, Made
from qprof.runtimes.torch_lm import forms
from qprof.runtimes.torch_lm.checkpoint import Checkpoint, QuantizedFormat, inspect, normalised
from qprof.runtimes.torch_lm.formats import format_of
from qprof.runtimes.torch_lm.gptq_reading import reading
from qprof.runtimes.torch_lm.kernels import default_dtype, kernel_for
from qprof.runtimes.torch_lm.methods.base import FILE, Method, Source, folder_of, keys_say, made
from qprof.runtimes.torch_lm.sections import GPTQMODEL, CheckpointVariant


class FileMethod(Method[CheckpointVariant]):
    """A checkpoint in Hugging Face's layout, unquantized or GPTQ."""

    section = CheckpointVariant

    def claims(self, method: str, keys: Mapping[str, Any]) -> bool:
        return method == FILE and keys_say(keys, "library", GPTQMODEL)

    def make(self, source: Source, section: CheckpointVariant, calibration: Calibration) -> Made:
        path = folder_of(section.file)
        other = format_of(path)
        if other is not None:
            return other.make(path, section, source.device)
        checkpoint = inspect(path)
        form = checkpoint.quantization
        facts = _facts_of_parts(checkpoint, section)
        if form is None:
            if section.kernel:
                raise ModelError(
                    f"variant {section.name}: kernel = {section.kernel!r} computes quantized layers, and this variant "
                    "has none; leave it out"
                )
            if section.layout:
                raise ModelError(f"variant {section.name}: layout says how GPTQ layers are read, and it has none")
            found = inspect(normalised(checkpoint))
            return made(found, checkpoint.sha256(), FILE, facts, dtype=section.dtype or checkpoint.dtype)
        if form.quant_method != "gptq":
            return _of_form(checkpoint, form, section, source.device, facts)
        read = reading(checkpoint, form, section.layout)
        dtype, kernel = kernel_for(
            read.form, checkpoint.linears, device=source.device, dtype=section.dtype, requested=section.kernel
        )
        as_read = made(
            inspect(read.folder), checkpoint.sha256(), FILE, {**facts, **read.facts}, dtype=dtype, kernel=kernel.name
        )
        return replace(as_read, run={**as_read.run, **read.run}, notes=read.notes)


def _of_form(
    checkpoint: Checkpoint, found: QuantizedFormat, section: CheckpointVariant, device: str, facts: dict[str, Any]
) -> Made:
    """A checkpoint of another library, as it stands."""
    if section.layout:
        raise ModelError(f"variant {section.name}: layout says how GPTQ layers are read, and it has none")
    form = forms.form_named(found.quant_method)
    assert form is not None  # `inspect` refuses others
    form.require()
    kernel = form.kernel_for(section.kernel, device, found.group_size, checkpoint.linears)
    facts = {"scheme": found.scheme, **facts, "library": form.library}
    dtype = section.dtype or default_dtype(device)
    as_stored = inspect(normalised(checkpoint))
    return made(as_stored, checkpoint.sha256(), FILE, facts, dtype=dtype, kernel=kernel, by=form.library)


def _facts_of_parts(checkpoint: Checkpoint, section: CheckpointVariant) -> dict[str, Any]:
    """What a manifest keeps of the baseline's parts: by content, since a folder may hold another model later."""
    if section.parts is None:
        return {}
    from qprof.runtimes.torch_lm.from_baseline import refuse_unlike_linears

    if not section.parts.weights and not section.parts.outputs:
        raise ModelError(f"variant {section.name}: takes no part of its baseline; name `weights` or `outputs`")
    baseline = inspect(Path(section.parts.baseline))
    refuse_unlike_linears(checkpoint, baseline, section.parts.weights)
    return {"parts": {**msgspec.to_builtins(section.parts), "baseline_sha256": baseline.sha256()}}


METHOD = FileMethod()
