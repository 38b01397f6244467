"""What a profile may say of LiteRT models and of their variants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct, field

from qprof.errors import ProfileError
from qprof.record.model import RunOptions
from qprof.record.nearest import nearest
from qprof.record.sections import (
    Delegate,
    FilePath,
    FileVariantSection,
    MadeVariantSection,
    ModelSection,
    Positive,
    VariantSection,
)
from qprof.runtimes.interventions import method as method_of
from qprof.runtimes.litert.quantize import METHODS


class LiteRTModelSection(ModelSection, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`path`: a float `.tflite`, a SavedModel folder, a Keras file, or "embedded:NAME". `input_shapes`: input name or
    position -> shape, for inputs to be resized, of every variant. `signature`: what is run of every variant, where
    that is not the first subgraph of a file or the serving signature of a SavedModel. `batch`: the size of a batch that
    a SavedModel or Keras model leaves open."""

    input_shapes: dict[str, list[Positive]] = field(default_factory=dict)
    signature: str = ""
    batch: Positive = 1


#: What is done to the machine's state before every op; "": nothing, and nothing stands before the ops to do it.
BeforeOps = Literal["", "nothing", "reset-vectors", "reset-vectors-builtin", "flush-caches", "warm-caches"]


class Patch(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Ops whose outputs are another model's in every inference, to see what they have to do with a score. `ops`: op of
    the variant -> op of the `baseline`, a `.tflite` with the same inputs; by the names that `qprof layers` lists."""

    baseline: FilePath
    ops: dict[str, str]


class LiteRTFile(FileVariantSection, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A ready-made `.tflite`. `delegate`: this variant's own, instead of the protocol's. `before_ops`: what is done to
    the machine's state before every op (`qprof.core._op_profiler.OpProfiler.prepare`), to learn what an op owes to the
    one before it; "nothing" is the control for the others. `input_shapes`: this file's own, beside the model's."""

    delegate: Delegate | None = None
    before_ops: BeforeOps = ""
    patch: Patch | None = None
    input_shapes: dict[str, list[Positive]] = field(default_factory=dict)


class FloatVariant(MadeVariantSection, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The float model as it is. `delegate`, `before_ops`, `input_shapes`: as of a ready-made file."""

    delegate: Delegate | None = None
    before_ops: BeforeOps = ""
    input_shapes: dict[str, list[Positive]] = field(default_factory=dict)


class QuantizedVariant(FloatVariant, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`ops` / `skip_ops`: op types to quantize, or to leave in float; `skip_layers`: layers to leave in float, by the
    names that `qprof layers` lists."""

    ops: list[str] = field(default_factory=list)
    skip_ops: list[str] = field(default_factory=list)
    skip_layers: list[str] = field(default_factory=list)


class StaticVariant(QuantizedVariant, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Quantized weights and activations. `io`: type of the model's inputs and outputs. `ranges`: how those of the
    calibration samples become one, by the quantizer's "moving-average", which cuts off what is rare, or by the extremes
    of all ("min-max")."""

    io: Literal["float", "int8"] = "float"
    ranges: Literal["moving-average", "min-max"] = "moving-average"


class LiteRTOptions(RunOptions, frozen=True, kw_only=True):
    """How LiteRT runs a variant. `input_shapes`: input name -> shape, for inputs to be resized. `before_ops`: see
    `LiteRTFile`."""

    delegate: str = "xnnpack"
    before_ops: str = ""
    input_shapes: dict[str, list[int]] = field(default_factory=dict)
    patch: Patch | None = None


_SECTIONS: Mapping[str, type[VariantSection]] = {
    "copy": FloatVariant,
    "float-casting": QuantizedVariant,
    "dynamic": QuantizedVariant,
    "weight-only": QuantizedVariant,
    "static": StaticVariant,
}


def variant_section(keys: Mapping[str, Any]) -> type[VariantSection]:
    """See `Runtime.variant_section`."""
    if keys.get("file"):
        return LiteRTFile
    name = method_of(keys).partition(":")[0]
    if name not in METHODS:
        raise ProfileError(f"there is no method {name!r} for a LiteRT model; {nearest(name, METHODS)}")
    return _SECTIONS[METHODS[name].how]
