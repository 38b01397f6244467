"""Cases on causal language models: checkpoints of a small Llama."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import makers_language as language
from case import Case, Planted, Scored, Timed
from cases_edits import WORK

TASK = {"kind": "lastword", "samples": 2, "prompt_tokens": 64, "generated_tokens": 4, "calibration_samples": 0}
UNSCORED = {"scored": False, "rounds": 6}
SCORED = {"layer_errors": 8, "rounds": 6}
PLAIN = {"name": "base", "file": "plain"}
FOUR = {"name": "planted", "file": "four"}
SPOILED = {"name": "planted", "file": "spoiled"}
AGAIN = {"name": "again", "file": "again"}
LAYER_WORDS = ("layer", "SQNR", "error", "scale")
LAYER = "model.layers.2.self_attn.o_proj"


def made(**checkpoints: Callable[[Path], None]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for name, write in checkpoints.items():
            write(folder / name)

    return make


def _gptq(bits: int, **more: Any) -> Callable[[Path], None]:
    return lambda folder: language.gptq(folder, bits, **more)


def _score(present: str, absent: str, words: tuple[str, ...], ops: tuple[str, ...] = ()) -> Planted:
    truth = Scored({"file": present}, {"file": absent})
    return Planted(words=words, ops=ops, truth=truth, direction=-1, figure="score")


def unpacking(present: str, absent: str) -> Planted:
    """The packed checkpoint against a plain one of the same rounded weights."""
    return Planted(
        words=("unpack", "dequant"),
        truth=Timed({"file": present}, {"file": absent}),
        direction=1,
        mechanisms=("conversions", "rate"),
    )


CASES: tuple[Case, ...] = (
    Case(
        "lm_same_files",
        made(plain=language.plain, again=language.plain),
        (PLAIN, {"name": "again", "file": "again"}),
        task=TASK,
        protocol=UNSCORED,
    ),
    Case(
        "lm_unpacking_4",
        made(plain=language.plain, four=_gptq(4), dense=_gptq(4, dense=True)),
        (PLAIN, FOUR),
        (unpacking("four", "dense"),),
        task=TASK,
        protocol=UNSCORED,
    ),
    Case(
        "lm_kernel",
        made(four=_gptq(4)),
        ({"name": "base", "file": "four"}, {"name": "planted", "file": "four", "kernel": "torch-aten"}),
        (
            Planted(
                words=("kernel", "unpack", "dequant"),
                truth=Timed({"file": "four", "kernel": "torch-aten"}, {"file": "four"}),
                direction=-1,
                mechanisms=("rate", "settings", "conversions"),
            ),
            # Two things at once: it unpacks nothing, and multiplies what is packed slower than what is not.
            Planted(
                words=("packed",),
                truth=Timed({"file": "four", "kernel": "torch-aten"}, {"file": "four", "kernel": "dequantized"}),
                direction=1,
                mechanisms=("rate",),
            ),
        ),
        task=TASK,
        protocol=UNSCORED,
    ),
    Case(
        "lm_deeper",
        made(plain=language.plain, deep=lambda folder: language.plain(folder, language.repeated(2))),
        (PLAIN, {"name": "planted", "file": "deep"}),
        (Planted(truth=Timed({"file": "deep"}, {"file": "plain"}), direction=1, **WORK),),
        task=TASK,
        protocol=UNSCORED,
        same_model=False,
    ),
    Case(
        "lm_group_sizes",
        made(wide=_gptq(4, group=128), narrow=_gptq(4, group=32)),
        ({"name": "g128", "file": "wide"}, {"name": "g32", "file": "narrow"}),
        (
            Planted(
                words=("unpack", "dequant", "group"),
                truth=Timed({"file": "narrow"}, {"file": "wide"}),
                direction=1,
                mechanisms=("conversions", "rate"),
            ),
        ),
        task=TASK,
        protocol=UNSCORED,
    ),
    Case(
        "lm_layer_spoiled",
        made(plain=language.plain, four=_gptq(4), spoiled=_gptq(4, spoiled=LAYER), dense=_gptq(4, dense=True)),
        (PLAIN, SPOILED),
        (
            _score("spoiled", "four", LAYER_WORDS, (r"layers\.2\.self_attn\.o_proj",)),
            unpacking("four", "dense"),
        ),
        task=TASK,
        protocol=SCORED,
    ),
    Case(
        "lm_head_spoiled",
        made(
            plain=lambda folder: language.plain(folder, language.head_alone),
            four=_gptq(4, change=language.head_alone),
            spoiled=_gptq(4, change=language.head_spoiled),
            dense=_gptq(4, change=language.head_alone, dense=True),
        ),
        (PLAIN, SPOILED),
        (_score("spoiled", "four", ("lm_head", "head", "not quantized", "unquantized")), unpacking("four", "dense")),
        task=TASK,
        protocol=SCORED,
    ),
    Case(
        "lm_two_bits",
        made(plain=language.plain, two=_gptq(2), four=_gptq(4), dense=_gptq(2, dense=True)),
        (PLAIN, {"name": "planted", "file": "two"}),
        (_score("two", "four", (r"\bbits?\b", "width", "collaps", "step")), unpacking("two", "dense")),
        task=TASK,
        protocol=SCORED,
    ),
)
