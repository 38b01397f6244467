"""Small ONNX models, made node by node: a residual net, one with a loop, one that takes quantized numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZE = 16


def model(nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any], constants: dict[str, Any]) -> Any:
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(list(nodes), "net", list(inputs), list(outputs), tensors)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(made)
    return made


def floats(name: str, shape: Sequence[int | str]) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def weights(*shape: int, seed: int = 0) -> Any:
    random = np.random.default_rng([seed, *shape])
    return (random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def residual_net(batch: int | str = 1, channels: int = 16, channels_last: bool = False, named: bool = True) -> Any:
    """Two convolutions with a sum around the second, a mean over space and a linear layer: 10 outputs."""
    first = "x_first" if channels_last else "x"
    nodes = [
        helper.make_node("Conv", [first, "stem.weight", "stem.bias"], ["c1"], name="conv1", pads=[1] * 4),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "body.weight", "body.bias"], ["c2"], name="conv2", pads=[1] * 4),
        helper.make_node("Add", ["c2", "r1"], ["sum"], name="add"),
        helper.make_node("Relu", ["sum"], ["r2"], name="relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["mean"], name="mean"),
        helper.make_node("Flatten", ["mean"], ["flat"], name="flat"),
        helper.make_node("Gemm", ["flat", "head.weight", "head.bias"], ["y"], name="gemm", transB=1),
    ]
    if channels_last:
        nodes.insert(0, helper.make_node("Transpose", ["x"], ["x_first"], name="move", perm=[0, 3, 1, 2]))
    if not named:
        for node in nodes:
            node.name = ""
    shape = [batch, SIZE, SIZE, 3] if channels_last else [batch, 3, SIZE, SIZE]
    constants = {
        "stem.weight": weights(channels, 3, 3, 3),
        "stem.bias": weights(channels, 1).reshape(-1),
        "body.weight": weights(channels, channels, 3, 3),
        "body.bias": weights(channels, 1, seed=1).reshape(-1),
        "head.weight": weights(10, channels),
        "head.bias": weights(10, 1).reshape(-1),
    }
    return model(nodes, [floats("x", shape)], [floats("y", [batch, 10])], constants)


def loop_net(times: int = 3) -> Any:
    """A matrix product that is done `times` times."""
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["held", "w"], ["product"], name="step"),
            helper.make_node("Tanh", ["product"], ["held_out"], name="bound"),
            helper.make_node("Identity", ["go"], ["go_out"], name="on"),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            floats("held", [4, 8]),
        ],
        [helper.make_tensor_value_info("go_out", TensorProto.BOOL, []), floats("held_out", [4, 8])],
    )
    loop = helper.make_node("Loop", ["times", "", "x"], ["y"], name="loop", body=body)
    constants = {"times": np.array(times, np.int64), "w": weights(8, 8)}
    return model([loop], [floats("x", [4, 8])], [floats("y", [4, 8])], constants)


def quantized_io_net() -> Any:
    """uint8 in, int8 out, float in between."""
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "in_scale", "in_zero"], ["real"], name="dq"),
        helper.make_node("Relu", ["real"], ["r"], name="relu"),
        helper.make_node("QuantizeLinear", ["r", "out_scale", "out_zero"], ["y"], name="q"),
    ]
    constants = {
        "in_scale": np.float32(0.5),
        "in_zero": np.uint8(128),
        "out_scale": np.float32(0.25),
        "out_zero": np.int8(-3),
    }
    x = helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 4])
    y = helper.make_tensor_value_info("y", TensorProto.INT8, [1, 4])
    return model(nodes, [x], [y], constants)


def sample(shape: Sequence[int], seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
