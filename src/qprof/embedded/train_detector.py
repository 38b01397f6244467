"""Trains the embedded detector: `python -m qprof.embedded.train_detector --output DIR`.

A MobileNetV2-style backbone (inverted residuals: Sandler et al., arXiv 1801.04381) with a light feature pyramid and
a CenterNet head (Zhou et al., "Objects as Points", arXiv 1904.07850) at stride 4. Targets follow TTFNet (Liu et al.,
arXiv 1909.00700), which supervises the neighbours of a centre too and converges in far fewer epochs. The data are
the rendered scenes of `qprof.tasks.scenes`; accuracy is COCO AP by pycocotools on the "val" split. After every
`--export-every` epochs the averaged weights are exported as float32 `shapes_detector.tflite` with
`shapes_detector.json` beside it, so that an interrupted training leaves a usable model.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import math
import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.tasks import scenes

INPUT = 192
STRIDE = 4
CELLS = INPUT // STRIDE
#: The network predicts sizes in units of this many cells, which keeps its outputs near 1 while it learns; the
#: factor is folded into the last convolution on export, so that the exported size is in cells.
SIZE_UNIT = 8.0
#: Objects a training image can hold: above the 21 that `scenes` ever places.
MAX_OBJECTS = 24
#: Stages after the stem: channels, expansion factor, blocks; each halves the resolution. Multiples of 16 fill
#: the vector registers of the CPU kernels.
STAGES = ((16, 3, 2), (32, 3, 3), (64, 4, 3), (112, 4, 2))
DECODER_CHANNELS = 48
MODEL_NAME = "shapes_detector"
OUTPUTS = ("heatmap", "size", "offset")


@dataclass(frozen=True, slots=True)
class Settings:
    """What a training run can be told; every field is a command-line option and is recorded in the JSON file."""

    epochs: int = 24
    scenes: int = 12000
    val_scenes: int = 500
    batch: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    warmup_steps: int = 400
    average_decay: float = 0.999
    export_every: int = 2
    threads: int = 2
    seed: int = 20240607


@dataclass(frozen=True, slots=True)
class Samples:
    """`images` uint8 [n, 192, 192, 3]; `objects` float32 [n, 24, 5]: centre x, y, width, height in cells and class
    (0-based), rows without object filled with -1."""

    images: NDArray[np.uint8]
    objects: NDArray[np.float32]


def resize(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Stretch RGB uint8 [h, w, 3] to the network's [192, 192, 3] with PIL's bilinear filter."""
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((INPUT, INPUT), Image.Resampling.BILINEAR))


def _sample(split: str, index: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    scene = scenes.render_scene(split, index)
    objects = np.full((MAX_OBJECTS, 5), -1.0, np.float32)
    found = len(scene.areas)
    cells = scene.boxes * (CELLS / scenes.SIZE)
    objects[:found, :2] = cells[:, :2] + cells[:, 2:] / 2
    objects[:found, 2:4] = cells[:, 2:]
    objects[:found, 4] = scene.category_ids - 1
    return resize(scene.image), objects


def load_samples(split: str, count: int) -> Samples:
    """Render scenes 0 .. count-1 of `split` at the network's resolution, on all cores."""
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        rendered = list(pool.map(partial(_sample, split), range(count), chunksize=50))
    return Samples(np.stack([image for image, _ in rendered]), np.stack([objects for _, objects in rendered]))


# Augmentation: a shape keeps its class under any of these, so the renderer's few thousand scenes become many more.


def _transform(
    rng: np.random.Generator, image: NDArray[np.uint8], objects: NDArray[np.float32]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    objects = objects.copy()
    real = objects[:, 4] >= 0
    if rng.random() < 0.5:
        image, objects[real, 0] = image[:, ::-1], CELLS - objects[real, 0]
    if rng.random() < 0.5:
        image, objects[real, 1] = image[::-1], CELLS - objects[real, 1]
    if rng.random() < 0.5:
        image, objects = image.transpose(1, 0, 2), objects[:, [1, 0, 3, 2, 4]]
    image = image[:, :, rng.permutation(3)]
    if rng.random() < 0.3:
        image = 255 - image
    return image, objects


def _batches(
    rng: np.random.Generator, samples: Samples, size: int
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
    """One epoch of augmented batches: images uint8 [size, 192, 192, 3], objects float32 [size, 24, 5]."""
    order = rng.permutation(len(samples.images))
    for start in range(0, len(order) - size + 1, size):
        pairs = [_transform(rng, samples.images[i], samples.objects[i]) for i in order[start : start + size]]
        yield np.stack([image for image, _ in pairs]), np.stack([objects for _, objects in pairs])


def _normalized(images: Any) -> Any:
    """uint8 images as float32 in -1..1, with random contrast and brightness."""
    import tensorflow as tf

    count = (tf.shape(images)[0], 1, 1, 1)
    contrast = tf.random.uniform(count, 0.75, 1.2)
    brightness = tf.random.uniform(count, -0.2, 0.2)
    return tf.clip_by_value((tf.cast(images, tf.float32) / 127.5 - 1.0) * contrast + brightness, -1.0, 1.0)


# The network.


def _batch_norm_class() -> Any:
    """A batch normalization layer on TensorFlow's fused kernel: Keras 3 composes it of element-wise ops, which makes
    a training step on a CPU 1.6 times as long."""
    import tensorflow as tf

    class FusedBatchNorm(tf.keras.layers.Layer):  # type: ignore[misc]
        momentum, epsilon = 0.97, 1e-3

        def build(self, shape: Any) -> None:
            size = (shape[-1],)
            self.gamma = self.add_weight(shape=size, initializer="ones", name="gamma")
            self.beta = self.add_weight(shape=size, initializer="zeros", name="beta")
            self.mean = self.add_weight(shape=size, initializer="zeros", name="mean", trainable=False)
            self.variance = self.add_weight(shape=size, initializer="ones", name="variance", trainable=False)

        def call(self, x: Any, training: bool = False) -> Any:
            kernel = partial(tf.compat.v1.nn.fused_batch_norm, epsilon=self.epsilon)
            gamma, beta = tf.convert_to_tensor(self.gamma), tf.convert_to_tensor(self.beta)
            mean, variance = tf.convert_to_tensor(self.mean), tf.convert_to_tensor(self.variance)
            if not training:
                return kernel(x, gamma, beta, mean, variance, is_training=False)[0]
            y, batch_mean, batch_variance = kernel(x, gamma, beta, is_training=True)
            self.mean.assign(mean + (1.0 - self.momentum) * (batch_mean - mean))
            self.variance.assign(variance + (1.0 - self.momentum) * (batch_variance - variance))
            return y

    return FusedBatchNorm


def build_network() -> Any:
    """The Keras model: float32 [n, 192, 192, 3] in -1..1 -> heatmap logits [n, 48, 48, classes], size [n, 48, 48, 2]
    (width, height in units of SIZE_UNIT cells), offset [n, 48, 48, 2] (x, y of the centre from the cell, in cells)."""
    import tensorflow as tf

    layers = tf.keras.layers
    batch_norm = _batch_norm_class()

    def conv(x: Any, channels: int, name: str, kernel: int = 1, stride: int = 1, relu: bool = True) -> Any:
        x = layers.Conv2D(channels, kernel, stride, padding="same", use_bias=False, name=name)(x)
        x = batch_norm(name=f"{name}_norm")(x)
        return layers.ReLU(6.0, name=f"{name}_relu6")(x) if relu else x

    def depthwise(x: Any, name: str, stride: int = 1) -> Any:
        x = layers.DepthwiseConv2D(3, stride, padding="same", use_bias=False, name=name)(x)
        return layers.ReLU(6.0, name=f"{name}_relu6")(batch_norm(name=f"{name}_norm")(x))

    def inverted_residual(x: Any, channels: int, expansion: int, stride: int, name: str) -> Any:
        inner = conv(x, x.shape[-1] * expansion, f"{name}_expand") if expansion > 1 else x
        inner = depthwise(inner, f"{name}_depthwise", stride)
        inner = conv(inner, channels, f"{name}_project", relu=False)
        same = stride == 1 and x.shape[-1] == channels
        return layers.Add(name=f"{name}_add")([x, inner]) if same else inner

    image = layers.Input((INPUT, INPUT, 3), name="image")
    x = inverted_residual(conv(image, 16, "stem", 3, 2), 16, 1, 1, "stage0_block0")
    levels = []
    for stage, (channels, expansion, blocks) in enumerate(STAGES, start=1):
        for block in range(blocks):
            x = inverted_residual(x, channels, expansion, 2 if block == 0 else 1, f"stage{stage}_block{block}")
        levels.append(x)

    x = conv(levels[-1], DECODER_CHANNELS, "lateral4")
    for stage in (3, 2, 1):
        # Bilinear: XNNPACK has a kernel for it, nearest-neighbour would leave the delegate.
        x = layers.UpSampling2D(2, interpolation="bilinear", name=f"up{stage}")(x)
        lateral = conv(levels[stage - 1], DECODER_CHANNELS, f"lateral{stage}", relu=False)
        x = layers.Add(name=f"merge{stage}")([x, lateral])
        x = conv(depthwise(x, f"refine{stage}_depthwise"), DECODER_CHANNELS, f"refine{stage}_pointwise")
    outputs = []
    # A probability of 0.05 at the start keeps the many empty cells from drowning the first steps.
    biases = {"heatmap": -math.log(19.0), "size": 1.0, "offset": 0.5}
    for name, channels in zip(OUTPUTS, (len(scenes.CLASSES), 2, 2), strict=True):
        branch = conv(depthwise(x, f"{name}_depthwise"), DECODER_CHANNELS, f"{name}_pointwise")
        bias = tf.keras.initializers.Constant(biases[name])
        init = tf.keras.initializers.RandomNormal(stddev=0.01)
        outputs.append(layers.Conv2D(channels, 1, kernel_initializer=init, bias_initializer=bias, name=name)(branch))
    return tf.keras.Model(image, outputs, name=MODEL_NAME)


# The loss.


def _focal_loss(logits: Any, objects: Any, real: Any, sigma: Any) -> Any:
    """Penalty-reduced pixel-wise focal loss, arXiv 1904.07850 equation 1 (alpha 2, beta 4), per object.

    logits [b, 48, 48, classes]; objects [b, 24, 5]; real bool [b, 24]; sigma [b, 24, 2] in cells.
    """
    import tensorflow as tf

    axis = tf.range(CELLS, dtype=tf.float32)
    centre = tf.floor(objects[..., :2])
    spread = [
        tf.exp(-((axis - centre[..., i : i + 1]) ** 2) / (2.0 * sigma[..., i : i + 1] ** 2)) for i in (0, 1)
    ]  # two of [b, 24, 48]
    # The class -1 of a row without object gives a row of zeros.
    of_class = tf.one_hot(tf.cast(objects[..., 4], tf.int32), len(scenes.CLASSES))
    peaks = spread[1][..., :, None] * spread[0][..., None, :]  # [b, 24, 48, 48]
    target = tf.stack(
        [tf.reduce_max(peaks * of_class[..., c, None, None], axis=1) for c in range(len(scenes.CLASSES))], axis=-1
    )
    at_centre = target > 0.9999
    p = tf.sigmoid(logits)
    positive = (1.0 - p) ** 2 * tf.nn.softplus(-logits)
    negative = (1.0 - target) ** 4 * p**2 * tf.nn.softplus(logits)
    total = tf.reduce_sum(tf.where(at_centre, positive, negative))
    return total / tf.maximum(tf.reduce_sum(tf.cast(real, tf.float32)), 1.0)


def _box_loss(size: Any, offset: Any, objects: Any, real: Any, sigma: Any) -> Any:
    """GIoU loss (Rezatofighi et al., arXiv 1902.09630) plus a little L1, at the 3 x 3 cells around each centre.

    Weighted by the Gaussian of the object (TTFNet), so that a peak one cell beside the centre has the right box too.
    """
    import tensorflow as tf

    around = tf.constant([[dx, dy] for dy in (-1, 0, 1) for dx in (-1, 0, 1)], tf.float32)
    cell = tf.floor(objects[:, :, None, :2]) + around  # [b, 24, 9, 2]: x, y
    inside = tf.reduce_all((cell >= 0.0) & (cell < CELLS), axis=-1) & real[..., None]
    weight = tf.exp(-tf.reduce_sum(around**2 / (2.0 * sigma[:, :, None] ** 2), axis=-1))
    weight = tf.where(inside, weight, 0.0)
    index = tf.cast(tf.clip_by_value(cell[..., ::-1], 0.0, CELLS - 1.0), tf.int32)
    wh = tf.gather_nd(size, index, batch_dims=1) * SIZE_UNIT
    centre = tf.gather_nd(offset, index, batch_dims=1) + cell
    true_centre, true_wh = objects[:, :, None, :2], tf.maximum(objects[:, :, None, 2:4], 0.1)

    half = tf.maximum(wh, 0.1) / 2.0
    low, high = centre - half, centre + half
    true_low, true_high = true_centre - true_wh / 2.0, true_centre + true_wh / 2.0
    shared = tf.maximum(tf.minimum(high, true_high) - tf.maximum(low, true_low), 0.0)
    hull = tf.reduce_prod(tf.maximum(high, true_high) - tf.minimum(low, true_low), axis=-1)
    intersection = tf.reduce_prod(shared, axis=-1)
    union = tf.reduce_prod(high - low, axis=-1) + tf.reduce_prod(true_wh, axis=-1) - intersection
    giou = intersection / union - (hull - union) / hull
    l1 = tf.reduce_sum(tf.abs(wh - true_wh) + tf.abs(centre - true_centre), axis=-1)
    return tf.reduce_sum(weight * (5.0 * (1.0 - giou) + 0.2 * l1)) / tf.maximum(tf.reduce_sum(weight), 1.0)


def detection_loss(outputs: Any, objects: Any) -> Any:
    """Scalar loss of the network's three outputs against objects [b, 24, 5] (see `Samples`)."""
    import tensorflow as tf

    logits, size, offset = outputs
    real = objects[..., 4] >= 0.0
    # 0.54 / 6 of the size: TTFNet; at least 0.4 cells, below which a small object has no slope around its peak.
    sigma = tf.maximum(objects[..., 2:4] * (0.54 / 6.0), 0.4)
    return _focal_loss(logits, objects, real, sigma) + _box_loss(size, offset, objects, real, sigma)


# Decoding and accuracy.


def decode(
    heatmap: NDArray[np.float32], size: NDArray[np.float32], offset: NDArray[np.float32], limit: int = 100
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Boxes [k, 4] (x, y, w, h in pixels of the scene), scores [k] and category ids [k] of one image, best first.

    Takes the three outputs of the exported model without their batch axis: probabilities [48, 48, classes], width and
    height in cells [48, 48, 2], centre offset in cells [48, 48, 2]. A peak is a cell no neighbour of which (3 x 3, same
    class) exceeds it.
    """
    padded = np.pad(heatmap, ((1, 1), (1, 1), (0, 0)), constant_values=-1.0)
    neighbours = [padded[dy : dy + CELLS, dx : dx + CELLS] for dy in range(3) for dx in range(3)]
    scores = np.where(heatmap >= np.max(neighbours, axis=0), heatmap, 0.0).ravel()
    best = np.argsort(-scores, kind="stable")[:limit]
    best = best[scores[best] > 0.0]
    row, column, category = np.unravel_index(best, heatmap.shape)
    pixels = scenes.SIZE / CELLS
    wh = np.maximum(size[row, column], 0.0).astype(np.float64)
    centre = np.stack([column, row], axis=1) + offset[row, column]
    low = np.clip(centre - wh / 2, 0.0, CELLS)
    high = np.clip(centre + wh / 2, 0.0, CELLS)
    return np.hstack([low, high - low]) * pixels, scores[best].astype(np.float64), category.astype(np.int64) + 1


def _quietly(function: Any, *arguments: Any) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):
        return function(*arguments)


def coco_ap(predictions: list[Any], annotations: Path) -> dict[str, float]:
    """COCO AP by pycocotools of `predictions`, one tuple of `decode` per image in the order of the image ids."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = _quietly(COCO, str(annotations))
    results = [
        {"image_id": image_id, "category_id": int(c), "bbox": box.tolist(), "score": float(s)}
        for image_id, (boxes, scores, ids) in enumerate(predictions, start=1)
        for box, s, c in zip(boxes, scores, ids, strict=True)
    ]
    evaluation = COCOeval(truth, _quietly(truth.loadRes, results), "bbox")
    evaluation.params.imgIds = list(range(1, len(predictions) + 1))
    for step in (evaluation.evaluate, evaluation.accumulate, evaluation.summarize):
        _quietly(step)
    names = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
    return {name: round(float(value), 4) for name, value in zip(names, evaluation.stats[:6], strict=True)}


def _evaluate(network: Any, samples: Samples, annotations: Path) -> dict[str, float]:
    import tensorflow as tf

    predictions = []
    for start in range(0, len(samples.images), 50):
        images = samples.images[start : start + 50].astype(np.float32) / 127.5 - 1.0
        logits, size, offset = (t.numpy() for t in network(tf.constant(images), training=False))
        probabilities = 1.0 / (1.0 + np.exp(-logits))
        predictions += [decode(*maps) for maps in zip(probabilities, size * SIZE_UNIT, offset, strict=True)]
    return coco_ap(predictions, annotations)


# Export.


def _saved_model(network: Any, folder: Path) -> None:
    """Write the inference graph, batch 1, with a signature that names input and outputs; sizes come out in cells."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    scaled = build_network()
    scaled.set_weights(network.get_weights())
    head = scaled.get_layer("size")
    head.set_weights([weights * SIZE_UNIT for weights in head.get_weights()])
    image = tf.TensorSpec((1, INPUT, INPUT, 3), tf.float32, name="image")

    @tf.function(input_signature=[image])  # type: ignore[untyped-decorator]
    def infer(image: Any) -> tuple[Any, Any, Any]:
        logits, size, offset = scaled(image, training=False)
        return tf.sigmoid(logits), size, offset

    # The converter leaves Keras 3 variables as variables, and only constants are folded into convolutions.
    constant = convert_variables_to_constants_v2(infer.get_concrete_function())

    @tf.function(input_signature=[image])  # type: ignore[untyped-decorator]
    def serve(image: Any) -> dict[str, Any]:
        return dict(zip(OUTPUTS, constant(image), strict=True))

    tf.saved_model.save(tf.Module(), str(folder), serve.get_concrete_function())


def _name_tensors(model: bytes) -> bytes:
    """Give the input and output tensors the names of the signature; the converter calls them after its own graph."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    tree = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
    tensors = tree.subgraphs[0].tensors
    for entry in (*tree.signatureDefs[0].inputs, *tree.signatureDefs[0].outputs):
        tensors[entry.tensorIndex].name = entry.name
    builder = flatbuffers.Builder(len(model))
    builder.Finish(tree.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def export(network: Any, folder: Path, facts: dict[str, Any]) -> Path:
    """Convert to float32 `shapes_detector.tflite` in `folder`, and describe it in `shapes_detector.json` beside it."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as saved:
        _saved_model(network, Path(saved))
        model = _name_tensors(tf.lite.TFLiteConverter.from_saved_model(saved).convert())
    description = {
        "name": MODEL_NAME,
        "head": "centernet",
        "classes": list(scenes.CLASSES),
        "input": {
            "name": "image",
            "shape": [1, INPUT, INPUT, 3],
            "dtype": "float32",
            "channels": "RGB",
            "resize": "stretch, PIL bilinear",
            "mean": 127.5,
            "std": 127.5,
        },
        "stride": STRIDE,
        "outputs": [
            {"name": "heatmap", "shape": [1, CELLS, CELLS, len(scenes.CLASSES)], "holds": "probability, by class"},
            {"name": "size", "shape": [1, CELLS, CELLS, 2], "holds": "width, height in cells"},
            {"name": "offset", "shape": [1, CELLS, CELLS, 2], "holds": "x, y of the centre from the cell, in cells"},
        ],
        **facts,
        "bytes": len(model),
        "sha256": hashlib.sha256(model).hexdigest(),
    }
    for name, content in ((f"{MODEL_NAME}.tflite", model), (f"{MODEL_NAME}.json", json.dumps(description, indent=1))):
        partial_file = folder / f".{name}"
        partial_file.write_bytes(content if isinstance(content, bytes) else content.encode())
        os.replace(partial_file, folder / name)
    return folder / f"{MODEL_NAME}.tflite"


# Training.


def _train_step(network: Any, averaged: Any, optimizer: Any) -> Any:
    """The compiled function (images, objects, decay) -> loss: one optimizer step, then the moving average."""
    import tensorflow as tf

    @tf.function  # type: ignore[untyped-decorator]
    def step(images: Any, objects: Any, decay: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = detection_loss(network(_normalized(images), training=True), objects)
        gradients = tape.gradient(loss, network.trainable_variables)
        gradients, _ = tf.clip_by_global_norm(gradients, 10.0)
        optimizer.apply_gradients(zip(gradients, network.trainable_variables, strict=True))
        for average, current in zip(averaged.variables, network.variables, strict=True):
            average.assign(average + (1.0 - decay) * (tf.convert_to_tensor(current) - average))
        return loss

    return step


def _optimizer(settings: Settings, total_steps: int) -> Any:
    import tensorflow as tf

    schedule = tf.keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=settings.learning_rate / 50.0,
        decay_steps=max(1, total_steps - settings.warmup_steps),
        alpha=0.01,
        warmup_target=settings.learning_rate,
        warmup_steps=settings.warmup_steps,
    )
    optimizer = tf.keras.optimizers.AdamW(schedule, weight_decay=settings.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    return optimizer


def train(settings: Settings, output: Path) -> dict[str, float]:
    """Train, evaluate and export into the folder `output`; return the AP of the last export."""
    output.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    # Rendered before TensorFlow starts its threads, which a forked worker would not survive.
    training, validation = load_samples("train", settings.scenes), load_samples("val", settings.val_scenes)
    annotations = output / "val" / "annotations.json"
    if not annotations.exists():
        scenes.write_split(annotations.parent, "val", settings.val_scenes)
    print(f"{settings.scenes} scenes rendered after {time.monotonic() - started:.0f} s", flush=True)

    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(settings.threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.keras.utils.set_random_seed(settings.seed)
    network, averaged = build_network(), build_network()
    averaged.set_weights(network.get_weights())
    optimizer = _optimizer(settings, settings.epochs * (settings.scenes // settings.batch))
    step = _train_step(network, averaged, optimizer)
    rng = np.random.default_rng(settings.seed)
    ap: dict[str, float] = {}
    count = 0
    for epoch in range(1, settings.epochs + 1):
        losses = []
        for images, objects in _batches(rng, training, settings.batch):
            count += 1
            decay = min(settings.average_decay, count / (count + 10.0))
            losses.append(step(tf.constant(images), tf.constant(objects), tf.constant(decay, tf.float32)))
        seconds = time.monotonic() - started
        print(f"epoch {epoch}: loss {float(np.mean(losses)):.3f}, {seconds:.0f} s", flush=True)
        if epoch % settings.export_every == 0 or epoch in (1, settings.epochs):
            ap = _evaluate(averaged, validation, annotations)
            print(f"epoch {epoch}: {ap}", flush=True)
            averaged.save_weights(output / "averaged.weights.h5")
            export(averaged, output, _facts(settings, averaged, epoch, seconds, ap))
    return ap


def _facts(settings: Settings, network: Any, epoch: int, seconds: float, ap: dict[str, float]) -> dict[str, Any]:
    packages = ("tensorflow", "keras", "numpy", "pillow", "pycocotools", "ai-edge-litert")
    return {
        "parameters": int(network.count_params()),
        "training": {**asdict(settings), "epoch_exported": epoch, "seconds": round(seconds)},
        "val": {"scenes": settings.val_scenes, "split": "val", **ap},
        "packages": {name: version(name) for name in packages},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the embedded shapes detector.")
    parser.add_argument("--output", type=Path, required=True, help="folder for the model, its JSON and checkpoints")
    for name, default in asdict(Settings()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default, help=f"[{default}]")
    arguments = vars(parser.parse_args())
    output = arguments.pop("output")
    train(Settings(**arguments), output)


if __name__ == "__main__":
    main()
