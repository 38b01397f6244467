"""From the windows of a text to its perplexities, as lm-evaluation-harness has them from `loglikelihood_rolling`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from qprof.record.perplexities import ROLLING
from qprof.tasks.base import Scores
from qprof.tasks.perplexity.windows import Window
from qprof.tasks.topk import score

COLUMNS = tuple(ROLLING)


class Predicted(TypedDict):
    """What a variant made of one window.

    `log_likelihood` (nats) of its `tokens`, `None` where it is not finite; `hits`: tokens that came first. `words` and
    `bytes`: its part of the document's, in proportion to its tokens.
    """

    document: int
    log_likelihood: float | None
    tokens: int
    hits: int
    words: float
    bytes: float


def predicted(logits: Any, window: Window, parts: tuple[float, float]) -> Predicted:
    """`logits`: a torch tensor on the CPU [predicted tokens, vocabulary]; `parts`: words and bytes. Raises `DataError`
    where logits and tokens do not fit."""
    import torch

    wanted = np.array(window.tokens[window.start :], np.int64)
    # A NaN cannot be ranked; what is scored without one is checked by `score`.
    if bool(logits.isnan().any()):
        total, hits = math.nan, 0
    else:
        found = score(logits, wanted, k=(1,), threads=torch.get_num_threads())
        assert found.log_likelihood is not None  # it is asked for by default
        total, hits = float(found.log_likelihood.sum()), int((found.rank == 0).sum())
    return {
        "document": window.document,
        "log_likelihood": total if math.isfinite(total) else None,
        "tokens": window.predicted,
        "hits": hits,
        "words": parts[0],
        "bytes": parts[1],
    }


def scored(predictions: Mapping[int, Any]) -> Scores:
    """ "word_perplexity", "byte_perplexity", "token_perplexity" and "bits_per_byte" of all documents together,
    "token_accuracy" (tokens that came first), "documents" and "windows"; "not_finite", windows without a finite
    log-likelihood, which leave the perplexities undefined."""
    samples = sorted(predictions)
    rows: Sequence[Predicted] = [predictions[sample] for sample in samples]
    columns = {
        name: np.array([math.nan if row[name] is None else row[name] for row in rows], np.float64)
        for name in ("log_likelihood", "document", "tokens", "hits", "words", "bytes")
    }
    columns["not_finite"] = np.isnan(columns["log_likelihood"]).astype(np.float64)
    broken = int(columns["not_finite"].sum())
    summary: dict[str, float | None] = {name: _figure(name, columns) for name in ROLLING}
    summary["token_accuracy"] = float(columns["hits"].sum() / columns["tokens"].sum()) if rows else None
    summary["documents"] = float(len(np.unique(columns["document"])))
    summary["windows"] = float(len(rows))
    summary["not_finite"] = broken / len(rows) if rows else None
    return Scores(summary, columns, samples, COLUMNS, _notes(broken, len(rows), summary))


def _figure(name: str, columns: Mapping[str, NDArray[np.float64]]) -> float | None:
    """`None` where a window has no likelihood, or the result is beyond float64."""
    total, whole = columns["log_likelihood"].sum(), columns[ROLLING[name]].sum()
    if not whole or not np.isfinite(total):
        return None
    nats = -float(total / whole)
    if name == "bits_per_byte":
        return nats / math.log(2.0)
    return math.exp(nats) if nats < math.log(np.finfo(np.float64).max) else None


def _notes(broken: int, count: int, summary: Mapping[str, float | None]) -> list[str]:
    if broken:
        return [
            f"{broken} of {count} windows have logits that are not finite, so there is no perplexity; compute the "
            "variant in a wider dtype, or look for overflow in its layers"
        ]
    if count and summary["word_perplexity"] is None:
        return ["the perplexity of a word is too large for a float; go by that of a byte"]
    return []
