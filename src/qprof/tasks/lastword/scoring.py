"""From predictions to the score of a variant, under all protocols at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from qprof.tasks.base import Scores
from qprof.tasks.lastword.pieces import FRAGMENT, PUNCTUATION
from qprof.tasks.lastword.predictions import Prediction
from qprof.tasks.lastword.protocols import LAMBADA_OPENAI, LAST_TOKEN, NEXT_TOKEN

#: The metrics that a table leads with, by protocol.
COLUMNS = {
    LAMBADA_OPENAI: ("accuracy", "perplexity", "top5", "naive_top1"),
    NEXT_TOKEN: ("naive_top1", "naive_top5", "accuracy", "perplexity"),
    LAST_TOKEN: ("last_token_top1", "last_token_top5", "accuracy", "perplexity"),
}


def scored(predictions: Mapping[int, Prediction], protocol: str) -> Scores:
    """Scores of all protocols; `columns` leads with those of `protocol`.

    `summary`: "accuracy" and "perplexity" as lm-evaluation-harness has them; "top1" and "top5" of the first target
    token; "naive_top1" and "naive_top5" of the next-token protocol, and "naive_ceiling", the share of rows that it can
    get right at all; "last_token_top1" and "last_token_top5" of the last-token protocol; "multi_token", rows whose
    target has several tokens; "miss_*", what the variant put first where the first token is wrong, as shares of all
    rows; "top5_*", shares of all strings among the first five; "not_finite", rows without a finite log-likelihood.
    Those are counted as wrong, and leave perplexity undefined.
    """
    samples = sorted(predictions)
    rows = [predictions[sample] for sample in samples]
    per_sample = _per_sample(rows)
    kinds = [kind for row in rows for kind in row["top5_kinds"]]
    summary: dict[str, float | None] = {
        "accuracy": _mean(per_sample["correct"]),
        "perplexity": _perplexity(per_sample["log_likelihood"]),
        **{name: _mean(per_sample[name]) for name in ("top1", "top5", "naive_top1", "naive_top5")},
        **{name: _mean(per_sample[name]) for name in ("last_token_top1", "last_token_top5")},
        "naive_ceiling": _share([row["naive_possible"] for row in rows]),
        "multi_token": _share([row["target_tokens"] > 1 for row in rows]),
        **{f"miss_{miss}": _share([row["miss"] == miss for row in rows]) for miss in (PUNCTUATION, FRAGMENT, "other")},
        **{f"top5_{kind}": _share([found == kind for found in kinds]) for kind in (PUNCTUATION, FRAGMENT)},
        "not_finite": _share([row["log_likelihood"] is None for row in rows]),
    }
    return Scores(summary, per_sample, samples, COLUMNS[protocol], _notes(rows, summary["perplexity"]))


def _per_sample(rows: Sequence[Prediction]) -> dict[str, NDArray[np.float64]]:
    """Per row, NaN where nothing is known."""
    ranks = np.array([math.nan if row["first_rank"] is None else row["first_rank"] for row in rows], np.float64)
    last = np.array([math.nan if row["ranks"][-1] is None else row["ranks"][-1] for row in rows], np.float64)
    likelihoods = [math.nan if row["log_likelihood"] is None else row["log_likelihood"] for row in rows]
    return {
        "correct": np.array([row["greedy"] for row in rows], np.float64),
        "log_likelihood": np.array(likelihoods, np.float64),
        "first_rank": ranks,
        "top1": (ranks < 1).astype(np.float64),
        "top5": (ranks < 5).astype(np.float64),
        "naive_top1": np.array([row["naive_hit1"] for row in rows], np.float64),
        "naive_top5": np.array([row["naive_hit5"] for row in rows], np.float64),
        "last_token_top1": (last < 1).astype(np.float64),
        "last_token_top5": (last < 5).astype(np.float64),
        "target_tokens": np.array([row["target_tokens"] for row in rows], np.float64),
        "not_finite": np.isnan(np.array(likelihoods, np.float64)).astype(np.float64),
    }


def _perplexity(likelihoods: NDArray[np.float64]) -> float | None:
    """exp(-mean), `None` where a row has no likelihood or the result is beyond float64."""
    if not likelihoods.size or not np.isfinite(likelihoods).all():
        return None
    exponent = -float(np.mean(likelihoods))
    return math.exp(exponent) if exponent < math.log(np.finfo(np.float64).max) else None


def _mean(values: NDArray[np.float64]) -> float | None:
    return float(np.mean(values)) if values.size else None


def _share(flags: Sequence[bool]) -> float | None:
    return sum(flags) / len(flags) if flags else None


def _notes(rows: Sequence[Prediction], perplexity: float | None) -> list[str]:
    broken = sum(row["log_likelihood"] is None for row in rows)
    if broken:
        return [
            f"{broken} of {len(rows)} rows have logits that are not finite: they count as wrong, and there is no "
            "perplexity; compute the variant in a wider dtype, or look for overflow in its layers"
        ]
    if rows and perplexity is None:
        return ["perplexity is too large for a float: the variant's output has collapsed; use more bits"]
    return []
