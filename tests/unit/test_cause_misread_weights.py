"""Files read by the wrong rule: claimed where the weights or the zero points speak for it, and only then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from planted.cases_layouts import ASYMMETRIC, FILE, V2_READ_AS_V1, world
from qprof.findings.causes import too_few_bits
from qprof.findings.causes.base import Hypothesis
from qprof.findings.causes.misread_weights import CAUSE
from qprof.findings.comparison import Comparison


def comparison(folder: Path, **world_of: Any) -> Comparison:
    return Comparison(world(**world_of).record(folder / "run"), "bfloat16", FILE, "inference")


def found(folder: Path, as_it_is: float = 0.1, **world_of: Any) -> list[Hypothesis]:
    return list(CAUSE.hypotheses(comparison(folder, as_it_is=as_it_is, otherwise=0.8, **world_of)))


def test_the_weights_and_the_zero_points_are_told(tmp_path: Path) -> None:
    (hypothesis,) = found(tmp_path, offset_share=0.85, making=V2_READ_AS_V1)
    assert "read as gptq, and its file is gptq_v2: the weights of 16 of 16 layers are off" in hypothesis.claim
    assert "85% of their error, and all of its zero points are 8" in hypothesis.claim
    assert hypothesis.intervention is not None
    (section,) = hypothesis.intervention.variants
    assert section == {"file": "/nowhere/checkpoint", "layout": "gptq_v2", "name": "gptq+as-gptq_v2"} | {
        key: value for key, value in section.items() if key not in ("file", "layout", "name")
    }
    low, high = hypothesis.intervention.prediction.low, hypothesis.intervention.prediction.high
    assert 0.3 < low < 0.7 < high


@pytest.mark.parametrize(("share", "making", "claims"), [(0.0, V2_READ_AS_V1, 1), (0.7, ASYMMETRIC, 1)])
def test_either_is_enough(tmp_path: Path, share: float, making: Any, claims: int) -> None:
    assert len(found(tmp_path, offset_share=share, making=making)) == claims


@pytest.mark.parametrize(
    ("right", "share", "making"),
    [
        (0.1, 0.01, ASYMMETRIC),  # the error of rounding alone
        (0.8, 0.85, ASYMMETRIC),  # nothing is lost
        (0.1, 0.85, {}),  # no file of which there is another reading
        (0.1, 0.01, {**V2_READ_AS_V1, "layout": "gptq_v2"}),  # read as it was written
    ],
)
def test_nothing_is_claimed(tmp_path: Path, right: float, share: float, making: Any) -> None:
    assert found(tmp_path, right, offset_share=share, making=making) == []


def test_few_bits_are_not_blamed_beside_it(tmp_path: Path) -> None:
    misread = comparison(tmp_path / "a", as_it_is=0.1, otherwise=0.8, offset_share=0.85, making=ASYMMETRIC)
    assert list(too_few_bits.CAUSE.hypotheses(misread)) == []
    rounded = comparison(tmp_path / "b", as_it_is=0.1, otherwise=0.8, offset_share=0.01, making=ASYMMETRIC)
    assert len(list(too_few_bits.CAUSE.hypotheses(rounded))) == 1
