"""How far the outputs of one model are from those of another on the same input, as pure functions of arrays.

What an output stands for decides what can be said of it. "probabilities" and "logits" have a largest element and a
Kullback-Leibler divergence along their last axis (axes of size 1 left out); "values" are real numbers alone; "exact"
are integers, booleans and texts, which are equal or not.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from qprof.stats.intervals import Interval, percentile_interval

Meaning = Literal["probabilities", "logits", "values", "exact"]

#: Probabilities add up to 1 up to this, and up to half a step of each element where they are quantized.
_SUM_TOLERANCE = 0.01
#: The step of a quantized softmax (TensorFlow Lite 8-bit quantization specification).
_SOFTMAX_STEP = 1.0 / 256.0
#: An embedding has length 1 up to this.
_LENGTH_TOLERANCE = 1e-3
#: Elements that are turned into float64 at once.
_BLOCK = 1 << 18
#: A probability of a float output is taken for this at least.
_LEAST_PROBABILITY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, slots=True)
class OutputDistance:
    """One output on one input, against its reference.

    `signal`: sum of squares of the reference; `noise`: of the difference. An element that is finite in the reference
    alone counts as if it were 0; one that is not finite there counts for nothing. `nonfinite`: elements that are NaN on
    a side, or infinite on one alone. `relative_error`: sqrt(noise / signal), or 1 where there is noise and no signal;
    of an exact output the share of elements that differ. `cosine`: `None` where one side has no length. `rows`: along
    the last axis, of which `same_top` have their first largest element at the same place; `tied`: rows that differ and
    share their largest element on a side, so that the first of several decides. `baseline_top`:
    that place in the reference, where there is one row. `kl`: mean over the rows, nats; `None`
    where a row is not finite. What does not apply is `None`.
    """

    elements: int
    identical: bool
    nonfinite: int
    relative_error: float
    signal: float | None = None
    noise: float | None = None
    cosine: float | None = None
    rows: int | None = None
    same_top: int | None = None
    tied: int | None = None
    baseline_top: int | None = None
    kl: float | None = None


def output_meanings(
    samples: Sequence[Sequence[NDArray[Any]]], steps: Sequence[float], sequence_lengths: Collection[int] = ()
) -> list[Meaning]:
    """What each output of a model most likely is, from its real values on some inputs: samples x outputs.

    `steps`: of each output's quantization, 0 for none. `sequence_lengths`: lengths of the model's integer inputs.
    Probabilities are recognized by their sum. A vector, or a batch of them, is taken for logits unless it has length 1
    (an embedding), or stands beside a larger output (a detector's); a matrix only where it has a row for each
    element of an integer input (tokens). Everything else is values.
    """
    count = len(samples[0])
    columns = [[sample[i] for sample in samples] for i in range(count)]
    exact = [column[0].dtype.kind != "f" for column in columns]
    certain = [
        not exact[i] and all(_are_probabilities(array, steps[i]) for array in column)
        for i, column in enumerate(columns)
    ]
    alone = all(certain[i] or exact[i] or _is_vector(column[0]) for i, column in enumerate(columns))
    found: list[Meaning] = []
    for i, column in enumerate(columns):
        if exact[i]:
            found.append("exact")
        elif certain[i]:
            found.append("probabilities")
        elif _row_length(column[0]) < 2:
            found.append("values")
        elif _is_vector(column[0]):
            found.append("logits" if alone and not all(map(_has_length_one, column)) else "values")
        else:
            sizes = column[0].shape
            tokens = len(sizes) == 3 and sizes[1] in sequence_lengths
            found.append("logits" if tokens else "values")
    return found


def _row_length(array: NDArray[Any]) -> int:
    return next((size for size in reversed(array.shape) if size > 1), 1)


def _rows(array: NDArray[Any]) -> NDArray[Any]:
    return array.reshape(-1, _row_length(array))


def _is_vector(array: NDArray[Any]) -> bool:
    """One row, or a batch of them."""
    return array.ndim <= 2 or sum(size > 1 for size in array.shape) <= 1


def _are_probabilities(array: NDArray[Any], step: float) -> bool:
    rows = _rows(array).astype(np.float64)
    if rows.shape[1] < 2 or array.size == 0 or not np.isfinite(rows).all():
        return False
    lost = rows.shape[1] * step / 2.0
    # Where anything near 0 may add up to 1, the sum says nothing: but a step of 1/256 is that of a softmax.
    if lost >= 1.0 - _SUM_TOLERANCE and abs(step - _SOFTMAX_STEP) > 1e-6:
        return False
    sums, largest = rows.sum(axis=1), np.count_nonzero(rows, axis=1) * step / 2.0 + 1.0 + _SUM_TOLERANCE
    least = max(1.0 - _SUM_TOLERANCE - lost, step / 2.0)
    return bool(rows.min() >= -step and (sums >= least).all() and (sums <= largest).all())


def _has_length_one(array: NDArray[Any]) -> bool:
    lengths = np.linalg.norm(_rows(array).astype(np.float64), axis=1)
    return bool(np.abs(lengths - 1.0).max() <= _LENGTH_TOLERANCE)


def output_distance(
    reference: NDArray[Any], value: NDArray[Any], meaning: Meaning, step: float = 0.0
) -> OutputDistance:
    """One output against its reference, both real (or both stored, of an exact one), of as many elements.

    `step`: of the value's quantization, 0 for none: a probability that is stored as 0 may be half of it, and is taken
    for that where its logarithm is needed. Raises `ValueError` where the two differ in size.
    """
    if reference.size != value.size:
        raise ValueError(f"{value.size} values for {reference.size} of the reference")
    if meaning == "exact" or reference.dtype.kind != "f" or value.dtype.kind != "f":
        equal = int(np.count_nonzero(reference.reshape(-1) == value.reshape(-1)))
        error = 1.0 - equal / reference.size if reference.size else 0.0
        return OutputDistance(reference.size, equal == reference.size, 0, error)
    sums = _Sums()
    flat = reference.reshape(-1), value.reshape(-1)
    for begin in range(0, reference.size, _BLOCK):
        first, second = (side[begin : begin + _BLOCK].astype(np.float64) for side in flat)
        sums.add(first, second)
    rows = _RowFigures()
    if meaning != "values" and reference.size:
        length = _row_length(reference)
        pair = reference.reshape(-1, length), value.reshape(-1, length)
        chunk = max(1, _BLOCK // length)
        for begin in range(0, len(pair[0]), chunk):
            first, second = (side[begin : begin + chunk].astype(np.float64) for side in pair)
            rows.add(first, second, meaning, step)
    return OutputDistance(
        elements=reference.size,
        identical=sums.identical,
        nonfinite=sums.nonfinite,
        relative_error=relative_error(sums.noise, sums.signal),
        signal=sums.signal,
        noise=sums.noise,
        cosine=sums.cosine(),
        rows=rows.rows or None,
        same_top=rows.same_top if rows.rows else None,
        tied=rows.tied if rows.rows else None,
        baseline_top=int(reference.reshape(-1).argmax()) if rows.rows == 1 else None,
        kl=rows.kl / rows.rows if rows.rows and rows.kl is not None else None,
    )


def relative_error(noise: float, signal: float) -> float:
    """sqrt(noise / signal); 1 where there is noise and no signal."""
    if noise == 0.0:
        return 0.0
    return math.sqrt(noise / signal) if signal > 0.0 else 1.0


class _Sums:
    def __init__(self) -> None:
        self.signal = self.noise = self._values = self._product = 0.0
        self.nonfinite = 0
        self.identical = True

    def add(self, reference: NDArray[np.float64], value: NDArray[np.float64]) -> None:
        finite, both = np.isfinite(reference), np.isfinite(reference) & np.isfinite(value)
        self.identical = self.identical and np.array_equal(reference, value, equal_nan=True)
        if not both.all():
            # Infinities on both sides are a mask that both have.
            self.nonfinite += int(np.count_nonzero(~both & ~(reference == value)))
            value = np.where(both, value, 0.0)[finite]
            reference = reference[finite]
        error = reference - value
        self.signal += float(reference @ reference)
        self.noise += float(error @ error)
        self._values += float(value @ value)
        self._product += float(reference @ value)

    def cosine(self) -> float | None:
        if self.identical:
            return 1.0
        lengths = math.sqrt(self.signal) * math.sqrt(self._values)
        return max(-1.0, min(1.0, self._product / lengths)) if lengths > 0.0 else None


class _RowFigures:
    def __init__(self) -> None:
        self.rows = self.same_top = self.tied = 0
        self.kl: float | None = 0.0

    def add(self, reference: NDArray[np.float64], value: NDArray[np.float64], meaning: Meaning, step: float) -> None:
        """Some rows of both: float64[rows, length]."""
        self.rows += len(reference)
        unequal = ~((reference == value) | (np.isnan(reference) & np.isnan(value))).all(axis=1)
        self.same_top += int(np.count_nonzero(~unequal))
        a, b = reference[unequal], value[unequal]
        broken = (
            np.isnan(a).any(axis=1) | np.isnan(b).any(axis=1) | (a == np.inf).any(axis=1) | (b == np.inf).any(axis=1)
        )
        if broken.any():
            self.kl = None
            a, b = a[~broken], b[~broken]
        if not len(a):
            return
        self.same_top += int(np.count_nonzero(a.argmax(axis=1) == b.argmax(axis=1)))
        shared = [(side == side.max(axis=1, keepdims=True)).sum(axis=1) > 1 for side in (a, b)]
        self.tied += int(np.count_nonzero(shared[0] | shared[1]))
        if self.kl is not None:
            divergence = _divergence(a, b) if meaning == "logits" else _divergence_of_shares(a, b, step)
            self.kl = self.kl + divergence if math.isfinite(divergence) else None


def _divergence(reference: NDArray[np.float64], value: NDArray[np.float64]) -> float:
    """Sum over the rows of KL(softmax(reference) || softmax(value))."""
    p, q = (_log_softmax(side) for side in (reference, value))
    with np.errstate(invalid="ignore"):
        terms = np.exp(p) * (p - q)
    terms[np.isneginf(p)] = 0.0
    return float(np.maximum(terms.sum(axis=1), 0.0).sum())


def _log_softmax(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = rows - rows.max(axis=1, keepdims=True)
    found: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return found


def _divergence_of_shares(reference: NDArray[np.float64], value: NDArray[np.float64], step: float) -> float:
    """The same of rows that are probabilities up to rounding."""
    p = np.maximum(reference, 0.0)
    q = np.maximum(value, max(step / 2.0, _LEAST_PROBABILITY))
    p, q = (side / side.sum(axis=1, keepdims=True) for side in (p, q))
    terms = np.where(p > 0.0, p * np.log(np.where(p > 0.0, p, 1.0) / q), 0.0)
    return float(np.maximum(terms.sum(axis=1), 0.0).sum())


# -- over samples -----------------------------------------------------------------------------------------------------


def sqnr_db(signals: NDArray[np.float64], noises: NDArray[np.float64]) -> float | None:
    """Signal-to-quantization-noise ratio of all samples and outputs together: float64[samples, outputs] each.

    10 log10(1 / mean over outputs of (sum of noise / sum of signal)): no output drowns another with larger numbers.
    `None` where there is no noise, or an output without signal has noise.
    """
    ratio = _noise_share(signals.sum(axis=0)[np.newaxis], noises.sum(axis=0)[np.newaxis])[0]
    return -10.0 * math.log10(ratio) if 0.0 < ratio < math.inf else None


def sqnr_interval(
    signals: NDArray[np.float64],
    noises: NDArray[np.float64],
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval | None:
    """`sqnr_db` with its interval, by a bootstrap over the samples; `None` where it is undefined. Without bounds where
    it is undefined for some resamples."""
    value = sqnr_db(signals, noises)
    if value is None:
        return None
    count = len(signals)
    rng = np.random.default_rng(seed)
    step = max(1, (1 << 21) // count)
    shares = []
    for done in range(0, resamples, step):
        weights = rng.multinomial(count, np.full(count, 1.0 / count), size=min(step, resamples - done)).astype(float)
        shares.append(_noise_share(weights @ signals, weights @ noises))
    drawn = np.concatenate(shares)
    if not ((drawn > 0.0) & (drawn < math.inf)).all():
        return Interval(value, None, None, level, "most samples have no noise at all: there is too little to resample")
    return percentile_interval(value, -10.0 * np.log10(drawn), level, count, "expanded")


def _noise_share(signals: NDArray[np.float64], noises: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the outputs of noise / signal; float64[draws, outputs] each."""
    quiet = noises == 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.where(quiet, 0.0, noises / signals)
    found: NDArray[np.float64] = shares.mean(axis=1)
    return found
