"""Many comparisons at once: p-values adjusted so that they can be held against the level as they stand."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Adjusted p-values float64[m] -> float64[m] that bound the chance of any false claim among the m.

    Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scand. J. Statist. 6(2), 1979; valid under any
    dependence. Meant for the variants of a run. Raises `ValueError` for what is not a p-value.
    """
    p = _checked(p_values)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return _restored(stepped, order)


def benjamini_hochberg(p_values: ArrayLike) -> NDArray[np.float64]:
    """Adjusted p-values float64[m] -> float64[m] that bound the expected share of false claims among those made.

    Benjamini & Hochberg, "Controlling the False Discovery Rate", J. R. Statist. Soc. B 57(1), 1995; valid under
    independence and positive dependence. Meant for the ops of a model. Raises `ValueError` for what is not a p-value.
    """
    p = _checked(p_values)
    order = np.argsort(p, kind="stable")
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    return _restored(np.minimum.accumulate(scaled[::-1])[::-1], order)


def simultaneous_level(level: float, comparisons: int) -> float:
    """Level of each interval at which all `comparisons` of them hold together with at least `level` (Bonferroni).

    Under any dependence: Dunn, "Multiple Comparisons among Means", J. Amer. Statist. Assoc. 56(293), 1961. Stepwise
    tests (Holm's) find more, but have no interval that goes with their decision: where a figure is shown with its
    interval, this is what makes the two one statement.
    """
    if not 0.0 < level < 1.0 or comparisons < 1:
        raise ValueError(f"need a level between 0 and 1 and at least one comparison, got {level} and {comparisons}")
    return 1.0 - (1.0 - level) / comparisons


def _restored(adjusted: NDArray[np.float64], order: NDArray[np.intp]) -> NDArray[np.float64]:
    found = np.empty(len(order))
    found[order] = np.minimum(adjusted, 1.0)
    return found


def _checked(p_values: ArrayLike) -> NDArray[np.float64]:
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not np.all((p >= 0.0) & (p <= 1.0)):
        raise ValueError("p-values must be a vector of numbers between 0 and 1")
    return p
