"""What can be changed about a variant of a language model to test a cause."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from qprof.errors import ModelError, QprofError
from qprof.record.manifest import VariantEntry
from qprof.runtimes.interventions import (
    READY_MADE,
    Impossible,
    Interventions,
    OtherBytes,
    OtherKernel,
    OtherReading,
    OtherSettings,
    OtherWidth,
    Section,
    changed,
    changed_name,
    method,
    model_of,
    more_in_float,
    short_digest,
)
from qprof.runtimes.torch_lm import other_forms
from qprof.runtimes.torch_lm.kernels import DEQUANTIZED
from qprof.runtimes.torch_lm.methods import method_for
from qprof.runtimes.torch_lm.sections import AUTOGPTQ

#: The type of half, or of twice the bytes that each is compared with.
_OTHER_TYPE = {"float32": "bfloat16", "bfloat16": "float32", "float16": "float32"}


_BITS_OF_METHOD = re.compile(r"^(\w+-)(\d)(bit.*)\Z")


class TorchLMInterventions(Interventions):
    """By running with more rows, in another float type, on another kernel, or by quantizing fewer layers."""

    def more_rows(self, entry: VariantEntry, factor: int) -> Section | Impossible:
        rows = factor * int(entry.options.get("batch") or 1)
        return changed(entry.section, f"batch{rows}", batch=rows)

    def other_bytes(self, entry: VariantEntry) -> OtherBytes | Impossible:
        section, dtype = entry.section, entry.options.get("dtype")
        if entry.options.get("kernel") or dtype not in _OTHER_TYPE:
            return Impossible("the bytes of quantized weights cannot be changed without the kernel that takes them")
        other = _OTHER_TYPE[dtype]
        if not section.get("file") and method(section) != dtype:
            return Impossible(f"method {method(section)} makes no {other}")
        change = {"dtype": other} if section.get("file") else {"method": other, "dtype": ""}
        return OtherBytes(changed(section, other, **change), other, 0.5 if other == "bfloat16" else 2.0)

    def next_width(self, entry: VariantEntry) -> OtherWidth | Impossible:
        """The kernel is left to the runtime, since not every one takes every width."""
        section = entry.section
        if section.get("file"):
            return Impossible("is a ready-made file, of which no other width can be made")
        named = _BITS_OF_METHOD.match(method(section))
        stated = section.get("bits")
        bits = int(named[2]) if named else None if stated is None else int(stated)
        widths = method_for(section).widths
        after = next((width for width in widths if bits is not None and width > bits), None)
        if bits is None or after is None or bits not in widths:
            width = "names no width" if bits is None else f"has {bits} bits, the most there are"
            return Impossible(f"{width}, so there is no next one")
        wider = dict(section) | {"name": f"{section['name']}+{after}bit"}
        wider["method"] = _BITS_OF_METHOD.sub(rf"\g<1>{after}\g<3>", method(section))
        wider |= {"kernel": ""} if "kernel" in section else {}
        wider |= {"bits": after} if stated is not None else {}
        return OtherWidth(wider, bits, after)

    def computing_in(self, entry: VariantEntry, dtype: str) -> Section | Impossible:
        return other_forms.computing_in(entry, dtype)

    def wide_from(self, entry: VariantEntry, name: str) -> Section | Impossible:
        return other_forms.wide_from(entry, name)

    def faster_kernel(self, entry: VariantEntry) -> OtherKernel | Impossible:
        return other_forms.faster_kernel(entry)

    def read_otherwise(self, entry: VariantEntry) -> OtherReading | Impossible:
        """Zero points as they are stored ("gptq_v2"), or one more ("gptq")."""
        from qprof.runtimes.torch_lm.gptq_reading import other_layout

        facts, before = entry.making.facts, entry.making.facts.get("layout")
        if not before or not entry.section.get("file") or entry.section.get("library") == AUTOGPTQ:
            return Impossible("how its zero points are stored is a question of finished GPTQ files that gptqmodel runs")
        after, stored = other_layout(before), facts.get("zero_points") or {}
        told = (
            f"all of its zero points are {stored['values'][0]}" if facts.get("layout_of_zero_points") == after else ""
        )
        return OtherReading(changed(entry.section, f"as-{after}", layout=after), before, after, told)

    def settings_of(self, entry: VariantEntry, baseline: VariantEntry) -> Sequence[OtherSettings] | Impossible:
        from qprof.runtimes.torch_lm.settings_beside import settings_of

        return settings_of(entry, baseline)

    def unpacked_once(self, entry: VariantEntry) -> Section | Impossible:
        section = entry.section
        if section.get("library") != AUTOGPTQ:
            return changed(section, DEQUANTIZED, kernel=DEQUANTIZED)
        # AutoGPTQ has no such kernel: gptqmodel loads the checkpoint that it made.
        own: dict[str, Any] = {key: section[key] for key in ("threads", "batch") if key in section}
        as_file = {"file": entry.path, "dtype": entry.options["dtype"], "kernel": DEQUANTIZED}
        return {**own, **as_file, "name": changed_name(section, DEQUANTIZED)}

    def bypassed(self, entry: VariantEntry, names: Collection[str]) -> Section | Impossible:
        """Whole decoder layers alone."""
        from qprof.runtimes.torch_lm.without_layers import without_layers

        try:
            folder = without_layers(_folder(entry), names)
        except QprofError as error:
            return Impossible(f"its layers cannot be cut out: {error}")
        name = changed_name(entry.section, f"without-{short_digest(*sorted(names))}")
        return {**run_alike(entry), "name": name, "file": str(folder)}

    def constants_from(
        self, entry: VariantEntry, baseline: VariantEntry, pairs: Sequence[tuple[str, str]]
    ) -> Section | Impossible:
        """Of linears, whose weights are then the baseline's in float."""
        from qprof.runtimes.torch_lm.checkpoint import inspect
        from qprof.runtimes.torch_lm.from_baseline import refuse_unlike_linears

        names = dict(pairs)
        try:
            refuse_unlike_linears(inspect(_folder(entry)), inspect(_folder(baseline)), names)
        except QprofError as error:
            return Impossible(f"its weights cannot be replaced: {error}")
        return _with_parts(entry, baseline, "weights", names)

    def patched(
        self, entry: VariantEntry, baseline: VariantEntry, pairs: Sequence[tuple[str, str]]
    ) -> Section | Impossible:
        """Whether a model has such modules is only seen when it is loaded."""
        from qprof.runtimes.torch_lm.checkpoint import inspect

        try:
            for folder in (_folder(entry), _folder(baseline)):
                inspect(folder)
        except QprofError as error:
            return Impossible(f"its outputs cannot be replaced: {error}")
        return _with_parts(entry, baseline, "outputs", dict(pairs))

    def not_made_anew(self, entry: VariantEntry) -> str | None:
        if entry.section.get("file"):
            return READY_MADE
        if entry.section.get("library") == AUTOGPTQ:
            return "AutoGPTQ leaves no single layer unquantized; the library gptqmodel does"
        return None

    def layers_in_float(self, section: Section, names: Sequence[str], what: str) -> dict[str, Any]:
        return more_in_float(section, names, what)


def _folder(entry: VariantEntry) -> Path:
    """The folder that a variant runs. Raises `ModelError` where it is not all that the variant runs."""
    if entry.section.get("parts"):
        raise ModelError(f"{entry.name} has parts of a baseline already; change the variant that it was made of")
    return model_of(entry)


def _with_parts(
    entry: VariantEntry, baseline: VariantEntry, what: str, names: Mapping[str, str]
) -> Section | Impossible:
    """The section of a variant that runs the folder of another, in its type and by its kernel, with parts of a
    baseline's. AutoGPTQ has no place for them: gptqmodel loads the checkpoint that it made."""
    if not names:
        return Impossible("no layer is named")
    parts: dict[str, Any] = {"baseline": str(_folder(baseline)), what: dict(names)}
    if dtype := baseline.options.get("dtype"):
        parts["dtype"] = dtype
    name = changed_name(entry.section, f"{what}-{short_digest(*sorted(names))}")
    return {**run_alike(entry), "name": name, "file": str(_folder(entry)), "parts": parts}


def run_alike(entry: VariantEntry) -> dict[str, Any]:
    """Keys that run another folder as a variant was run: in its type and by its kernel, where that is gptqmodel's."""
    own: dict[str, Any] = {key: entry.section[key] for key in ("threads", "batch") if entry.section.get(key)}
    run = {key: entry.options[key] for key in ("dtype", "kernel", "layout") if entry.options.get(key)}
    if entry.options.get("library") == AUTOGPTQ:
        run.pop("kernel", None)
    return {**own, **run}
