"""What can be changed about an ONNX variant to test a cause."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from qprof.errors import QprofError
from qprof.record.manifest import VariantEntry
from qprof.record.ops import OpMeta
from qprof.runtimes.interventions import (
    NOT_ANEW,
    READY_MADE,
    Impossible,
    Interventions,
    Section,
    changed,
    changed_name,
    leaves_in_float,
    method,
    model_of,
    more_in_float,
    ops_in_float,
    ops_quantized,
    short_digest,
)

_QUANTIZED = ("int8", "int8-dynamic")
#: `ranges` that leave nothing out, which static quantization has by default.
_EXTREMES = "minmax"
#: Keys of a section that say how a variant is run.
_RUN = ("threads", "optimization", "provider", "input_shapes")


class OnnxInterventions(Interventions):
    """By quantizing the float model anew in another way, by running on another provider, or by changing the file."""

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

    def bypassed(self, entry: VariantEntry, names: Collection[str]) -> Section | Impossible:
        from qprof.runtimes.onnx.edit import bypassed

        cannot = "the ops cannot be cut out"
        return _edited(entry, f"without-{short_digest(*sorted(names))}", cannot, lambda path: bypassed(path, names))

    def constants_from(
        self, entry: VariantEntry, baseline: VariantEntry, pairs: Sequence[tuple[str, str]]
    ) -> Section | Impossible:
        from qprof.runtimes.onnx.edit import constants_from

        what, cannot = f"constants-{_digest(pairs)}", "its constants cannot be replaced"
        return _edited(entry, what, cannot, lambda path: constants_from(path, model_of(baseline), pairs))

    def ops_from(
        self, entry: VariantEntry, baseline: VariantEntry, pairs: Sequence[tuple[str, str]]
    ) -> Section | Impossible:
        """Of ops of one type and number format."""
        from qprof.runtimes.onnx.edit import ops_from

        what, cannot = f"ops-{_digest(pairs)}", f"its ops cannot be replaced by those of {baseline.name}"
        return _edited(entry, what, cannot, lambda path: ops_from(path, model_of(baseline), pairs))

    def part_from(
        self,
        entry: VariantEntry,
        baseline: VariantEntry,
        out: Sequence[str],
        into: Sequence[str],
        pairs: Sequence[tuple[str, str]],
    ) -> Section | Impossible:
        from qprof.runtimes.onnx.edit import part_from

        what = f"part-{short_digest(*sorted([*out, *into]))}"
        cannot = f"its ops cannot be replaced by those of {baseline.name}"
        return _edited(entry, what, cannot, lambda path: part_from(path, model_of(baseline), out, into, pairs))

    def not_made_anew(self, entry: VariantEntry) -> str | None:
        return READY_MADE if entry.section.get("file") else _not_anew(entry.section)

    def layers_in_float(self, section: Section, names: Sequence[str], what: str) -> Section | Impossible:
        why = _not_anew(section)
        return more_in_float(section, names, what) if why is None else Impossible(why)


def _edited(entry: VariantEntry, what: str, cannot: str, make: Callable[[Path], Path]) -> Section | Impossible:
    """The variant that runs another file as it ran its own."""
    try:
        file = make(model_of(entry))
    except QprofError as error:
        return Impossible(f"{cannot}: {error}")
    own = {key: entry.section[key] for key in _RUN if entry.section.get(key)}
    return {**own, "name": changed_name(entry.section, what), "file": str(file)}


def _digest(pairs: Sequence[tuple[str, str]]) -> str:
    return short_digest(*sorted(name for name, _ in pairs))


def _not_anew(section: Section) -> str | None:
    """Why nothing of a variant can be left in float, `None` where it can."""
    if section.get("file"):
        return NOT_ANEW
    if method(section) not in _QUANTIZED:
        return f"{method(section)} quantizes nothing, of which a part could be left in float"
    return None
