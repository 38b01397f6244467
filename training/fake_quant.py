"""A float `.tflite` as a network that can be trained further, with the rounding of static int8 or without.

What is trained are the file's own constants, batch norms folded as they are there, and the ranges of its tensors. The
result goes back into the file it came from and through the same quantizer as any int8 variant, with the trained ranges
in place of calibrated ones: the file differs from one quantized after training in its numbers alone, op for op.

Weights are rounded as the quantizer does it: symmetric, one step per output channel, that of its largest weight.
Activations have one step and one zero point; the step is learned with the gradient of Esser et al. ("Learned Step Size
Quantization", arXiv 1902.08153), the zero point stays. Rounding passes gradients on unchanged (Bengio et al., arXiv
1308.3432).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qprof.runtimes.litert.calibrate import ActivationRanges
from qprof.runtimes.litert.objects import packed, read_content, unpack

_ACTIVATIONS = {0: "NONE", 1: "RELU", 3: "RELU6"}
_PADDING = {0: "SAME", 1: "VALID"}
#: Ops whose output shares the scale of their input: a second rounding of nearly the same numbers.
_SAME_SCALE = frozenset({"RESIZE_BILINEAR", "RESHAPE"})
#: Ops whose output has a scale by definition (1 / 256 for probabilities), whatever the range.
_FIXED_SCALE = {"LOGISTIC": (0.0, 255.0 / 256.0), "SOFTMAX": (0.0, 255.0 / 256.0)}
_LEVELS = 255.0


@dataclass(frozen=True, slots=True)
class _Op:
    type: str
    inputs: tuple[int, ...]
    output: int
    options: Any


class TrainableFile:
    """The main subgraph of a float `.tflite` as TensorFlow variables and ops. `ranges`: of its activations, where int8
    starts from. Raises `ValueError` for an op that it does not know, `ModelError` for a file that cannot be read."""

    def __init__(self, path: Path, ranges: Mapping[str, Any]) -> None:
        import tensorflow as tf

        self._path = path
        self._model = unpack(path, read_content(path))
        self._graph = self._model.subgraphs[0]
        self._ops = [self._described(op) for op in self._graph.operators]
        self._constants = self._read_constants()
        trained = {index for op in self._ops if op.type in _WEIGHTED for index in op.inputs[1:]}
        self.weights = {
            index: tf.Variable(value, name=f"weights{index}")
            for index, value in self._constants.items()
            if index in trained
        }
        self._zero_points: dict[int, float] = {}
        self.log_steps: dict[int, Any] = {}  # of the tensors that have a range of their own
        for index in self._quantized():
            low, high = (float(np.min(ranges[self._name(index)][end])) for end in ("min", "max"))
            low, high = min(low, 0.0), max(high, 0.0, low + 1e-6)
            self._zero_points[index] = round(-low / (high - low) * _LEVELS)
            self.log_steps[index] = tf.Variable(np.log((high - low) / _LEVELS), dtype=tf.float32, name=f"step{index}")

    @property
    def input_name(self) -> str:
        return self._name(int(self._graph.inputs[0]))

    def before(self, output: str) -> str:
        """The tensor that the op behind `output` reads first: logits behind probabilities."""
        (op,) = (op for op in self._ops if self._name(op.output) == output)
        return self._name(op.inputs[0])

    def __call__(self, inputs: Any, *, rounded: bool) -> dict[str, Any]:
        """Every tensor by name for a batch of float32 inputs, as int8 would have it where `rounded`."""
        import tensorflow as tf

        values: dict[int, Any] = {index: tf.constant(value) for index, value in self._constants.items()}
        values.update(self.weights)
        first = int(self._graph.inputs[0])
        values[first] = self._round(first, inputs) if rounded else inputs
        for op in self._ops:
            given = [values[index] for index in op.inputs]
            if rounded and op.type in _WEIGHTED:
                given[1] = _rounded_weights(given[1], axis=3 if op.type == "DEPTHWISE_CONV_2D" else 0)
            result = _COMPUTE[op.type](op.options, *given)
            values[op.output] = self._round(op.output, result) if rounded and op.type not in _SAME_SCALE else result
        return {self._name(index): value for index, value in values.items() if index not in self._constants}

    def _round(self, index: int, x: Any) -> Any:
        import tensorflow as tf

        if index in self.log_steps:
            return _rounded(x, self.log_steps[index], self._zero_points[index])
        low, high = next(_FIXED_SCALE[op.type] for op in self._ops if op.output == index)
        return tf.quantization.fake_quant_with_min_max_args(x, low, high)

    def ranges(self, samples: int) -> ActivationRanges:
        """The learned range of every tensor, in the form in which the quantizer takes calibrated ones."""
        found: dict[int, tuple[float, float]] = {}
        for index, log_step in self.log_steps.items():
            step, zero = float(np.exp(log_step.numpy())), self._zero_points[index]
            found[index] = (-zero * step, (_LEVELS - zero) * step)
        for op in self._ops:
            if op.type in _SAME_SCALE:
                found[op.output] = found[op.inputs[0]]
            elif op.type in _FIXED_SCALE:
                found[op.output] = _FIXED_SCALE[op.type]
        by_tensor = {
            self._name(index): {"min": np.float32(low), "max": np.float32(high)} for index, (low, high) in found.items()
        }
        return ActivationRanges(by_tensor, samples, 0.0, "trained")

    def write(self, path: Path) -> None:
        """The file with the trained weights, in float."""
        for index, variable in self.weights.items():
            value = np.ascontiguousarray(variable.numpy(), np.float32)
            self._model.buffers[self._graph.tensors[index].buffer].data = value.reshape(-1).view(np.uint8)
        path.write_bytes(packed(self._model))

    def _described(self, op: Any) -> _Op:
        from ai_edge_litert import schema_py_generated as schema

        names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
        kind = names[self._model.operatorCodes[op.opcodeIndex].builtinCode]
        if kind not in _COMPUTE:
            raise ValueError(f"{self._path}: {kind} cannot be trained here; known are {', '.join(sorted(_COMPUTE))}")
        (output,) = (int(index) for index in op.outputs)
        return _Op(kind, tuple(int(index) for index in op.inputs), output, op.builtinOptions)

    def _read_constants(self) -> dict[int, Any]:
        from ai_edge_litert import schema_py_generated as schema

        dtypes = {schema.TensorType.FLOAT32: np.float32, schema.TensorType.INT32: np.int32}
        found = {}
        for index, tensor in enumerate(self._graph.tensors):
            data = self._model.buffers[tensor.buffer].data
            if data is not None and len(data):
                found[index] = np.frombuffer(bytes(data), dtypes[tensor.type]).reshape(tensor.shape)
        return found

    def _quantized(self) -> list[int]:
        outputs = [op.output for op in self._ops if op.type not in _SAME_SCALE and op.type not in _FIXED_SCALE]
        return [int(self._graph.inputs[0]), *outputs]

    def _name(self, index: int) -> str:
        return str(self._graph.tensors[index].name.decode())


def _rounded(x: Any, log_step: Any, zero_point: float) -> Any:
    """`x` on the grid of 256 values of one step, with gradients for `x` and for the step's logarithm."""
    import tensorflow as tf

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def rounded(x: Any, log_step: Any) -> Any:
        step = tf.exp(log_step)
        low, high = -zero_point * step, (_LEVELS - zero_point) * step
        y = tf.quantization.fake_quant_with_min_max_vars(x, low, high)

        def gradients(upstream: Any) -> tuple[Any, Any]:
            passed = tf.quantization.fake_quant_with_min_max_vars_gradient(upstream, x, low, high)[0]
            # y is (a number of steps) * step, and inside the range x moves that number: d y / d log step = y - x there.
            return passed, tf.reduce_sum(upstream * y) - tf.reduce_sum(passed * x)

        return y, gradients

    return rounded(x, tf.convert_to_tensor(log_step))


def _rounded_weights(weights: Any, axis: int) -> Any:
    import tensorflow as tf

    others = [i for i in range(4) if i != axis][: len(weights.shape) - 1] if len(weights.shape) == 4 else [1]
    step = tf.maximum(tf.reduce_max(tf.abs(weights), axis=others, keepdims=True) / 127.0, 1e-12)
    return weights + tf.stop_gradient(tf.round(weights / step) * step - weights)


# What each op computes. Convolutions of a `.tflite` have their weights as [out, height, width, in].


def _activated(options: Any, x: Any) -> Any:
    import tensorflow as tf

    kind = _ACTIVATIONS[options.fusedActivationFunction]
    return {"NONE": tf.identity, "RELU": tf.nn.relu, "RELU6": tf.nn.relu6}[kind](x)


def _convolution(options: Any, x: Any, weights: Any, bias: Any) -> Any:
    import tensorflow as tf

    kernel, strides = tf.transpose(weights, (1, 2, 3, 0)), (options.strideH, options.strideW)
    return _activated(options, tf.nn.conv2d(x, kernel, strides, _PADDING[options.padding]) + bias)


def _depthwise(options: Any, x: Any, weights: Any, bias: Any) -> Any:
    import tensorflow as tf

    kernel, strides = tf.transpose(weights, (1, 2, 3, 0)), (1, options.strideH, options.strideW, 1)
    return _activated(options, tf.nn.depthwise_conv2d(x, kernel, strides, _PADDING[options.padding]) + bias)


def _dense(options: Any, x: Any, weights: Any, bias: Any) -> Any:
    import tensorflow as tf

    return _activated(options, tf.matmul(x, weights, transpose_b=True) + bias)


def _resized(options: Any, x: Any, size: Any) -> Any:
    import tensorflow as tf

    if options.alignCorners or not options.halfPixelCenters:
        raise ValueError("RESIZE_BILINEAR is known with half pixel centers alone")
    return tf.image.resize(x, size)


def _averaged(options: Any, x: Any) -> Any:
    import tensorflow as tf

    window, strides = (options.filterHeight, options.filterWidth), (options.strideH, options.strideW)
    return _activated(options, tf.nn.avg_pool2d(x, window, strides, _PADDING[options.padding]))


def _reshaped(options: Any, x: Any, shape: Any) -> Any:
    import tensorflow as tf

    return tf.reshape(x, tf.concat([tf.shape(x)[:1], shape[1:]], axis=0))


def _added(options: Any, a: Any, b: Any) -> Any:
    return _activated(options, a + b)


def _sigmoid(options: Any, x: Any) -> Any:
    import tensorflow as tf

    return tf.sigmoid(x)


def _softmax(options: Any, x: Any) -> Any:
    import tensorflow as tf

    return tf.nn.softmax(x * options.beta)


_WEIGHTED = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"})
_COMPUTE: dict[str, Any] = {
    "ADD": _added,
    "AVERAGE_POOL_2D": _averaged,
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _dense,
    "LOGISTIC": _sigmoid,
    "RESHAPE": _reshaped,
    "RESIZE_BILINEAR": _resized,
    "SOFTMAX": _softmax,
}
