"""The recipe of a LiteRT variant as ai-edge-quantizer reads it: the very rules that qprof makes the variant by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qprof.errors import ModelError
from qprof.runtimes.litert import float_model, quantize
from qprof.runtimes.litert.sections import QuantizedVariant, StaticVariant
from qprof.runtimes.recipe import Recipe

_USAGE = "ai_edge_quantizer.Quantizer(MODEL, this file).quantize(calibration result)"


def recipe(source: Path, section: QuantizedVariant) -> Recipe:
    """Raises `ModelError` where the source is no float `.tflite`, or has no such layer."""
    method, listed = quantize.parse_method(section.method or section.name)
    if method.how == "copy":
        raise ModelError(f"{section.name}: nothing is quantized, so there is no recipe")
    if source.suffix != ".tflite":
        raise ModelError(f"{source}: {quantize.TOOL} takes a .tflite; convert the model first")
    options = quantize._Options(
        ops=tuple(section.ops) or listed,
        skip_ops=tuple(section.skip_ops),
        skip_layers=tuple(section.skip_layers),
        io=section.io if isinstance(section, StaticVariant) else None,
        granularity=None,
    )
    model = float_model.read(source)
    options.checked(method, model)
    rules: list[dict[str, Any]] = quantize._rules(method, model, options, None)
    return Recipe(quantize.TOOL, rules, _USAGE)
