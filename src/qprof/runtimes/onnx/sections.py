"""What a profile may say of ONNX models and of their variants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import field

from qprof.errors import ProfileError
from qprof.record.model import RunOptions
from qprof.record.nearest import nearest
from qprof.record.sections import FileVariantSection, MadeVariantSection, ModelSection, Positive, VariantSection
from qprof.runtimes.interventions import method as method_of

#: How far ONNX Runtime rewrites a graph before it runs it: "all", its default, with what suits this processor alone.
Optimization = Literal["none", "basic", "extended", "all"]
#: Execution providers: what runs the ops that it takes; the others fall back to the CPU.
Provider = Literal["cpu", "cuda", "openvino", "xnnpack"]


class OnnxModelSection(ModelSection, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`path`: a float `.onnx`. `input_shapes`: input name or position -> shape, for inputs whose shape is open, of
    every variant. `batch`: the size of the first axis where it is open."""

    input_shapes: dict[str, list[Positive]] = field(default_factory=dict)
    batch: Positive = 1


class OnnxFile(FileVariantSection, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A ready-made `.onnx`. `optimization`: how far the graph is rewritten; `provider`: what is to run its ops;
    `input_shapes`: this file's own, beside the model's."""

    optimization: Optimization = "all"
    provider: Provider | None = None
    input_shapes: dict[str, list[Positive]] = field(default_factory=dict)


class OnnxFloat(MadeVariantSection, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The float model as it is, or in float16. The keys are those of a ready-made file."""

    optimization: Optimization = "all"
    provider: Provider | None = None
    input_shapes: dict[str, list[Positive]] = field(default_factory=dict)


class OnnxQuantized(OnnxFloat, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`ops` / `skip_ops`: op types to quantize, or to leave in float; `skip_layers`: layers to leave in float, by the
    names that `qprof layers` lists. `per_channel`: a scale for each output channel of a weight. `reduce_range`: 7 bits
    of 8, for processors without VNNI, whose sums of products of 8 bits saturate."""

    ops: list[str] = field(default_factory=list)
    skip_ops: list[str] = field(default_factory=list)
    skip_layers: list[str] = field(default_factory=list)
    per_channel: bool = True
    reduce_range: bool = False


class OnnxStatic(OnnxQuantized, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Quantized weights and activations. `activations`: their type; `ranges`: how they are found from the samples."""

    activations: Literal["uint8", "int8"] = "uint8"
    ranges: Literal["minmax", "entropy", "percentile"] = "minmax"


class OnnxOptions(RunOptions, frozen=True, kw_only=True):
    """How ONNX Runtime runs a variant. `quantization`: tensor -> (scale, zero point) of inputs and outputs that hold
    quantized numbers, and `last_ops`: the types of the last ops, both as the file says. `disabled`: optimizers that
    are not to run."""

    optimization: str = "all"
    provider: str = "cpu"
    input_shapes: dict[str, list[int]] = field(default_factory=dict)
    batch: int = 1
    quantization: dict[str, tuple[float, int]] = field(default_factory=dict)
    last_ops: list[str] = field(default_factory=list)
    disabled: list[str] = field(default_factory=list)


#: Method -> the section of its variants, and what it is, for messages.
METHODS: Mapping[str, type[OnnxFloat]] = {
    "float32": OnnxFloat,
    "float16": OnnxFloat,
    "int8": OnnxStatic,
    "int8-dynamic": OnnxQuantized,
}


def variant_section(keys: Mapping[str, Any]) -> type[VariantSection]:
    """See `Runtime.variant_section`."""
    if keys.get("file"):
        return OnnxFile
    name = method_of(keys)
    if name not in METHODS:
        raise ProfileError(f"there is no method {name!r} for an ONNX model; {nearest(name, METHODS)}")
    return METHODS[name]
