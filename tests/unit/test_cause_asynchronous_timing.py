"""Clocks that do not wait for an accelerator."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from planted.cases_language import linear, model
from planted.world import PlantedVariant, World, hypotheses
from qprof.findings.causes.asynchronous_timing import CAUSE
from qprof.findings.causes.base import Hypothesis


def on_device(name: str, us: float, alone_us: float | None) -> PlantedVariant:
    """`alone_us`: what the host's clock alone showed, `None` where no clocks were compared."""
    ops = [linear(0, us - 20.0)]
    if alone_us is None:
        return model(name, ops)
    clocks = {"unsynchronized_us": alone_us, "synchronized_us": us, "events_us": us}
    return model(name, ops, timing={"clocks": {"inference": {**clocks, "asynchronous_error": 1.0 - alone_us / us}}})


def found(a: PlantedVariant, b: PlantedVariant, folder: Path) -> list[Hypothesis]:
    return [claim.hypothesis for claim in hypotheses(World([a, b]).record(folder), [CAUSE])]


def test_the_clean_blocks_are_to_bear_out_the_audit(tmp_path: Path) -> None:
    (hypothesis,) = found(on_device("a", 1000.0, 980.0), on_device("b", 800.0, 200.0), tmp_path / "run")
    assert "would have shown 200 µs for b instead of 800 µs (-75%); qprof waits" in hypothesis.claim
    assert [e.value for e in hypothesis.evidence] == [200.0, 800.0, 800.0]
    assert hypothesis.intervention is not None and not hypothesis.intervention.variants
    prediction, measured = hypothesis.intervention.prediction, hypothesis.intervention.rescored
    shorter = math.log(200.0 / 800.0)
    # 20 us lie outside the ops: an inference is longer than its forward by some of them, or by none.
    beside = math.log(200.0 / 820.0)
    assert prediction.value == pytest.approx((shorter + beside) / 2.0, abs=0.01) and prediction.relative
    assert 0.0 < prediction.high - prediction.value < 0.1
    assert measured is not None and measured.value == pytest.approx(shorter, abs=0.03)
    assert measured.low is not None and measured.high is not None and measured.low < measured.value < measured.high


def test_the_baseline_is_named_where_it_alone_is_misread(tmp_path: Path) -> None:
    (hypothesis,) = found(on_device("a", 1000.0, 300.0), on_device("b", 800.0, 790.0), tmp_path / "run")
    assert "300 µs for a instead of 1000 µs (-70%), and b and a in the wrong order" in hypothesis.claim


def test_a_small_error_matters_where_it_swaps_two_variants(tmp_path: Path) -> None:
    (hypothesis,) = found(on_device("a", 1000.0, 990.0), on_device("b", 1100.0, 930.0), tmp_path / "run")
    assert "930 µs for b instead of 1100 µs (-15%), and b and a in the wrong order" in hypothesis.claim


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((1000.0, 990.0), (1100.0, 1050.0)),  # close, and in their order
        ((1000.0, 999.0), (1000.5, 990.0)),  # the order is not known to begin with, on either side
        ((1000.0, 980.0), (1000.5, 999.0)),
        ((1000.0, None), (800.0, 200.0)),
        ((1000.0, 990.0), (800.0, None)),
        ((1000.0, 1300.0), (1100.0, 1150.0)),  # slower than with waiting: not what is claimed here
    ],
)
def test_what_misleads_nobody_is_no_cause(
    tmp_path: Path, a: tuple[float, float | None], b: tuple[float, float | None]
) -> None:
    assert found(on_device("a", *a), on_device("b", *b), tmp_path / "run") == []


def test_two_clocks_that_wait_tell_how_exactly_one_does(tmp_path: Path) -> None:
    ranges = []
    for events_us in (800.0, 400.0):
        b = on_device("b", 800.0, 200.0)
        b.timing["clocks"]["inference"]["events_us"] = events_us
        (hypothesis,) = found(on_device("a", 1000.0, 980.0), b, tmp_path / f"{events_us}")
        assert hypothesis.intervention is not None
        ranges.append(hypothesis.intervention.prediction.high - hypothesis.intervention.prediction.value)
    assert ranges[1] == pytest.approx(1.96 * math.log(2.0) / math.sqrt(12.0), abs=0.03) and ranges[0] < 0.1
