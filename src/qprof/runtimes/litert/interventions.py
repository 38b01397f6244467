"""What can be changed about a LiteRT variant to test a cause."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qprof.errors import ModelError, QprofError
from qprof.record.manifest import VariantEntry
from qprof.record.ops import OpMeta
from qprof.runtimes.interventions import (
    READY_MADE,
    Impossible,
    Interventions,
    OtherBytes,
    Section,
    changed,
    method,
    more_in_float,
    short_digest,
)
from qprof.runtimes.litert.quantize import TOOL

_DYNAMIC, _WEIGHT_ONLY = "-dynamic", "-weight-only"
#: The method whose inputs and outputs a profile can make integers (`io`).
_INTEGER_IO = "int8"
NOT_ANEW = "it cannot be quantized anew; give the float model to qprof instead of the finished file"


class LiteRTInterventions(Interventions):
    """By quantizing the float model anew in another way, running on other kernels, or cutting files."""

    def other_bytes(self, entry: VariantEntry) -> OtherBytes | Impossible:
        return Impossible("LiteRT has no form of a model that differs in its bytes and not in its kernels")

    def without_delegate(self, section: Section) -> Section | Impossible:
        return changed(section, "no-delegate", delegate="none")

    def state_reset(self, section: Section) -> tuple[Section, Section]:
        control = changed(section, "nothing-before-ops", before_ops="nothing")
        return control, changed(section, "reset-before-ops", before_ops="reset-vectors")

    def in_float(self, section: Section, ops: Sequence[OpMeta], every: Sequence[OpMeta]) -> Section | Impossible:
        """A type is named where all of its ops are meant, other ops by their own names."""
        if not ops:
            return dict(section)
        if section.get("file"):
            return Impossible(NOT_ANEW)
        names = {op.name for op in ops}
        partly = {op.type for op in every if op.name not in names}
        types = sorted({op.type for op in ops} - partly)
        layers = sorted({op.name for op in ops if op.type in partly})
        what = [*types, *([f"{len(layers)}-layers-{short_digest(*layers)}"] if layers else [])]
        return changed(
            section,
            f"float:{'.'.join(what)}",
            skip_ops=sorted({*section.get("skip_ops", ()), *types}),
            skip_layers=sorted({*section.get("skip_layers", ()), *layers}),
        )

    def integer_weights_in_float(self, section: Section) -> Section | Impossible:
        name, colon, ops = method(section).partition(":")
        if section.get("file") or not name.endswith(_DYNAMIC):
            return Impossible(NOT_ANEW)
        return changed(section, "weight-only", method=name.removesuffix(_DYNAMIC) + _WEIGHT_ONLY + colon + ops)

    def integer_io(self, section: Section) -> Section | Impossible:
        if section.get("file"):
            return Impossible("a finished file keeps its inputs and outputs; give the float model to qprof instead")
        if method(section).partition(":")[0] != _INTEGER_IO:
            return Impossible(f"qprof makes integer inputs and outputs for the method {_INTEGER_IO} alone")
        return changed(section, "int8-io", io="int8")

    def deselected(self, section: Section, op_type: str) -> bool:
        listed = _listed(section)
        return op_type in section.get("skip_ops", ()) or (bool(listed) and op_type not in listed)

    def quantized_as_well(self, section: Section, op_types: Sequence[str]) -> Section | Impossible:
        if section.get("file"):
            return Impossible("a finished file cannot be quantized anew; give the float model to qprof instead")
        skipped = [op_type for op_type in section.get("skip_ops", ()) if op_type not in op_types]
        listed = _listed(section)
        selection = {
            "method": method(section).partition(":")[0],
            "ops": sorted({*listed, *op_types}) if listed else [],
            "skip_ops": skipped,
        }
        return changed(section, f"int8:{'.'.join(op_types)}", **selection)

    def following(self, entry: VariantEntry, names: set[str]) -> set[str] | Impossible:
        from qprof.runtimes.litert.cut import following

        try:
            return following(_path(entry), names)
        except QprofError as error:
            return Impossible(f"the models cannot be cut: {error}")

    def cut_off(self, entry: VariantEntry, names: set[str]) -> Section | Impossible:
        from qprof.runtimes.litert.cut import cut

        try:
            file = str(cut(_path(entry), names))
        except QprofError as error:
            return Impossible(f"the models cannot be cut: {error}")
        own: dict[str, Any] = {key: entry.section[key] for key in ("threads", "delegate") if key in entry.section}
        return {"name": changed(entry.section, "cut")["name"], **own, "file": file}

    def not_made_anew(self, entry: VariantEntry) -> str | None:
        if entry.section.get("file"):
            return READY_MADE
        if entry.making.tool not in (None, TOOL):
            return (
                f"it was made by {entry.making.tool}, which leaves no single layer in float; give qprof the float "
                ".tflite instead"
            )
        return None

    def layers_in_float(self, section: Section, names: Sequence[str], what: str) -> dict[str, Any]:
        return more_in_float(section, names, what)

    def beside(self, entry: VariantEntry) -> Mapping[str, Sequence[str]]:
        """An op of LiteRT is in float only where the tensors that it reads and writes are: one between quantized
        neighbours is given rounded numbers and hands rounded numbers on."""
        from qprof.runtimes.litert.neighbours import neighbours

        try:
            return neighbours(Path(entry.path or ""))
        except ModelError:
            return {}


def _path(entry: VariantEntry) -> Path:
    return Path(entry.section.get("file") or entry.path or "")


def _listed(section: Section) -> list[str]:
    """Op types that the section limits the quantizer to; empty where it does not."""
    in_method = method(section).partition(":")[2]
    return list(section.get("ops") or [op.strip() for op in in_method.split(",") if op.strip()])
