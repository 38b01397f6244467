"""Python face of top-k scoring (sources: csrc/topk)."""

from collections.abc import Sequence
from typing import Any, Literal

from numpy.typing import NDArray

def simd_levels() -> list[str]:
    """The kernels that this CPU and this build have, slowest first: "baseline", "avx2", "avx512"."""

def score(
    logits: NDArray[Any],
    targets: NDArray[Any],
    *,
    k: Sequence[int] = (1, 5),
    dtype: str | None = None,
    threads: int = 1,
    log_likelihood: bool = True,
    entropy: bool = False,
    rank_ties: Literal["first", "optimistic", "pessimistic"] = "first",
    simd: str | None = None,
) -> dict[str, NDArray[Any]]:
    """Score logits [rows, vocabulary] against the target of each row, in one pass over memory and without a copy.

    `logits` is float32, float16, or uint16 with `dtype="bfloat16"`; the logits of a row are contiguous, the rows may
    lie at any stride. `targets` is [rows] of integers. `simd` forces a kernel; by default it is the fastest.

    Gives "rank" int64[rows], "hits" bool[rows, len(k)] (rank < k), "argmax" int64[rows] (the first of equal maxima);
    "log_likelihood" float64[rows] (natural; within 5e-7 of float64's) and "entropy" float64[rows] (nats; within 5e-6)
    where asked for.

    `rank` counts the logits ahead of the target's: all that are greater, and of those that equal it the ones of a
    lower index ("first": the target has rank 0 exactly where it is the argmax), none ("optimistic") or all
    ("pessimistic").

    Infinite logits follow IEEE arithmetic, as `scipy.special.log_softmax` has it: where the row's maximum is +inf the
    log-likelihood is -inf, or NaN if the target is at +inf; a target at -inf has -inf; a row of -inf alone has NaN.
    The entropy of a row whose maximum is infinite is NaN; elsewhere -inf adds nothing.

    Raises ValueError for a NaN logit or a target out of range, naming the first such row, and for arrays or options
    that do not fit.
    """
