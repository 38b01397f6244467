"""Makers of integer files: a float file quantized by ai-edge-quantizer, and edits of the result."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from graph import Graph

#: Images that a static file is calibrated on.
SAMPLES = 24


def static(source: Path, out: Path, images: Sequence[np.ndarray]) -> None:
    """int8 weights and activations, calibrated on `images` of the input's shape."""
    from ai_edge_quantizer import quantizer, recipe

    with _silence():
        made = quantizer.Quantizer(str(source), recipe.static_wi8_ai8())
        name = _input_name(source)
        ranges = made.calibrate({"serving_default": [{name: image} for image in images]})
        out.unlink(missing_ok=True)
        made.quantize(ranges).export_model(str(out))


def percentiles(source: Path, out: Path, images: Sequence[np.ndarray], percent: float) -> None:
    """int8, calibrated on what lies between the lowest and the highest `percent` of every tensor's numbers: the ranges
    leave out what is rare."""
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import quantizer, recipe

    with _silence():
        interpreter = Interpreter(str(source), num_threads=1, experimental_preserve_all_tensors=True)
        made = quantizer.Quantizer(str(source), recipe.static_wi8_ai8())
        name = _input_name(source)
        ranges = made.calibrate({"serving_default": [{name: image} for image in images]})
    interpreter.allocate_tensors()
    indices = {detail["name"]: detail["index"] for detail in interpreter.get_tensor_details()}
    seen: dict[str, list[np.ndarray]] = {key: [] for key in ranges}
    for image in images:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
        interpreter.invoke()
        for key, values in seen.items():
            values.append(interpreter.get_tensor(indices[key]).ravel())
    for key, values in seen.items():
        low, high = np.percentile(np.concatenate(values), [percent, 100 - percent])
        shape = ranges[key]["min"].shape
        ranges[key] = {"min": np.full(shape, low, np.float32), "max": np.full(shape, high, np.float32)}
    with _silence():
        out.unlink(missing_ok=True)
        made.quantize(ranges).export_model(str(out))


def dynamic(source: Path, out: Path, skip: str = "") -> None:
    """int8 weights, activations quantized in every inference; ops of the type `skip` stay in float."""
    from ai_edge_quantizer import quantizer, recipe
    from ai_edge_quantizer.recipe import AlgorithmName, TFLOperationName

    with _silence():
        made = quantizer.Quantizer(str(source), recipe.dynamic_wi8_afp32())
        if skip:
            kind = TFLOperationName[skip]
            made.update_quantization_recipe(".*", kind, algorithm_key=AlgorithmName.NO_QUANTIZE)
        out.unlink(missing_ok=True)
        made.quantize().export_model(str(out))


def photographs(folder: Path, size: int = 192, count: int = SAMPLES) -> list[np.ndarray]:
    """The images of `folder` as the detector takes them: [1,H,W,3] in -1..1."""
    from PIL import Image

    images = []
    for path in sorted(folder.iterdir())[:count]:
        pixels = np.asarray(Image.open(path).convert("RGB").resize((size, size), Image.Resampling.BILINEAR), np.float32)
        images.append(((pixels - 127.5) / 127.5)[np.newaxis])
    return images


def black(count: int = 4, size: int = 192) -> list[np.ndarray]:
    return [np.full((1, size, size, 3), -1, np.float32) for _ in range(count)]


def spoil_weights(source: Path, out: Path, part: str, factor: float) -> None:
    """The scales of one layer's weights times `factor`, the integers as they are."""
    graph = Graph(source)
    weights = int(graph.find(part).inputs[1])
    scale, zero = graph.scale(weights)
    graph.set_scale(weights, scale * factor, zero, graph.subgraph.tensors[weights].quantization.quantizedDimension)
    graph.save(out)


def spoil_activation(source: Path, out: Path, part: str, factor: float) -> None:
    """The scale of one layer's output times `factor`: below 1 it cuts off what the layer gives."""
    graph = Graph(source)
    output = int(graph.find(part).outputs[0])
    scale, zero = graph.scale(output)
    graph.set_scale(output, scale * factor, zero)
    graph.save(out)


def per_tensor(source: Path, out: Path) -> None:
    """One scale for all channels of a layer's weights instead of one each; the bias follows."""
    graph = Graph(source)
    for op in graph.of_type("CONV_2D", "DEPTHWISE_CONV_2D"):
        weights, bias = int(op.inputs[1]), int(op.inputs[2])
        axis = graph.subgraph.tensors[weights].quantization.quantizedDimension
        scale, _ = graph.scale(weights)
        shape = [1] * 4
        shape[axis] = len(scale)
        real = graph.data(weights).astype(np.float32) * scale.reshape(shape)
        one = float(np.abs(real).max()) / 127
        graph.set_data(weights, np.round(real / one).astype(np.int8))
        graph.set_scale(weights, [one], [0])
        old, _ = graph.scale(bias)
        new = float(graph.scale(int(op.inputs[0]))[0][0]) * one
        graph.set_data(bias, np.round(graph.data(bias).astype(np.float64) * old / new).astype(np.int32))
        graph.set_scale(bias, [new], [0])
    graph.save(out)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """The quantizer's progress bars and sizes are no part of a case's output."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _input_name(path: Path) -> str:
    graph = Graph(path)
    return str(graph.model.signatureDefs[0].inputs[0].name.decode())
