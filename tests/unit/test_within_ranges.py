"""A float model whose numbers are cut off at a quantized one's ranges: what it then computes, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from qprof.errors import ModelError
from qprof.runtimes.litert.edit import open_file
from qprof.runtimes.litert.within_ranges import within_ranges
from tflite_builder import Graph, Quantization, build_model

KERNEL = np.random.default_rng(0).normal(0.0, 1.0, (3, 1, 1, 3)).astype(np.float32)
#: Of a step of 0.02 and a zero point of 28: what int8 stands for then.
STORED, LOW, HIGH = Quantization([0.02], [28]), -3.12, 1.98


def net(path: Path, integer: bool, size: int = 4, float_input: bool = False) -> Path:
    """Two convolutions, the first of which is read by the second, and is an output as well."""
    graph, shape = Graph("main"), (1, size, size, 3)
    in_float = float_input or not integer
    tensor, outputs = graph.input("image", shape, "float32" if in_float else "int8", **_stored(not in_float)), []
    if float_input:
        image, tensor = tensor, graph.tensor("stored", shape, "int8", **_stored(True))
        graph.op("QUANTIZE", [image], [tensor], schema.QuantizeOptionsT())
    for name in ("first", "second"):
        values = np.round(KERNEL * 20).astype(np.int8) if integer else KERNEL
        kernel = graph.constant(f"{name}/kernel", values, **({"quantization": Quantization([0.05])} if integer else {}))
        bias = graph.constant(f"{name}/bias", np.zeros(3, np.int32 if integer else np.float32))
        tensor = graph.conv_2d(name, tensor, kernel, bias, version=3 if integer else 1, **_stored(integer))
        outputs.append(tensor)
    graph.outputs = outputs
    path.write_bytes(build_model([graph]))
    return path


def _stored(integer: bool) -> dict[str, Quantization]:
    return {"quantization": STORED} if integer else {}


def outputs(path: Path, image: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def test_readers_and_outputs_get_what_is_cut_off(tmp_path: Path) -> None:
    source, quantized = net(tmp_path / "float.tflite", False), net(tmp_path / "int8.tflite", True)
    image = np.random.default_rng(1).normal(0.0, 3.0, (1, 4, 4, 3)).astype(np.float32)
    assert image.min() < LOW and image.max() > HIGH
    whole = outputs(source, np.clip(image, LOW, HIGH))[0]
    assert whole.min() < LOW and whole.max() > HIGH
    cut = within_ranges(source, quantized, [("first", "first")])
    first, second = outputs(cut, image)
    np.testing.assert_allclose(first, np.clip(whole, LOW, HIGH), rtol=1e-5)
    np.testing.assert_allclose(second, first @ KERNEL[:, 0, 0, :].T, rtol=1e-4, atol=1e-4)
    assert [op.name for op in open_file(cut).graph.ops if op.type == "CONV_2D"][-1] == "second"


def test_an_input_that_is_stored_by_an_op_is_cut_off_as_that_does(tmp_path: Path) -> None:
    source, quantized = net(tmp_path / "float.tflite", False), net(tmp_path / "int8.tflite", True, float_input=True)
    image = np.random.default_rng(1).normal(0.0, 3.0, (1, 4, 4, 3)).astype(np.float32)
    second = outputs(within_ranges(source, quantized, [("second", "second")]), image)[0]
    np.testing.assert_allclose(second, outputs(source, np.clip(image, LOW, HIGH))[0], rtol=1e-5)


def test_a_float_op_of_the_variant_has_no_range(tmp_path: Path) -> None:
    source, other = net(tmp_path / "float.tflite", False), net(tmp_path / "other.tflite", False)
    with pytest.raises(ModelError, match="none of these ops gives numbers within a range"):
        within_ranges(source, other, [("first", "first")])


def test_tensors_of_another_shape_or_type_are_refused(tmp_path: Path) -> None:
    source, quantized = net(tmp_path / "float.tflite", False), net(tmp_path / "int8.tflite", True, size=8)
    with pytest.raises(ModelError, match="cannot be cut off as"):
        within_ranges(source, quantized, [("first", "first")])
    same = net(tmp_path / "same.tflite", True)
    with pytest.raises(ModelError, match="cannot be cut off as"):
        within_ranges(same, same, [("first", "first")])
