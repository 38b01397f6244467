"""The settings of a classifier that are most often wrong, each with what it would be instead."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from qprof.record.quantization import FLOAT_DTYPES
from qprof.tasks.base import Fitted
from qprof.tasks.classification.pixels import ImageConfig, Pixels
from qprof.tasks.images.conventions import RANGES, Value

#: Crops that the published models of ImageNet were evaluated with, as shares of the shorter side (timm, `crop_pct`).
_CROPS = (0.875, 1.0)
#: A class is what so many of the samples are that the model takes for it, and more than half of them.
_FEWEST = 2
#: Numbers of a list that are written out.
_WRITTEN_OUT = 12


@dataclass(frozen=True, slots=True)
class Change:
    """One setting changed; what it leaves alone is `None`."""

    setting: str
    says: str
    preprocess: ImageConfig | None = None
    offset: int | None = None
    order: Sequence[int] | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """What a task is bound with. `pixels`: `None` for other data than images; `ordered`: whether its classes are mapped
    one by one; `numbers`: of the classes that have samples, `names` of all; `named`: whether a file names the model's
    outputs."""

    pixels: Pixels | None
    preprocess: ImageConfig
    offset: int
    ordered: bool
    names: Sequence[str] | None
    numbers: Sequence[int]
    named: bool
    outputs: int


def changes(now: Settings) -> Iterator[Change]:
    """One at a time: labels, then what changes what the model is given."""
    yield from _labels(now)
    if now.pixels is not None:
        yield from _pixels(now.preprocess, now.pixels)


def _labels(now: Settings) -> Iterator[Change]:
    if now.ordered:
        return
    for shift in (1, -1):
        offset = now.offset + shift
        if offset == 0 and now.offset:
            says = "the model has no background class: its outputs begin with the first class"
        elif shift > 0:
            says = "every class is the output behind it: output 0 is a background class, or the labels begin at 1"
        else:
            says = "every class is the output before it: the labels hold a background class that the model has not"
        yield Change(f"task.offset = {offset}", says, offset=offset)
    yield from _orders(now)


def _orders(now: Settings) -> Iterator[Change]:
    """Other ways in which people's tools number the classes of a folder."""
    count = len(now.names) if now.names is not None else max(now.numbers) + 1
    if not 1 < count <= now.outputs:
        return
    names = now.names or [str(number) for number in range(count)]
    shift = 1 if now.outputs == count + 1 else 0
    sortings: list[tuple[str, list[int]]] = []
    if now.named and now.names is not None:  # which are sorted
        sortings.append(("the model's classes are in the order of the data's, not of labels", list(range(count))))
    if now.names is None and list(now.numbers) == list(range(count)):
        sortings.append(("the classes are sorted as text (0, 1, 10, ...)", sorted(range(count), key=names.__getitem__)))
    if not now.named:
        folded = sorted(range(count), key=lambda n: (names[n].casefold(), names[n]))
        sortings.append(("the classes are sorted without regard to case", folded))
    for says, by_name in sortings:
        if by_name == list(range(count)) and not now.named:
            continue
        order = [0] * count
        for place, number in enumerate(by_name):
            order[number] = place + shift
        yield Change(order_setting(order), says, order=order)


def _pixels(config: ImageConfig, now: Pixels) -> Iterator[Change]:
    settled = now.settled
    mean, std = settled.mean, settled.std
    if settled.color != "grey":
        other = "bgr" if settled.color == "rgb" else "rgb"
        turned = replace(config, color=other)
        if isinstance(mean, list) or isinstance(std, list):
            turned = replace(turned, mean=_turned(mean), std=_turned(std))
        yield Change(f'task.preprocess.color = "{other}"', f"colours come as {other.upper()}", preprocess=turned)
        spec = now.spec
        if config.color == "auto" and 1 in (spec.shape[1], spec.shape[3]):
            yield Change('task.preprocess.color = "grey"', "images are grey", preprocess=replace(config, color="grey"))
    is_float = now.spec.dtype in FLOAT_DTYPES
    for says, other_mean, other_std in RANGES:
        if settled.color == "grey" and isinstance(other_mean, list):
            continue
        if settled.color == "bgr":
            other_mean, other_std = _turned(other_mean), _turned(other_std)
        if (mean, std) == (other_mean, other_std) and (is_float or not now.raw):
            continue
        setting = f"task.preprocess.mean = {other_mean}, task.preprocess.std = {other_std}"
        raw = ", task.preprocess.raw_pixels = false" if config.raw_pixels else ""
        changed = replace(config, mean=other_mean, std=other_std, raw_pixels=False)
        yield Change(setting + raw, says, preprocess=changed)
    if not is_float and not now.raw:
        changed = replace(config, mean=None, std=None, raw_pixels=True)
        yield Change("task.preprocess.raw_pixels = true", "the input's bytes are the pixels", preprocess=changed)
    yield from _sizes(config, now)


def _sizes(config: ImageConfig, now: Pixels) -> Iterator[Change]:
    for crop in _CROPS:
        if now.resize != "crop" or now.crop != crop:
            says = f"images are cut to their centre, {crop:g} of the shorter side"
            setting = f'task.preprocess.resize = "crop", task.preprocess.crop = {crop}'
            yield Change(setting, says, preprocess=replace(config, resize="crop", crop=crop))
    for resize, says in (
        ("stretch", "images are stretched to the input"),
        ("letterbox", "images keep their shape (letterbox)"),
    ):
        if resize != now.resize:
            setting = f'task.preprocess.resize = "{resize}"'
            yield Change(setting, says, preprocess=replace(config, resize=resize))


def _turned(value: Value) -> Value:
    """By channel in the other order of colours; one value for all stays."""
    return value[::-1] if isinstance(value, list) else value


def order_setting(order: Sequence[int]) -> str:
    """The setting that gives the n-th class of the data the n-th of these outputs."""
    half = _WRITTEN_OUT // 2
    written = [str(number) for number in order]
    if len(order) > _WRITTEN_OUT:
        written = [*written[:half], "...", *written[-half:]]
    return f"task.order = [{', '.join(written)}]"


class NameFit:
    """Which output each class is, by the samples that the model takes for it.

    Every half of the samples is judged by what the other half says: an order fitted to the samples that it is judged by
    would always gain.
    """

    def __init__(self, outputs_of: Mapping[int, int]) -> None:
        """`outputs_of`: number of a class -> the output that it is taken for, classes in ascending order."""
        self._now = dict(outputs_of)

    def __call__(self, predictions: Mapping[int, Any]) -> Fitted | None:
        """The predictions as the fitted order has them; `None` where the samples call
        for no other order."""
        samples = sorted(predictions)
        known = {sample: predictions[sample] for sample in samples if predictions[sample]["says"] is not None}
        fitted = self._fitted(list(known.values()))
        if fitted == list(self._now.values()) or len(set(fitted)) < len(fitted):
            return None
        changed: dict[int, Any] = dict(predictions)
        for half in (0, 1):
            others = [known[sample] for sample in samples[1 - half :: 2] if sample in known]
            theirs = dict(zip(self._now.values(), self._fitted(others), strict=True))
            for sample in samples[half::2]:
                changed[sample] = _retargeted(predictions[sample], theirs[predictions[sample]["target"]])
        return Fitted(self._setting(fitted), changed)

    def _fitted(self, rows: Sequence[Mapping[str, Any]]) -> list[int]:
        """The output of each class: the one that most of its samples are taken for, else as it is now."""
        counts: dict[int, Counter[int]] = {}
        for row in rows:
            counts.setdefault(row["target"], Counter())[row["says"]] += 1
        found = []
        for output in self._now.values():
            best, count = counts.get(output, Counter()).most_common(1)[0] if counts.get(output) else (output, 0)
            sure = count >= _FEWEST and 2 * count > counts[output].total()
            found.append(best if sure else output)
        return found

    def _setting(self, fitted: Sequence[int]) -> str:
        """With the classes between those that have samples left where they are."""
        shift = next(output - number for number, output in self._now.items())
        order = [max(0, number + shift) for number in range(max(self._now) + 1)]
        for number, output in zip(self._now, fitted, strict=True):
            order[number] = output
        return order_setting(order)


def _retargeted(one: Mapping[str, Any], target: int) -> dict[str, Any]:
    """A prediction as it is if another output stands for the sample's class: that output's value where the prediction
    names it, else the lowest."""
    if one["says"] is None or target == one["target"]:
        return {**one, "target": target}
    values = dict(map(tuple, one["top"]))
    rank = next((n for n, (output, _) in enumerate(one["top"]) if output == target), len(one["top"]))
    return {**one, "target": target, "rank": rank, "value": values.get(target, one["low"])}
