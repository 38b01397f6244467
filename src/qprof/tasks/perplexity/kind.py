"""Perplexity of running text, as a kind of task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from qprof.errors import ProfileError
from qprof.record.manifest import PreparedTask
from qprof.record.sections import Positive
from qprof.tasks.base import Prepared
from qprof.tasks.lastword.text_kind import TextKind, TextSection, calibration_stands_for
from qprof.tasks.perplexity.task import PerplexityTask


class PerplexitySection(TextSection, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`data`: a file of text, a JSONL or Parquet file with a "text" per row, or a data set of the Hugging Face hub
    ("hf://datasets/ORG/NAME", with `config` and `split`).

    `documents`: a text file is one document ("whole"), or cut at titles as WikiText has them ("titles", or "auto" where
    there are any); every row of the others is one. `limit`: the first so many documents. `max_length`: tokens of a
    window, the model's own limit unless that is above 2048. `bos`: whether a text begins with that token. Calibration
    takes other text, `calibration_data`, or the last fifth of `data`. `samples` prompts are timed, each `batch` rows of
    `prompt_tokens` tokens, and `generated_tokens` are decoded behind it.
    """

    kind: Literal["perplexity"] = "perplexity"
    documents: Literal["auto", "whole", "titles"] = "auto"
    max_length: Annotated[int, Meta(ge=2)] | None = None
    bos: Literal["auto", "add", "none"] = "auto"
    batch_tokens: Positive = 1024


class PerplexityKind(TextKind[PerplexitySection]):
    """Every token of a text, as WikiText asks for it."""

    name = "perplexity"
    section = PerplexitySection
    settings_tried = True

    def check(self, section: PerplexitySection) -> None:
        if not section.data:
            raise ProfileError("a perplexity task needs data, a file of text")

    def prepare(self, section: PerplexitySection) -> Prepared:
        task = self.build(section, ())
        calibrated = calibration_stands_for(task.calibration_digest)
        prepared = PreparedTask(section=msgspec.to_builtins(section))
        return Prepared(prepared, task.sample_count(), calibrated, task.notes())

    def build(self, section: PerplexitySection, skip: Sequence[int]) -> PerplexityTask:
        return PerplexityTask(
            section.source(),
            cut=section.documents,
            max_length=section.max_length,
            bos=section.bos,
            limit=section.limit,
            batch_tokens=section.batch_tokens,
            calibration=section.calibration_source(),
            hold_back=section.calibration_samples > 0,
            calibration_tokens=section.calibration_tokens,
            samples=section.samples,
            prompt_tokens=section.prompt_tokens,
            batch=section.batch,
        )

    def without_calibration(self, section: PerplexitySection) -> PerplexitySection:
        return msgspec.structs.replace(section, calibration_samples=0)


KIND = PerplexityKind()
