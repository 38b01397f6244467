"""The settings of a detector that are most often wrong, each with what it would be instead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qprof.record.quantization import FLOAT_DTYPES
from qprof.record.tensors import TensorSpec
from qprof.tasks.detection.categories import CategoryConfig, CategoryMap
from qprof.tasks.detection.heads import HeadConfig, get
from qprof.tasks.images.conventions import RANGES
from qprof.tasks.images.preprocess import RESIZES, PreprocessConfig

#: A limit beyond these cuts off what COCO's evaluation would count: 100 detections an image, whatever their score.
_ALL_SCORES, _ALL_DETECTIONS = 0.001, 100
#: The IoU of duplicates in the TensorFlow Object Detection API; a threshold outside this range leaves duplicates, or
#: takes neighbours for them.
_NMS, _USUAL_NMS = 0.6, (0.4, 0.8)
#: Numbers of a list that are written out.
_WRITTEN_OUT = 12


@dataclass(frozen=True, slots=True)
class Change:
    """One setting changed; the configurations that it leaves alone are `None`."""

    setting: str
    says: str
    preprocess: PreprocessConfig | None = None
    head: HeadConfig | None = None
    categories: CategoryConfig | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """What a detection task is bound with: the configurations, the kind of head that was settled on, and its classes
    (`None` where the outputs do not tell)."""

    input: TensorSpec
    preprocess: PreprocessConfig
    raw: bool
    head: HeadConfig
    kind: str
    nms_iou: float | None
    categories: CategoryMap
    class_count: int | None


def changes(now: Settings) -> Iterator[Change]:
    """One at a time: labels, boxes, limits of what is kept; then those that change what the model is given."""
    yield from _labels(now)
    yield from _boxes(now)
    yield from _limits(now)
    yield from _pixels(now)


def class_ids(now: Settings) -> list[int]:
    """The category id of every class index, in ascending order of classes; of the indices that have one."""
    config = now.categories.config
    count = now.class_count
    if count is None:
        last = max(now.categories.categories)
        known = {"coco91": 90, "coco80": 80, "list": len(config.ids or ()), "ids": max(0, last - config.offset + 1)}
        count = known.get(config.rule, len(now.categories.categories))
    found = (now.categories.category_id(index) for index in range(count))
    return [number for number in found if number is not None]


def ids_setting(ids: Sequence[int]) -> str:
    """The setting that gives class n the n-th of these ids."""
    half = _WRITTEN_OUT // 2
    written = [str(number) for number in ids]
    if len(ids) > _WRITTEN_OUT:
        written = [*written[:half], "...", *written[-half:]]
    return f'task.categories.rule = "list", task.categories.ids = [{", ".join(written)}]'


def _labels(now: Settings) -> Iterator[Change]:
    ids = class_ids(now)
    seen = {tuple(ids)}
    for other in (CategoryConfig(rule) for rule in ("order", "coco91", "coco80", "ids")):
        mapped = CategoryMap(other, now.categories.categories)
        theirs = tuple(class_ids(replace(now, categories=mapped)))
        if theirs not in seen and not mapped.notes():
            seen.add(theirs)
            says = f"classes are counted by the rule {other.rule!r}"
            yield Change(f'task.categories.rule = "{other.rule}"', says, categories=other)
    for shift in (1, -1, 2, -2):
        says = f"every class is the one {'behind' if shift > 0 else 'before'} it" + (
            ", by two" if shift % 2 == 0 else ""
        )
        moved = tuple(np.roll(ids, -shift).tolist())
        if moved in seen:
            continue
        seen.add(moved)
        config = now.categories.config
        first = get(now.kind).class_offset
        if first is not None:
            offset = (first if now.head.class_offset is None else now.head.class_offset) - shift
            yield Change(f"task.head.class_offset = {offset}", says, head=replace(now.head, class_offset=offset))
        elif config.rule == "ids":
            offset = config.offset + shift
            yield Change(f"task.categories.offset = {offset}", says, categories=replace(config, offset=offset))
        else:
            yield Change(ids_setting(moved), says, categories=CategoryConfig(rule="list", ids=list(moved)))


def _boxes(now: Settings) -> Iterator[Change]:
    for trial in get(now.kind).trials(now.head):
        yield _head(now, trial.key, trial.value, trial.says)


def _limits(now: Settings) -> Iterator[Change]:
    if now.head.score_threshold > _ALL_SCORES:
        yield _head(now, "score_threshold", _ALL_SCORES, "detections of low scores are kept")
    if now.head.max_detections < _ALL_DETECTIONS:
        yield _head(now, "max_detections", _ALL_DETECTIONS, f"{_ALL_DETECTIONS} detections an image are kept")
    if now.nms_iou is None or not _USUAL_NMS[0] <= now.nms_iou <= _USUAL_NMS[1]:
        yield _head(now, "nms_iou", _NMS, f"boxes of a class are duplicates from an IoU of {_NMS} on")


def _pixels(now: Settings) -> Iterator[Change]:
    config = now.preprocess
    others = {"rgb": "bgr", "bgr": "rgb"}
    if config.color in others:
        other = others[config.color]
        mean, std = (value[::-1] if isinstance(value, list) else value for value in (config.mean, config.std))
        changed = replace(config, color=other, mean=mean, std=std)
        yield Change(f'task.preprocess.color = "{other}"', f"colours come as {other.upper()}", preprocess=changed)
    yield from _ranges(now)
    for resize in RESIZES:
        if resize != config.resize:
            says = "images are stretched to the input" if resize == "stretch" else f"images keep their shape ({resize})"
            yield Change(f'task.preprocess.resize = "{resize}"', says, preprocess=replace(config, resize=resize))


def _ranges(now: Settings) -> Iterator[Change]:
    config, is_float = now.preprocess, now.input.dtype in FLOAT_DTYPES
    for says, mean, std in RANGES:
        if config.color == "grey" and isinstance(mean, list):
            continue
        if config.color == "bgr" and isinstance(mean, list) and isinstance(std, list):
            mean, std = mean[::-1], std[::-1]
        same = (mean, std) == ((0.0, 1.0) if now.raw and is_float else (config.mean, config.std))
        if same and (is_float or not now.raw):
            continue
        changed = replace(config, mean=mean, std=std, raw_pixels=False)
        setting = f"task.preprocess.mean = {mean}, task.preprocess.std = {std}"
        raw = ", task.preprocess.raw_pixels = false" if now.raw else ""
        yield Change(setting + raw, says, preprocess=changed)
    if not is_float and not now.raw:
        says = "the input's bytes are the pixels"
        yield Change("task.preprocess.raw_pixels = true", says, preprocess=replace(config, raw_pixels=True))


def _head(now: Settings, key: str, value: Any, says: str) -> Change:
    changes: dict[str, Any] = {key: value}
    shown = f'"{value}"' if isinstance(value, str) else str(value).lower()
    return Change(f"task.head.{key} = {shown}", says, head=replace(now.head, **changes))
