"""From the distances of outputs, input by input, to the scores of a variant."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from qprof.record.distances import CLOSENESS, COSINE, KL, SAME_TOP, SQNR
from qprof.record.rows import OutputDistanceRow, ScoreRow
from qprof.stats.output_distance import sqnr_db


def by_sample(rows: Sequence[OutputDistanceRow]) -> dict[str, NDArray[np.float64]]:
    """Score -> its value on each input in order, the mean over the outputs that have it; NaN where one has none on that
    input alone. Scores that no output has are left out."""
    count = max(row.sample for row in rows) + 1
    found: dict[str, NDArray[np.float64]] = {}
    for metric, of in _OF_ROW.items():
        sums, outputs = np.zeros(count), np.zeros(count)
        for row in rows:
            value = of(row)
            if value is not None:
                sums[row.sample] += value
                outputs[row.sample] += 1
        if outputs.any():
            # An input on which one of the outputs lacks what it has elsewhere would be a mean over other outputs.
            complete = outputs == outputs.max()
            found[metric] = np.where(complete, sums / np.maximum(outputs, 1), np.nan)
    return found


def _top(row: OutputDistanceRow) -> float | None:
    return None if row.same_top is None or not row.rows else row.same_top / row.rows


_OF_ROW: Mapping[str, Callable[[OutputDistanceRow], float | None]] = {
    SAME_TOP: _top,
    CLOSENESS: lambda row: 1.0 - row.relative_error,
    COSINE: lambda row: row.cosine,
    KL: lambda row: row.kl,
}


def sqnr_of(rows: Sequence[OutputDistanceRow]) -> float | None:
    """The signal-to-noise ratio of the real outputs over all inputs in dB; `None` where there is no noise."""
    signals, noises = noise_arrays(rows)
    return sqnr_db(signals, noises) if signals.size else None


def noise_arrays(rows: Sequence[OutputDistanceRow]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums of squares of reference and difference: float64[inputs, real outputs] each."""
    real = [row for row in rows if row.signal is not None and row.noise is not None]
    names = list(dict.fromkeys(row.output for row in real))
    count = max((row.sample for row in real), default=-1) + 1
    signals, noises = np.zeros((count, len(names))), np.zeros((count, len(names)))
    for row in real:
        where = row.sample, names.index(row.output)
        signals[where], noises[where] = row.signal or 0.0, row.noise or 0.0
    return signals, noises


def score_rows(variant: str, columns: Mapping[str, NDArray[np.float64]], sqnr: float | None) -> list[ScoreRow]:
    """The rows of `scores.parquet`: the mean of every score, and each input's own."""
    rows = []
    for metric, values in columns.items():
        known = values[~np.isnan(values)]
        # A divergence that is infinite on some inputs has no mean over all of them.
        mean = float(known.mean()) if len(known) == len(values) else None
        rows.append(ScoreRow(variant, metric, None, mean))
        rows += [
            ScoreRow(variant, metric, sample, None if np.isnan(value) else float(value))
            for sample, value in enumerate(values)
        ]
    rows.append(ScoreRow(variant, SQNR, None, sqnr))
    return rows


def one_answer(rows: Sequence[OutputDistanceRow]) -> bool:
    """Whether the baseline has the same largest element on every input, so that agreeing with it says nothing; of
    several outputs, whether all have."""
    tops: dict[str, set[int]] = {}
    inputs = {row.sample for row in rows}
    for row in rows:
        if row.baseline_top is not None:
            tops.setdefault(row.output, set()).add(row.baseline_top)
    many = any(row.rows is not None and row.baseline_top is None for row in rows)
    return bool(tops) and not many and len(inputs) > 1 and all(len(found) == 1 for found in tops.values())
