"""Perplexity of running text, as a kind of task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from qprof.errors import DataError, ProfileError
from qprof.record.manifest import PreparedTask
from qprof.record.model import PromptShape
from qprof.record.sections import FilePath, Positive, TaskSection
from qprof.tasks import digests
from qprof.tasks.base import Prepared, TaskKind
from qprof.tasks.lastword.data import Source
from qprof.tasks.perplexity.task import PerplexityTask


class PerplexitySection(TaskSection, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`data`: a file of text, a JSONL or Parquet file with a "text" per row, or a data set of the Hugging Face hub
    ("hf://datasets/ORG/NAME", with `config` and `split`).

    `documents`: a text file is one document ("whole"), or cut at titles as WikiText has them ("titles", or "auto" where
    there are any); every row of the others is one. `limit`: the first so many documents. `max_length`: tokens of a
    window, the model's own limit unless that is above 2048. Calibration takes other text, `calibration_data`, or the
    last fifth of `data`. `samples` prompts are timed, each `batch` rows of `prompt_tokens` tokens, and
    `generated_tokens` are decoded behind it.
    """

    kind: Literal["perplexity"] = "perplexity"
    data: FilePath = ""
    config: str = ""
    split: str = "test"
    documents: Literal["auto", "whole", "titles"] = "auto"
    limit: Positive | None = None
    max_length: Annotated[int, Meta(ge=2)] | None = None
    batch_tokens: Positive = 1024
    calibration_data: FilePath = ""
    calibration_split: str = "train"
    calibration_samples: Annotated[int, Meta(ge=0)] = 100
    calibration_tokens: Positive = 128
    samples: Positive = 8
    prompt_tokens: Positive = 64
    generated_tokens: Positive = 16
    batch: Positive = 1


class PerplexityKind(TaskKind[PerplexitySection]):
    """Every token of a text, as WikiText asks for it."""

    name = "perplexity"
    section = PerplexitySection
    gives = "text"

    def check(self, section: PerplexitySection) -> None:
        if not section.data:
            raise ProfileError("a perplexity task needs data, a file of text")

    def prepare(self, section: PerplexitySection) -> Prepared:
        task = self.build(section, ())
        try:
            calibrated = task.calibration_digest()
        except DataError as error:
            # No text for it is no fault where no variant needs calibration; one that does will say the same.
            calibrated = digests.of_text(str(error))
        prepared = PreparedTask(section=msgspec.to_builtins(section))
        return Prepared(prepared, task.sample_count(), calibrated, task.notes())

    def build(self, section: PerplexitySection, skip: Sequence[int]) -> PerplexityTask:
        config = section.config or None
        calibration = Source(section.calibration_data, split=section.calibration_split, config=config)
        return PerplexityTask(
            Source(section.data, split=section.split, config=config),
            cut=section.documents,
            max_length=section.max_length,
            limit=section.limit,
            batch_tokens=section.batch_tokens,
            calibration=calibration if section.calibration_data else None,
            hold_back=section.calibration_samples > 0,
            calibration_tokens=section.calibration_tokens,
            samples=section.samples,
            prompt_tokens=section.prompt_tokens,
            batch=section.batch,
        )

    def prompts(self, section: PerplexitySection) -> PromptShape:
        return PromptShape(
            batch=section.batch, prompt_tokens=section.prompt_tokens, generated_tokens=section.generated_tokens
        )

    def without_calibration(self, section: PerplexitySection) -> PerplexitySection:
        return msgspec.structs.replace(section, calibration_samples=0)

    def with_samples(self, section: PerplexitySection, count: int) -> PerplexitySection:
        return msgspec.structs.replace(section, samples=max(section.samples, count))


KIND = PerplexityKind()
