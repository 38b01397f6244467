"""What can be changed about a LiteRT variant to test a cause."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from qprof.errors import ModelError, QprofError
from qprof.record.manifest import VariantEntry
from qprof.record.ops import OpMeta
from qprof.runtimes.interventions import (
    NOT_ANEW,
    READY_MADE,
    Impossible,
    Interventions,
    OtherBytes,
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
from qprof.runtimes.litert.quantize import TOOL

_DELEGATE = "xnnpack"
_DYNAMIC, _WEIGHT_ONLY = "-dynamic", "-weight-only"
#: The method whose inputs and outputs a profile can make integers (`io`).
_INTEGER_IO = "int8"
#: The methods with calibrated ranges, and the key of those that leave nothing out.
_STATIC, _EXTREMES = ("int8", "int16x8"), "min-max"


class LiteRTInterventions(Interventions):
    """By quantizing the float model anew in another way, running on other kernels, or cutting files."""

    def other_bytes(self, entry: VariantEntry) -> OtherBytes | Impossible:
        return Impossible("LiteRT has no form of a model that differs in its bytes and not in its kernels")

    def without_delegate(self, section: Section) -> Section | Impossible:
        return changed(section, "no-delegate", delegate="none")

    def state_reset(self, section: Section) -> tuple[Section, Section]:
        control = changed(section, "nothing-before-ops", before_ops="nothing")
        return control, changed(section, "reset-before-ops", before_ops="reset-vectors")

    def widest_ranges(self, entry: VariantEntry) -> Section | Impossible:
        section = entry.section
        if section.get("file"):
            return Impossible(NOT_ANEW)
        if method(section).partition(":")[0] not in _STATIC:
            return Impossible(f"the method {method(section)} has no calibrated ranges")
        if section.get("ranges") == _EXTREMES:
            return Impossible("its ranges hold the extremes of all samples already")
        return changed(section, _EXTREMES, ranges=_EXTREMES)

    def in_float(self, section: Section, ops: Sequence[OpMeta], every: Sequence[OpMeta]) -> Section | Impossible:
        if not ops:
            return dict(section)
        if section.get("file"):
            return Impossible(NOT_ANEW)
        return ops_in_float(section, ops, every)

    def integer_weights_in_float(self, section: Section) -> Section | Impossible:
        name, colon, ops = method(section).partition(":")
        if section.get("file"):
            return Impossible(NOT_ANEW)
        if not name.endswith(_DYNAMIC):
            return Impossible(f"the method {name} has no form with the same integer weights, computed with in float")
        return changed(section, "weight-only", method=name.removesuffix(_DYNAMIC) + _WEIGHT_ONLY + colon + ops)

    def integer_io(self, section: Section) -> Section | Impossible:
        if section.get("file"):
            return _integer_io_of(section)
        if method(section).partition(":")[0] != _INTEGER_IO:
            return Impossible(f"qprof makes integer inputs and outputs for the method {_INTEGER_IO} alone")
        return changed(section, "int8-io", io="int8")

    def deselected(self, section: Section, op_type: str) -> bool:
        return leaves_in_float(section, op_type, _listed(section))

    def quantized_as_well(self, section: Section, op_types: Sequence[str]) -> Section | Impossible:
        if section.get("file"):
            return Impossible(NOT_ANEW)
        return ops_quantized(section, op_types, _listed(section), method=method(section).partition(":")[0])

    def following(self, entry: VariantEntry, names: set[str]) -> set[str] | Impossible:
        from qprof.runtimes.litert.cut import following

        try:
            return following(_path(entry), names)
        except QprofError as error:
            return Impossible(f"the models cannot be cut: {error}")

    def cut_off(self, entry: VariantEntry, names: set[str]) -> Section | Impossible:
        from qprof.runtimes.litert.cut import cut

        try:
            return _as_file(entry, "cut", cut(_path(entry), names))
        except QprofError as error:
            return Impossible(f"the models cannot be cut: {error}")

    def halves(self, entry: VariantEntry, name: str) -> tuple[Section, Section] | Impossible:
        from qprof.runtimes.litert.halves import halves

        try:
            files = halves(_path(entry), name)
        except QprofError as error:
            return Impossible(f"it cannot be divided: {error}")
        digest = short_digest(name)
        return _as_file(entry, f"before-{digest}", files[0]), _as_file(entry, f"from-{digest}", files[1])

    def bypassed(self, entry: VariantEntry, names: Collection[str]) -> Section | Impossible:
        from qprof.runtimes.litert.bypass import bypassed

        try:
            return _as_file(entry, f"bypassed-{_digest(names)}", bypassed(_path(entry), names))
        except QprofError as error:
            return Impossible(f"the ops cannot be cut out: {error}")

    def constants_from(
        self, entry: VariantEntry, baseline: VariantEntry, pairs: Sequence[tuple[str, str]]
    ) -> Section | Impossible:
        from qprof.runtimes.litert.constants_from import constants_from

        return _from_both(entry, baseline, pairs, constants_from, "constants", "its constants cannot be replaced")

    def ops_from(
        self, entry: VariantEntry, baseline: VariantEntry, pairs: Sequence[tuple[str, str]]
    ) -> Section | Impossible:
        from qprof.runtimes.litert.ops_from import ops_from

        cannot = f"its ops cannot be replaced by those of {baseline.name}"
        return _from_both(entry, baseline, pairs, ops_from, "ops", cannot)

    def part_from(
        self,
        entry: VariantEntry,
        baseline: VariantEntry,
        out: Sequence[str],
        into: Sequence[str],
        pairs: Sequence[tuple[str, str]],
    ) -> Section | Impossible:
        from qprof.runtimes.litert.part_from import part_from

        try:
            file = part_from(_path(entry), _path(baseline), out, into, pairs)
        except QprofError as error:
            return Impossible(f"its ops cannot be replaced by those of {baseline.name}: {error}")
        return _as_file(entry, f"part-{_digest([*out, *into])}", file)

    def converted_alike(
        self, entry: VariantEntry, baseline: VariantEntry, pairs: Sequence[tuple[str, str]]
    ) -> Section | Impossible:
        from qprof.runtimes.litert.ops_from import converted_alike

        cannot = f"nothing can be converted as by the ops of {baseline.name}"
        return _from_both(entry, baseline, pairs, converted_alike, "converted", cannot)

    def patched(
        self, entry: VariantEntry, baseline: VariantEntry, pairs: Sequence[tuple[str, str]]
    ) -> Section | Impossible:
        from qprof.runtimes.litert.patched import patch_files

        ops = dict(pairs)
        try:
            path, other = _path(entry), _path(baseline)
            patch_files(path, other, ops)
        except QprofError as error:
            return Impossible(f"its activations cannot be replaced: {error}")
        patch = {"baseline": str(other), "ops": ops}
        return {**_as_file(entry, f"patched-{_digest(ops)}", path), "patch": patch}

    def within_ranges(
        self, entry: VariantEntry, quantized: VariantEntry, pairs: Sequence[tuple[str, str]]
    ) -> Section | Impossible:
        from qprof.runtimes.litert.within_ranges import within_ranges

        cannot = f"its numbers cannot be cut off as those of {quantized.name}"
        return _from_both(entry, quantized, pairs, within_ranges, "ranges", cannot)

    def begun_as(
        self, entry: VariantEntry, baseline: VariantEntry, pairs: Sequence[tuple[str, str]]
    ) -> Section | Impossible:
        """Only what goes from these ops to others is handed over."""
        from qprof.runtimes.litert.patched import handed_on

        try:
            last = handed_on(_path(entry), {name for name, _ in pairs})
        except QprofError as error:
            return Impossible(f"its activations cannot be replaced: {error}")
        return self.patched(entry, baseline, [pair for pair in pairs if pair[0] in last])

    def with_delegate(self, section: Section) -> Section | Impossible:
        if section.get("delegate") == _DELEGATE:
            return Impossible("its ops are handed to the delegate as it is")
        return changed(section, _DELEGATE, delegate=_DELEGATE)

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

    def by_side(self, entry: VariantEntry) -> Mapping[str, tuple[Sequence[str], Sequence[str]]]:
        from qprof.runtimes.litert.neighbours import neighbours_by_side

        try:
            return neighbours_by_side(Path(entry.path or ""))
        except ModelError:
            return {}

    def settings_of_ops(self, entry: VariantEntry) -> Mapping[str, Mapping[str, str]]:
        from qprof.runtimes.litert.op_settings import op_settings

        try:
            return op_settings(Path(entry.path or ""))
        except ModelError:
            return {}

    def beside(self, entry: VariantEntry) -> Mapping[str, Sequence[str]]:
        """An op of LiteRT is in float only where the tensors that it reads and writes are: one between quantized
        neighbours is given rounded numbers and hands rounded numbers on."""
        from qprof.runtimes.litert.neighbours import neighbours

        try:
            return neighbours(Path(entry.path or ""))
        except ModelError:
            return {}


def _path(entry: VariantEntry) -> Path:
    """The file that a variant runs. Raises `ModelError` where it is not all that the variant runs."""
    if entry.section.get("patch"):
        raise ModelError(f"{entry.name} is a patched variant, which runs two models; change the variant it was made of")
    return model_of(entry)


def _integer_io_of(section: Section) -> Section | Impossible:
    """Of a finished file: what converts its inputs and outputs is cut off."""
    from qprof.runtimes.litert.bypass import bypassed, float_conversions

    if section.get("patch"):
        return Impossible("it is a patched variant, which takes what its baseline takes")
    path = Path(section["file"])
    try:
        names = float_conversions(path)
        if not names:
            return Impossible("the file converts neither its inputs nor its outputs")
        return changed(section, "int8-io", file=str(bypassed(path, names)))
    except QprofError as error:
        return Impossible(f"the conversions of the ready-made file cannot be cut off: {error}")


def _from_both(
    entry: VariantEntry,
    baseline: VariantEntry,
    pairs: Sequence[tuple[str, str]],
    make: Callable[[Path, Path, Sequence[tuple[str, str]]], Path],
    what: str,
    cannot: str,
) -> Section | Impossible:
    """The variant that runs what is made of its own file and of the baseline's."""
    try:
        file = make(_path(entry), _path(baseline), pairs)
    except QprofError as error:
        return Impossible(f"{cannot}: {error}")
    return _as_file(entry, f"{what}-{_digest(name for name, _ in pairs)}", file)


def _as_file(entry: VariantEntry, what: str, file: Path) -> dict[str, Any]:
    """The section of a variant that runs another file as it ran its own."""
    own = {key: entry.section[key] for key in ("threads", "delegate") if entry.section.get(key) is not None}
    return {"name": changed_name(entry.section, what), **own, "file": str(file)}


def _digest(names: Iterable[str]) -> str:
    return short_digest(*sorted(names))


def _listed(section: Section) -> list[str]:
    """Op types that the section limits the quantizer to; empty where it does not."""
    in_method = method(section).partition(":")[2]
    return list(section.get("ops") or [op.strip() for op in in_method.split(",") if op.strip()])
