"""A score that hangs on how a text begins, told with both figures."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from qprof.findings.sensitivity import sensitivities
from qprof.record.manifest import PlausibilityFacts
from qprof.record.rows import PlausibilityRow
from qprof.store.run import Run

NONE = ('task.bos = "none"', "a text begins with no special token")


class Told:
    """As much of a run as is asked for."""

    def __init__(self, **told: Any) -> None:
        self.__dict__.update(told)


def run(shift: float, unit: Any = "nats", rows: int = 50) -> Run:
    """Rows of a mean log-likelihood of -2 as configured, and `shift` more with the other setting."""
    rng = np.random.default_rng(1)
    configured = -2.0 + rng.normal(0.0, 1.0, rows)
    changed = configured + shift + rng.normal(0.0, 0.02, rows)
    tried = [
        PlausibilityRow("a", setting, says, n, float(value), 1.0)
        for (setting, says), values in ((("", "as configured"), configured), (NONE, changed))
        for n, value in enumerate(values)
    ]
    baseline = SimpleNamespace(plausibility=PlausibilityFacts(score="s", unit=unit, seconds=1.0))
    return cast(Run, Told(plausibility=tried, manifest=SimpleNamespace(baseline=baseline)))


@pytest.mark.parametrize("shift", [-0.5, 0.5])
def test_a_choice_that_matters_is_told_in_either_direction(shift: float) -> None:
    told = run(shift)
    (says,) = sensitivities(told)
    values = [row.part for row in told.plausibility]
    first, second = (math.exp(-float(np.mean(part))) for part in (values[:50], values[50:]))
    assert f"perplexity is {first:.4g} and {second:.4g} on 50 rows" in says and 'task.bos = "none"' in says


@pytest.mark.parametrize("told", [run(-0.05), run(0.0), run(-0.5, unit="share"), run(-0.5, rows=3)])
def test_nothing_is_told_of_one_that_does_not_or_cannot_be_told(told: Run) -> None:
    assert sensitivities(told) == []
