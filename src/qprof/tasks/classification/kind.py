"""Classification, as a kind of task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta, field

from qprof.errors import ProfileError
from qprof.record.manifest import PreparedTask
from qprof.record.sections import FilePath, Positive, TaskSection
from qprof.record.tensors import TensorSpec
from qprof.tasks import digests
from qprof.tasks.base import Confusion, Prepared, ScoreParts, TaskKind, WholeSet
from qprof.tasks.classification.data.examples import Examples
from qprof.tasks.classification.data.source import read_examples
from qprof.tasks.classification.outputs import Kind
from qprof.tasks.classification.pixels import ImageConfig, for_all
from qprof.tasks.classification.task import ClassificationTask

if TYPE_CHECKING:
    pass

if TYPE_CHECKING:
    from qprof.store.run import Run
    from qprof.tasks.shown import ShownSample

#: Figures that are no means over samples.
WHOLE_SET = frozenset({"mean_class_accuracy", "ece"})


class ClassificationSection(TaskSection, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`data`: images or arrays with a class each (a folder with a folder of images for each class, a CSV of FILE,LABEL,
    CIFAR's .bin, .parquet, .npz, .jsonl, or "hf://datasets/ORG/NAME" with `split` and `config`); `truth`: a list of the
    labels where they stand apart. `labels`: the names of the model's outputs, in their order; without it they are the
    data's classes. `offset`: what is added to a class's number to have its output; `order`: the output of each class of
    the data. `output`: the name of the output, where several may hold classes, and `output_values` what it holds.

    Calibration takes `calibration_data`, or samples that are not scored.
    """

    kind: Literal["classification"] = "classification"
    data: FilePath = ""
    truth: FilePath = ""
    split: str = "test"
    config: str = ""
    labels: FilePath = ""
    offset: Annotated[int, Meta(ge=-1000, le=1000)] | None = None
    order: list[int] | None = None
    limit: Positive | None = None
    calibration_data: FilePath = ""
    calibration_split: str = "train"
    calibration_samples: Annotated[int, Meta(ge=0)] = 100
    preprocess: ImageConfig = field(default_factory=ImageConfig)
    output: str = ""
    output_values: Kind = "auto"


class ClassificationKind(TaskKind[ClassificationSection]):
    """One class for each sample."""

    name = "classification"
    section = ClassificationSection
    item = "sample"
    whole_set_metrics = WHOLE_SET
    settings_tried = True

    def check(self, section: ClassificationSection) -> None:
        if not section.data:
            raise ProfileError("a classification task needs data: images or arrays with a class each")
        if section.order is not None and section.offset is not None:
            raise ProfileError("order names the output of each class, and so does offset: give one or the other")

    def settled(
        self, section: ClassificationSection, inputs: Sequence[Sequence[TensorSpec]]
    ) -> tuple[ClassificationSection, list[str]]:
        preprocess, notes = for_all(section.preprocess, inputs)
        return msgspec.structs.replace(section, preprocess=preprocess), notes

    def prepare(self, section: ClassificationSection) -> Prepared:
        task = self.build(section, ())
        bad = task.check()
        skip = [sample.number for sample in bad]
        if skip:
            task = self.build(section, skip)
        notes = [*(f"left out: {sample.reason}" for sample in bad), *task.notes()]
        plain = msgspec.to_builtins(section)
        digest = _digest(plain, [_examples(section), _calibration(section)], skip)
        return Prepared(PreparedTask(section=plain, skip=skip), task.sample_count(), digest, notes)

    def build(self, section: ClassificationSection, skip: Sequence[int]) -> ClassificationTask:
        return ClassificationTask(
            _examples(section),
            limit=section.limit,
            reserve=section.calibration_samples,
            calibration=_calibration(section),
            labels=Path(section.labels) if section.labels else None,
            offset=section.offset,
            order=section.order,
            preprocess=section.preprocess,
            output=section.output,
            output_values=section.output_values,
            skip=list(skip),
        )

    def for_data(self, data: str, labels: str, truth: str, calibrated: bool) -> dict[str, Any]:
        named = {"data": data, "labels": labels, "truth": truth}
        kept = {} if calibrated else {"calibration_samples": 0}
        return {"kind": self.name, **{key: value for key, value in named.items() if value}, **kept}

    def whole_set(self, run: Run, variant: str) -> WholeSet:
        from qprof.tasks.classification.recorded import recorded

        return recorded(run, variant)

    def shown(self, run: Run, variants: Sequence[str], count: int) -> Iterable[ShownSample]:
        from qprof.tasks.classification.shown import shown

        return shown(run, variants, count)

    def parts(self, run: Run, a: str, b: str) -> ScoreParts:
        from qprof.tasks.classification.recorded import score_parts

        return score_parts(run, a, b)

    def confusion(self, run: Run, variant: str) -> Confusion:
        from qprof.tasks.classification.recorded import confusion

        return confusion(run, variant)


def _examples(section: ClassificationSection) -> Examples:
    return read_examples(section.data, section.truth, section.split, section.config or None)


def _calibration(section: ClassificationSection) -> Examples | None:
    if not section.calibration_data:
        return None
    return read_examples(section.calibration_data, "", section.calibration_split, section.config or None)


def _digest(section: dict[str, Any], sources: Sequence[Examples | None], skip: Sequence[int]) -> str:
    parts = [section[key] for key in ("kind", "preprocess", "calibration_samples", "limit")]
    return digests.of_parts([*parts, *(None if one is None else one.stands_for() for one in sources), list(skip)])


KIND = ClassificationKind()
