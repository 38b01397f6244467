"""Cases of what converters and people do to files: layers spoiled in float, ops in the place of others."""

from __future__ import annotations

from pathlib import Path

import makers_float as makers
from case import Case, Planted, Scored, Timed
from cases_edits import BASE, PLANTED, WORK, base
from cases_quantized import DETECTION, FLOAT, LAYER, SCORED, int8_file

SPOILED = "refine1_pointwise"


def _split(folder: Path) -> None:
    import makers_keras

    makers_keras.converted(folder, {"base.tflite": ({"activation": "hard_swish"}, "float32")})
    makers.swish_split(folder / "base.tflite", folder / "planted.tflite")


def _score(words: tuple[str, ...], ops: tuple[str, ...]) -> Planted:
    truth = Scored({"file": "planted.tflite"}, FLOAT)
    return Planted(words=words, ops=ops, truth=truth, direction=-1, figure="score")


CASES: tuple[Case, ...] = (
    Case(
        "float_bias_lost",
        lambda folder: makers.bias_lost(base(folder), folder / "planted.tflite", f"{SPOILED}_1/"),
        (BASE, PLANTED),
        (_score(LAYER, (r"refine(1_|…)pointwise",)),),
        task=DETECTION,
        protocol=SCORED,
    ),
    Case(
        "resized_by_nearest",
        lambda folder: makers.nearest(base(folder), folder / "planted.tflite"),
        (BASE, PLANTED),
        (_score(("RESIZE_NEAREST",), ("RESIZE_NEAREST", "up")),),
        task=DETECTION,
        protocol=SCORED,
        same_model=None,
    ),
    Case(
        "swish_split",
        _split,
        (BASE, PLANTED),
        (
            Planted(
                truth=Timed(PLANTED, BASE),
                direction=1,
                ops=("MUL", "MINIMUM", "ADD"),
                words=(*WORK["words"], "MUL"),
                mechanisms=("work",),
            ),
        ),
    ),
    Case(
        "float_islands",
        lambda folder: makers.islands(int8_file(folder), folder / "planted.tflite", 8),
        ({"name": "int8", "file": "int8.tflite"}, PLANTED),
        (
            Planted(
                truth=Timed(PLANTED, {"file": "int8.tflite"}),
                direction=1,
                words=("convert", "float", "DEQUANTIZE"),
                mechanisms=("conversions", "rate"),
            ),
        ),
        same_model=None,
    ),
    Case(
        "debug_output",
        lambda folder: makers.debug_output(base(folder), folder / "planted.tflite"),
        (BASE, PLANTED),
        (Planted(truth=Timed(PLANTED, BASE), direction=1, ops=("CONV_2D", "planted/"), **WORK),),
        same_model=False,
    ),
)
