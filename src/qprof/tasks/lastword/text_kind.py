"""What kinds of task on text have alike: the keys of a profile, the prompts that are timed, what is calibrated on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from qprof.errors import DataError
from qprof.record.model import PromptShape
from qprof.record.sections import FilePath, Positive, TaskSection
from qprof.tasks import digests
from qprof.tasks.base import TaskKind
from qprof.tasks.lastword.data import Source


class TextSection(TaskSection, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`data`: the text; `config` and `split`: of a data set. Calibration takes other text, `calibration_data`, or a
    part of `data`. `samples` prompts are timed; a prompt is `batch` rows of `prompt_tokens` tokens, and
    `generated_tokens` are decoded behind it."""

    data: FilePath = ""
    config: str = ""
    split: str = "test"
    limit: Positive | None = None
    calibration_data: FilePath = ""
    calibration_split: str = "train"
    calibration_samples: Annotated[int, Meta(ge=0)] = 100
    calibration_tokens: Positive = 128
    samples: Positive = 8
    prompt_tokens: Positive = 64
    generated_tokens: Positive = 16
    batch: Positive = 1

    def source(self) -> Source:
        """Where the text is."""
        return Source(self.data, split=self.split, config=self.config or None)

    def calibration_source(self) -> Source | None:
        """Where the text to calibrate on is; `None` where it is a part of `data`."""
        if not self.calibration_data:
            return None
        return Source(self.calibration_data, split=self.calibration_split, config=self.config or None)


Section = TypeVar("Section", bound=TextSection)


class TextKind(TaskKind[Section]):
    """A kind of task on text."""

    gives = "text"

    def prompts(self, section: Section) -> PromptShape:
        return PromptShape(
            batch=section.batch, prompt_tokens=section.prompt_tokens, generated_tokens=section.generated_tokens
        )

    def with_samples(self, section: Section, count: int) -> Section:
        return msgspec.structs.replace(section, samples=max(section.samples, count))


def calibration_stands_for(digest: Callable[[], str]) -> str:
    """What stands for the samples of calibration, apart from the tokenizer, which is the model's."""
    try:
        return digest()
    except DataError as error:
        # Too little text is no fault where no variant needs calibration; one that does will say the same.
        return digests.of_text(str(error))
