"""What a task is to the rest of qprof: samples in, predictions out, and a score that keeps every sample's result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from qprof.runtimes.base import LanguageModel, TensorSpec


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
    """Samples that a text task ran through the model together: the first of them, and their tokens."""

    @property
    def first_sample(self) -> int: ...
    @property
    def tokens(self) -> int: ...
    @property
    def start_ns(self) -> int: ...
    @property
    def duration_ns(self) -> int: ...


class Task(Protocol):
    """Data set + preprocessing + decoding + scoring. Samples are numbered 0 .. sample_count()-1."""

    name: str

    def sample_count(self) -> int:
        """Number of samples the task offers (already limited by the profile)."""

    def bind(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], op_types: Sequence[str]) -> None:
        """Fit preprocessing and decoding to a variant; raise `DataError` where they cannot fit."""

    def inputs(self, sample: int) -> list[NDArray[Any]]:
        """The sample as the bound variant wants it: one array per input, its exact shape and dtype, quantized."""

    def decode(self, sample: int, outputs: Sequence[NDArray[Any]]) -> Any:
        """Raw outputs (as stored by the variant, still quantized) -> a JSON-serializable prediction."""

    def calibration(self, count: int) -> Iterator[list[NDArray[np.float32]]]:
        """`count` float input lists of the bound float model for static quantization, disjoint from the samples."""

    def score(self, predictions: Mapping[int, Any]) -> Scores | None:
        """Score decoded predictions by sample; `None` for a task that has no labels."""

    def notes(self) -> list[str]:
        """Remarks about the data, each with a remedy (images skipped, annotations without image, ...)."""


@runtime_checkable
class TextTask(Protocol):
    """A task on text: its timed samples are prompts, and what it scores is predicted in passes of their own."""

    name: str

    def sample_count(self) -> int:
        """Number of prompts that are timed."""

    def bind_language(self, model: LanguageModel) -> None:
        """Fit to a model and its tokenizer; raise `DataError` where the data cannot fit."""

    def inputs(self, sample: int) -> list[NDArray[Any]]:
        """A prompt as the bound model takes it: [int64[batch, prompt_tokens]]."""

    def decode(self, sample: int, outputs: Sequence[NDArray[Any]]) -> Any:
        """What the model said to a prompt, JSON-serializable."""

    def scored_count(self) -> int:
        """Number of samples that are scored."""

    def scoring_order(self) -> list[int]:
        """The scored samples in the order in which they are best run: those of one length together."""

    def predict(self, model: LanguageModel, samples: Sequence[int]) -> tuple[Mapping[int, Any], Sequence[ScoredBatch]]:
        """Run some samples; a JSON-serializable prediction of each, and the batches they were run in."""

    def calibration(self, count: int) -> Iterator[list[NDArray[np.int64]]]:
        """`count` token sequences [int64[1, n]] for quantization, disjoint from the scored samples."""

    def calibration_digest(self, count: int) -> str:
        """Stands for the content of `calibration(count)`, apart from the tokenizer."""

    def score(self, predictions: Mapping[int, Any]) -> Scores | None:
        """Score predictions by sample."""

    def notes(self) -> list[str]:
        """Remarks about the data, each with a remedy."""
