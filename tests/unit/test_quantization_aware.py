"""The detector that was trained with the rounding of int8, and what it was trained by."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import detector_qat
import numpy as np
import pytest
from detector import resize
from fake_quant import TrainableFile

from qprof import embedded
from qprof.runtimes.litert import calibrate, float_model, quantize
from qprof.runtimes.litert.flatbuffer import read_model
from qprof.tasks.detection.scenes import render_scene, write_split

SOURCE, TRAINED = embedded.path("shapes_detector.tflite"), embedded.path("shapes_detector_qat.tflite")
SCENES = 30


def images(count: int) -> np.ndarray[Any, Any]:
    return np.stack([resize(render_scene("val", index).image) for index in range(count)])


def test_the_json_describes_the_file() -> None:
    content = TRAINED.read_bytes()
    described = json.loads(embedded.path("shapes_detector_qat.json").read_text(encoding="utf-8"))
    assert (described["sha256"], described["bytes"]) == (hashlib.sha256(content).hexdigest(), len(content))
    assert described["from"]["sha256"] == hashlib.sha256(SOURCE.read_bytes()).hexdigest()
    assert len(content) < 500_000


def test_its_ops_are_those_of_int8_and_none_is_in_float() -> None:
    (graph,) = read_model(TRAINED).subgraphs
    (source,) = read_model(SOURCE).subgraphs
    ops = Counter(op.type for op in graph.ops)
    assert (ops.pop("QUANTIZE"), ops.pop("DEQUANTIZE")) == (1, 3)
    assert ops == Counter(op.type for op in source.ops)
    outputs = {graph.tensors[op.outputs[0]].dtype for op in graph.ops if op.type != "DEQUANTIZE"}
    assert outputs == {"int8"}


def test_it_still_detects(tmp_path: Path) -> None:
    annotations = write_split(tmp_path / "val", "val", SCENES)
    shown = images(SCENES)
    ap = {path.stem: detector_qat.file_ap(path, shown, annotations)["AP"] for path in (SOURCE, TRAINED)}
    assert ap["shapes_detector_qat"] > ap["shapes_detector"] - 0.05 > 0.6


def test_the_network_that_is_trained_is_the_file_and_its_ranges_are_those_of_int8(tmp_path: Path) -> None:
    tf = pytest.importorskip("tensorflow")
    pytest.importorskip("ai_edge_quantizer")
    inputs = images(3).astype(np.float32) / 127.5 - 1.0
    before = calibrate.calibrate(float_model.read(SOURCE), [[image[None]] for image in inputs], ranges="min-max")
    network = TrainableFile(SOURCE, before.by_tensor)
    runner = _runner(SOURCE)
    expected = runner(image=inputs[:1])
    given = network(tf.constant(inputs[:1]), rounded=False)
    for name, values in expected.items():
        np.testing.assert_allclose(given[name].numpy(), values, atol=2e-4)

    # What training does: weights and steps move, and both have a gradient.
    with tf.GradientTape() as tape:
        found = network(tf.constant(inputs), rounded=True)
        loss = sum(tf.reduce_mean(found[name] ** 2) for name in ("heatmap", "size", "offset"))
    trained = [*network.weights.values(), *network.log_steps.values()]
    gradients = tape.gradient(loss, trained)
    assert all(gradient is not None and np.isfinite(gradient.numpy()).all() for gradient in gradients)
    for variable, gradient in zip(trained, gradients, strict=True):
        variable.assign_sub(1e-3 * tf.sign(gradient) * tf.reduce_mean(tf.abs(variable)))
    network.write(tmp_path / "float.tflite")
    ranges = network.ranges(3)
    assert ranges.by_tensor["size"]["max"] != before.by_tensor["size"]["max"]
    made = quantize.make("int8", tmp_path / "float.tflite", tmp_path / "int8.tflite", calibration=ranges, io="float")
    (graph,) = read_model(made.path).subgraphs
    checked = 0
    for tensor in graph.tensors:
        known = ranges.by_tensor.get(tensor.name)
        if known is not None and tensor.dtype == "int8":
            checked += 1
            assert tensor.quantization.first_scale == pytest.approx((known["max"] - known["min"]) / 255, rel=1e-4)
    assert checked > 60
    # The file's first layers compute what the rounded network does, but for ties.
    first = graph.ops[1]
    name = graph.tensors[first.outputs[0]].name
    rounded = network(tf.constant(inputs[:1]), rounded=True)[name].numpy()
    values = _tensor(made.path, name, inputs[:1])
    assert np.mean(np.abs(rounded - values) < 1e-4) > 0.99


def test_the_gradient_of_a_step_is_that_of_its_rounding() -> None:
    """d y / d log step: y - x for what is inside the range, y for what is cut off (Esser et al., equation 3)."""
    tf = pytest.importorskip("tensorflow")
    from fake_quant import _rounded

    x, log_step = tf.constant([0.26, 1.0, 300.0, -3.0]), tf.Variable(np.float32(np.log(0.1)))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = _rounded(x, log_step, 0.0)
    np.testing.assert_allclose(y.numpy(), [0.3, 1.0, 25.5, 0.0], rtol=1e-5)
    assert tape.gradient(y, log_step).numpy() == pytest.approx(0.04 + 0.0 + 25.5 + 0.0, rel=1e-4)
    assert tape.gradient(y, x).numpy().tolist() == [1.0, 1.0, 0.0, 0.0]


def _runner(path: Path) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(str(path), num_threads=1).get_signature_runner()


def _tensor(path: Path, name: str, image: Any) -> Any:
    """One activation of an int8 file as real numbers."""
    from ai_edge_litert.interpreter import Interpreter

    model = Interpreter(str(path), num_threads=1, experimental_preserve_all_tensors=True)
    model.allocate_tensors()
    model.set_tensor(model.get_input_details()[0]["index"], image)
    model.invoke()
    detail = next(one for one in model.get_tensor_details() if one["name"] == name and one["dtype"] == np.int8)
    scale, zero_point = detail["quantization"]
    return (model.get_tensor(detail["index"]).astype(np.float64) - zero_point) * scale
