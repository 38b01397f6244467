"""What tasks on text have alike: a language model that they are bound to, and prompts that are timed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError
from qprof.record.model import LanguageModel, Model
from qprof.tasks.base import Task
from qprof.tasks.lastword.prompts import prompts
from qprof.tasks.lastword.protocols import Encoder


@dataclass(frozen=True, slots=True)
class Batch:
    """One forward pass of `predict`: its rows, the tokens that the model took in, and when it ran.

    `start_ns` is CLOCK_MONOTONIC; `duration_ns` is that of the model alone, without tokenizing and scoring.
    """

    samples: tuple[int, ...]
    tokens: int
    start_ns: int
    duration_ns: int

    @property
    def first_sample(self) -> int:
        return self.samples[0]

    @property
    def rows(self) -> int:
        return len(self.samples)


@dataclass(frozen=True, slots=True)
class BoundText:
    """What a task keeps of a language model; the model itself is not kept."""

    tokenizer: Any
    vocabulary: int
    max_tokens: int | None
    encoder: Encoder

    def fits(self, model: LanguageModel) -> bool:
        ours = (self.vocabulary, self.max_tokens)
        return self.tokenizer is model.tokenizer and ours == (model.vocabulary, model.max_tokens)


Bound = TypeVar("Bound", bound=BoundText)


def log_likelihoods(predictions: Mapping[int, Any], samples: Sequence[int], what: str) -> NDArray[np.float64]:
    """float64[samples]: what was predicted of each, `what` in words ("rows"). Raises `DataError` where one is not
    finite."""
    known = [predictions[sample]["log_likelihood"] for sample in samples]
    if None in known:
        raise DataError(f"{known.count(None)} of {len(known)} {what} have logits that are not finite")
    return np.array(known, np.float64)


class TextTask(Task, Generic[Bound]):
    """A task whose timed samples are prompts: `samples` times `batch` rows of `prompt_tokens` tokens of its text.

    `title`: what messages call the task.
    """

    title: str

    def __init__(self, samples: int, batch: int, prompt_tokens: int) -> None:
        self._timed = samples
        self._prompt_shape = (batch, prompt_tokens)
        self._bound: Bound | None = None

    @abstractmethod
    def _bind(self, model: LanguageModel) -> Bound:
        """The text as the model's tokenizer has it. Raises `DataError` where tokenizer, model and data do not fit."""

    @abstractmethod
    def _prompt_texts(self) -> Sequence[str]:
        """Texts that prompts begin at."""

    def bind(self, model: Model) -> None:
        """Tokenize the text with the model's tokenizer. Raises `DataError` where tokenizer, model and data do not fit,
        or the model is none of language."""
        if not isinstance(model, LanguageModel):
            raise DataError(f"a {self.name} task needs a language model; name a folder in Hugging Face's layout")
        if self._bound is None or not self._bound.fits(model):
            self._bound = self._bind(model)

    def sample_count(self) -> int:
        """Number of prompts that are timed."""
        return self._timed

    def inputs(self, sample: int) -> list[NDArray[Any]]:
        """[prompt, int64[batch, prompt_tokens]]. Raises `DataError` where data or model is too short for it."""
        if not 0 <= sample < self._timed:
            raise DataError(f"sample {sample} does not exist: there are {self._timed}")
        bound = self._require_bound()
        length, limit = self._prompt_shape[1], bound.max_tokens
        if limit is not None and length > limit:
            raise DataError(f"prompt_tokens = {length}, but the model takes {limit} tokens: lower prompt_tokens")
        found = prompts(self._prompt_texts(), sample, self._timed, self._prompt_shape, bound.encoder)
        check_vocabulary(np.ravel(found).tolist(), bound.vocabulary, f"prompt {sample}")
        return [found]

    def _require_bound(self) -> Bound:
        if self._bound is None:
            raise DataError(f"the {self.title} task is bound to no model: call bind first")
        return self._bound


def check_vocabulary(ids: Sequence[int], vocabulary: int, where: str) -> None:
    """Raise `DataError` where the tokenizer gives a token that the model does not have; `where`: of which text."""
    if ids and max(ids) >= vocabulary:
        raise DataError(
            f"{where}: the tokenizer gives token {max(ids)}, the model has {vocabulary}: give the model the tokenizer "
            "that it was trained with"
        )
