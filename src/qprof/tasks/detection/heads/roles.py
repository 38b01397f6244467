"""What each output of a detector is: by the order of the op that wrote it, by names, types and shapes."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from qprof.errors import DataError
from qprof.record.tensors import TensorSpec
from qprof.tasks.detection.heads.base import Binding, describe

#: Order of the outputs of TFLite_Detection_PostProcess (tensorflow/lite/kernels/detection_postprocess.cc,
#: kOutputTensor*).
POSTPROCESS_ROLES = ("boxes", "classes", "scores", "count")

#: Words by which exporters name outputs: TensorFlow Object Detection API, Model Maker / Task Library metadata,
#: CenterNet code.
NAME_WORDS = {
    "boxes": ("detection_boxes", "boxes", "location"),
    "classes": ("detection_classes", "classes", "category", "labels"),
    "scores": ("detection_scores", "scores", "score"),
    "count": ("num_detections", "number of detections", "count"),
    "heatmap": ("heatmap", "heat_map", "hm"),
    "size": ("size", "wh"),
    "offset": ("offset", "reg"),
}


def final_box_roles(binding: Binding) -> list[str]:
    """A role per output, "classes or scores" for the two that only values tell apart."""
    outputs, config = binding.outputs, binding.config
    roles = (
        list(config.roles)
        if config.roles is not None
        else _roles_by_op_order(outputs) or _roles_by_name_and_shape(outputs)
    )
    wanted = ["boxes", "classes or scores" if "classes or scores" in roles else "scores"]
    if "classes or scores" not in roles:
        wanted.append("classes")
    for role in wanted:
        expected = 2 if role == "classes or scores" else 1
        if roles.count(role) != expected:
            raise DataError(
                f"cannot tell which output holds the {role} ({describe(outputs)}): set head.roles, one of boxes, "
                "classes, scores, count, ignore each"
            )
    count = outputs[roles.index("boxes")].shape
    per_box = [o for o, role in zip(outputs, roles, strict=True) if role in ("classes", "scores", "classes or scores")]
    if not count or count[-1] != 4 or any(int(np.prod(o.shape)) * 4 != int(np.prod(count)) for o in per_box):
        raise DataError(
            f"boxes, classes and scores differ in number ({describe(outputs)}): correct head.roles or head.kind"
        )
    return roles


def _roles_by_op_order(outputs: Sequence[TensorSpec]) -> list[str] | None:
    """The converter names the op's outputs NAME, NAME:1, NAME:2, NAME:3 in the order of the op."""
    stem = "TFLite_Detection_PostProcess"
    order = {stem: 0, **{f"{stem}:{n}": n for n in range(4)}}
    positions = [order.get(o.name) for o in outputs]
    if None in positions or len(set(positions)) != len(positions):
        return None
    return [POSTPROCESS_ROLES[p] for p in positions if p is not None]


def _roles_by_name_and_shape(outputs: Sequence[TensorSpec]) -> list[str]:
    shapes = [tuple(o.shape) for o in outputs]
    fits = {
        "boxes": [len(s) >= 2 and s[-1] == 4 and len(s) <= 3 for s in shapes],
        "count": [int(np.prod(s)) == 1 and len(s) <= 1 for s in shapes],
    }
    per_box = {tuple(s[:-1]) for s, fit in zip(shapes, fits["boxes"], strict=True) if fit}
    fits["classes"] = fits["scores"] = [s in per_box for s in shapes]
    roles = ["ignore"] * len(outputs)
    for role in POSTPROCESS_ROLES:
        named = [n for n, o in enumerate(outputs) if fits[role][n] and roles[n] == "ignore" and _is_named(o.name, role)]
        fitting = [n for n, fit in enumerate(fits[role]) if fit and roles[n] == "ignore"]
        if len(named) == 1:
            roles[named[0]] = role
        elif role in ("boxes", "count") and len(fitting) == 1:
            roles[fitting[0]] = role
    rest = [n for n, fit in enumerate(fits["scores"]) if fit and roles[n] == "ignore"]
    missing = [role for role in ("classes", "scores") if role not in roles]
    if len(rest) == len(missing) == 1:
        roles[rest[0]] = missing[0]
    elif len(rest) == len(missing) == 2:
        _roles_by_type(outputs, rest, roles)
    return roles


def _roles_by_type(outputs: Sequence[TensorSpec], pair: list[int], roles: list[str]) -> None:
    """Integers that stand for no real number are class indices; otherwise both are left to their values."""
    plain = [n for n in pair if outputs[n].dtype.startswith(("int", "uint")) and outputs[n].scale is None]
    if len(plain) == 1:
        other = pair[1] if pair[0] == plain[0] else pair[0]
        roles[plain[0]], roles[other] = "classes", "scores"
    elif all(outputs[n].dtype.startswith("float") for n in pair):
        for n in pair:
            roles[n] = "classes or scores"


def _is_named(name: str, role: str) -> bool:
    plain = name.lower()
    if "raw_" in plain or "multiclass" in plain:
        return False
    return any(re.search(rf"(?<![a-z]){word}(?![a-z])", plain) for word in NAME_WORDS[role])


def anchor_outputs(binding: Binding) -> tuple[int, int]:
    """Positions of the boxes and the scores."""
    outputs, roles = binding.outputs, binding.config.roles
    if roles is not None:
        if roles.count("boxes") != 1 or roles.count("scores") != 1:
            raise DataError("head.roles of an ssd-raw head must name one output 'boxes' and one 'scores': correct it")
        boxes, scores = roles.index("boxes"), roles.index("scores")
    else:
        rows = [n for n, o in enumerate(outputs) if len(o.shape) == 3 and o.shape[0] == 1]
        by_shape = [n for n in rows if outputs[n].shape[2] == 4]
        named = [n for n in by_shape if _is_named(outputs[n].name, "boxes")]
        candidates = by_shape if len(by_shape) == 1 else named
        if len(rows) != 2 or len(candidates) != 1:
            raise DataError(
                f"cannot tell boxes from scores ({describe(outputs)}): set head.roles, e.g. ['boxes', 'scores']"
            )
        boxes = candidates[0]
        scores = next(n for n in rows if n != boxes)
    box_shape, score_shape = outputs[boxes].shape, outputs[scores].shape
    if (
        len(box_shape) != 3
        or len(score_shape) != 3
        or box_shape[0] != 1
        or box_shape[2] != 4
        or box_shape[:2] != score_shape[:2]
    ):
        raise DataError(
            f"an ssd-raw head has boxes [1,N,4] and scores [1,N,C], this model has {describe(outputs)}: correct "
            "head.kind"
        )
    return boxes, scores


def map_roles(binding: Binding) -> list[str]:
    """Role per output of a CenterNet: by configuration, name, or the number of channels where that is unique."""
    outputs = binding.outputs
    roles = list(binding.config.roles) if binding.config.roles is not None else ["ignore"] * len(outputs)
    maps = [n for n, o in enumerate(outputs) if len(o.shape) == 4 and o.shape[0] == 1]
    if binding.config.roles is None:
        for role in ("heatmap", "size", "offset"):
            named = [n for n in maps if _is_named(outputs[n].name, role) and roles[n] == "ignore"]
            if len(named) == 1:
                roles[named[0]] = role
        wide = [n for n in maps if outputs[n].shape[1] != 2 and outputs[n].shape[3] != 2]
        if "heatmap" not in roles and len(wide) == 1:
            roles[wide[0]] = "heatmap"
        rest = [n for n in maps if roles[n] == "ignore"]
        if len(rest) == 1 and roles.count("heatmap") == 1:
            missing = [role for role in ("size", "offset") if role not in roles]
            roles[rest[0]] = missing[0] if missing else "ignore"
    if any(roles.count(role) != 1 for role in ("heatmap", "size")) or roles.count("offset") > 1 or len(maps) < 2:
        raise DataError(
            f"cannot tell heatmap, size and offset apart ({describe(outputs)}): set head.roles in the order of the "
            "outputs, "
            "e.g. ['heatmap', 'size', 'offset']"
        )
    return roles


def grid_channels_first(binding: Binding, used: Sequence[int]) -> bool:
    """Whether the maps are [1,C,H,W]; told by the axes on which they agree, by the input where both would do."""
    shapes = [binding.outputs[n].shape for n in used]
    if any(len(s) != 4 or s[0] != 1 for s in shapes):
        raise DataError(
            f"a centernet head has maps of 4 dimensions and batch 1, this model has {describe(binding.outputs)}: "
            "correct head.kind"
        )
    last = all(s[1:3] == shapes[0][1:3] for s in shapes)
    first = all(s[2:4] == shapes[0][2:4] for s in shapes)
    if not last and not first:
        raise DataError(
            f"heatmap, size and offset are not on one grid ({describe(binding.outputs)}): correct head.roles"
        )
    return binding.channels_first if last and first else first
