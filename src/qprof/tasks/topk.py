"""Top-k scoring of logits: rank, hits, log-likelihood and entropy of one target per row, from arrays or tensors."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from qprof.core import _topk
from qprof.errors import DataError
from qprof.probes.machine import available_cores

RankTies = Literal["first", "optimistic", "pessimistic"]


@dataclass(frozen=True, slots=True)
class TopKScores:
    """The scores of every row; see `score`. What was not asked for is `None`."""

    k: tuple[int, ...]
    rank: NDArray[np.int64]  # [rows]
    hits: NDArray[np.bool_]  # [rows, len(k)]
    argmax: NDArray[np.int64]  # [rows]
    log_likelihood: NDArray[np.float64] | None  # [rows], nats
    entropy: NDArray[np.float64] | None  # [rows], nats

    def accuracy(self, k: int) -> float | None:
        """Share of the rows whose target is among the k highest; `None` where there is no row. Any k from 1 on."""
        if k < 1:
            raise DataError(f"top-{k} accuracy is not defined; k starts at 1")
        return float(np.mean(self.rank < k)) if self.rank.size else None


def score(
    logits: Any,
    targets: Any,
    *,
    k: Sequence[int] = (1, 5),
    threads: int | None = None,
    log_likelihood: bool = True,
    entropy: bool = False,
    rank_ties: RankTies = "first",
) -> TopKScores:
    """Score logits [rows, vocabulary] against one target per row, in one pass over them.

    `logits`: a NumPy array or a torch tensor on the CPU, of float32, float16 or bfloat16. It is not copied; its rows
    may be a slice of something larger, but the logits of a row have to be contiguous. `targets`: [rows] of integers
    from 0 to vocabulary - 1. `threads`: by default as many as this process may run on.

    The rank of a target is the number of logits ahead of it: those that are greater, and of those that equal it the
    ones of a lower index. So rank 0 is exactly `argmax == target`, and top-k hits (rank < k) grow with k and do not
    depend on how a sort breaks ties; 16-bit logits tie often. `rank_ties` counts instead no equal logit as ahead
    ("optimistic") or all of them ("pessimistic"), the two bounds of Berrendorf et al., "On the Ambiguity of
    Rank-Based Evaluation" (2020).

    The log-likelihood is the natural logarithm of the target's softmax probability, within 5e-7 of float64's. The
    entropy of the softmax is in nats. Infinite logits follow IEEE arithmetic (see `qprof.core._topk.score`).

    Raises `DataError` for a NaN logit or a target out of range, naming the first such row, and for arrays that do not
    fit (shape, dtype, device).
    """
    logits_array, dtype = _logits(logits)
    if threads is None:
        threads = available_cores()
    try:
        scores = _topk.score(
            logits_array,
            _on_cpu(targets, "targets"),
            k=k,
            dtype=dtype,
            threads=threads,
            log_likelihood=log_likelihood,
            entropy=entropy,
            rank_ties=rank_ties,
        )
    except ValueError as error:
        raise DataError(f"top-k scoring: {error}") from None
    return TopKScores(
        k=tuple(k),
        rank=scores["rank"],
        hits=scores["hits"],
        argmax=scores["argmax"],
        log_likelihood=scores.get("log_likelihood"),
        entropy=scores.get("entropy"),
    )


def _logits(logits: Any) -> tuple[NDArray[Any], str]:
    """The logits as an array that the core reads, and the name of their dtype."""
    array = _on_cpu(logits, "logits")
    # NumPy has no bfloat16 of its own: it comes from torch, as bits, or from ml_dtypes.
    if _is_torch(logits) and str(logits.dtype) == "torch.bfloat16":
        return array, "bfloat16"
    if array.dtype.name == "bfloat16":
        return array.view(np.uint16), "bfloat16"
    if array.dtype not in (np.float32, np.float16):
        raise DataError(f"logits of {array.dtype} cannot be scored; convert them to float32, float16 or bfloat16")
    return array, array.dtype.name


def _on_cpu(values: Any, what: str) -> NDArray[Any]:
    """A NumPy view of an array or tensor; of a bfloat16 tensor its bits as uint16."""
    if not _is_torch(values):
        return np.asarray(values)
    import torch

    if values.device.type != "cpu" or values.layout != torch.strided:
        raise DataError(f"{what} are a {values.layout} tensor on {values.device}; pass a dense one on the CPU (.cpu())")
    values = values.detach()
    if values.dtype == torch.bfloat16:
        bits: NDArray[Any] = values.view(torch.int16).numpy()
        return bits.view(np.uint16)
    array: NDArray[Any] = values.numpy()
    return array


def _is_torch(values: Any) -> bool:
    """Whether it is a torch tensor, without importing torch: where none was imported, there is no tensor."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(values, torch.Tensor)
