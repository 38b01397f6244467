"""Trains the embedded detector further for int8: `python training/detector_qat.py --output DIR`.

From the embedded float32 file come two twins, trained for as many steps on the same batches: one whose forward pass
rounds as static int8 does ("qat", quantization-aware training: Jacob et al., arXiv 1712.05877), and one without the
rounding ("float"), which is quantized after training. What the first gains over the second is owed to the rounding in
training and not to more training. `shapes_detector_qat.tflite` is int8 of the same graph as any int8 variant of the
embedded detector; `shapes_detector_qat.json` beside it holds the AP of all of them on the "val" split, as the files
compute it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from detector import Samples, _batches, coco_ap, load_samples
from detector_network import SIZE_UNIT, decode, detection_loss, normalized
from fake_quant import TrainableFile
from numpy.typing import NDArray

from qprof import embedded
from qprof.runtimes.litert import calibrate, float_model, quantize
from qprof.tasks.detection import scenes

NAME = "shapes_detector_qat"
TWINS = ("float", "qat")
RANGES = "min-max"


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run can be told; every field is a command-line option and is recorded in the JSON file."""

    steps: int = 200
    scenes: int = 4000
    val_scenes: int = 500
    calibration_scenes: int = 100
    batch: int = 16
    learning_rate: float = 2e-4
    step_learning_rate: float = 3e-3
    warmup_steps: int = 20
    average_decay: float = 0.98
    threads: int = 2
    seed: int = 20240608


def _optimizer(settings: Settings, rate: float) -> Any:
    import tensorflow as tf

    schedule = tf.keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=rate / 50.0,
        decay_steps=max(1, settings.steps - settings.warmup_steps),
        alpha=0.01,
        warmup_target=rate,
        warmup_steps=settings.warmup_steps,
    )
    return tf.keras.optimizers.Adam(schedule)


def _loss(network: TrainableFile, images: Any, objects: Any, rounded: bool) -> Any:
    tensors = network(images, rounded=rounded)
    # The file's sizes are in cells and its heatmap is a probability; the loss takes what the network was trained with.
    maps = (tensors[network.before("heatmap")], tensors["size"] / SIZE_UNIT, tensors["offset"])
    return detection_loss(maps, objects)


def tuned(settings: Settings, source: Path, ranges: Any, samples: Samples, *, rounded: bool) -> TrainableFile:
    """The network of `source` after `settings.steps` more steps, with the moving average of what was trained."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(settings.seed)
    network = TrainableFile(source, ranges)
    weights, log_steps = list(network.weights.values()), list(network.log_steps.values()) if rounded else []
    averages = [tf.Variable(variable) for variable in (*weights, *log_steps)]
    for_weights = _optimizer(settings, settings.learning_rate)
    for_steps = _optimizer(settings, settings.step_learning_rate)
    for_weights.build(weights)
    for_steps.build(log_steps)

    @tf.function  # type: ignore[untyped-decorator]
    def step(images: Any, objects: Any, decay: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = _loss(network, normalized(images), objects, rounded)
        gradients, _ = tf.clip_by_global_norm(tape.gradient(loss, [*weights, *log_steps]), 10.0)
        for_weights.apply_gradients(zip(gradients[: len(weights)], weights, strict=True))
        if log_steps:
            for_steps.apply_gradients(zip(gradients[len(weights) :], log_steps, strict=True))
        for average, current in zip(averages, (*weights, *log_steps), strict=True):
            average.assign(average + (1.0 - decay) * (current - average))
        return loss

    rng = np.random.default_rng(settings.seed)
    losses: list[float] = []
    started = time.monotonic()
    while len(losses) < settings.steps:
        for images, objects in _batches(rng, samples, settings.batch):
            decay = min(settings.average_decay, (len(losses) + 1.0) / (len(losses) + 11.0))
            losses.append(float(step(tf.constant(images), tf.constant(objects), tf.constant(decay, tf.float32))))
            if len(losses) % 50 == 0:
                seconds, kind = time.monotonic() - started, "qat" if rounded else "float"
                print(f"{kind}: step {len(losses)}, loss {np.mean(losses[-50:]):.3f}, {seconds:.0f} s", flush=True)
            if len(losses) == settings.steps:
                break
    for variable, average in zip((*weights, *log_steps), averages, strict=True):
        variable.assign(average)
    return network


def file_ap(path: Path, images: NDArray[np.uint8], annotations: Path) -> dict[str, float]:
    """COCO AP of a detector's `.tflite`, float or int8, as LiteRT computes it."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(str(path), num_threads=1).get_signature_runner()
    predictions = []
    for image in images:
        maps = runner(image=image[None].astype(np.float32) / 127.5 - 1.0)
        predictions.append(decode(*(maps[name][0] for name in ("heatmap", "size", "offset"))))
    return coco_ap(predictions, annotations)


def train(settings: Settings, output: Path, twins: Sequence[str]) -> None:
    """Train the twins named, and where both are there quantize, evaluate, and write into the folder `output`."""
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
    source = embedded.path("shapes_detector.tflite")
    inputs = [
        [image[None].astype(np.float32) / 127.5 - 1.0] for image in training.images[: settings.calibration_scenes]
    ]
    # A moving average of extremes cuts off the sizes of large objects, which are rare: training starts from the whole.
    before = calibrate.calibrate(float_model.read(source), inputs, ranges=RANGES)
    ap = {"float32": file_ap(source, validation.images, annotations)}

    def int8(name: str, floats: Path, ranges: Any, path: Path) -> None:
        quantize.make("int8", floats, path, calibration=ranges, io="float")
        ap[name] = file_ap(path, validation.images, annotations)
        print(f"{name}: {ap[name]}", flush=True)

    int8("int8 after training", source, before, output / "ptq.tflite")
    floats = {"float": output / "trained_further.tflite", "qat": output / "qat_float.tflite"}
    learned = output / "qat_ranges.json"
    for twin in twins:
        network = tuned(settings, source, before.by_tensor, training, rounded=twin == "qat")
        if twin == "qat":
            ranges = network.ranges(settings.steps * settings.batch).by_tensor
            plain = {name: {end: float(value) for end, value in ends.items()} for name, ends in ranges.items()}
            learned.write_text(json.dumps(plain, indent=1), encoding="utf-8")
        network.write(floats[twin])
    if missing := [str(path) for path in floats.values() if not path.exists()]:
        print(f"no figures before {' and '.join(missing)} is there: run again for the other twin", flush=True)
        return
    ap["float32 trained further"] = file_ap(floats["float"], validation.images, annotations)
    after = calibrate.calibrate(float_model.read(floats["float"]), inputs, ranges=RANGES)
    int8("int8 of float32 trained further", floats["float"], after, output / "trained_further_ptq.tflite")
    known = {
        name: {end: np.float32(value) for end, value in ends.items()}
        for name, ends in json.loads(learned.read_text(encoding="utf-8")).items()
    }
    final = output / f"{NAME}.tflite"
    trained = calibrate.ActivationRanges(known, settings.steps * settings.batch, 0.0, "trained")
    int8("int8 quantization-aware", floats["qat"], trained, final)
    content = final.read_bytes()
    description = {
        "name": NAME,
        "from": {"file": source.name, "sha256": hashlib.sha256(source.read_bytes()).hexdigest()},
        "training": {**asdict(settings), "ranges": RANGES},
        "val": {"scenes": settings.val_scenes, "split": "val", "AP by file": ap},
        "packages": {name: version(name) for name in ("tensorflow", "keras", "numpy", "ai-edge-quantizer")},
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    partial = output / f".{NAME}.json"
    partial.write_text(json.dumps(description, indent=1), encoding="utf-8")
    os.replace(partial, output / f"{NAME}.json")


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the embedded shapes detector further for int8.")
    parser.add_argument("--output", type=Path, required=True, help="folder for the models, the JSON and the scenes")
    parser.add_argument(
        "--twins", nargs="*", choices=TWINS, default=TWINS, help="which to train; the other lies in the folder already"
    )
    for name, default in asdict(Settings()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default, help=f"[{default}]")
    arguments = vars(parser.parse_args())
    output, twins = arguments.pop("output"), arguments.pop("twins")
    train(Settings(**arguments), output, twins)


if __name__ == "__main__":
    main()
