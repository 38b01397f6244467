"""What can be changed about an ONNX variant to test a cause."""

from __future__ import annotations

from collections.abc import Sequence

from qprof.record.manifest import VariantEntry
from qprof.record.ops import OpMeta
from qprof.runtimes.interventions import (
    NOT_ANEW,
    READY_MADE,
    Impossible,
    Interventions,
    Section,
    changed,
    leaves_in_float,
    method,
    more_in_float,
    ops_in_float,
    ops_quantized,
)

_QUANTIZED = ("int8", "int8-dynamic")
#: `ranges` that leave nothing out, which static quantization has by default.
_EXTREMES = "minmax"


class OnnxInterventions(Interventions):
    """By quantizing the float model anew in another way, or by running on another provider."""

    def without_delegate(self, section: Section) -> Section | Impossible:
        return changed(section, "cpu", provider="cpu")

    def widest_ranges(self, entry: VariantEntry) -> Section | Impossible:
        section = entry.section
        if (why := _not_anew(section)) is not None:
            return Impossible(why)
        if section.get("ranges", _EXTREMES) == _EXTREMES:
            return Impossible("its ranges hold the extremes of all samples already, or are none of calibration")
        return changed(section, _EXTREMES, ranges=_EXTREMES)

    def in_float(self, section: Section, ops: Sequence[OpMeta], every: Sequence[OpMeta]) -> Section | Impossible:
        if not ops:
            return dict(section)
        if (why := _not_anew(section)) is not None:
            return Impossible(why)
        return ops_in_float(section, ops, every)

    def deselected(self, section: Section, op_type: str) -> bool:
        return leaves_in_float(section, op_type, section.get("ops") or ())

    def quantized_as_well(self, section: Section, op_types: Sequence[str]) -> Section | Impossible:
        if (why := _not_anew(section)) is not None:
            return Impossible(why)
        return ops_quantized(section, op_types, section.get("ops") or ())

    def not_made_anew(self, entry: VariantEntry) -> str | None:
        return READY_MADE if entry.section.get("file") else _not_anew(entry.section)

    def layers_in_float(self, section: Section, names: Sequence[str], what: str) -> Section | Impossible:
        why = _not_anew(section)
        return more_in_float(section, names, what) if why is None else Impossible(why)


def _not_anew(section: Section) -> str | None:
    """Why nothing of a variant can be left in float, `None` where it can."""
    if section.get("file"):
        return NOT_ANEW
    if method(section) not in _QUANTIZED:
        return f"{method(section)} quantizes nothing, of which a part could be left in float"
    return None
