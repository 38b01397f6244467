"""Classification as a `qprof.tasks.base.Task`."""

from __future__ import annotations

import copy
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError
from qprof.record.model import Model
from qprof.tasks.base import Alternative, SampleParts, Scores, Task, TrialScore
from qprof.tasks.classification.alternatives import NameFit, Settings, changes
from qprof.tasks.classification.classes import ClassMap, ClassNames, called, mapped, read_names
from qprof.tasks.classification.data.examples import Examples
from qprof.tasks.classification.data.texts import TextSamples
from qprof.tasks.classification.features import Features
from qprof.tasks.classification.outputs import Kind, Output, Prediction, prediction
from qprof.tasks.classification.pixels import ImageConfig, Pixels
from qprof.tasks.classification.scoring import class_probabilities, scored

if TYPE_CHECKING:
    from PIL.Image import Image

#: Without a limit and other data to calibrate on, at most this share of the samples is kept back for it.
_MOST_KEPT_BACK = 0.2


@dataclass(frozen=True, slots=True)
class BadSample:
    """A sample that `ClassificationTask.check` could not read; `number`: in the data."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class _Bound:
    """What `bind` made for one variant."""

    given: Pixels | Features
    output: Output
    classes: ClassMap


class ClassificationTask(Task):
    """Samples with one class each.

    Scored are all samples of `examples`, or `limit` of them that are evenly spread over their order, without those that
    `skip` names (by their number in the data; see `check`). Calibration takes `calibration`, or samples that are not
    scored: without a limit `reserve` are kept back for it. Raises `DataError` where no sample is left.
    """

    name = "classification"

    def __init__(
        self,
        examples: Examples,
        *,
        limit: int | None = None,
        reserve: int = 0,
        calibration: Examples | None = None,
        labels: Path | None = None,
        offset: int | None = None,
        order: Sequence[int] | None = None,
        preprocess: ImageConfig | None = None,
        output: str = "",
        output_values: Kind = "auto",
        skip: Collection[int] = (),
    ) -> None:
        self._examples, self._calibration = examples, calibration
        self._names: ClassNames | None = None if labels is None else read_names(labels)
        self._offset, self._order = offset, None if order is None else list(order)
        self._preprocess = preprocess or ImageConfig()
        self._output_name, self._values = output, output_values
        self._data_notes = list(examples.notes)
        chosen = self._chosen(limit, 0 if calibration is not None else reserve)
        left_out = set(skip)
        self._samples = [number for number in chosen if number not in left_out]
        if not self._samples:
            raise DataError(f"{examples.where}: all {len(chosen)} samples are skipped as broken: replace them")
        taken = set(chosen)
        self._rest = [number for number in range(len(examples)) if number not in taken and number not in left_out]
        self._calibration_notes: list[str] = []
        self._bound: _Bound | None = None

    def sample_count(self) -> int:
        return len(self._samples)

    def place(self, sample: int) -> str:
        """The file or row of a sample."""
        return self._examples.place(self._samples[sample])

    def picture(self, sample: int) -> Image | None:
        """A sample as 8-bit RGB, `None` where samples are no images. Raises `DataError`."""
        return self._examples.image(self._samples[sample]) if self._examples.gives == "images" else None

    def check(self) -> list[BadSample]:
        """Read every sample once; the broken ones with reasons, for `skip`."""
        bad = []
        for number in self._samples:
            try:
                self._examples.image(number) if self._examples.gives == "images" else self._examples.arrays(number)
            except DataError as error:
                bad.append(BadSample(number, str(error)))
        return bad

    def bind(self, model: Model) -> None:
        inputs, labels = model.loaded.inputs, self._examples.labels
        names = self._names or called(labels, model.loaded.labels, self._examples.where)
        known = labels.count if names is None else len(names.names)
        wanted = () if known is None else (known, known + 1, known - 1)
        output = Output(model.loaded.outputs, model.loaded.op_types, self._output_name, self._values, wanted)
        given: Pixels | Features
        if self._examples.gives == "images":
            if len(inputs) != 1:
                told = ", ".join(f"{spec.name} {list(spec.shape)}" for spec in inputs)
                raise DataError(
                    f"one image is fed at a time, the model has {len(inputs)} inputs ({told}): use a model with one"
                )
            given = Pixels(self._preprocess, inputs[0], output.classes, model.loaded.pixels)
        else:
            if isinstance(self._examples, TextSamples):
                self._examples.tokenize_with(getattr(model, "tokenizer", None), inputs)
            given = Features(inputs, sorted(self._examples.arrays(self._samples[0])), self._examples.where)
        classes = mapped(labels, self._examples.where, output.classes, names, self._offset, self._order)
        self._bound = _Bound(given, output, classes)

    def inputs(self, sample: int) -> list[NDArray[Any]]:
        given, number = self._require_bound().given, self._samples[sample]
        if isinstance(given, Pixels):
            return [given.stored(self._examples.image(number))]
        return given.stored(self._examples.arrays(number), self._examples.place(number))

    def inputs_alike(self) -> Hashable | None:
        given = self._require_bound().given
        return given.alike() if isinstance(given, Pixels) else None

    def decode(self, sample: int, outputs: Sequence[NDArray[Any]]) -> Prediction:
        """See `qprof.tasks.classification.outputs.Prediction`."""
        bound, number = self._require_bound(), self._samples[sample]
        target = bound.classes.of[self._examples.labels.numbers[number]]
        values = bound.output.vector(outputs)
        return prediction(values, target, bound.output.step, self._examples.place(number), self._label(number))

    def calibration(self, count: int) -> Iterator[list[NDArray[Any]]]:
        """See `Task.calibration`: evenly spread over the calibration data, or over the samples that are not scored.

        What equals a scored sample byte for byte is left out, what is broken replaced. Fewer than `count` are yielded
        (with a note) if there are no more; `DataError` if there is none.
        """
        given = self._require_bound().given
        self._calibration_notes.clear()
        if count < 1:
            return
        source, numbers = self._examples, self._rest
        if self._calibration is not None:
            source, numbers = self._calibration, list(range(len(self._calibration)))
        by_length, known = self._by_length() if numbers else {}, dict[int, set[bytes]]()
        made = 0
        for number in _spread(numbers, count):
            if made == count:
                break
            try:
                length = source.length(number)
                if length in by_length:
                    if length not in known:
                        known[length] = {self._examples.digest(one) for one in by_length[length]}
                    if source.digest(number) in known[length]:
                        continue
                if isinstance(given, Pixels):
                    arrays: list[NDArray[Any]] = [given.real(source.image(number))]
                else:
                    arrays = given.real(source.arrays(number), source.place(number))
            except DataError as error:
                self._calibration_notes.append(f"calibration skipped {error}")
                continue
            made += 1
            yield arrays
        if made == 0:
            raise DataError(
                "no sample is left for calibration that is not scored: name other data (calibration_data), or lower "
                "limit"
            )
        if made < count:
            self._calibration_notes.append(f"calibration has {made} samples, {count} were asked for: add some")

    def score(self, predictions: Mapping[int, Any]) -> Scores:
        for sample, one in predictions.items():
            known = 0 <= sample < len(self._samples)
            if not known or one["file"] != self.place(sample) or one["label"] != self._label(self._samples[sample]):
                raise DataError(
                    f"the prediction of sample {sample} is of {one['file']} ({one['label']}): {self._examples.where} "
                    "or the limit changed since it was made; restore it, or run again"
                )
        return scored(predictions, self._values)

    # -- the settings, tried ------------------------------------------------------------------------------------------

    trial_score = TrialScore("probability of the right class", "share")
    trial_multiple = 2

    def alternatives(self) -> Sequence[Alternative]:
        bound, labels = self._require_bound(), self._examples.labels
        now = Settings(
            pixels=bound.given if isinstance(bound.given, Pixels) else None,
            preprocess=self._preprocess,
            offset=bound.classes.offset,
            ordered=self._order is not None,
            names=labels.names,
            numbers=sorted(set(labels.numbers)),
            named=self._names is not None,
            outputs=bound.classes.outputs,
        )
        found = [
            Alternative(
                setting=one.setting,
                says=one.says,
                task=self._with(one.preprocess, one.offset, one.order),
                same_inputs=one.preprocess is None,
            )
            for one in changes(now)
        ]
        says = "the classes are those of the samples that the model takes for them"
        fit = NameFit({number: bound.classes.of[number] for number in sorted(set(labels.numbers))})
        return [*found, Alternative(setting="", says=says, task=self._with(), same_inputs=True, fit=fit)]

    def trial_parts(self, predictions: Mapping[int, Any]) -> SampleParts:
        """The probability of the right class: as large a difference of settings shows in half as many samples as by
        right or wrong, which is one bit of each."""
        samples = sorted(predictions)
        shares = class_probabilities([predictions[sample] for sample in samples], self._values)
        return SampleParts(samples, shares, np.ones(len(samples)))

    def _with(
        self, preprocess: ImageConfig | None = None, offset: int | None = None, order: Sequence[int] | None = None
    ) -> ClassificationTask:
        """This task with other settings, not bound; the data are read once."""
        other = copy.copy(self)
        other._preprocess = preprocess or self._preprocess
        if offset is not None:
            other._offset, other._order = offset, None
        if order is not None:
            other._order = list(order)
        other._bound, other._calibration_notes = None, []
        return other

    # -- remarks ------------------------------------------------------------------------------------------------------

    def notes(self) -> list[str]:
        if self._bound is None:
            return self._data_notes + self._calibration_notes
        bound = self._bound
        return (
            self._data_notes
            + bound.classes.notes
            + bound.given.remarks()
            + bound.output.notes
            + (self._calibration_notes)
        )

    def _require_bound(self) -> _Bound:
        if self._bound is None:
            raise DataError("the task is bound to no variant: call bind before inputs, decode and calibration")
        return self._bound

    def _by_length(self) -> dict[int, list[int]]:
        """Scored samples by their bytes: only those of equal length need to be read and compared."""
        found: dict[int, list[int]] = {}
        for number in self._samples:
            found.setdefault(self._examples.length(number), []).append(number)
        return found

    def _label(self, number: int) -> str:
        labels = self._examples.labels
        place = labels.numbers[number]
        if labels.names is not None:
            return labels.names[place]
        if self._names is not None and place < len(self._names.names) and self._names.names[place]:
            return self._names.names[place]
        return str(place)

    def _chosen(self, limit: int | None, reserve: int) -> list[int]:
        count = len(self._examples)
        if limit is not None and limit < count:
            self._data_notes.append(f"{limit} of {count} samples are scored, evenly spread over {self._examples.where}")
            return [(2 * n + 1) * count // (2 * limit) for n in range(limit)]
        kept = min(reserve, int(count * _MOST_KEPT_BACK)) if limit is None else 0
        if not kept:
            return list(range(count))
        back = {(2 * n + 1) * count // (2 * kept) for n in range(kept)}
        self._data_notes.append(
            f"{kept} of {count} samples are kept back to calibrate with and not scored: name other data for it "
            "(calibration_data), or set calibration_samples = 0 where nothing is calibrated"
        )
        return [number for number in range(count) if number not in back]


def _spread(numbers: Sequence[int], count: int) -> list[int]:
    """All, `count` evenly spaced ones first, the others after them as reserve; the first in an order that is drawn once
    and for all: data often come class by class, and quantizers weigh the last samples most."""
    first = dict.fromkeys(
        numbers[n * len(numbers) // min(count, len(numbers))] for n in range(min(count, len(numbers)))
    )
    drawn = np.random.default_rng(0).permutation(list(first)).tolist()
    return [*drawn, *(number for number in numbers if number not in first)]
