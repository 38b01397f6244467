"""Trains the embedded detector: `python training/detector.py --output DIR`.

A MobileNetV2-style backbone (inverted residuals: Sandler et al., arXiv 1801.04381) with a light feature pyramid and
a CenterNet head (Zhou et al., "Objects as Points", arXiv 1904.07850) at stride 4. Targets follow TTFNet (Liu et al.,
arXiv 1909.00700), which supervises the neighbours of a centre too and converges in far fewer epochs. The data are
the rendered scenes of `qprof.tasks.detection.scenes`; accuracy is COCO AP by pycocotools on the "val" split. After
every `--export-every` epochs the averaged weights are exported as float32 `shapes_detector.tflite` with
`shapes_detector.json` beside it, so that an interrupted training leaves a usable model.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
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
from detector_network import (
    CELLS,
    INPUT,
    MAX_OBJECTS,
    MODEL_NAME,
    OUTPUTS,
    SIZE_UNIT,
    STRIDE,
    build_network,
    decode,
    detection_loss,
    normalized,
)
from numpy.typing import NDArray

from qprof.tasks.detection import scenes


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
            loss = detection_loss(network(normalized(images), training=True), objects)
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
