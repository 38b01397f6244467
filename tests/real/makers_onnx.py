"""Makers of small ONNX models: a chain of convolutions with random weights, and the same with something planted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

SIZE, WIDTH = 48, 32


def chain(widths: Sequence[int] = (WIDTH,) * 6) -> Any:
    """A 3x3 convolution and a ReLU for each width, a mean over space, and a linear layer."""
    from onnx import TensorProto, helper, numpy_helper

    numbers = np.random.default_rng(11)
    nodes, tensors, given, before = [], [], "image", 3

    def constant(name: str, *shape: int) -> str:
        values = numbers.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        tensors.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    for index, width in enumerate(widths):
        weight, bias = constant(f"body{index}.weight", width, before, 3, 3), constant(f"body{index}.bias", width)
        nodes.append(helper.make_node("Conv", [given, weight, bias], [f"c{index}"], name=f"conv{index}", pads=[1] * 4))
        nodes.append(helper.make_node("Relu", [f"c{index}"], [f"r{index}"], name=f"relu{index}"))
        given, before = f"r{index}", width
    nodes.append(helper.make_node("GlobalAveragePool", [given], ["mean"], name="mean"))
    nodes.append(helper.make_node("Flatten", ["mean"], ["flat"], name="flat"))
    head = constant("head.weight", 10, before)
    nodes.append(helper.make_node("Gemm", ["flat", head], ["classes"], name="gemm", transB=1))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, SIZE, SIZE])
    classes = helper.make_tensor_value_info("classes", TensorProto.FLOAT, [1, 10])
    graph = helper.make_graph(nodes, "chain", [image], [classes], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def pair(plant: Callable[[Any], None]) -> Callable[[Path], None]:
    """A maker of base.onnx and planted.onnx."""

    def make(folder: Path) -> None:
        _save(chain(), folder / "base.onnx")
        other = chain()
        plant(other.graph)
        _save(other, folder / "planted.onnx")

    return make


def wider(folder: Path) -> None:
    """Three times as many channels between two of the convolutions."""
    _save(chain(), folder / "base.onnx")
    _save(chain([WIDTH, WIDTH, 3 * WIDTH, WIDTH, WIDTH, WIDTH]), folder / "planted.onnx")


def by_where(graph: Any) -> None:
    """Three ReLUs as x > 0 ? x : 0."""
    from onnx import helper, numpy_helper

    graph.initializer.append(numpy_helper.from_array(np.zeros((), np.float32), "zero"))
    for index in (1, 2, 3):
        place = next(place for place, node in enumerate(graph.node) if node.name == f"relu{index}")
        del graph.node[place]
        names = [f"c{index}", f"positive{index}", f"r{index}"]
        graph.node.insert(place, helper.make_node("Where", [names[1], names[0], "zero"], [names[2]], name=names[2]))
        graph.node.insert(place, helper.make_node("Greater", [names[0], "zero"], [names[1]], name=names[1]))


def transposes(graph: Any) -> None:
    """Channels last and back, behind two of the ReLUs."""
    from onnx import helper

    for index in (0, 3):
        reader = next(place for place, node in enumerate(graph.node) if node.name == f"conv{index + 1}")
        graph.node[reader].input[0] = f"back{index}"
        back = helper.make_node("Transpose", [f"last{index}"], [f"back{index}"], name=f"back{index}", perm=[0, 3, 1, 2])
        last = helper.make_node("Transpose", [f"r{index}"], [f"last{index}"], name=f"last{index}", perm=[0, 2, 3, 1])
        graph.node.insert(reader, back)
        graph.node.insert(reader, last)


def copied(folder: Path) -> None:
    """Two files of the same bytes."""
    for name in ("base", "planted"):
        _save(chain(), folder / f"{name}.onnx")


def _save(model: Any, path: Path) -> None:
    import onnx

    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())
