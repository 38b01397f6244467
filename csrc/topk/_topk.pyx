# distutils: language = c++
# cython: language_level=3
"""Python face of top-k scoring: checks the arrays, then scores them without the GIL and without a copy."""

from libc.stdint cimport int64_t, uintptr_t

import numpy as np

cimport topk
from topk cimport Dtype, Fault, Logits, Measure, Options, Outcome, Scores, SimdLevel, Ties

#: dtype -> (NumPy dtype of the array that carries it, number in topk.h)
_DTYPES = {
    "float32": (np.dtype(np.float32), <int>Dtype.kFloat32),
    "float16": (np.dtype(np.float16), <int>Dtype.kFloat16),
    "bfloat16": (np.dtype(np.uint16), <int>Dtype.kBfloat16),
}
_TIES = {
    "first": <int>Ties.kFirst,
    "optimistic": <int>Ties.kOptimistic,
    "pessimistic": <int>Ties.kPessimistic,
}
_SIMD = {
    "baseline": <int>SimdLevel.kBaseline,
    "avx2": <int>SimdLevel.kAvx2,
    "avx512": <int>SimdLevel.kAvx512,
}


def simd_levels():
    return [name for name, level in _SIMD.items() if topk.supports(<SimdLevel><int>level)]


def score(
    logits,
    targets,
    *,
    k=(1, 5),
    dtype=None,
    threads=1,
    log_likelihood=True,
    entropy=False,
    rank_ties="first",
    simd=None,
):
    carrier, dtype_number = _lookup(_DTYPES, "dtype", logits.dtype.name if dtype is None else dtype)
    if logits.dtype != carrier:
        raise ValueError(f"logits of {dtype or carrier.name} have to be an array of {carrier}, not {logits.dtype}")
    if logits.ndim != 2:
        raise ValueError(f"logits have to be [rows, vocabulary], not of shape {logits.shape}")
    if logits.size > 0 and logits.shape[1] > 1 and logits.strides[1] != carrier.itemsize:
        raise ValueError(f"the logits of one row have to be contiguous, not {logits.strides[1]} bytes apart")
    targets = np.ascontiguousarray(targets)
    if targets.ndim != 1 or targets.dtype.kind not in "iu" or not np.can_cast(targets.dtype, np.int64):
        raise ValueError(f"targets have to be [rows] of int64, not {targets.dtype} of shape {targets.shape}")
    if targets.shape[0] != logits.shape[0]:
        raise ValueError(f"{logits.shape[0]} rows of logits but {targets.shape[0]} targets")
    limits = np.asarray(k)
    if limits.ndim != 1 or (limits.size > 0 and (limits.dtype.kind not in "iu" or limits.min() < 1)):
        raise ValueError(f"k has to hold whole numbers from 1 on, not {k}")
    if not 1 <= threads <= 4096:
        raise ValueError(f"threads has to be from 1 to 4096, not {threads}")
    available = simd_levels()
    level = available[len(available) - 1] if simd is None else simd
    level_number = _lookup(_SIMD, "simd", level)
    if level not in available:
        raise ValueError(f"this CPU or this build has no {level}; it has {', '.join(available)}")
    measure = Measure.kEntropy if entropy else Measure.kLogLikelihood if log_likelihood else Measure.kRank
    return _score(
        logits,
        targets.astype(np.int64, copy=False),
        limits,
        (dtype_number, <int>measure, _lookup(_TIES, "rank_ties", rank_ties), level_number),
        threads,
        bool(log_likelihood),
    )


def _lookup(table, what, name):
    if name not in table:
        raise ValueError(f"{what} has to be one of {', '.join(table)}, not {name}")
    return table[name]


def _score(object logits, const int64_t[::1] targets, object limits, object chosen, int threads, bint log_likelihood):
    cdef int64_t rows = logits.shape[0]
    rank = np.empty(rows, np.int64)
    argmax = np.empty(rows, np.int64)
    likelihoods = np.empty(rows, np.float64)
    entropies = np.empty(rows, np.float64)
    if rows > 0:
        _run(logits, targets, (rank, argmax, likelihoods, entropies), chosen, threads)
    scores = {"rank": rank, "hits": rank[:, None] < limits[None, :], "argmax": argmax}
    if log_likelihood:
        scores["log_likelihood"] = likelihoods
    if chosen[1] == <int>Measure.kEntropy:
        scores["entropy"] = entropies
    return scores


cdef _run(object logits, const int64_t[::1] targets, tuple results, tuple chosen, int threads):
    cdef int64_t[::1] rank = results[0]
    cdef int64_t[::1] argmax = results[1]
    cdef double[::1] likelihoods = results[2]
    cdef double[::1] entropies = results[3]
    cdef Logits source
    cdef Options options
    cdef Scores scores
    cdef Outcome outcome
    source.data = <const void*><uintptr_t>logits.__array_interface__["data"][0]
    source.rows, source.vocabulary = logits.shape
    source.row_stride_bytes = logits.strides[0]
    source.dtype = <Dtype><int>chosen[0]
    options.measure = <Measure><int>chosen[1]
    options.ties = <Ties><int>chosen[2]
    options.simd = <SimdLevel><int>chosen[3]
    options.threads = threads
    scores.rank = &rank[0]
    scores.argmax = &argmax[0]
    scores.log_likelihood = &likelihoods[0]
    scores.entropy = &entropies[0]
    with nogil:
        outcome = topk.score(source, &targets[0], options, scores)
    if outcome.fault == Fault.kTarget:
        last = source.vocabulary - 1
        raise ValueError(f"row {outcome.row}: the target {targets[outcome.row]} is not in the vocabulary (0 to {last})")
    if outcome.fault == Fault.kNan:
        raise ValueError(f"row {outcome.row}: the logit of column {outcome.column} is NaN")
