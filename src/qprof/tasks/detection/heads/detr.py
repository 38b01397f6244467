"""DETR (Carion et al., arXiv 2005.12872) and RT-DETR (Zhao et al., arXiv 2304.08069): a box and class scores per query.

Two outputs, logits [1,N,C] and boxes [1,N,4], cx, cy, w, h as shares of the input; or one [1,N,4+C], as ultralytics
exports RT-DETR. DETR's classes shut each other out, the last is "no object" (softmax, the best class of a query); the
heads that came after it (Deformable DETR, DINO, RT-DETR) judge each class by itself (sigmoid), and of all pairs of a
query and a class the best N count (transformers' `post_process_object_detection` of either). Duplicates are kept.

A DETR trained on COCO counts 91 classes, its class n is COCO's category n: `categories.rule = "ids"`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError
from qprof.record.quantization import dequantize
from qprof.tasks.detection.boxes import Detections, Floats, to_corners
from qprof.tasks.detection.heads.base import Binding, Head, HeadKind, Match, Trial, describe
from qprof.tasks.detection.heads.config import HeadConfig
from qprof.tasks.detection.heads.rows import USUAL_STRIDES, class_detections, grid_cells, whole_output
from qprof.tasks.detection.heads.trials import other_formats, other_units
from qprof.tasks.detection.heads.values import BoxUnits, activate, are_logits

#: Queries of the models in use: 100 (DETR), 300 (RT-DETR, Deformable DETR), 900 (DINO).
_USUAL_QUERIES = (100, 300, 900)
_MOST_QUERIES = 1000


class Detr(Head):
    """A box and class scores per query."""

    def __init__(self, binding: Binding) -> None:
        self._binding, config = binding, binding.config
        pair = _pair(binding)
        whole = whole_output(binding) if pair is None else None
        read = whole if pair is None else pair[1]
        if read is None:
            raise DataError(
                f"a detr head has logits [1,N,C] and boxes [1,N,4], or one output [1,N,4+C], this model has "
                f"{describe(binding.outputs)}: set head.roles, e.g. ['scores', 'boxes'], or another head.kind"
            )
        self._whole, self._pair = whole, pair
        #: Both outputs are four columns wide and say no name: values tell which holds the boxes.
        self._undecided = pair is not None and _are_alike(binding)
        spec = binding.outputs[read]
        self._columns = spec.shape[-1] - (4 if pair is None else 0)
        if self._columns < 1:
            raise DataError(f"output {spec.name!r} has no column for a class: set another head.kind")
        self._units = BoxUnits(config.box_units, "normalized")
        self._activation, self._no_object = config.score_activation, config.background
        self._settled_by_values: list[str] = []
        if self._no_object is None:
            self._no_object = self._by_count()
        if self._no_object and self._activation is None:
            self._activation = "softmax"
        self.class_count = None if self._no_object is None else self._columns - int(self._no_object)

    def notes(self) -> list[str]:
        if self._binding.config.background is not None or self._no_object is None:
            return []
        taken = "stands for no object" if self._no_object else "is a class"
        return [
            f"the last of {self._columns} score columns {taken}, as the annotations have {self.class_count} classes: "
            f"set head.background = {str(not self._no_object).lower()} if it does not"
            if self._no_object
            else f"the last of {self._columns} score columns {taken}, as the annotations have as many: set "
            "head.background = true if it stands for no object"
        ]

    def decode(self, outputs: Sequence[NDArray[Any]]) -> Detections:
        binding, config = self._binding, self._binding.config
        raw, scores = self._read(outputs)
        self._units.look(raw)
        boxes = self._units.in_pixels(raw, binding.width, binding.height)
        self._settle(scores)
        scores = activate(scores, self._activation)
        if self._no_object:
            scores = scores[:, :-1]
        corners = to_corners(boxes, config.box_format or "cxcywh")
        multi_label = self._activation != "softmax" if config.multi_label is None else config.multi_label
        found = class_detections(corners, scores, config.score_threshold, multi_label)
        if len(found.scores) <= len(raw):
            return found
        return found.take(np.argsort(-found.scores, kind="stable")[: len(raw)])

    def seen(self) -> list[str]:
        return [*self._settled_by_values, *self._units.seen()]

    def _by_count(self) -> bool | None:
        """Whether the last column stands for no object, by the number of classes in the annotations."""
        counts = self._binding.class_counts or frozenset()
        with_it, without = self._columns - 1 in counts, self._columns in counts
        return None if with_it == without else with_it

    def _settle(self, scores: Floats) -> None:
        """What neither settings nor the number of classes told: most queries find nothing, and say so by the last
        column if that is its meaning; and scores that are no shares are logits."""
        if self._no_object is None:
            last = np.mean(np.argmax(scores, axis=1) == self._columns - 1)
            self._no_object = bool(self._columns > 1 and last > 0.5)
            taken = "stands for no object" if self._no_object else "is a class"
            self._settled_by_values.append(
                f"the last of {self._columns} score columns is highest in {last:.0%} of the first image's queries, so "
                f"it {taken}: set head.background if that is wrong"
            )
        if self._activation is None:
            if self._no_object and (are_logits(scores) or np.nanmax(scores, initial=0.0) > 1.01):
                self._activation = "softmax"
            else:
                self._activation = "sigmoid" if are_logits(scores) else "none"
            what = "probabilities" if self._activation == "none" else f"logits of a {self._activation}"
            self._settled_by_values.append(
                f"scores are taken as {what}, by the values of the first image: set head.score_activation if they are "
                "not"
            )

    def _read(self, outputs: Sequence[NDArray[Any]]) -> tuple[Floats, Floats]:
        """Boxes [N,4] and scores [N,C] as real values."""
        specs = self._binding.outputs
        if self._pair is None:
            assert self._whole is not None
            rows = dequantize(outputs[self._whole], specs[self._whole])[0].astype(np.float64)
            return rows[:, :4], rows[:, 4:]
        boxes, scores = (dequantize(outputs[n], specs[n])[0].astype(np.float64) for n in self._pair)
        if self._undecided:
            shares = [bool(np.all((part >= 0.0) & (part <= 1.0))) for part in (boxes, scores)]
            if shares[0] == shares[1]:
                raise DataError(
                    f"cannot tell boxes from scores ({describe(specs)}): set head.roles, e.g. ['scores', 'boxes']"
                )
            self._undecided = False
            if shares[1]:
                self._pair, boxes, scores = (self._pair[1], self._pair[0]), scores, boxes
        return boxes, scores


def _pair(binding: Binding) -> tuple[int, int] | None:
    """Positions of the boxes and the scores: by roles, else by shape, else by name."""
    outputs, roles = binding.outputs, binding.config.roles
    if roles is not None:
        if roles.count("boxes") != 1 or roles.count("scores") != 1:
            return None
        boxes, scores = roles.index("boxes"), roles.index("scores")
    else:
        rows = [n for n, o in enumerate(outputs) if len(o.shape) == 3 and o.shape[0] == 1]
        wide = [n for n in rows if outputs[n].shape[2] == 4]
        if len(wide) == 2:
            wide = [n for n in wide if "box" in outputs[n].name.lower()] or wide[:1]
        if len(rows) != 2 or len(wide) != 1:
            return None
        boxes = wide[0]
        scores = next(n for n in rows if n != boxes)
    shapes = outputs[boxes].shape, outputs[scores].shape
    fits = len(shapes[0]) == len(shapes[1]) == 3 and shapes[0][2] == 4 and shapes[0][:2] == shapes[1][:2]
    return (boxes, scores) if fits else None


def _are_alike(binding: Binding) -> bool:
    """Whether neither shapes nor names nor roles tell the boxes from the scores."""
    four = [o for o in binding.outputs if len(o.shape) == 3 and o.shape[2] == 4]
    return binding.config.roles is None and len(four) == 2 and not any("box" in o.name.lower() for o in four)


def _recognize(binding: Binding) -> Match | None:
    whole = whole_output(binding)
    if whole is not None:
        _, count, columns = binding.outputs[whole].shape
        cells = [per * grid_cells(binding, s) for s in (binding.config.strides, *USUAL_STRIDES) for per in (1, 3)]
        if columns <= 4 or count not in _USUAL_QUERIES or count in cells or binding.fits(columns - 4) != 1:
            return None
        return Match(4, f"one output of {count} queries, a box and class scores each")
    found = _pair(binding)
    if found is None or binding.config.anchors is not None or binding.config.box_format is not None:
        return None
    count = binding.outputs[found[0]].shape[1]
    names = " ".join(o.name.lower() for o in binding.outputs)
    if "logits" in names and count <= _MOST_QUERIES:
        return Match(6, f"its outputs are boxes and logits of {count} queries")
    if count in _USUAL_QUERIES:
        return Match(4, f"its outputs are boxes and class scores of {count} queries")
    return None


def _trials(config: HeadConfig) -> Iterator[Trial]:
    yield from other_formats(config, "cxcywh")
    yield from other_units(config, None)
    for activation, says in (
        ("softmax", "scores are logits, one class shuts out the others"),
        ("sigmoid", "scores are logits, each class by itself"),
        ("none", "scores are probabilities already"),
    ):
        if activation != config.score_activation:
            yield Trial("score_activation", activation, says)
    for background in (True, False):
        if background != config.background:
            says = "the last score column stands for no object" if background else "the last score column is a class"
            yield Trial("background", background, says)


HEADS = (
    HeadKind(
        name="detr",
        recognize=_recognize,
        make=Detr,
        settings=frozenset({"roles", "box_format", "box_units", "background", "multi_label"}),
        activations=("softmax", "sigmoid", "none"),
        trials=_trials,
    ),
)
