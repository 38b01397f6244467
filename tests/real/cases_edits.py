"""Cases on edited flatbuffers: one float detector, and the same with one thing planted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import makers_edits as edits
from case import Case, Planted, Timed

from qprof import embedded

DETECTOR = "shapes_detector.tflite"
BASE = {"name": "base", "file": "base.tflite"}
PLANTED = {"name": "planted", "file": "planted.tflite"}
SECTION = ("stage1_block1_expand", "stage1_block1_depthwise", "stage1_block1_project")


def pair(edit: Callable[..., None], *arguments: Any) -> Callable[[Path], None]:
    """A maker of base.tflite and planted.tflite."""

    def make(folder: Path) -> None:
        edits.copied(embedded.path(DETECTOR), folder / "base.tflite")
        edit(folder / "base.tflite", folder / "planted.tflite", *arguments)

    return make


def edited(name: str, make: Callable[[Path], None], **planted: Any) -> Case:
    truth = Timed(PLANTED, BASE)
    slice_ = planted.pop("slice", False)
    return Case(name, make, (BASE, PLANTED), (Planted(truth=truth, **planted),), slice=slice_)


CASES: tuple[Case, ...] = (
    edited(
        "floor_mod_1",
        pair(edits.floor_mods, 1),
        words=("floor.?mod", "insert", "added"),
        direction=1,
        mechanisms=("work", "placement"),
        ops=("FLOOR_MOD",),
    ),
    edited(
        "round_trips_30",
        pair(edits.round_trips, 30),
        words=("conver", "quantize", "insert"),
        direction=1,
        mechanisms=("conversions",),
        ops=("QUANTIZE",),
        slice=True,
    ),
    edited(
        "upsampled",
        pair(edits.upsampled, SECTION),
        words=("other work", "more work", r"\bMACs\b", "shape", "upsampl"),
        direction=1,
        mechanisms=("work",),
        ops=("stage1_block1", "RESIZE_NEAREST", "planted/"),
    ),
    Case("same_files", pair(edits.copied), (BASE, PLANTED), slice=True),
)
