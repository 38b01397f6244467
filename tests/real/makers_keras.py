"""Makers of small Keras networks with random weights, converted by TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def network(width: int = 32, depth: int = 4, dense: bool = False, activation: str = "relu6", size: int = 128) -> Any:
    """A stem, `depth` blocks of a 3x3 convolution (depthwise and pointwise, or `dense`), and a classifier."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(5)
    layers = tf.keras.layers
    image = layers.Input((size, size, 3), batch_size=1, name="image")
    x = layers.Conv2D(width, 3, strides=2, padding="same", activation=activation, name="stem")(image)
    for index in range(depth):
        if dense:
            x = layers.Conv2D(width, 3, padding="same", activation=activation, name=f"dense{index}")(x)
        else:
            x = layers.DepthwiseConv2D(3, padding="same", activation=activation, name=f"depthwise{index}")(x)
            x = layers.Conv2D(width, 1, activation=activation, name=f"pointwise{index}")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return tf.keras.Model(image, layers.Dense(10, name="classes")(x))


def convert(model: Any, out: Path, kind: str) -> None:
    """`kind`: "float32", "int8-dynamic" or "int8", with float input and output."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if kind != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "int8":
        shape = model.input_shape
        numbers = np.random.default_rng(1)
        samples = [numbers.uniform(-1, 1, shape).astype(np.float32) for _ in range(8)]
        converter.representative_dataset = lambda: ([sample] for sample in samples)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    out.write_bytes(converter.convert())


def converted(folder: Path, files: dict[str, tuple[dict[str, Any], str]]) -> None:
    """`files`: name of a file -> the network's arguments and the kind."""
    for name, (arguments, kind) in files.items():
        convert(network(**arguments), folder / name, kind)
