"""Cases on edited flatbuffers: one float detector, and the same with something planted."""

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
CUT = ("stage3_block2_expand", "stage3_block2_depthwise", "stage3_block2_project")

FLOOR_MOD = {
    "words": ("floor.?mod", "insert", "added", "other work", "more work"),
    "direction": 1,
    "mechanisms": ("work", "placement"),
    "ops": ("FLOOR_MOD", "planted/mod"),
}
ROUND_TRIPS = {
    "words": ("conver", "quantiz", "insert"),
    "direction": 1,
    "mechanisms": ("conversions",),
    "ops": ("QUANTIZE", "planted/(stored|back)"),
}
WORK = {"words": ("other work", "more work", "less work", r"\bMACs\b", "shape"), "mechanisms": ("work",)}
LEFT = {"words": ("delegate", "XNNPACK", "placement"), "direction": 1, "mechanisms": ("placement",)}
REVERSALS = {
    "words": ("reverse", "insert", "added", "other work", "more work"),
    "direction": 1,
    "mechanisms": ("work", "placement"),
    "ops": ("REVERSE_V2", "planted/reversed"),
}
TRANSPOSES = {
    "words": ("transpos", "insert", "added", "other work", "more work"),
    "direction": 1,
    "mechanisms": ("work", "conversions"),
    "ops": ("TRANSPOSE", "planted/(first|last)"),
}


def base(folder: Path) -> Path:
    edits.copied(embedded.path(DETECTOR), folder / "base.tflite")
    return folder / "base.tflite"


def pair(edit: Callable[..., None], *arguments: Any) -> Callable[[Path], None]:
    """A maker of base.tflite and planted.tflite."""

    def make(folder: Path) -> None:
        edit(base(folder), folder / "planted.tflite", *arguments)

    return make


def edited(
    name: str, make: Callable[[Path], None], *, same: bool | None = True, ci: bool = False, **planted: Any
) -> Case:
    truth = Timed(PLANTED, BASE)
    return Case(name, make, (BASE, PLANTED), (Planted(truth=truth, **planted),), same_model=same, slice=ci)


def _two(first: Callable[..., None], one: Any, second: Callable[..., None], other: Any) -> Callable[[Path], None]:
    """A maker of planted.tflite with two things in it, and of first.tflite and second.tflite with one each."""

    def make(folder: Path) -> None:
        source = base(folder)
        first(source, folder / "first.tflite", one)
        second(source, folder / "second.tflite", other)
        second(folder / "first.tflite", folder / "planted.tflite", other)

    return make


def _both(first: dict[str, Any], second: dict[str, Any]) -> tuple[Planted, Planted]:
    """Each thing by its ablation: the file with both against the one with only the other."""
    return (
        Planted(truth=Timed(PLANTED, {"file": "second.tflite"}), **first),
        Planted(truth=Timed(PLANTED, {"file": "first.tflite"}), **second),
    )


def _three_files(folder: Path) -> None:
    source = base(folder)
    for name in ("second", "third"):
        edits.copied(source, folder / f"{name}.tflite")


THREE = (BASE, {"name": "second", "file": "second.tflite"}, {"name": "third", "file": "third.tflite"})

CASES: tuple[Case, ...] = (
    edited("floor_mod_1", pair(edits.floor_mods, 1), ci=True, **FLOOR_MOD),
    edited("floor_mod_8", pair(edits.floor_mods, 8), **FLOOR_MOD),
    edited("reversals", pair(edits.reversals, 4), **REVERSALS),
    edited("round_trips_1", pair(edits.round_trips, 1), **ROUND_TRIPS),
    edited("round_trips_5", pair(edits.round_trips, 5), **ROUND_TRIPS),
    edited("round_trips_30", pair(edits.round_trips, 30), ci=True, **ROUND_TRIPS),
    edited("depthwise_leave", pair(edits.biases_computed, "depthwise"), ops=("DEPTHWISE",), **LEFT),
    edited(
        "one_op_leaves",
        pair(edits.biases_computed, "refine1_depthwise"),
        ops=("refine1_depthwise", r"\b1 ops? \(DEPTHWISE"),
        **LEFT,
    ),
    edited(
        "sums_leave",
        pair(edits.sums_by_add_n),
        words=(*LEFT["words"], "ADD_N", "other work"),
        direction=1,
        mechanisms=("placement", "work"),
        ops=(r"\bADD", "Add"),
    ),
    edited(
        "upsampled",
        pair(edits.upsampled, SECTION),
        direction=1,
        ops=("stage1_block1", "RESIZE_NEAREST", "planted/"),
        same=False,
        **WORK,
    ),
    edited("widened", pair(edits.widened, "stage1_block1", 4), direction=1, ops=("stage1_block1",), same=False, **WORK),
    edited("layer_cut", pair(edits.cut, ["refine1_pointwise"]), direction=-1, ops=("refine1_",), same=False, **WORK),
    edited(
        "block_cut",
        pair(edits.cut, CUT),
        direction=-1,
        ops=("stage3_block2",),
        same=False,
        **WORK,
    ),
    edited("transposes", pair(edits.transposes, 6), **TRANSPOSES),
    edited("batch_4", pair(edits.batched, 4), direction=1, same=None, **WORK),
    edited("resolution", pair(edits.resolved, 4 / 3), direction=1, same=None, **WORK),
    Case("half_weights", pair(edits.half_weights), (BASE, PLANTED)),
    Case("shuffled_channels", pair(edits.spread), (BASE, PLANTED)),
    Case("same_files", pair(edits.copied), (BASE, PLANTED), slice=True),
    Case("same_files_three", _three_files, THREE),
    Case(
        "trips_and_reversals",
        _two(edits.round_trips, 30, edits.reversals, 6),
        (BASE, PLANTED),
        _both(ROUND_TRIPS, REVERSALS),
    ),
    Case(
        "cut_and_transposes",
        _two(edits.transposes, 6, edits.cut, CUT),
        (BASE, PLANTED),
        _both(TRANSPOSES, {"direction": -1, "ops": ("stage3_block2",), **WORK}),
        same_model=False,
    ),
    Case(
        "leave_and_upsampled",
        _two(edits.biases_computed, "(heatmap|size|offset)_depthwise", edits.upsampled, SECTION),
        (BASE, PLANTED),
        _both(
            {"ops": ("DEPTHWISE", "_depthwise"), **LEFT},
            {"direction": 1, "ops": ("stage1_block1", "RESIZE_NEAREST", "planted/"), **WORK},
        ),
        same_model=False,
    ),
)
