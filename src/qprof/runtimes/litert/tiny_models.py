"""Small .tflite models of a single kind of op, made in memory: what ceilings are measured with.

Shapes are those of TFLite: activations NHWC; CONV_2D weights [out, height, width, in]; DEPTHWISE_CONV_2D weights
[1, height, width, channels]; FULLY_CONNECTED weights [out, in].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

#: "float32" and "int8" throughout, or "dynamic": int8 weights on float32 activations, quantized at run time.
Format = Literal["float32", "int8", "dynamic"]

_ACTIVATION_SCALE = 0.05
_WEIGHT_SCALE = 0.01
_OUTPUT_SCALE = 0.5


def weighted_op(op: str, input_shape: Sequence[int], weights_shape: Sequence[int], format: Format) -> bytes:
    """A model of one CONV_2D, DEPTHWISE_CONV_2D (stride 1, SAME) or FULLY_CONNECTED with weights drawn at random."""
    from ai_edge_litert import schema_py_generated as schema

    activations = "int8" if format == "int8" else "float32"
    axis = 3 if op == "DEPTHWISE_CONV_2D" else 0
    channels = weights_shape[axis]
    model = _Model()
    source = model.tensor("input", input_shape, activations, scale=_ACTIVATION_SCALE)
    weights = model.tensor(
        "weights",
        weights_shape,
        "float32" if format == "float32" else "int8",
        data=random_values(math.prod(weights_shape), "float32" if format == "float32" else "int8"),
        scale=_WEIGHT_SCALE,
        channels=(channels, axis),
    )
    bias = model.tensor(
        "bias",
        (channels,),
        "int32" if format == "int8" else "float32",
        data=np.zeros(channels, np.int32 if format == "int8" else np.float32),
        scale=_ACTIVATION_SCALE * _WEIGHT_SCALE,
        channels=(channels, 0),
    )
    output = model.tensor("output", (*input_shape[:-1], channels), activations, scale=_OUTPUT_SCALE)
    same = {"padding": schema.Padding.SAME, "strideW": 1, "strideH": 1}
    options = {
        "CONV_2D": lambda: schema.Conv2DOptionsT(**same),
        "DEPTHWISE_CONV_2D": lambda: schema.DepthwiseConv2DOptionsT(**same, depthMultiplier=1),
        "FULLY_CONNECTED": schema.FullyConnectedOptionsT,
    }[op]()
    model.op(op, [source, weights, bias], [output], options, version=_VERSIONS[op, format])
    return model.pack([source], [output])


_DRAWN = 1 << 20

#: The versions with which converters mark these forms (tensorflow/lite/tools/versioning/op_version.cc).
_VERSIONS = {
    ("CONV_2D", "float32"): 1,
    ("CONV_2D", "int8"): 3,
    ("CONV_2D", "dynamic"): 5,
    ("DEPTHWISE_CONV_2D", "float32"): 1,
    ("DEPTHWISE_CONV_2D", "int8"): 3,
    ("DEPTHWISE_CONV_2D", "dynamic"): 6,
    ("FULLY_CONNECTED", "float32"): 1,
    ("FULLY_CONNECTED", "int8"): 4,
    ("FULLY_CONNECTED", "dynamic"): 9,
}


def add_chain(elements: int, length: int = 1) -> bytes:
    """A model of `length` float32 ADDs, each of two tensors of `elements`: the sum so far and a second input."""
    from ai_edge_litert import schema_py_generated as schema

    model = _Model()
    first = total = model.tensor("first", (elements,), "float32")
    second = model.tensor("second", (elements,), "float32")
    for link in range(length):
        following = model.tensor(f"sum{link}", (elements,), "float32")
        model.op("ADD", [total, second], [following], schema.AddOptionsT())
        total = following
    return model.pack([first, second], [total])


def random_values(count: int, dtype: str) -> NDArray[Any]:
    """Integers of -100 to 99, or float32 of a hundredth of these: not zeros, and none denormal. There are `_DRAWN`
    different ones, over and over: to draw as many as fill the memory benches took a second."""
    drawn = np.random.default_rng(0).integers(-100, 100, min(count, _DRAWN), np.int8)
    return np.resize(drawn if dtype == "int8" else drawn.astype(np.float32) / 100, count)


class _Model:
    """One subgraph under construction, in the schema's object API."""

    def __init__(self) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self._schema = schema
        self._graph = schema.SubGraphT(tensors=[], operators=[])
        self._model = schema.ModelT(version=3, operatorCodes=[], buffers=[schema.BufferT()], subgraphs=[self._graph])

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str,
        *,
        data: NDArray[Any] | None = None,
        scale: float = 1.0,
        channels: tuple[int, int] = (1, 0),
    ) -> int:
        """Add a tensor, constant where it has data; integers get `scale`, once for each of (channels, along axis)."""
        schema = self._schema
        tensor = schema.TensorT(
            name=name, shape=np.asarray(shape, np.int32), type=getattr(schema.TensorType, dtype.upper()), hasRank=True
        )
        if dtype != "float32":
            count, axis = channels
            tensor.quantization = schema.QuantizationParametersT(
                scale=np.full(count, scale, np.float32),
                zeroPoint=np.zeros(count, np.int64),
                quantizedDimension=axis,
            )
        if data is not None:
            self._model.buffers.append(schema.BufferT(data=np.frombuffer(data.tobytes(), np.uint8)))
            tensor.buffer = len(self._model.buffers) - 1
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def op(self, type: str, inputs: Sequence[int], outputs: Sequence[int], options: Any, version: int = 1) -> None:
        """Add an op; all of a model are of one type."""
        schema = self._schema
        code = getattr(schema.BuiltinOperator, type)
        if not self._model.operatorCodes:
            self._model.operatorCodes.append(
                schema.OperatorCodeT(builtinCode=code, deprecatedBuiltinCode=code, version=version)
            )
        self._graph.operators.append(
            schema.OperatorT(
                opcodeIndex=0,
                inputs=np.asarray(inputs, np.int32),
                outputs=np.asarray(outputs, np.int32),
                builtinOptionsType=_options_type(schema, options),
                builtinOptions=options,
            )
        )

    def pack(self, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        from ai_edge_litert.tools import flatbuffer_utils  # type: ignore[import-untyped,unused-ignore]

        self._graph.inputs = np.asarray(inputs, np.int32)
        self._graph.outputs = np.asarray(outputs, np.int32)
        return bytes(flatbuffer_utils.convert_object_to_bytearray(self._model))


def _options_type(schema: Any, options: Any) -> int:
    return int(getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T")))
