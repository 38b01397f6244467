"""The last-word task: rows of text, of which a causal language model has to predict the last word."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from time import perf_counter_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError
from qprof.record.model import LanguageModel
from qprof.tasks.base import Alternative, SampleParts, Scores, TrialScore
from qprof.tasks.lastword.batching import BATCH_TOKENS, padded, plan
from qprof.tasks.lastword.data import Row, Rows, Source, digest, read_rows
from qprof.tasks.lastword.heap import kept_heap
from qprof.tasks.lastword.pieces import Pieces, words_of
from qprof.tasks.lastword.predictions import Prediction, predictions_of
from qprof.tasks.lastword.protocols import BOS, LAMBADA_OPENAI, PROTOCOLS, Encoded, Encoder
from qprof.tasks.lastword.questions import skip_notes, with_last_word, without_last
from qprof.tasks.lastword.scoring import scored
from qprof.tasks.lastword.text_task import Batch, BoundText, TextTask, check_vocabulary, log_likelihoods

#: What a text begins with under each of `BOS`.
_RULES = {
    "auto": "a text begins as its tokenizer has it",
    "add": "a text begins with one beginning-of-sequence token",
    "none": "a text begins with no special token",
}


@dataclass(frozen=True, slots=True)
class _Bound(BoundText):
    """What the task keeps of a language model, and the rows as its tokenizer has them."""

    pieces: Pieces
    encoded: Sequence[Encoded]


class LastWordTask(TextTask[_Bound]):
    """Prediction of the last word of every row of `data`, scored under both protocols in one pass.

    The rows scored are the first `limit` that have a last word, without a limit all but the last `reserve`, which are
    left to calibration; they are numbered from 0. The samples that are timed
    are others: `samples` prompts of exactly `prompt_tokens` tokens of the same text. Calibration takes whole rows, cut
    to `calibration_tokens` tokens, from `calibration`, or from the rows behind the scored ones; never a row whose text
    is scored. Nothing is tokenized before `bind`. Raises `DataError` as described by `read_rows`, and where
    `limit` exceeds the rows that there are.
    """

    name = "lastword"
    title = "last-word"

    def __init__(
        self,
        data: Source,
        *,
        limit: int | None = None,
        reserve: int = 0,
        protocol: str = LAMBADA_OPENAI,
        bos: str = "auto",
        batch_tokens: int = BATCH_TOKENS,
        calibration: Source | None = None,
        calibration_tokens: int = 128,
        samples: int = 8,
        prompt_tokens: int = 64,
        batch: int = 1,
    ) -> None:
        _require_one_of("protocol", protocol, PROTOCOLS)
        _require_one_of("bos", bos, BOS)
        _require_positive(
            batch_tokens=batch_tokens,
            calibration_tokens=calibration_tokens,
            samples=samples,
            prompt_tokens=prompt_tokens,
            batch=batch,
        )
        super().__init__(samples, batch, prompt_tokens)
        self._protocol, self._bos, self._batch_tokens = protocol, bos, batch_tokens
        self._calibration, self._calibration_tokens = calibration, calibration_tokens
        self._data = read_rows(data)
        self._questions, skipped = with_last_word(self._data, limit)
        kept_back = []
        if limit is None and reserve:
            scored = without_last(self._questions, reserve, self._data)
            count = len(self._questions) - len(scored)
            kept_back.append(
                f"the last {count} rows of {data.location} are left to calibration and not scored: name other text for "
                "it (calibration_data) to score all"
            )
            self._questions = scored
        self._data_notes = [*skip_notes(self._data, skipped), *kept_back]
        self._calibration_notes: list[str] = []

    # -- the rows that are scored -------------------------------------------------------------------------------------

    def scored_count(self) -> int:
        """Number of rows scored."""
        return len(self._questions)

    def texts(self) -> list[str]:
        """The texts of the rows scored."""
        return [question.row.text for question in self._questions]

    def digest(self) -> str:
        """SHA-256 of the texts of the rows scored."""
        return digest(self.texts())

    def scoring_order(self) -> list[int]:
        """All rows scored, rows of about one length side by side: parts of it make full batches. Needs `bind`."""
        return [sample for batch in self._plan(range(self.scored_count())) for sample in batch]

    def sequence(self, sample: int) -> tuple[Sequence[int], int]:
        row = self._require_bound().encoded[sample]
        return row.tokens, row.start

    @kept_heap()
    def predict(self, model: LanguageModel, samples: Sequence[int]) -> tuple[dict[int, Prediction], list[Batch]]:
        """Run the model over these rows, in batches of about one length; predictions by row, and a record per batch.

        Scoring takes as many threads as torch has. Raises what the model raises, and `DataError` where it does not fit
        the data.
        """
        self.bind(model)
        bound = self._require_bound()
        predictions: dict[int, Prediction] = {}
        batches = []
        for group in self._plan(samples):
            rows = [bound.encoded[sample] for sample in group]
            tokens = padded([row.tokens for row in rows])
            start_ns = perf_counter_ns()
            logits = model.target_logits(tokens, [row.start for row in rows], [len(row.tokens) for row in rows])
            duration_ns = perf_counter_ns() - start_ns
            taken_in = sum(row.input_tokens for row in rows)
            batches.append(Batch(tuple(group), taken_in, start_ns, duration_ns))
            words = [self._questions[sample].word for sample in group]
            predictions.update(zip(group, predictions_of(logits, rows, words, bound.pieces), strict=True))
        return predictions, batches

    def score(self, predictions: Mapping[int, Any]) -> Scores:
        """See `qprof.tasks.lastword.scoring.scored`. Raises `DataError` for predictions of other rows than these."""
        for sample, prediction in predictions.items():
            if not 0 <= sample < len(self._questions) or prediction["target"] != self._questions[sample].word:
                raise DataError(
                    f"the prediction of row {sample} is of another text: {self._data.source.location} or the limit "
                    "changed since it was made; restore it, or run again"
                )
        return scored(predictions, self._protocol)

    trial_score = TrialScore("log-likelihood of the last word", "nats")

    def alternatives(self) -> Sequence[Alternative]:
        """The other rules for the token that begins a sequence; those that change no row are left out."""
        bound = self._require_bound()
        found, seen = [], [[row.tokens for row in bound.encoded]]
        for rule in BOS:
            if rule == self._bos or (rule == "add" and bound.tokenizer.bos_token_id is None):
                continue
            try:
                encoded = self._encoded(encoder := Encoder(bound.tokenizer, rule), bound.max_tokens)
            except DataError:  # a context that has no token of its own without one
                continue
            if (tokens := [row.tokens for row in encoded]) in seen:
                continue
            seen.append(tokens)
            other = copy.copy(self)
            other._bos, other._bound = rule, replace(bound, encoder=encoder, encoded=encoded)
            found.append(Alternative(setting=f'task.bos = "{rule}"', says=_RULES[rule], task=other))
        return found

    def trial_parts(self, predictions: Mapping[int, Any]) -> SampleParts:
        samples = sorted(predictions)
        return SampleParts(samples, log_likelihoods(predictions, samples, "rows"), np.ones(len(samples)))

    # -- the samples that are timed -----------------------------------------------------------------------------------

    def _bind(self, model: LanguageModel) -> _Bound:
        encoder = Encoder(model.tokenizer, self._bos)
        encoded = self._encoded(encoder, model.max_tokens)
        pieces = Pieces(model.tokenizer, self._words)
        for row, name in zip(encoded, self._places(), strict=True):
            check_vocabulary(row.tokens, model.vocabulary, name)
        return _Bound(model.tokenizer, model.vocabulary, model.max_tokens, encoder, pieces, encoded)

    def _prompt_texts(self) -> list[str]:
        return self.texts()

    def decode(self, sample: int, outputs: Sequence[NDArray[Any]]) -> Any:
        """{"next": [text of the token that the model puts behind each prompt]}."""
        pieces = self._require_bound().pieces
        return {"next": [pieces.surface(int(token)) for token in np.argmax(outputs[0], axis=-1)]}

    # -- calibration --------------------------------------------------------------------------------------------------

    def calibration(self, count: int) -> Iterator[list[NDArray[Any]]]:
        """`count` times [int64[1, n]], one row each, n up to `calibration_tokens`; spread evenly over the rows that
        may be used. Raises `DataError` where these are fewer."""
        bound = self._require_bound()
        rows = self._calibration_rows(count)
        for row, ids in zip(rows, bound.encoder.encode([row.text for row in rows]), strict=True):
            check_vocabulary(ids, bound.vocabulary, f"calibration row {row.place}")
            yield [np.array([self._cut(ids)], np.int64)]

    def calibration_digest(self, count: int) -> str:
        """Stands for the samples of `calibration(count)`, apart from the tokenizer."""
        texts = [row.text for row in self._calibration_rows(count)]
        return digest([str(self._calibration_tokens), self._bos, *texts])

    def notes(self) -> list[str]:
        """Remarks about the data: rows left out of scoring or of calibration."""
        return [*self._data_notes, *self._calibration_notes]

    def _calibration_rows(self, count: int) -> list[Row]:
        taken = {question.row.text for question in self._questions}
        if self._calibration is None:
            last = self._questions[-1].row.place
            source, offered = self._data, [row for row in self._data.rows if row.place > last]
            remedy = "lower limit, or set calibration to other text"
        else:
            source = self._calibration_data
            offered, remedy = source.rows, "give more rows"
        usable = [row for row in offered if row.text.strip() and row.text not in taken]
        same = sum(row.text in taken for row in offered)
        where = source.source.location
        self._calibration_notes = (
            [f"{same} calibration rows of {where} are left out, since rows that are scored have the same text"]
            if same
            else []
        )
        if len(usable) < count:
            raise DataError(
                f"{where}: calibration needs {count} rows, but of {len(source.rows)} rows {len(usable)} are neither "
                f"scored nor empty{' and lie behind those scored' if self._calibration is None else ''}: {remedy}"
            )
        return [usable[n * len(usable) // count] for n in range(count)]

    def _cut(self, ids: list[int]) -> list[int]:
        limit = self._require_bound().max_tokens
        return ids[: self._calibration_tokens if limit is None else min(limit, self._calibration_tokens)]

    # -- the rest -----------------------------------------------------------------------------------------------------

    @cached_property
    def _words(self) -> frozenset[str]:
        return words_of(row.text for row in self._data.rows)

    @cached_property
    def _calibration_data(self) -> Rows:
        assert self._calibration is not None
        return read_rows(self._calibration)

    def _places(self) -> list[str]:
        """Where each row that is scored stands."""
        where = f"{self._data.source.location}, {self._data.unit}"
        return [f"{where} {question.row.place}" for question in self._questions]

    def _encoded(self, encoder: Encoder, max_tokens: int | None) -> list[Encoded]:
        pairs = [(question.context, question.word) for question in self._questions]
        return encoder.pairs(pairs, max_tokens, self._places())

    def _plan(self, samples: Sequence[int]) -> list[list[int]]:
        encoded = self._require_bound().encoded
        return plan({sample: len(encoded[sample].tokens) for sample in samples}, self._batch_tokens)


def _require_one_of(key: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise DataError(f"{key} = {value!r} is not one of {', '.join(known)}: choose one")


def _require_positive(**options: int) -> None:
    for key, value in options.items():
        if value < 1:
            raise DataError(f"{key} = {value} leaves nothing to run: give at least 1")
