"""Cases of what seldom goes wrong: ranges that leave out what is rare, checkpoints read by another rule, number formats
that a machine has no kernels for or that cannot hold a model's numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import makers_language as language
import makers_quantized as quantized
from case import Case, Planted, Scored, Timed
from cases_edits import BASE, PLANTED
from cases_language import FOUR, PLAIN, SCORED, TASK, UNSCORED, made, unpacking
from cases_quantized import DETECTION, FLOAT, INT8, RATE, images, int8_file
from cases_quantized import SCORED as LAYERS

from data import calibration

HALF = {"name": "planted", "file": "half", "dtype": "float16"}
LARGE = {"name": "base", "file": "large"}
LARGE_HALF = {"file": "large", "dtype": "float16"}
OVERFLOWING = {"name": "planted"} | LARGE_HALF
CLIPPED = ("clip", "cut off", "leave out", "saturat", "rare", "range")
#: The weights of a layer as its file holds them, whatever is wrong with all of them.
ALIKE = ("alike", "misread", "zero point", "read by another rule", "read wrongly", "wrong everywhere")


#: What any such file gains beside what it loses.
INTEGERS = Planted(truth=Timed({"file": "planted.tflite"}, FLOAT), **RATE)


def _percentiles(folder: Path) -> None:
    int8_file(folder)
    quantized.percentiles(folder / "base.tflite", folder / "planted.tflite", images(folder), 1.0)


def _mostly_empty(folder: Path) -> None:
    """23 black images and one scene."""
    import shutil

    from PIL import Image

    int8_file(folder)
    mostly_black = [*images(folder)[:1], *quantized.black(23)]
    quantized.static(folder / "base.tflite", folder / "planted.tflite", mostly_black)
    (folder / "empty").mkdir(exist_ok=True)
    for index in range(1, 24):
        Image.new("RGB", (192, 192)).save(folder / "empty" / f"{index:02}.png")
    first = min((calibration(folder.parent) / "images").iterdir())
    shutil.copyfile(first, folder / "empty" / f"00{first.suffix}")


def _clipped(name: str) -> Planted:
    return Planted(words=CLIPPED, truth=Scored({"file": name}, INT8), direction=-1, figure="score")


def _score(present: dict[str, str], absent: dict[str, str], words: tuple[str, ...]) -> Planted:
    return Planted(words=words, truth=Scored(present, absent), direction=-1, figure="score")


def _overflow(name: str, change: Callable[[language.Tensors, dict[str, Any]], None], begins: str) -> Case:
    planted = Planted(
        words=("infinit",),
        ops=(begins,),
        truth=Scored(LARGE_HALF, {"file": "plain", "dtype": "float16"}, "not finite"),
        direction=1,
        figure="not_finite",
    )
    make = made(plain=language.plain, large=lambda folder: language.plain(folder, change))
    return Case(name, make, (LARGE, OVERFLOWING), (planted, _float16(LARGE_HALF, "large")), task=TASK, protocol=SCORED)


def _float16(present: dict[str, Any], absent: str) -> Planted:
    """The type has no fast kernels on most processors."""
    return Planted(
        words=("float16", "fast kernel", "number format"),
        truth=Timed(present, {"file": absent}),
        direction=1,
        mechanisms=("rate",),
    )


CASES: tuple[Case, ...] = (
    Case(
        "clipped_by_percentile",
        _percentiles,
        (BASE, PLANTED),
        (_clipped("planted.tflite"), INTEGERS),
        task=DETECTION,
        protocol=LAYERS,
    ),
    Case(
        "clipped_mostly_empty",
        _mostly_empty,
        ({"name": "float32"}, {"name": "int8"}),
        (_clipped("planted.tflite"), INTEGERS),
        model="base.tflite",
        task=DETECTION | {"calibration_images": "empty"},
        protocol=LAYERS,
    ),
    Case(
        "lm_zeros_misread",
        made(
            plain=language.plain,
            four=lambda folder: language.gptq(folder, 4),
            other=lambda folder: language.gptq(folder, 4, zeros_as_they_are=True),
        ),
        (PLAIN, {"name": "planted", "file": "other"}),
        (_score({"file": "other"}, {"file": "four"}, ALIKE), unpacking("other", "plain")),
        task=TASK,
        protocol=SCORED,
    ),
    Case(
        "lm_scales_alike",
        made(
            plain=language.plain,
            four=lambda folder: language.gptq(folder, 4),
            other=lambda folder: language.gptq(folder, 4, spoiled="_proj", factor=2.0),
        ),
        (PLAIN, {"name": "planted", "file": "other"}),
        (_score({"file": "other"}, {"file": "four"}, ALIKE), unpacking("other", "plain")),
        task=TASK,
        protocol=SCORED,
    ),
    Case(
        "lm_order_lost",
        made(
            plain=language.plain,
            four=lambda folder: language.gptq(folder, 4),
            other=lambda folder: language.gptq(folder, 4, order_lost=True),
        ),
        (PLAIN, {"name": "planted", "file": "other"}),
        (_score({"file": "other"}, {"file": "four"}, ALIKE), unpacking("other", "plain")),
        task=TASK,
        protocol=SCORED,
        same_model=None,
    ),
    Case(
        "lm_half",
        made(
            plain=lambda f: language.plain(f, language.widened(8)),
            half=lambda f: language.plain(f, language.widened(8)),
        ),
        (PLAIN, HALF),
        (_float16({"file": "half", "dtype": "float16"}, "plain"),),
        task=TASK,
        protocol=UNSCORED,
    ),
    _overflow("lm_overflow", language.large_inside(2, 2.0**15), r"layers\.2\.mlp"),
    _overflow("lm_overflow_stream", language.large_stream(2.0**13), r"layers\.2\b"),
    Case(
        "lm_integers",
        made(plain=lambda folder: language.plain(folder, language.widened(8))),
        ({"name": "bfloat16"}, {"name": "torchao-int8-dynamic"}),
        (
            Planted(
                words=("activations", "integers"),
                truth=Timed({"file": "plain", "integers": True}, {"file": "plain"}),
                direction=1,
                mechanisms=("conversions", "rate"),
            ),
        ),
        model="plain",
        task=TASK,
        protocol=UNSCORED,
    ),
    Case(
        "lm_packed",
        made(
            plain=lambda folder: language.plain(folder, language.widened(8)),
            four=lambda folder: language.gptq(folder, 4, change=language.widened(8)),
        ),
        (PLAIN, FOUR | {"kernel": "torch-aten"}),
        (
            Planted(
                words=("packed", "unpacks? (its )?weights", "kernel"),
                truth=Timed({"file": "four", "kernel": "torch-aten"}, {"file": "plain"}),
                direction=1,
                mechanisms=("rate", "conversions"),
                phase="prefill",
            ),
            # Of a single token it reads fewer bytes, and that is what takes the time.
            Planted(
                words=("packed", "kernel"),
                truth=Timed({"file": "four", "kernel": "torch-aten", "tokens": 1}, {"file": "plain", "tokens": 1}),
                direction=-1,
                mechanisms=("rate",),
                phase="decode",
            ),
        ),
        task=TASK,
        protocol=UNSCORED,
    ),
    Case(
        "lm_no_fast_kernel",
        made(
            plain=lambda folder: language.plain(folder, language.widened(4)),
            four=lambda folder: language.gptq(folder, 4, change=language.widened(4)),
            eight=lambda folder: language.gptq(folder, 8, change=language.widened(4)),
        ),
        ({"name": "bfloat16"}, {"name": "rtn-8bit-g64"}),
        (
            Planted(
                words=("no (fast )?kernel", "do(es)? not take", "takes? (no|this)", "fast kernel"),
                truth=Timed({"file": "eight"}, {"file": "four", "kernel": "torch-aten"}),
                direction=1,
                mechanisms=("conversions", "rate"),
            ),
            unpacking("eight", "plain"),
        ),
        model="plain",
        task=TASK,
        protocol=UNSCORED,
    ),
)
