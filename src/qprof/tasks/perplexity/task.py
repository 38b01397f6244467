"""The perplexity task: running text of which a causal language model predicts every token."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError
from qprof.record.model import LanguageModel
from qprof.tasks.base import Alternative, SampleParts, Scores, TrialScore
from qprof.tasks.lastword.batching import padded, plan
from qprof.tasks.lastword.data import Source, digest
from qprof.tasks.lastword.heap import kept_heap
from qprof.tasks.lastword.protocols import BOS, Encoder
from qprof.tasks.lastword.text_task import Batch, BoundText, TextTask, check_vocabulary, log_likelihoods
from qprof.tasks.perplexity.documents import Cut, Document, held_back, read_documents
from qprof.tasks.perplexity.scoring import Predicted, predicted, scored
from qprof.tasks.perplexity.windows import Window, windows_of

#: Tokens of a window where neither the task nor the model sets a limit: lm-evaluation-harness's own default.
DEFAULT_LENGTH = 2048
#: What a text begins with under each rule for the token that begins one.
_RULES = {
    "auto": "a text begins as its tokenizer has it, behind a token to predict its first one from",
    "add": "a text begins with one beginning-of-sequence token",
    "none": "a text begins with no special token, and its own first token is not predicted",
}
#: Part of the text that is left to calibration where no other text is named for it.
HELD_BACK = 0.2


@dataclass(frozen=True, slots=True)
class _Bound(BoundText):
    """What the task keeps of a language model, and the text as its tokenizer has it."""

    windows: Sequence[Window]
    tokens: Sequence[int]  # of each document


class PerplexityTask(TextTask[_Bound]):
    """Prediction of every token of `data`, in windows of `max_length` tokens (see `windows`).

    What is scored are windows, numbered from 0 through all documents; the samples that are timed are prompts of the
    same text, `samples` times `batch` rows of `prompt_tokens` tokens. Calibration takes pieces of `calibration`, or,
    where `hold_back` says so, of the last fifth of `data`, which is not scored then. With `bos` = "auto", a text begins
    with the special tokens that the tokenizer puts there, behind one more to predict them from, as with
    lm-evaluation-harness; with "add" with one token that begins a text, with "none" with none. Raises `DataError`.
    """

    name = title = "perplexity"

    def __init__(
        self,
        data: Source,
        *,
        cut: Cut = "auto",
        max_length: int | None = None,
        bos: str = "auto",
        limit: int | None = None,
        batch_tokens: int = 1024,
        calibration: Source | None = None,
        hold_back: bool = False,
        calibration_tokens: int = 128,
        samples: int = 8,
        prompt_tokens: int = 64,
        batch: int = 1,
    ) -> None:
        if bos not in BOS:
            raise DataError(f"bos = {bos!r} is not one of {', '.join(BOS)}: choose one")
        super().__init__(samples, batch, prompt_tokens)
        self._bos = bos
        self._max_length, self._batch_tokens = max_length, batch_tokens
        self._calibration, self._calibration_tokens, self._cut = calibration, calibration_tokens, cut
        self._source = data
        self._documents = read_documents(data, cut)[:limit]
        self._notes: list[str] = []
        self._behind: list[Document] = []
        if hold_back and calibration is None:
            self._documents, self._behind = held_back(self._documents, HELD_BACK)
            self._notes.append(
                f"the last {HELD_BACK:.0%} of {data.location} are left to calibration and not scored: name other text "
                "for it (calibration_data) to score all"
            )

    # -- the text that is scored --------------------------------------------------------------------------------------

    def scored_count(self) -> int:
        """Number of windows. Needs `bind`."""
        return len(self._require_bound().windows)

    def digest(self) -> str:
        """SHA-256 of the texts scored."""
        return digest(one.text for one in self._documents)

    def scoring_order(self) -> list[int]:
        """Windows of about one length side by side. Needs `bind`."""
        return [window for batch in self._plan(range(self.scored_count())) for window in batch]

    def sequence(self, sample: int) -> tuple[Sequence[int], int]:
        window = self._require_bound().windows[sample]
        return window.tokens, window.start

    @kept_heap()
    def predict(self, model: LanguageModel, samples: Sequence[int]) -> tuple[dict[int, Predicted], list[Batch]]:
        """Run the model over these windows. Raises what the model raises, and `DataError` where it does not fit."""
        self.bind(model)
        bound = self._require_bound()
        predictions: dict[int, Predicted] = {}
        batches = []
        for group in self._plan(samples):
            windows = [bound.windows[sample] for sample in group]
            tokens, sizes = padded([window.tokens for window in windows]), [len(window.tokens) for window in windows]
            start_ns = perf_counter_ns()
            logits = model.target_logits(tokens, [window.start for window in windows], sizes)
            duration_ns = perf_counter_ns() - start_ns
            batches.append(Batch(tuple(group), sum(sizes) - len(sizes), start_ns, duration_ns))
            begin = 0
            for sample, window in zip(group, windows, strict=True):
                end = begin + window.predicted
                predictions[sample] = predicted(logits[begin:end], window, self._parts(window))
                begin = end
        return predictions, batches

    def score(self, predictions: Mapping[int, Any]) -> Scores:
        """See `qprof.tasks.perplexity.scoring.scored`. Raises `DataError` for predictions of other text."""
        documents = {prediction["document"] for prediction in predictions.values()}
        if documents - set(range(len(self._documents))):
            raise DataError(
                f"predictions are of other text: {self._source.location} changed since they were made; restore it, or "
                "run again"
            )
        return scored(predictions)

    # -- its settings, tried ------------------------------------------------------------------------------------------

    trial_score = TrialScore("log-likelihood of a byte", "nats")

    def alternatives(self) -> Sequence[Alternative]:
        """The other rules for the token that begins a text; those that change no window are left out."""
        bound = self._require_bound()
        found, seen = [], [[(window.tokens, window.start) for window in bound.windows]]
        for rule in BOS:
            if rule == self._bos or (rule == "add" and bound.tokenizer.bos_token_id is None):
                continue
            other = copy.copy(self)
            other._bos = rule
            try:
                other._bound = other._in_windows(bound)
            except DataError:  # no token to begin with, or nothing behind the first one
                continue
            windows = [(window.tokens, window.start) for window in other._bound.windows]
            if windows in seen or len(windows) != len(bound.windows):  # samples are windows: the same ones are compared
                continue
            seen.append(windows)
            found.append(Alternative(setting=f'task.bos = "{rule}"', says=_RULES[rule], task=other))
        return found

    def trial_parts(self, predictions: Mapping[int, Any]) -> SampleParts:
        samples = sorted(predictions)
        known = log_likelihoods(predictions, samples, "windows")
        sizes = np.array([predictions[sample]["bytes"] for sample in samples], np.float64)
        return SampleParts(samples, known, sizes)

    def _parts(self, window: Window) -> tuple[float, float]:
        """Words and bytes of a window: its part of its document's."""
        share = window.predicted / self._require_bound().tokens[window.document]
        document = self._documents[window.document]
        return share * document.words, share * document.bytes

    # -- the samples that are timed -----------------------------------------------------------------------------------

    def _bind(self, model: LanguageModel) -> _Bound:
        return self._in_windows(model)

    def _in_windows(self, model: LanguageModel | _Bound) -> _Bound:
        """The text in windows, as this task's rule has it."""
        encoder = Encoder(model.tokenizer, self._bos)
        texts = [one.text for one in self._documents]
        ids = encoder.bare(texts) if self._bos != "auto" else encoder.encode(texts)
        for document, tokens in zip(self._documents, ids, strict=True):
            check_vocabulary(tokens, model.vocabulary, document.where)
        length = self._length(model.max_tokens)
        first, rest = self._first_tokens(model.tokenizer, ids)
        windows = [
            window for n, tokens in enumerate(rest) if tokens for window in windows_of(n, tokens, first[n], length)
        ]
        if not windows:
            raise DataError(f"{self._source.location}: its tokenizer makes no token of it: give other text")
        sizes = [len(tokens) for tokens in rest]
        return _Bound(model.tokenizer, model.vocabulary, model.max_tokens, encoder, windows, sizes)

    def _first_tokens(self, tokenizer: Any, ids: Sequence[list[int]]) -> tuple[list[int], list[list[int]]]:
        """Of each document the token that its first one is predicted from, and what is predicted."""
        if self._bos == "none":
            return [tokens[0] if tokens else 0 for tokens in ids], [tokens[1:] for tokens in ids]
        prefix = tokenizer.bos_token_id
        # With "add" there is one: the encoder refuses that rule without.
        prefix = tokenizer.eos_token_id if prefix is None else prefix
        if prefix is None:
            raise DataError(
                f"{self._source.location}: the tokenizer has neither a token that begins a text nor one that ends it, "
                "so there is nothing to predict the first token from; give the model its own tokenizer, or set bos = "
                '"none"'
            )
        return [int(prefix)] * len(ids), list(ids)

    def _length(self, max_tokens: int | None) -> int:
        """Tokens of a window that a model takes in."""
        if self._max_length is not None and max_tokens is not None and self._max_length > max_tokens:
            raise DataError(f"max_length = {self._max_length}, but the model takes {max_tokens} tokens: lower it")
        if self._max_length is not None:
            return self._max_length
        if max_tokens is not None and max_tokens > DEFAULT_LENGTH:
            note = (
                f"the text is cut into windows of {DEFAULT_LENGTH} tokens, and the model takes {max_tokens}: set "
                "task.max_length where others' figures are of longer ones"
            )
            self._notes = [*dict.fromkeys([*self._notes, note])]
        return min(DEFAULT_LENGTH, max_tokens or DEFAULT_LENGTH)

    def _prompt_texts(self) -> list[str]:
        """Where prompts begin: at documents, or where these are few, at their lines."""
        wanted = self._timed * self._prompt_shape[0]
        texts = [one.text for one in self._documents]
        if len(texts) >= wanted:
            return texts
        return [line for text in texts for line in text.split("\n") if line.strip()] or texts

    def decode(self, sample: int, outputs: Sequence[NDArray[Any]]) -> Any:
        """{"next": [token that the model puts behind each prompt]}."""
        return {"next": np.argmax(outputs[0], axis=-1).tolist()}

    # -- calibration --------------------------------------------------------------------------------------------------

    def calibration(self, count: int) -> Iterator[list[NDArray[Any]]]:
        """`count` times [int64[1, n]], n up to `calibration_tokens`: pieces spread evenly over the text for it. Raises
        `DataError` where there is too little."""
        bound = self._require_bound()
        ids = [token for row in bound.encoder.bare([one.text for one in self._calibration_texts()]) for token in row]
        if len(ids) < 2 * count:
            raise DataError(
                f"calibration needs {count} pieces of text, and there are {len(ids)} tokens to take them from: give "
                "more text, or lower calibration_samples"
            )
        size = min(self._calibration_tokens, bound.max_tokens or self._calibration_tokens, len(ids) // count)
        check_vocabulary(ids, bound.vocabulary, "the text to calibrate on")
        for number in range(count):
            begin = number * (len(ids) - size) // max(1, count - 1)
            yield [np.array([ids[begin : begin + size]], np.int64)]

    def calibration_digest(self) -> str:
        """Stands for the samples of `calibration`, apart from the tokenizer."""
        return digest([str(self._calibration_tokens), *(one.text for one in self._calibration_texts())])

    def notes(self) -> list[str]:
        """Remarks: text that is not scored, windows shorter than the model allows."""
        return list(self._notes)

    def _calibration_texts(self) -> list[Document]:
        if self._calibration is not None:
            return read_documents(self._calibration, self._cut)
        if not self._behind:
            raise DataError(
                f"{self._source.location}: nothing of it is left to calibrate on: name other text (calibration_data)"
            )
        return self._behind

    # -- the rest -----------------------------------------------------------------------------------------------------

    def _plan(self, samples: Sequence[int]) -> list[list[int]]:
        windows = self._require_bound().windows
        return plan({sample: len(windows[sample].tokens) for sample in samples}, self._batch_tokens)
