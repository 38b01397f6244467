"""A machine that runs LiteRT models: what each layer takes in each form, inside the delegate and outside of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from planted.world import Noise, PlantedOp, PlantedVariant, Readings, World
from qprof.errors import ModelError

#: Family of a method: float32, or how ai-edge-quantizer makes it.
_FAMILIES = {
    "float32": "float",
    "int8-dynamic": "dynamic",
    "int8-weight-only": "weight-only",
    "int8": "static",
}
_QUANTIZATION = {
    "dynamic": "int8 weights per-channel, float32 activations",
    "weight-only": "int8 weights per-channel dequantized before use, float32 activations",
    "static": "int8 weights per-channel, int8 activations",
}


_KERNELS = {
    "float": "Fully Connected (NC, F32)",
    "weight-only": "Fully Connected (NC, F32)",
    "dynamic": "Fully Connected (NC, QDU8, F32, QC8W)",
    "static": "Fully Connected (NC, QS8, QC8W)",
}


@dataclass(frozen=True)
class Layer:
    """`inside`, `outside`: family -> microseconds in the delegate and on builtin kernels. A family that `inside` lacks
    is one that the delegate does not take; one that neither has is one that the quantizer leaves in float."""

    name: str
    type: str
    inside: Mapping[str, float]
    outside: Mapping[str, float]

    def has(self, family: str) -> bool:
        return family in self.inside or family in self.outside

    def us(self, family: str, delegate: bool) -> float:
        """A family that a table does not name takes what float takes."""
        table = self.inside if delegate else self.outside
        return table.get(family, table["float"])


@dataclass(frozen=True)
class Machine:
    """`conversion_us`: of one QUANTIZE or DEQUANTIZE. `files`: path of a finished model -> method it was made with.
    `threads_factor`: threads -> factor of the latency; `readings`: threads -> what sensors tell then."""

    layers: Sequence[Layer]
    conversion_us: float = 2.0
    files: Mapping[str, str] = field(default_factory=dict)
    threads_factor: Mapping[int, float] = field(default_factory=dict)
    readings: Mapping[int, Readings] = field(default_factory=dict)

    def respond(self, section: Mapping[str, Any]) -> PlantedVariant:
        """The variant that a section of a profile makes here. Raises `ModelError` where nothing would be quantized."""
        shown = dict(section)
        if section.get("file"):  # what was to be left in float no longer matters
            kept = {key: section[key] for key in ("name", "file", "delegate", "threads") if key in section}
            section = {**kept, "method": self.files[section["file"]]}
        family, limited = _parsed(section)
        ops = list(self._ops(section, family, limited))
        if family != "float" and all(op.quantization is None for op in ops):
            raise ModelError(f"{section['name']}: nothing is quantized")
        threads = section.get("threads") or 1
        factor = self.threads_factor.get(threads, 1.0)
        slowed = [PlantedOp(**{**vars(op), "us": op.us * factor}) for op in ops]
        return PlantedVariant(
            section["name"], slowed, 20.0 * factor, section=shown, readings=self.readings.get(threads)
        )

    def world(self, *sections: Mapping[str, Any] | str, **more: Any) -> World:
        """The float32 model and the variants of some sections."""
        spelled: list[Mapping[str, Any]] = [{"name": s} if isinstance(s, str) else s for s in ("float32", *sections)]
        more.setdefault("noise", Noise(relative=0.01))
        more.setdefault("respond", self.respond)
        return World([self.respond(section) for section in spelled], **more)

    def _ops(self, section: Mapping[str, Any], family: str, limited: Sequence[str]) -> Iterator[PlantedOp]:
        delegated = section.get("delegate") != "none"
        integer = family == "static" and section.get("io") == "int8"
        skipped = {*section.get("skip_ops", ()), *section.get("skip_layers", ())}
        for layer in self.layers:
            chosen = skipped.isdisjoint((layer.type, layer.name)) and (not limited or layer.type in limited)
            form = family if chosen and layer.has(family) else "float"
            if family == "static" and (form == "static") != integer:
                yield self._conversion("DEQUANTIZE" if integer else "QUANTIZE", layer.name, delegated)
                integer = form == "static"
            yield _op(layer, form, delegated)
        if integer and section.get("io") != "int8":
            yield self._conversion("DEQUANTIZE", "output", delegated)

    def _conversion(self, type_: str, before: str, delegated: bool) -> PlantedOp:
        delegate = "XNNPACK" if delegated else None
        name, kernel = f"{before}_{type_.lower()}d", "Convert (NC)"
        return PlantedOp(name, type_, self.conversion_us, delegate, kernel, quantization="int8 activations")


def _parsed(section: Mapping[str, Any]) -> tuple[str, Sequence[str]]:
    name, _, listed = str(section.get("method") or section["name"]).partition(":")
    return _FAMILIES[name], section.get("ops") or [op for op in listed.split(",") if op]


def _op(layer: Layer, form: str, delegated: bool) -> PlantedOp:
    inside = delegated and form in layer.inside
    return PlantedOp(
        layer.name,
        layer.type,
        layer.us(form, inside),
        "XNNPACK" if inside else None,
        _kernel(form, inside),
        quantization=_QUANTIZATION.get(form),
    )


def _kernel(form: str, inside: bool) -> str:
    if inside:
        return f"{_KERNELS[form]} GEMM"
    return "builtin hybrid" if form == "dynamic" else "builtin"
