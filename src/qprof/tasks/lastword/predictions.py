"""From the logits of a batch to what is kept of every row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError
from qprof.tasks.lastword.pieces import WORD, Pieces
from qprof.tasks.lastword.protocols import Encoded
from qprof.tasks.topk import score

TOP = 5


class Prediction(TypedDict):
    """What a variant made of one row.

    `ranks` of the target's tokens count from 0 (see `qprof.tasks.topk.score`); a rank is `None` where the logits there
    hold a NaN, and `log_likelihood` (nats, whole target) where it is not finite. `top5` are the tokens that the
    variant puts first at the first position of the target, as text, and `top5_kinds` says what they are (see
    `Pieces.kind`). `miss`: why the first token is wrong, "punctuation", "fragment" or "other" (another word); `None`
    where it is right, or nothing can be said. `naive_possible`: a token of the vocabulary reads like the last word.
    """

    target: str
    tokens: int
    target_tokens: int
    greedy: bool
    ranks: list[int | None]
    log_likelihood: float | None
    first_rank: int | None
    top5: list[str]
    top5_ids: list[int]
    top5_kinds: list[str]
    naive_hit1: bool
    naive_hit5: bool
    naive_possible: bool
    miss: str | None


def predictions_of(logits: Any, rows: Sequence[Encoded], targets: Sequence[str], pieces: Pieces) -> list[Prediction]:
    """Predictions of a batch.

    `logits`: a torch tensor on the CPU [sum of target tokens, vocabulary], row after row; `targets`: the last words.
    Raises `DataError` where logits and tokens do not fit.
    """
    counts = np.array([len(row.target) for row in rows])
    begins = np.concatenate(([0], np.cumsum(counts)[:-1]))
    wanted = np.concatenate([np.array(row.target, np.int64) for row in rows])
    if tuple(logits.shape)[:1] != wanted.shape:
        raise DataError(f"{wanted.size} target tokens, but logits of shape {list(logits.shape)}: the model is at fault")
    ranks, likelihoods = _scored(logits, wanted)
    best = _highest(logits, begins, ranks)
    return [
        _prediction(row, target, ranks[begin : begin + count].tolist(), likelihoods[begin : begin + count], top, pieces)
        for row, target, begin, count, top in zip(rows, targets, begins, counts, best, strict=True)
    ]


def _prediction(
    row: Encoded,
    target: str,
    ranks: list[int],
    likelihoods: NDArray[np.float64],
    best: list[int],
    pieces: Pieces,
) -> Prediction:
    word = target.strip()
    hits = [pieces.naive_word(token) == word for token in best]
    kinds = [pieces.kind(token) for token in best]
    total = float(likelihoods.sum())
    return {
        "target": target,
        "tokens": row.input_tokens,
        "target_tokens": len(ranks),
        "greedy": not any(ranks),
        "ranks": [rank if rank >= 0 else None for rank in ranks],
        "log_likelihood": total if np.isfinite(total) else None,
        "first_rank": ranks[0] if ranks[0] >= 0 else None,
        "top5": [pieces.surface(token) for token in best],
        "top5_ids": best,
        "top5_kinds": kinds,
        "naive_hit1": any(hits[:1]),
        "naive_hit5": any(hits),
        "naive_possible": word in pieces.naive_words,
        "miss": (kinds[0] if kinds[0] != WORD else "other") if ranks[0] > 0 else None,
    }


def _scored(logits: Any, wanted: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Rank and log-likelihood per target token; -1 and NaN where the logits hold a NaN."""
    import torch

    try:
        found = score(logits, wanted, k=(1,), threads=torch.get_num_threads())
    except DataError:
        sound = ~logits.isnan().any(-1).numpy()
        if sound.all():
            raise
    else:
        assert found.log_likelihood is not None
        return found.rank, found.log_likelihood
    ranks = np.full(wanted.size, -1, np.int64)
    likelihoods = np.full(wanted.size, np.nan)
    if sound.any():
        ranks[sound], likelihoods[sound] = _scored(logits[sound], wanted[sound])
    return ranks, likelihoods


def _highest(logits: Any, begins: NDArray[np.int64], ranks: NDArray[np.int64]) -> list[list[int]]:
    """Per first target token the ids of the highest logits, best first; of equal ones the lower id first, as ranks
    count. Empty where the logits hold a NaN."""
    import torch

    sound = np.flatnonzero(ranks[begins] >= 0)
    best: list[list[int]] = [[] for _ in begins]
    if not sound.size:
        return best
    first = logits[torch.from_numpy(begins[sound])]
    count = min(TOP, first.shape[-1])
    least = first.topk(count).values[:, -1:]
    row, token = (first >= least).nonzero(as_tuple=True)  # ties included, which topk breaks as it likes
    order = np.lexsort((token.numpy(), -first[row, token].double().numpy(), row.numpy()))
    edges = np.searchsorted(row.numpy(), np.arange(sound.size))
    for position, edge in zip(sound.tolist(), edges.tolist(), strict=True):
        best[position] = token.numpy()[order[edge : edge + count]].tolist()
    return best
