"""ONNX Runtime's own quantizer, and its conversion to float16."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qprof.errors import DataError, ModelError, QprofError
from qprof.probes.machine import describe_machine
from qprof.runtimes.base import Calibration
from qprof.runtimes.onnx import model_file
from qprof.runtimes.onnx.op_types import op_type
from qprof.runtimes.onnx.sections import OnnxFloat, OnnxQuantized, OnnxStatic
from qprof.runtimes.tool_output import first_line, tool_output_to_log

if TYPE_CHECKING:
    from onnx import ModelProto

_RANGES = {"minmax": "MinMax", "entropy": "Entropy", "percentile": "Percentile"}


def static(path: Path, section: OnnxStatic, calibration: Calibration, folder: Path) -> bytes:
    """Weights in int8 and activations in 8 bits, as QuantizeLinear and DequantizeLinear around float ops (QDQ), which
    ONNX Runtime fuses when it loads them."""
    with _tool(path):
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    prepared = _prepared(path, folder)
    reader = _Samples(prepared, calibration)
    with _tool(path):
        quantize_static(
            str(prepared),
            str(folder / "quantized.onnx"),
            reader,
            quant_format=QuantFormat.QDQ,
            per_channel=section.per_channel,
            reduce_range=section.reduce_range,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8 if section.activations == "uint8" else QuantType.QInt8,
            calibrate_method=getattr(CalibrationMethod, _RANGES[section.ranges]),
            **_selected(prepared, section),
        )
    return (folder / "quantized.onnx").read_bytes()


def dynamic(path: Path, section: OnnxQuantized, folder: Path) -> bytes:
    """Weights in 8 bits; activations are quantized anew in every inference."""
    with _tool(path):
        from onnxruntime.quantization import QuantType, quantize_dynamic
    prepared = _prepared(path, folder)
    selected = _selected(prepared, section)
    # ConvInteger of ONNX Runtime's CPU provider takes weights of uint8 alone, and those of one scale.
    convolves = any(node.op_type == "Conv" for node in model_file.nodes_of(model_file.read(prepared).graph))
    with _tool(path):
        quantize_dynamic(
            str(prepared),
            str(folder / "quantized.onnx"),
            per_channel=section.per_channel and not convolves,
            reduce_range=section.reduce_range,
            weight_type=QuantType.QUInt8 if convolves else QuantType.QInt8,
            **selected,
        )
    return (folder / "quantized.onnx").read_bytes()


def float16(path: Path) -> bytes:
    """Constants and activations in float16; inputs and outputs stay as they are."""
    with _tool(path):
        import onnx
        from onnxruntime.transformers.float16 import convert_float_to_float16

        model_file.read(path)  # what it keeps in other files has been checked before these are read
        converted = convert_float_to_float16(onnx.load(str(path)), keep_io_types=True)
        content: bytes = converted.SerializeToString()
    return content


def warnings(section: OnnxFloat) -> list[str]:
    """Remarks on what this processor makes of a variant."""
    if not isinstance(section, OnnxStatic) or section.reduce_range or section.activations != "uint8":
        return []
    flags = set(describe_machine().cpu_flags or ())
    if not flags or "avx2" not in flags or flags & {"avx512_vnni", "avx_vnni", "amx_int8"}:
        return []
    return [
        "this processor has no VNNI: sums of products of 8 bits saturate in its kernels, which costs accuracy; set "
        "reduce_range = true, or activations = 'int8'"
    ]


def _prepared(path: Path, folder: Path) -> Path:
    """The model as the quantizer wants it: shapes inferred, and folded what can be."""
    with _tool(path):
        from onnxruntime.quantization.shape_inference import quant_pre_process

        prepared = folder / "prepared.onnx"
        quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
    return prepared


def _selected(prepared: Path, section: OnnxQuantized) -> dict[str, Any]:
    """What of a model is quantized, in the quantizer's words."""
    from qprof.runtimes.onnx.make import layer_nodes

    model = model_file.read(prepared)
    types = {node.op_type for node in model_file.nodes_of(model.graph)}
    for key in ("ops", "skip_ops"):
        absent = [kind for kind in getattr(section, key) if kind not in types]
        if absent:
            raise ModelError(f"{key}: the model has no op {absent[0]!r}; it has {', '.join(sorted(types))}")
    excluded = [node.name for node in model.graph.node if op_type(node.op_type) in section.skip_ops]
    excluded += layer_nodes(model, section.skip_layers)
    return {
        "op_types_to_quantize": section.ops or None,
        "nodes_to_exclude": sorted(set(filter(None, excluded))) or None,
    }


class _Samples:
    """The task's calibration samples, as the quantizer asks for them (`CalibrationDataReader`)."""

    def __init__(self, model: Path, calibration: Calibration) -> None:
        self._names = _input_names(model_file.read(model))
        self._calibration = calibration
        self._left: Iterator[Any] = iter(())
        self.rewind()
        self._given = 0

    def rewind(self) -> None:
        """Start anew."""
        self._left = iter(self._calibration.samples())

    def get_next(self) -> dict[str, Any] | None:
        """The next sample by input, `None` behind the last."""
        arrays = next(self._left, None)
        if arrays is None:
            if not self._given:
                raise DataError("the task gives no calibration samples; name a data set that has them")
            return None
        self._given += 1
        return dict(zip(self._names, arrays, strict=True))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.get_next, None)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Only asked for where samples are taken in strides, which they are not."""
        raise DataError("calibration in strides is not asked for")


def _input_names(model: ModelProto) -> list[str]:
    constants = {tensor.name for tensor in model.graph.initializer}
    return [given.name for given in model.graph.input if given.name not in constants]


@contextmanager
def _tool(path: Path) -> Iterator[None]:
    """What the quantizer prints goes to the log, and what it raises is one line."""
    root = logging.getLogger()
    level = root.level
    try:
        root.setLevel(max(level, logging.ERROR))
        with tool_output_to_log():
            yield
    except (QprofError, MemoryError):
        raise
    except ImportError as error:
        raise ModelError(f"{path}: onnxruntime's quantizer cannot be imported ({first_line(error)})") from error
    except Exception as error:  # of the quantizer, of onnx and of ONNX Runtime, each with types of its own
        raise ModelError(f"{path}: onnxruntime cannot quantize it: {first_line(error)}") from error
    finally:
        root.setLevel(level)
