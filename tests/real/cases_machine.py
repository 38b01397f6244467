"""Cases on a disturbed machine, and on experiments that are wrong in every variant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import makers_edits as edits
from case import Case, Load, Loaded, Planted, Scored, Timed
from cases_edits import BASE, FLOOR_MOD, PLANTED, THREE, _three_files, base, pair
from cases_quantized import DETECTION, DYNAMIC, _dynamic

from qprof import embedded

FLOAT = {"file": "base.tflite"}
BUSY = (
    "neighbou?r",
    "busy",
    "other process",
    "another process",
    "preempt",
    "switched",
    "taken away",
    "waited for",
    "interfer",
    "disturb",
    "steal",
    "loaded",
)
CHANGED = ("chang", "drift", "reproduc", "came back", "not the same machine", "slower than in the run", *BUSY)
BOTH = ({"name": "float32"}, {"name": "float16"})


def _busy(words: tuple[str, ...] = BUSY) -> Planted:
    return Planted(words=words, truth=Loaded("base.tflite"), direction=1, figure="environment")


def _fault(words: tuple[str, ...], wrong: dict[str, Any], right: dict[str, Any] | None = None) -> Planted:
    """A fault that all variants share, by the score of the float file read wrongly and rightly."""
    truth = Scored(FLOAT | wrong, FLOAT | (right or {}))
    return Planted(words=words, truth=truth, direction=-1, figure="baseline")


def _swapped(folder: Path) -> None:
    edits.copied(embedded.path("shapes_detector.tflite"), folder / "base.tflite")
    edits.sizes_swapped(folder / "base.tflite", folder / "swapped.tflite")


def _blue(folder: Path) -> None:
    from data import blue_noise, scenes

    edits.blind_to_blue(embedded.path("shapes_detector.tflite"), folder / "base.tflite")
    blue_noise(scenes(folder.parent, 60) / "images", folder / "images")


CASES: tuple[Case, ...] = (
    Case("same_under_half_load", pair(edits.copied), (BASE, PLANTED), (_busy(),), load=Load(0.5)),
    Case("same_under_full_load", _three_files, THREE, (_busy(),), load=Load(1.0)),
    Case(
        "same_load_from_half",
        pair(edits.copied),
        (BASE, PLANTED),
        (_busy((*BUSY, "drift", "throttl", "half")),),
        protocol={"rounds": 30},
        load=Load(1.0, "run", late=True),
    ),
    Case("same_load_in_run", pair(edits.copied), (BASE, PLANTED), (_busy(CHANGED),), load=Load(0.5, "run")),
    Case(
        "dynamic_load_in_verify",
        _dynamic,
        ({"name": "float32"}, {"name": "int8-dynamic"}),
        (*DYNAMIC, _busy(CHANGED)),
        model="base.tflite",
        load=Load(1.0, "verify"),
    ),
    Case(
        "dynamic_load_in_run",
        _dynamic,
        ({"name": "float32"}, {"name": "int8-dynamic"}),
        (*DYNAMIC, _busy(CHANGED)),
        model="base.tflite",
        load=Load(0.5, "run"),
    ),
    Case(
        "mods_under_half_load",
        pair(edits.floor_mods, 3),
        (BASE, PLANTED),
        (Planted(truth=Timed(PLANTED, BASE), **FLOOR_MOD), _busy()),
        load=Load(0.5),
    ),
    Case(
        "labels_shifted",
        base,
        BOTH,
        (_fault(("label", "categor", "off by one", "classes? (is|are)", "class number"), {"shift": 1}),),
        model="base.tflite",
        task=DETECTION | {"data": "labels shifted"},
    ),
    Case(
        "pixels_raw",
        base,
        BOTH,
        (_fault(("pixel", r"0\W{1,2}255", "preprocess", "input range"), {"mean": 0, "std": 1}),),
        model="base.tflite",
        task=DETECTION | {"preprocess": {"raw_pixels": True}},
    ),
    Case(
        "pixels_halved",
        base,
        BOTH,
        (_fault(("pixel", "preprocess", "input range", r"\bmean\b"), {"mean": 0, "std": 510}),),
        model="base.tflite",
        task=DETECTION | {"preprocess": {"mean": 0, "std": 510}},
    ),
    Case(
        "bgr",
        _blue,
        BOTH,
        (
            _fault(
                ("bgr", "colou?r", "channel order", "red and blue"),
                {"color": "bgr", "images": "images"},
                {"images": "images"},
            ),
        ),
        model="base.tflite",
        task=DETECTION | {"data": "blue noise", "preprocess": {"color": "bgr"}},
    ),
    Case(
        "sizes_swapped",
        _swapped,
        BOTH,
        (
            Planted(
                words=("swap", "width and height", "pair.?order", "xyxy", "box format", "x and y", "order of"),
                truth=Scored({"file": "swapped.tflite"}, FLOAT),
                direction=-1,
                figure="baseline",
            ),
        ),
        model="swapped.tflite",
        task=DETECTION,
    ),
)
