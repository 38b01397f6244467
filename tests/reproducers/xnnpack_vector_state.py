"""XNNPACK's dynamically quantized int8 kernels leave the upper halves of the vector registers in use.

Six builtin hybrid depthwise convolutions are timed right behind another model's inference in the same thread: a float
convolution, or a dynamically quantized one, both run by XNNPACK. Behind the quantized one they take several times as
long on processors with AVX-512 or AVX, and as long as behind the float one once `vzeroupper` was executed in between: a
kernel of XNNPACK returns without it, and the SSE code of LiteRT's builtin kernels then pays for merging the halves
(Intel 64 and IA-32 Architectures Optimization Reference Manual, "Mixing AVX code with SSE code").

Needs ai-edge-litert, ai-edge-quantizer and tensorflow, and nothing of qprof:

    python xnnpack_vector_state.py [inferences]
"""

from __future__ import annotations

import ctypes
import json
import mmap
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_VZEROUPPER_RET = bytes([0xC5, 0xF8, 0x77, 0xC3])
_RET = bytes([0xC3])


def machine_code(code: bytes) -> Callable[[], None]:
    """A function of a few instructions that takes and returns nothing."""
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    function = ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
    function.page = page  # type: ignore[attr-defined]  # must live as long as the function
    return function


def float_model(layers: list[Any], path: Path) -> None:
    """A float .tflite of some Keras layers on an input of 24 x 24 x 96."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(1)
    image = features = tf.keras.layers.Input((24, 24, 96), batch_size=1)
    for layer in layers:
        features = layer(features)
    path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(tf.keras.Model(image, features)).convert())


def dynamic_int8(source: Path, destination: Path) -> None:
    """The same with int8 weights and float activations, quantized in every inference."""
    from ai_edge_quantizer import quantizer, recipe

    made = quantizer.Quantizer(str(source), recipe.dynamic_wi8_afp32()).quantize()
    made.export_model(str(destination), overwrite=True)


def loaded(path: Path) -> Any:
    """An interpreter with one thread and random input, run once."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    detail = interpreter.get_input_details()[0]
    interpreter.set_tensor(detail["index"], np.random.default_rng(0).normal(size=detail["shape"]).astype(np.float32))
    interpreter.invoke()
    return interpreter


def measure(inferences: int) -> dict[str, float]:
    """Median microseconds of the depthwise convolutions, by what ran before them and what stood between."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        float_model([tf.keras.layers.Conv2D(96, 1)], folder / "conv.tflite")
        depthwise = [tf.keras.layers.DepthwiseConv2D(3, padding="same") for _ in range(6)]
        float_model(depthwise, folder / "depthwise.tflite")
        for model in ("conv", "depthwise"):
            dynamic_int8(folder / f"{model}.tflite", folder / f"{model}-int8.tflite")
        before = {"float": loaded(folder / "conv.tflite"), "int8": loaded(folder / "conv-int8.tflite")}
        timed = loaded(folder / "depthwise-int8.tflite")
        between = {"nothing": machine_code(_RET), "vzeroupper": machine_code(_VZEROUPPER_RET)}
        found: dict[str, list[float]] = {}
        for _ in range(inferences):
            for model, first in before.items():
                for what, function in between.items():
                    first.invoke()
                    function()
                    start_ns = time.perf_counter_ns()
                    timed.invoke()
                    found.setdefault(f"{model}, {what}", []).append((time.perf_counter_ns() - start_ns) / 1e3)
    return {case: statistics.median(times) for case, times in found.items()}


def has_avx() -> bool:
    """Whether the processor has registers with upper halves (Linux tells)."""
    info = Path("/proc/cpuinfo")
    return platform.machine() == "x86_64" and info.is_file() and " avx " in info.read_text()


def main() -> None:
    """Print one line of JSON."""
    if not has_avx():
        sys.exit("this processor has no AVX, so nothing is left in its registers")
    print(json.dumps(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 150)))


if __name__ == "__main__":
    main()
