"""What can be changed about an ONNX variant to test a cause."""

from __future__ import annotations

from collections.abc import Sequence

from qprof.record.manifest import VariantEntry
from qprof.record.ops import OpMeta
from qprof.runtimes.interventions import (
    READY_MADE,
    Impossible,
    Interventions,
    Section,
    changed,
    method,
    more_in_float,
    short_digest,
)

_QUANTIZED = ("int8", "int8-dynamic")
#: `ranges` that leave nothing out, which static quantization has by default.
_EXTREMES = "minmax"
NOT_ANEW = "it is a ready-made file, which cannot be quantized anew; let qprof make it of the float model (--variants)"


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
        """A type is named where all of its ops are meant, other ops by their own names."""
        if not ops:
            return dict(section)
        if (why := _not_anew(section)) is not None:
            return Impossible(why)
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

    def deselected(self, section: Section, op_type: str) -> bool:
        listed = section.get("ops") or ()
        return op_type in section.get("skip_ops", ()) or (bool(listed) and op_type not in listed)

    def quantized_as_well(self, section: Section, op_types: Sequence[str]) -> Section | Impossible:
        if (why := _not_anew(section)) is not None:
            return Impossible(why)
        listed = list(section.get("ops") or ())
        return changed(
            section,
            f"int8:{'.'.join(op_types)}",
            ops=sorted({*listed, *op_types}) if listed else [],
            skip_ops=[op_type for op_type in section.get("skip_ops", ()) if op_type not in op_types],
        )

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
