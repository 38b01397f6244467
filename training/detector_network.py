"""The embedded detector's network, its loss, and how its maps become boxes."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.tasks.detection import scenes

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


def normalized(images: Any) -> Any:
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
