"""An intervention's run has to reproduce the difference it is about, before anything is laid to the intervention."""

from __future__ import annotations

from pathlib import Path

import pytest

from planted.cases_layers import variant
from planted.world import Noise, PlantedOp, PlantedVariant, World
from qprof.findings.causes.base import Hypothesis, Intervention, OpRef, Prediction
from qprof.findings.comparison import Comparison
from qprof.findings.control import control
from qprof.findings.judgement import findings, machine_notes
from qprof.findings.verify import Claim
from qprof.store.run import Run


def recorded(folder: Path, float32: float, int8: float, after: float | None = None, noise: float = 0.005) -> Run:
    """A run in which the two take these microseconds, and where it is an intervention's what the changed one takes."""
    times = {"float32": float32, "int8": int8} | ({} if after is None else {"int8+x": after})
    variants = [
        PlantedVariant(name, [PlantedOp("conv", "CONV_2D", us)], 0.0, section={"method": "int8"})
        for name, us in times.items()
    ]
    return World(variants, Noise(noise), seed=int(float32 + int8)).record(folder)


def predicted(value: float = -0.2, error: float = 0.01) -> Prediction:
    return Prediction.point("latency", "int8", "int8+x", value, error, relative=True)


def claim(run: Run, prediction: Prediction, mechanism: str | None = None, ops: tuple[str, ...] = ()) -> Claim:
    section = {"name": "int8+x", "method": "int8"}
    intervention = Intervention("changes x", prediction, [section])
    hypothesis = Hypothesis(
        f"cause of {prediction.value}",
        "a claim",
        "latency",
        None,
        (),
        intervention,
        None,
        mechanism,
        tuple(OpRef(name, "CONV_2D") for name in ops),
    )
    return Claim(comparison_of(run), hypothesis)


_KNOWN: dict[Path, Comparison] = {}


def comparison_of(run: Run) -> Comparison:
    """One and the same for all claims about a run, as in an explanation."""
    return _KNOWN.setdefault(run.folder, Comparison(run, "float32", "int8", "inference"))


@pytest.mark.parametrize(
    ("float32", "int8", "outcome"),
    [
        (2000.0, 1300.0, "reproduced"),
        (6000.0, 3900.0, "reproduced"),  # slower for both alike: the ratio is what counts
        (6000.0, 1300.0, "changed"),
        (2000.0, 1600.0, "changed"),  # by as much as was predicted
    ],
)
def test_the_ratio_of_the_two_has_to_come_out_as_before(
    tmp_path: Path, float32: float, int8: float, outcome: str
) -> None:
    run, again = recorded(tmp_path / "run", 2000.0, 1300.0), recorded(tmp_path / "again", float32, int8, 0.8187 * int8)
    found = control(comparison_of(run), again, predicted())
    assert found.outcome == outcome
    (finding,) = findings([claim(run, predicted())], {0: again})
    assert finding.control == found
    # The effect itself is as predicted each time.
    assert finding.status == ("confirmed" if outcome == "reproduced" else "inconclusive")
    if outcome == "changed":
        assert (
            finding.because.startswith("the machine changed: float32 2 ms -> ") and "int8 1.3 ms -> " in finding.because
        )


def test_a_small_prediction_needs_a_machine_that_is_known_as_closely(tmp_path: Path) -> None:
    """A shift of 6 % cannot be taken for an effect of 20 %, but for one of 5 %."""
    run, again = recorded(tmp_path / "run", 2000.0, 1300.0), recorded(tmp_path / "again", 2000.0, 1378.0, 1300.0)
    assert control(comparison_of(run), again, predicted(-0.2)).outcome == "reproduced"
    assert control(comparison_of(run), again, predicted(-0.05)).outcome == "changed"


def test_noise_leaves_it_open_whether_the_machine_changed(tmp_path: Path) -> None:
    noisy = [recorded(tmp_path / name, 2000.0, 1300.0, 1040.0, noise=0.3) for name in ("run", "again")]
    found = control(comparison_of(noisy[0]), noisy[1], predicted(-0.05))
    assert found.outcome == "unclear" and "cannot be told" in found.says


def test_a_run_without_the_two_proves_nothing(tmp_path: Path) -> None:
    run = recorded(tmp_path / "run", 2000.0, 1300.0)
    variants = [
        PlantedVariant(name, [PlantedOp("conv", "CONV_2D", us)], section={"method": "int8"})
        for name, us in (("int8", 1300.0), ("int8+x", 1040.0))
    ]
    alone = World(variants).record(tmp_path / "alone")
    (finding,) = findings([claim(run, predicted())], {0: _without_baseline(alone)})
    assert finding.status == "inconclusive" and "were not both measured again" in finding.because


def _without_baseline(run: Run) -> Run:
    """The run as if it held a baseline of which no inference was kept."""
    latency = run.latency
    run.latency = lambda name, kind="clean", phase=None: latency(  # type: ignore[method-assign]
        "int8" if name == "float32" else name, "none" if name == "float32" else kind, phase
    )
    return run


def test_of_two_causes_about_the_same_ops_the_nearer_one_counts(tmp_path: Path) -> None:
    run, again = recorded(tmp_path / "run", 2000.0, 1300.0), recorded(tmp_path / "again", 2000.0, 1300.0, 1066.0)
    near, far = predicted(-0.2, 0.02), predicted(-0.23, 0.02)
    claims = [claim(run, far, "rate", ("conv",)), claim(run, near, "rate", ("conv", "add"))]
    first, second = findings(claims, {0: again, 1: again})
    assert (first.status, second.status) == ("inconclusive", "confirmed")
    assert first.because == "cause of -0.2 explains the same ops, and its prediction came nearer"
    apart = [claim(run, far, "rate", ("conv",)), claim(run, near, "placement", ("conv",))]
    assert [f.status for f in findings(apart, {0: again, 1: again})] == ["confirmed", "confirmed"]
    others = [claim(run, far, "rate", ("conv",)), claim(run, near, "rate", ("add",))]
    assert [f.status for f in findings(others, {0: again, 1: again})] == ["confirmed", "confirmed"]


@pytest.mark.parametrize(
    ("factor", "status"),
    [(1.0, "confirmed"), (2.0, "inconclusive"), (0.5, "partial")],
)
def test_a_prediction_that_is_twice_or_half_as_large_is_not_confirmed(
    tmp_path: Path, factor: float, status: str
) -> None:
    """The range is its own error, and no wider: doubled, halved or turned, the same effect no longer bears it out."""
    run, again = recorded(tmp_path / "run", 2000.0, 1300.0), recorded(tmp_path / "again", 2000.0, 1300.0, 1064.0)
    (finding,) = findings([claim(run, predicted(-0.2 / factor))], {0: again})
    assert finding.status == status
    (turned,) = findings([claim(run, predicted(0.2 / factor))], {0: again})
    assert turned.status == "refuted"


def test_a_point_whose_error_is_as_large_is_still_cut_off_before_zero() -> None:
    low = Prediction.point("latency", "a", "b", -0.1, 1.0)
    assert low.low < -1.0 and low.high == pytest.approx(-0.01) and low.expected == -0.1
    high = Prediction.point("latency", "a", "b", 0.1, 1.0)
    assert high.low == pytest.approx(0.01) and high.high > 1.0
    assert Prediction("latency", "a", "b", 1.0, 3.0).expected == 2.0


def test_where_nothing_but_bounds_is_known_the_point_is_their_middle() -> None:
    made = Prediction.between("latency", "a", "b", -0.3, -0.1)
    assert made.value == pytest.approx(-0.2)
    assert made.high - made.low == pytest.approx(2 * 1.96 * 0.1 / 3.0**0.5, rel=1e-3)
    wider = Prediction.between("latency", "a", "b", -0.3, -0.1, 0.05)
    assert wider.high - wider.low == pytest.approx(2 * 1.96 * (0.01 / 3.0 + 0.05**2) ** 0.5, rel=1e-3)
    assert Prediction.between("latency", "a", "b", 0.0, 1.0).low == pytest.approx(0.05)  # cut off before zero


def test_what_is_left_of_a_difference_is_held_against_what_there_was(tmp_path: Path) -> None:
    """Both changed: the variant is no slower than the baseline any more, whatever the two take then."""
    times = {"float32": 1000.0, "int8": 1500.0, "float32+x": 3000.0, "int8+x": 3000.0}
    variants = [
        PlantedVariant(name, [PlantedOp("conv", "CONV_2D", us)], 0.0, section={"method": "int8"})
        for name, us in times.items()
    ]
    again = World(variants, Noise(0.005)).record(tmp_path / "again")
    run = recorded(tmp_path / "run", 1000.0, 1500.0)
    gone = Prediction.point("latency", "float32+x", "int8+x", -0.405, 0.01, True, ("float32", "int8"))
    (finding,) = findings([claim(run, gone)], {0: again})
    assert finding.status == "confirmed" and finding.measured is not None
    assert finding.measured.value == pytest.approx(-0.405, abs=0.01)
    plain = Prediction.point("latency", "float32+x", "int8+x", -0.405, 0.01, True)
    (finding,) = findings([claim(run, plain)], {0: again})
    assert finding.status == "refuted"


def test_a_run_that_was_not_left_alone_confirms_nothing(tmp_path: Path) -> None:
    """Everything came out as predicted, and yet the variant's thread waited for a processor half of the time."""
    run = recorded(tmp_path / "run", 2000.0, 1300.0)
    variants = [
        PlantedVariant(name, [PlantedOp("conv", "CONV_2D", us)], 0.0, section={"method": "int8"}, on_cpu=share)
        for name, us, share in (("float32", 2000.0, 1.0), ("int8", 1300.0, 0.5), ("int8+x", 1064.0, 1.0))
    ]
    again = World(variants, Noise(0.005)).record(tmp_path / "again")
    (finding,) = findings([claim(run, predicted())], {0: again})
    assert finding.status == "inconclusive"
    assert finding.because == (
        "the machine was not left alone in the run of the intervention: int8: its thread waited for a processor during "
        "50% of its inferences"
    )
    assert machine_notes(run, again) == ["again: int8: its thread waited for a processor during 50% of its inferences"]


def test_a_machine_in_another_state_is_told_though_ratios_stand(tmp_path: Path) -> None:
    run, again = recorded(tmp_path / "run", 2000.0, 1300.0), recorded(tmp_path / "again", 6000.0, 3900.0)
    (note,) = machine_notes(run, again)
    assert note.startswith("again: the machine changed between the run and this verification: float32 ")
    assert machine_notes(run, recorded(tmp_path / "as-before", 2040.0, 1300.0)) == []


@pytest.mark.parametrize(
    ("held_against", "low", "high", "status"),
    [
        (0.10, 0.3, 0.8, "confirmed"),
        (0.08, 0.3, 0.8, "confirmed"),  # a little worse by chance
        (0.0, 0.3, 0.8, "inconclusive"),  # all of what it gives back would be the control's own loss, too
        (0.2, 0.3, 0.8, "confirmed"),
    ],
)
def test_a_control_that_is_worse_than_the_variant_confirms_nothing(
    tmp_path: Path, held_against: float, low: float, high: float, status: str
) -> None:
    right = {"float32": 0.75, "int8": 0.10, "int8+given": held_against, "int8+gives": 0.75}
    variants = [variant(name, share, section={"method": "int8"}) for name, share in right.items()]
    run = World(variants[:2], manifest={"score_columns": ["accuracy"]}).record(tmp_path / "run")
    again = World(variants, manifest={"score_columns": ["accuracy"]}).record(tmp_path / "again")
    prediction = Prediction("accuracy", "int8+given", "int8+gives", low, high)
    intervention = Intervention("puts activations", prediction, [{"name": "int8+gives", "method": "int8"}])
    hypothesis = Hypothesis("bad_layer", "a claim", "accuracy", None, (), intervention, None)
    (found,) = findings([Claim(comparison_of(run), hypothesis)], {0: again})
    assert found.status == status
    assert ("is worse than int8 itself (accuracy 0." in found.because) is (status == "inconclusive")
