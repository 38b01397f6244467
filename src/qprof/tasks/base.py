"""What a task is to the rest of qprof: samples in, predictions out, and a score that keeps every sample's result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError
from qprof.record.manifest import PreparedTask
from qprof.record.model import LanguageModel, Model, PromptShape
from qprof.record.sections import TaskSection
from qprof.record.tensors import TensorSpec
from qprof.stats.intervals import Interval
from qprof.stats.verdict import Effect

if TYPE_CHECKING:
    from qprof.store.run import Run
    from qprof.tasks.shown import ScoreCurve, ShownSample


@dataclass(slots=True)
class Scores:
    """The score of one variant.

    `summary`: metric -> value over the whole data set; `None` where the metric is undefined (no ground truth of
    that size, say), never 0 or -1. `per_sample`: metric -> array [samples scored], in the order of `samples`.
    `columns` names the metrics a summary table should lead with, most important first.
    """

    summary: dict[str, float | None]
    per_sample: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    samples: list[int] = field(default_factory=list)
    columns: Sequence[str] = ()
    notes: list[str] = field(default_factory=list)


class ScoredBatch(Protocol):
    """Samples that a task ran through the model together: the first of them, and their tokens."""

    @property
    def first_sample(self) -> int: ...
    @property
    def tokens(self) -> int: ...
    @property
    def start_ns(self) -> int: ...
    @property
    def duration_ns(self) -> int: ...


@dataclass(frozen=True, slots=True)
class SampleParts:
    """A score that is a ratio of two sums over samples, sum(part) / sum(whole): float64[samples] each."""

    samples: list[int]
    part: NDArray[np.float64]
    whole: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TrialScore:
    """The score that settings are tried by. `unit`: "share" (0 to 1) or "nats" (a mean log-likelihood)."""

    name: str
    unit: Literal["share", "nats"]


@dataclass(frozen=True, slots=True)
class Fitted:
    """What was fitted to predictions, in the words of a profile, and the predictions with it."""

    setting: str
    predictions: Mapping[int, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """A task with one setting changed, to see whether that mends a score.

    `setting`: the change as a profile has it; `says`: what it means, in words. `same_inputs`: a model is given the same
    numbers as without the change. `fit` makes something of the task's predictions before they are scored: the setting
    that suits them, `None` where they do not decide it.
    """

    setting: str
    says: str
    task: Task
    same_inputs: bool = False
    fit: Callable[[Mapping[int, Any]], Fitted | None] | None = None


class Task(ABC):
    """Data set + preprocessing + decoding + scoring. The samples that are timed are numbered 0 .. sample_count()-1.

    Mostly they are also what is scored. A task that scores others has a `scored_count`, and predicts these in passes of
    their own.
    """

    name: str

    @abstractmethod
    def sample_count(self) -> int:
        """Number of samples that are timed (already limited by the profile)."""

    @abstractmethod
    def bind(self, model: Model) -> None:
        """Fit preprocessing and decoding to a variant; raise `DataError` where they cannot fit."""

    @abstractmethod
    def inputs(self, sample: int) -> list[NDArray[Any]]:
        """The sample as the bound variant wants it: one array per input, its exact shape and dtype, quantized."""

    def inputs_alike(self) -> Hashable | None:
        """Of two tasks that were built alike and are bound, those for which this is equal give the same `inputs`;
        `None`: that is not known. Arrays that are equal may be the same ones then, and what a task notices while it
        makes them is told by one of the two."""
        return None

    @abstractmethod
    def decode(self, sample: int, outputs: Sequence[NDArray[Any]]) -> Any:
        """Raw outputs (as stored by the variant, still quantized) -> a JSON-serializable prediction."""

    @abstractmethod
    def calibration(self, count: int) -> Iterator[list[NDArray[Any]]]:
        """`count` input lists of the bound float model for quantization, disjoint from the scored samples."""

    def score(self, predictions: Mapping[int, Any]) -> Scores | None:
        """Score predictions by sample; `None` for a task that has no labels."""
        return None

    def notes(self) -> list[str]:
        """Remarks about the data, each with a remedy (images skipped, annotations without image, ...)."""
        return []

    def input_advice(self) -> str:
        """What to do where the bound variant fails on these samples; "" where they are not to blame."""
        return ""

    # -- of tasks whose outputs can be compared between variants ------------------------------------------------------

    #: Whether the inputs are made at random, so that they need not be like those that a model meets in use.
    random_inputs: bool = False
    #: What the real-valued outputs are, for whoever compares them; "auto": what they look like.
    outputs_are: Literal["auto", "probabilities", "logits", "values"] = "auto"

    # -- of tasks whose settings can be tried -------------------------------------------------------------------------

    #: What `trial_parts` adds up to, `None` for a task that has no settings to try.
    trial_score: TrialScore | None = None

    #: Samples that settings are tried on for each that a profile asks for: where one tells little, more are needed.
    trial_multiple: int = 1

    def alternatives(self) -> Sequence[Alternative]:
        """The bound task with its settings changed, one at a time, as they are often wrong; not all may suit the
        variant, as `bind` or `decode` then say."""
        return ()

    def trial_parts(self, predictions: Mapping[int, Any]) -> SampleParts:
        """The `trial_score` of a few predictions, by sample in ascending order."""
        raise DataError(f"a {self.name} task has no settings to try")

    # -- of tasks that predict in passes of their own -----------------------------------------------------------------

    def scored_count(self) -> int:
        """Number of samples that are predicted in passes of their own; 0 where the timed ones are scored."""
        return 0

    def scoring_order(self) -> list[int]:
        """These samples in the order in which they are best run: those of one length together."""
        raise DataError(f"a {self.name} task scores the samples that it times, and no others")

    def sequence(self, sample: int) -> tuple[Sequence[int], int]:
        """The tokens of one of these samples, and the position of the first that is predicted. Needs `bind`."""
        raise DataError(f"a {self.name} task scores the samples that it times, and no others")

    def predict(self, model: LanguageModel, samples: Sequence[int]) -> tuple[Mapping[int, Any], Sequence[ScoredBatch]]:
        """Run some of these samples; a JSON-serializable prediction of each, and the batches they were run in."""
        raise DataError(f"a {self.name} task scores the samples that it times, and no others")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A task whose data are ready, how many samples it times, what stands for its calibration samples (equal digests
    must mean equal samples), and remarks."""

    task: PreparedTask
    samples: int
    calibration_digest: str
    notes: list[str]


class WholeSet(Protocol):
    """What one variant predicted, of which figures are of the whole set of samples, not means over them."""

    def to(self, other: Any, metric: str) -> Effect | None:
        """That figure of `other` minus that of this, samples resampled; `None` where either is undefined."""


class PartOfSet(WholeSet, Protocol):
    """What one variant predicted on some of the samples."""

    def figure(self, name: str) -> float | None:
        """A figure of these samples, `None` where it is undefined."""


@dataclass(frozen=True, slots=True)
class PartChange:
    """A score of one part of the data, a class or size; `truths`: objects to find. `change`: b - a; `None`s where it
    is undefined."""

    label: str
    truths: int
    a: float | None
    b: float | None
    change: Interval | None


@dataclass(frozen=True, slots=True)
class ErrorChange:
    """One kind of error: how many, and what the score `of` that name would gain without them (0 to 1; `None` where
    undefined)."""

    kind: str
    a: int
    b: int
    a_gain: float | None
    b_gain: float | None
    of: str = "AP50"


@dataclass(frozen=True, slots=True)
class FlipKind:
    """Samples whose answer changed in one way ("right -> wrong"): by number, by file or row, and with their answers
    before and after ("cat -> dog"). `pairs`: the answers that come most often, with how often."""

    kind: str
    samples: list[int]
    places: list[str]
    answers: list[str]
    pairs: list[tuple[str, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ScoreParts:
    """One level below a score: its change by class, by size, by kind of error and by kind of flip, and what beside it
    has changed (likelihood, calibration)."""

    classes: list[PartChange] = field(default_factory=list)
    sizes: list[PartChange] = field(default_factory=list)
    errors: list[ErrorChange] = field(default_factory=list)
    flips: list[FlipKind] = field(default_factory=list)
    others: list[PartChange] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Confusion:
    """How many samples of each class (rows) are taken for which (columns); `lost`: of each class those without an
    answer. `labels` name both."""

    labels: list[str]
    counts: list[list[int]]
    lost: list[int]


Section = TypeVar("Section", bound=TaskSection)


@dataclass(frozen=True, slots=True)
class HarnessResults:
    """A score as lm-evaluation-harness writes it down. `task`: as it calls it; `metrics`: name -> value, standard error
    (`None` where there is none) and whether higher is better; `samples`: rows of its file of samples; `data`: where
    the rows are from."""

    task: str
    data: str
    metrics: dict[str, tuple[float | None, float | None, bool]]
    samples: list[dict[str, Any]]


class TaskKind(ABC, Generic[Section]):
    """What a package of `qprof.tasks` offers through its module `kind` as `KIND`, and another distribution through an
    entry point of the group "qprof.tasks".

    `section`: the keys that a profile may give such a task; `gives`: what its samples are, which a runtime must take;
    `item`: what a sample is to who counts joules, `None` where nothing; `whole_set_metrics`: figures that are no means
    over samples; `settings_tried`: whether its tasks have a `trial_score`; `labelled`: whether they know right from
    wrong; where they do not, the outputs of the variants are compared with the baseline's. `hub_task`: what the
    Hugging Face hub calls such a task.
    """

    name: str
    section: type[Section]
    gives: Literal["tensors", "text"] = "tensors"
    item: str | None = None
    whole_set_metrics: frozenset[str] = frozenset()
    settings_tried: bool = False
    labelled: bool = True
    hub_task: str = "other"

    def check(self, section: Section) -> None:
        """What no single key shows. Raises `ProfileError`."""

    def settled(self, section: Section, inputs: Sequence[Sequence[TensorSpec]]) -> tuple[Section, list[str]]:
        """The section with what it leaves open settled for all variants alike, and remarks on that. `inputs`: of each
        variant, none of one that is yet to be made."""
        return section, []

    @abstractmethod
    def prepare(self, section: Section) -> Prepared:
        """Make the data ready, once, before any worker starts: fetch or make them, find the broken ones.

        Raises `DataError`.
        """

    @abstractmethod
    def build(self, section: Section, skip: Sequence[int]) -> Task:
        """The task of a section that `prepare` filled in, without the samples that it found broken."""

    def prompts(self, section: Section) -> PromptShape | None:
        """What a task on text times, `None` for others."""
        return None

    def without_calibration(self, section: Section) -> Section:
        """The section for a run in which no variant is calibrated: what was kept aside for that can be timed."""
        return section

    def with_samples(self, section: Section, count: int) -> Section:
        """The section with at least so many samples to be timed, where they are made and not given."""
        return section

    def whole_set(self, run: Run, variant: str) -> WholeSet:
        """What a variant of a run predicted, for `whole_set_metrics`. Raises `DataError` where it cannot be had."""
        raise DataError(f"{run.folder}: a {self.name} task has no figures of a whole set")

    def part_of_set(self, run: Run, variant: str, keep: Callable[[int], bool]) -> PartOfSet:
        """As `whole_set`, of the samples alone whose number `keep` takes. Raises `DataError` where it cannot be had."""
        raise DataError(f"{run.folder}: a {self.name} task has no figures of a part of its samples")

    def for_data(self, data: str, labels: str, truth: str, calibrated: bool) -> dict[str, Any] | None:
        """The section that scores models on labelled `data` of a command line, with their file of `labels` and the
        list `truth` ("" where there is none); `calibrated`: whether variants are made on samples of it. `None` where
        the kind takes no such data."""
        return None

    def coco_results(self, run: Run, variant: str) -> list[dict[str, Any]] | None:
        """What a variant found, in COCO's form of results; `None` where it finds no objects. Raises `DataError`."""
        return None

    def harness_results(self, run: Run, variant: str) -> HarnessResults | None:
        """A variant's score as lm-evaluation-harness has it; `None` where that has no such task. Raises `DataError`."""
        return None

    def confusion(self, run: Run, variant: str) -> Confusion | None:
        """What a variant takes for what, `None` where a sample has no single class. Raises `DataError`."""
        return None

    def shown(self, run: Run, variants: Sequence[str], count: int) -> Iterable[ShownSample]:
        """Up to so many samples beside what the variants, the baseline first, made of them; those on which they differ
        come first. None of a task without predictions to look at. Raises `DataError`."""
        return ()

    def curves(self, run: Run, variants: Sequence[str]) -> Iterable[ScoreCurve]:
        """Scores by what they depend on (a threshold, a size). Raises `DataError`."""
        return ()

    def parts(self, run: Run, a: str, b: str) -> ScoreParts | None:
        """Where a score went between two variants, `None` where it has no parts. Raises `DataError`."""
        return None
