"""Quantized variants of one float .tflite, made with ai-edge-quantizer; TensorFlow is not needed."""

from __future__ import annotations

import difflib
import importlib.metadata
import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from numpy.typing import NDArray

from qprof.errors import DataError, ModelError
from qprof.runtimes.litert import calibrate as calibration_module
from qprof.runtimes.litert import float_model, nested_ops, objects
from qprof.runtimes.litert.calibrate import ActivationRanges
from qprof.runtimes.litert.float_model import FloatModel
from qprof.runtimes.litert.variant import MadeVariant, file_sha256, refuse_unloadable, write_atomically
from qprof.runtimes.tool_output import first_line, tool_output_to_log

TOOL = "ai-edge-quantizer"

#: Weights share one scale per output channel, per tensor, or per block along the input dimension.
GRANULARITIES = ("channelwise", "tensorwise", "blockwise-32", "blockwise-64", "blockwise-128", "blockwise-256")


@dataclass(frozen=True, slots=True)
class Method:
    """One way of making a variant.

    `how` is the quantizer's family: "copy" (nothing is done), "float-casting" (weights as float16), "dynamic"
    (integer weights, activations quantized at run time where the kernel can), "weight-only" (integer weights,
    dequantized before use) or "static" (integer weights and activations, ranges from calibration).
    """

    name: str
    summary: str
    needs_calibration: bool
    how: Literal["copy", "float-casting", "dynamic", "weight-only", "static"]
    weight_bits: int = 32
    activation_bits: int = 32

    @property
    def integer_io(self) -> str:
        """The type of inputs and outputs where they are quantized too."""
        return f"int{self.activation_bits}"


def _by_name(*methods: Method) -> Mapping[str, Method]:
    return MappingProxyType({method.name: method for method in methods})


METHODS: Mapping[str, Method] = _by_name(
    Method("float32", "the float model as it is", False, "copy"),
    Method("float16", "float16 weights, float32 activations", False, "float-casting", 16),
    Method("int8-dynamic", "int8 weights, activations quantized at run time", False, "dynamic", 8),
    Method("int8", "int8 weights and activations, ranges from calibration", True, "static", 8, 8),
    Method("int16x8", "int8 weights, int16 activations, ranges from calibration", True, "static", 8, 16),
    Method("int8-weight-only", "int8 weights, dequantized before use; float32 compute", False, "weight-only", 8),
    Method("int4-weight-only", "int4 weights, dequantized before use; float32 compute", False, "weight-only", 4),
    Method("int4-dynamic", "int4 weights, activations quantized at run time", False, "dynamic", 4),
)


def parse_method(text: str) -> tuple[Method, tuple[str, ...] | None]:
    """Split "int8-dynamic:CONV_2D,FULLY_CONNECTED" into the method and the op types it is limited to.

    Raises:
        ModelError: the method is unknown, or the list of op types is empty.
    """
    name, colon, listed = text.partition(":")
    if name not in METHODS:
        raise ModelError(f"unknown method {name!r}; {_nearest(name, METHODS)}")
    if not colon:
        return METHODS[name], None
    ops = tuple(op.strip() for op in listed.split(",") if op.strip())
    if not ops:
        raise ModelError(f"method {text!r} names no op type after the colon; for example {name}:CONV_2D")
    return METHODS[name], ops


def tool_version() -> str:
    """The installed version of the quantizer."""
    return importlib.metadata.version(TOOL)


def make(
    method: str,
    source: Path,
    destination: Path,
    *,
    calibration: Iterable[Sequence[NDArray[Any]]] | ActivationRanges | None = None,
    ops: Sequence[str] | None = None,
    skip_ops: Sequence[str] | None = None,
    skip_layers: Sequence[str] | None = None,
    io: str | None = None,
    granularity: str | None = None,
    ranges: str = calibration_module.RANGES[0],
    threads: int | None = None,
) -> MadeVariant:
    """Make one variant of the float model `source` and write it to `destination`, atomically.

    The same inputs give the same bytes.

    Args:
        method: a name of `METHODS`, or such a name with op types ("int8-dynamic:CONV_2D,FULLY_CONNECTED").
        source: float32 .tflite.
        destination: the file to write.
        calibration: for static methods: samples (one array per model input, in order), or ranges already collected.
        ops: quantize these op types alone.
        skip_ops: leave these op types in float.
        skip_layers: leave these ops in float, by name (output tensor) or shell pattern.
        io: type of inputs and outputs for static methods: "float", or "int8" ("int16" for int16x8). Left open it is
            what the quantizer does: integer where the whole model is quantized, float where `ops` limits it.
        granularity: one of `GRANULARITIES`; left open, channelwise. Blockwise exists for int4-dynamic alone and
            applies to FULLY_CONNECTED and EMBEDDING_LOOKUP; other ops stay channelwise.
        ranges: how samples become ranges, one of `calibrate.RANGES`.
        threads: threads of the interpreter that calibrates.

    Raises:
        ModelError: the source is unreadable or quantized already, an option does not fit, or the tool failed.
        DataError: calibration samples are missing or do not fit.
    """
    started = time.perf_counter()
    chosen, listed = parse_method(method)
    if listed is not None and ops is not None:
        raise ModelError(f"{method}: op types are given in the method and in `ops`; use one of the two")
    options = _Options(
        ops=tuple(ops) if ops is not None else listed,
        skip_ops=tuple(skip_ops or ()),
        skip_layers=tuple(skip_layers or ()),
        io=io,
        granularity=granularity,
    )
    model = float_model.read(source)
    settings = options.checked(chosen, model)
    notes: list[str] = []
    if chosen.how == "copy":
        content = objects.read_content(source)
    else:
        activation_ranges = _activation_ranges(chosen, model, calibration, ranges, threads)
        if activation_ranges is not None:
            settings |= {"ranges": activation_ranges.ranges, "calibration_samples": activation_ranges.samples}
        content, notes = _quantize(chosen, model, options, activation_ranges)
    write_atomically(destination, content)
    return MadeVariant(
        path=destination,
        sha256=file_sha256(destination),
        bytes=len(content),
        method=method,
        seconds=time.perf_counter() - started,
        tool="none" if chosen.how == "copy" else TOOL,
        tool_version="" if chosen.how == "copy" else tool_version(),
        settings=settings,
        notes=notes,
    )


@dataclass(frozen=True, slots=True)
class _Options:
    ops: tuple[str, ...] | None
    skip_ops: tuple[str, ...]
    skip_layers: tuple[str, ...]
    io: str | None
    granularity: str | None

    def checked(self, method: Method, model: FloatModel) -> dict[str, Any]:
        """The options as settings of the variant; raise `ModelError` for one that does not fit."""
        if method.how == "copy" and (self.ops or self.skip_ops or self.skip_layers or self.granularity):
            raise ModelError(f"{method.name}: nothing is quantized, so op, layer and granularity options do not apply")
        for op in (*(self.ops or ()), *self.skip_ops):
            self._check_op(op, model)
        if self.io is not None and self.io != "float" and (method.how != "static" or self.io != method.integer_io):
            allowed = f"'float' or '{method.integer_io}'" if method.how == "static" else "'float'"
            raise ModelError(f"{method.name}: io {self.io!r} is not possible; use {allowed}")
        self._check_granularity(method)
        settings: dict[str, Any] = {
            "ops": sorted(self.ops) if self.ops is not None else None,
            "skip_ops": sorted(self.skip_ops) or None,
            "skip_layers": sorted(self.skip_layers) or None,
            "granularity": (self.granularity or "channelwise") if method.weight_bits <= 8 else None,
            "io": self.resolved_io(method),
        }
        return {key: value for key, value in settings.items() if value is not None}

    def resolved_io(self, method: Method) -> str:
        """ "float" or the integer type of inputs and outputs."""
        if method.how != "static":
            return "float"
        return self.io or (method.integer_io if self.ops is None else "float")

    def _check_op(self, op: str, model: FloatModel) -> None:
        types = model.op_types()
        if op not in types:
            known = ", ".join(sorted(types))
            raise ModelError(f"{model.path}: has no op of type {op!r}; {_nearest(op, types)} (it has {known})")

    def _check_granularity(self, method: Method) -> None:
        if self.granularity is None:
            return
        if self.granularity not in GRANULARITIES:
            raise ModelError(f"unknown granularity {self.granularity!r}; {_nearest(self.granularity, GRANULARITIES)}")
        if method.how == "float-casting":
            raise ModelError(f"{method.name}: float16 weights have no scales, so granularity does not apply")
        if self.granularity.startswith("blockwise") and method.name != "int4-dynamic":
            raise ModelError(f"{method.name}: cannot be {self.granularity}; blockwise exists for int4-dynamic alone")


def _activation_ranges(
    method: Method,
    model: FloatModel,
    calibration: Iterable[Sequence[NDArray[Any]]] | ActivationRanges | None,
    ranges: str,
    threads: int | None,
) -> ActivationRanges | None:
    if not method.needs_calibration:
        return None
    if isinstance(calibration, ActivationRanges):
        return calibration
    if calibration is None:
        raise DataError(f"{model.path}: method {method.name} needs calibration samples; name a data set that has them")
    return calibration_module.calibrate(model, calibration, ranges=ranges, threads=threads)


def _quantize(
    method: Method, model: FloatModel, options: _Options, ranges: ActivationRanges | None
) -> tuple[bytes, list[str]]:
    from ai_edge_quantizer import quantizer  # type: ignore[import-untyped,unused-ignore]

    rules = _rules(method, model, options, ranges)
    remedy = "leave the op or layer it names in float (skip_ops, skip_layers) or choose another method"
    try:
        with tool_output_to_log():
            result = quantizer.Quantizer(model.content, rules).quantize(
                ranges.by_tensor if ranges is not None else None,
                enable_progress_bar=False,
                enable_progress_report=False,
            )
    except Exception as error:
        raise ModelError(
            f"{model.path}: method {method.name} failed in {TOOL}: {first_line(error)}; {remedy}"
        ) from error
    content = bytes(result.quantized_model or b"")
    refuse_unloadable(content, f"{model.path}: method {method.name}", remedy)
    found = float_model.outcome(content, static=method.how == "static")
    if not found.touched:
        raise ModelError(
            f"{model.path}: method {method.name} quantized nothing: {TOOL} has no such form of any chosen op; "
            "choose another method or other op types"
        )
    return content, _notes(method, model, options, found.float_ops, ranges)


def _rules(
    method: Method, model: FloatModel, options: _Options, ranges: ActivationRanges | None
) -> list[dict[str, Any]]:
    """The quantizer's recipe. A later rule wins over an earlier one; an op type that a rule for all ops cannot
    quantize is left in float, one that is named explicitly is refused."""
    from ai_edge_quantizer import qtyping, recipe_manager

    manager = recipe_manager.RecipeManager()
    every = qtyping.TFLOperationName.ALL_SUPPORTED
    if options.ops is None:
        _add_rule(manager, method, ".*", every, options.granularity)
    else:
        types = [_tool_op(op, method) for op in options.ops]
        if options.resolved_io(method) != "float":
            types += [qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT]
        for op in types:
            try:
                _add_rule(manager, method, ".*", op, options.granularity)
            except ValueError as error:
                raise ModelError(
                    f"{method.name}: {TOOL} cannot quantize {op.value}; leave it out of the ops"
                ) from error
    _add_blockwise(manager, method, model, options)
    skipped = [_tool_op(op, None) for op in options.skip_ops]
    if method.how == "static" and options.resolved_io(method) == "float":
        skipped += [qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT]
    for op in skipped:
        if op is not None:
            manager.add_quantization_config(".*", op, None, "no_quantize")
    scopes = [op.scope for op in model.matching(options.skip_layers)]
    if method.how == "static":
        scopes += [op.scope for op in model.ops if op.subgraph > 0] + list(model.io_scopes)
    if scopes:
        manager.add_quantization_config(_exactly(scopes), every, None, "no_quantize")
    if method.how == "static":
        inside = nested_ops.weighted_scopes(model, ranges, options.ops, options.skip_ops, options.skip_layers)
        if inside:
            _add_rule(manager, METHODS["int8-dynamic"], _exactly(inside), every, options.granularity)
    rules: list[dict[str, Any]] = manager.get_quantization_recipe()
    return rules


def _add_rule(manager: Any, method: Method, regex: str, op: Any, granularity: str | None) -> None:
    from ai_edge_quantizer import qtyping

    # Blockwise rules are added op by op, for the ops whose weights divide into blocks.
    if granularity is None or granularity.startswith("blockwise"):
        granularity = "channelwise"
    scales = qtyping.QuantGranularity(granularity.upper().replace("-", "_"))
    if method.how == "float-casting":
        manager.add_weight_only_config(regex, op, method.weight_bits, algorithm_key="float_casting")
    elif method.how == "weight-only":
        manager.add_weight_only_config(regex, op, method.weight_bits, scales)
    elif method.how == "dynamic":
        manager.add_dynamic_config(regex, op, method.weight_bits, scales)
    else:
        manager.add_static_config(regex, op, method.activation_bits, method.weight_bits, scales)


def _add_blockwise(manager: Any, method: Method, model: FloatModel, options: _Options) -> None:
    from ai_edge_quantizer import qtyping

    if options.granularity is None or not options.granularity.startswith("blockwise"):
        return
    scales = qtyping.QuantGranularity(options.granularity.upper().replace("-", "_"))
    for op_type in ("FULLY_CONNECTED", "EMBEDDING_LOOKUP"):
        if (options.ops is not None and op_type not in options.ops) or op_type in options.skip_ops:
            continue
        scopes = [op.scope for op in model.ops if op.type == op_type and _divides(op, options.granularity)]
        if scopes:
            manager.add_dynamic_config(_exactly(scopes), qtyping.TFLOperationName(op_type), method.weight_bits, scales)


def _divides(op: float_model.FloatOp, granularity: str) -> bool:
    block = int(granularity.rpartition("-")[2])
    return op.weight_shape is not None and len(op.weight_shape) >= 2 and op.weight_shape[1] % block == 0


def _exactly(scopes: Sequence[str]) -> str:
    """One regular expression for all scopes: the quantizer tries every rule on every op."""
    return "^(?:" + "|".join(sorted({re.escape(scope) for scope in scopes})) + ")$"


def _tool_op(op: str, method: Method | None) -> Any:
    """The quantizer's name of a LiteRT op type, `None` where it never quantizes that type.

    Raises:
        ModelError: `method` was asked to quantize such a type.
    """
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_quantizer.utils import tfl_flatbuffer_utils

    code = getattr(schema.BuiltinOperator, op)
    name = tfl_flatbuffer_utils.TFL_OP_CODE_TO_NAME.get(code)
    if name is None and method is not None:
        raise ModelError(f"{method.name}: {TOOL} cannot quantize {op}; leave it out of the ops")
    return name


def _notes(
    method: Method, model: FloatModel, options: _Options, float_ops: Counter[str], ranges: ActivationRanges | None
) -> list[str]:
    """One remark per reason for which ops stayed in float without being asked to."""
    notes = []
    left = Counter(float_ops)
    for op in model.matching(options.skip_layers):
        left[op.type] -= 1
    if method.how == "static":
        nested, unreached = nested_ops.divided(model, ranges)
        left -= Counter(op.type for op in (*nested, *unreached))
        left -= Counter(op.type for op in model.ops if op.subgraph == 0 and op.type in float_model.CONTROL_FLOW)
        notes += nested_ops.notes(nested, unreached)
    for op_type in options.skip_ops:
        left.pop(op_type, None)
    if options.ops is not None:
        left = Counter({op_type: count for op_type, count in left.items() if op_type in options.ops})
    left = +left
    if left:
        listed = ", ".join(f"{op_type} x{count}" for op_type, count in sorted(left.items()))
        part = "activations" if method.how == "static" else "weights"
        notes.append(
            f"{part} left in float32 by {TOOL}, which has no {method.name} form of them: {listed}; "
            "expect float kernels and conversions around them"
        )
    if options.granularity is not None and options.granularity.startswith("blockwise"):
        plain = [op.type for op in model.ops if op.type in float_model.WEIGHTED_OPS]
        blocks = [
            op
            for op in model.ops
            if op.type in ("FULLY_CONNECTED", "EMBEDDING_LOOKUP") and _divides(op, options.granularity)
        ]
        notes.append(
            f"{options.granularity} applies to {len(blocks)} of {len(plain)} ops with weights (FULLY_CONNECTED and "
            "EMBEDDING_LOOKUP whose input dimension divides into blocks); the others are channelwise"
        )
    return notes


def _nearest(name: str, known: Iterable[str]) -> str:
    choices = sorted(known)
    close = difflib.get_close_matches(name, choices, n=1)
    return f"did you mean {close[0]!r}?" if close else f"use one of {', '.join(choices)}"
