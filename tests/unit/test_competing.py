"""Of causes that are confirmed about one and the same op or lost score, one counts; those about others all do."""

from __future__ import annotations

import pytest

from planted.cases_layers import variant
from planted.world import World
from qprof.findings.causes.base import Finding, Hypothesis, Intervention, OpRef, Prediction
from qprof.findings.comparison import Comparison
from qprof.findings.competing import competed
from qprof.findings.verify import Claim
from qprof.stats.intervals import Interval

#: 0.8 is lost to 0.4 of the samples.
LOST = -0.4


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    world = World(
        [variant("float32", 0.8), variant("int8", 0.8 + LOST)],
        rounds=2,
        inferences=5,
        manifest={"score_columns": ["accuracy"]},
    )
    return Comparison(world.record(tmp_path_factory.mktemp("run") / "run"), "float32", "int8", "inference")


def around(value: float) -> Interval:
    """Of an effect on a share of rows: narrow where nearly all of them are right again, and nothing above all."""
    return Interval(value, value - 0.04, min(value + 0.004, -LOST) if value > 0.37 else value + 0.04, 0.95)


def outcome(
    *causes: tuple[Comparison, str, float, int], status: str = "confirmed", remark: bool = False, rescored: bool = False
) -> list[tuple[str, str]]:
    """Status and reason of findings: each of a comparison and a cause, the points that came back, and how many layers
    its intervention replaces."""
    claims, found = [], []
    for comparison, cause, back, replaces in causes:
        prediction = Prediction("accuracy", "int8", f"int8+{cause}", -0.5 * LOST, -1.3 * LOST)
        intervention = Intervention(
            "mends it", prediction, rescored=around(back) if rescored else None, replaces=replaces
        )
        hypothesis = Hypothesis(cause, "a claim", "accuracy", around(LOST), (), intervention, remark=remark)
        claims.append(Claim(comparison, hypothesis))
        found.append(Finding(hypothesis, status, "", around(back)))  # type: ignore[arg-type]
    return [(one.status, one.because) for one in competed(claims, found)]


def of_ops(comparison: Comparison, *causes: tuple[str, float, str]) -> list[tuple[str, str]]:
    """Status and reason of confirmed findings about the time of one op, that has a name and a type: each of a cause, an
    effect, and a type. The later ones come nearer to their predictions."""
    claims, found = [], []
    for nearer, (cause, effect, op_type) in enumerate(causes):
        prediction = Prediction("latency", "int8", f"int8+{nearer}", -0.12, -0.08, relative=True)
        intervention = Intervention("takes it away", prediction)
        ops = (OpRef("swish", op_type),)
        hypothesis = Hypothesis(
            cause, "a claim", "latency", around(effect), (), intervention, mechanism="work", ops=ops
        )
        claims.append(Claim(comparison, hypothesis))
        measured = Interval(-0.085 - 0.01 * nearer, -0.12, -0.08, 0.95)
        found.append(Finding(hypothesis, "confirmed", "", measured))
    return [(one.status, one.because) for one in competed(claims, found)]


def test_of_two_causes_about_one_op_the_nearer_counts(comparison: Comparison) -> None:
    found = of_ops(comparison, ("other_work", -50.0, "MUL"), ("left_delegate", 290.0, "MUL"))
    assert found == [
        ("inconclusive", "left_delegate explains the same ops, and its prediction came nearer"),
        ("confirmed", ""),
    ]
    assert [status for status, _ in of_ops(comparison, ("a", 1.0, "CONV_2D"), ("b", 1.0, "FUSED_CONV"))] == [
        "inconclusive",
        "confirmed",
    ]


def test_what_went_and_what_has_its_name_now_are_two_ops(comparison: Comparison) -> None:
    found = of_ops(comparison, ("other_work", -50.0, "HARD_SWISH"), ("other_work", 290.0, "MUL"))
    assert [status for status, _ in found] == ["confirmed", "confirmed"]


def test_of_two_that_give_all_of_it_back_the_one_that_replaces_less_counts(comparison: Comparison) -> None:
    layer, settings = outcome((comparison, "bad_layer", 0.4, 1), (comparison, "settings_beside_weights", 0.39, 0))
    assert settings == ("confirmed", "")
    told = "settings_beside_weights is about the same points of accuracy, and puts less in another's place"
    assert layer == ("inconclusive", told)


def test_one_that_gives_back_more_counts_whatever_it_replaces(comparison: Comparison) -> None:
    layer, ranges = outcome((comparison, "bad_layer", 0.4, 3), (comparison, "clipped_ranges", 0.22, 0))
    assert layer == ("confirmed", "")
    assert ranges == ("inconclusive", "bad_layer is about the same points of accuracy, and accounts for more of them")


def test_what_takes_the_score_from_the_baseline_competes_with_what_gives_it_back(comparison: Comparison) -> None:
    image, ranges = outcome((comparison, "coarse_input", 0.22, 1), (comparison, "clipped_ranges", -0.21, 45))
    assert [image[0], ranges[0]] == ["confirmed", "inconclusive"]


def test_those_about_other_points_all_count(comparison: Comparison) -> None:
    """Together they give back no more than was lost."""
    found = outcome((comparison, "bad_layer", 0.21, 1), (comparison, "clipped_ranges", 0.18, 0))
    assert [status for status, _ in found] == ["confirmed", "confirmed"]


def test_of_three_about_the_same_points_one_counts(comparison: Comparison) -> None:
    causes = [("all_layers_alike", 28), ("bad_layer", 2), ("misread_weights", 0)]
    found = outcome(*((comparison, cause, 0.4, replaces) for cause, replaces in causes))
    assert [status for status, _ in found] == ["inconclusive", "inconclusive", "confirmed"]
    assert all(because.startswith("misread_weights is about") for _, because in found[:2])


@pytest.mark.parametrize(
    ("status", "remark", "rescored"),
    [("confirmed", True, False), ("confirmed", False, True), ("partial", False, False)],
)
def test_what_is_not_confirmed_by_a_run_competes_with_nothing(
    comparison: Comparison, status: str, remark: bool, rescored: bool
) -> None:
    causes = [(comparison, "bad_layer", 0.4, 1), (comparison, "misread_weights", 0.4, 0)]
    found = outcome(*causes, status=status, remark=remark, rescored=rescored)
    assert found == [(status, "")] * 2


def test_another_comparison_is_another_loss(comparison: Comparison) -> None:
    other = Comparison(comparison.run, "float32", "int8", "inference")
    assert outcome((comparison, "bad_layer", 0.4, 1), (other, "misread_weights", 0.4, 0)) == [("confirmed", "")] * 2
