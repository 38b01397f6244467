"""What is said and decided by how near outputs are to the baseline's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Literal, cast

from qprof.findings.check import _of_limits
from qprof.findings.choice import Candidate, Limits, choose
from qprof.findings.comparison import Comparison
from qprof.findings.distance import OutputFigures, VariantDistance, on_random_inputs
from qprof.findings.explanation import default_limits
from qprof.findings.float_layers import loses
from qprof.findings.verdicts import FigureVerdict
from qprof.record.manifest import OutputsCompared, VariantEntry
from qprof.report.distance import distance_line, distance_lines, random_line
from qprof.report.scores import cell_text, score_text
from qprof.stats.intervals import Interval
from qprof.stats.paired_outcomes import PairedOutcomes
from qprof.stats.verdict import Kind, Known, NoGain, judge


def found(value: float, low: float | None = None, high: float | None = None) -> Interval:
    return Interval(value, low, high, 0.95)


WHOLE = OutputFigures(
    output="",
    meaning="probabilities",
    identical=False,
    same_top=found(0.972, 0.95, 0.99),
    closeness=found(0.9718, 0.97, 0.98),
    cosine=found(0.99964),
    kl=found(0.0102, 0.01, 0.0103),
    sqnr_db=found(31.04, 30.5, 31.6),
)
INT8 = VariantDistance("float32", "int8", 256, False, False, WHOLE)


def test_the_plain_statement() -> None:
    assert distance_line(INT8) == (
        "same top answer as float32 on 97.2 % [95.0, 99.0] of 256 inputs, SQNR 31.0 dB [30.5, 31.6], "
        "error 2.82 % [2.00, 3.00] of the output, cosine 0.9996, KL 0.0102 nats [0.01, 0.0103]"
    )
    rows = replace(INT8, whole=replace(WHOLE, many_rows=True))
    assert "on 97.2 % [95.0, 99.0] of the rows of 256 inputs" in distance_line(rows)
    close = replace(INT8, whole=replace(WHOLE, same_top=found(0.9996, 0.999, 1.0)))
    assert "on 99.96 % [99.90, 100.00] of" in distance_line(close)
    values = replace(INT8, random=True, whole=replace(WHOLE, meaning="values", same_top=None, kl=None))
    assert distance_line(values).startswith("on 256 random inputs: SQNR 31.0 dB") and "KL" not in distance_line(values)
    same = replace(INT8, whole=replace(WHOLE, identical=True))
    assert distance_line(same) == "outputs are the same as float32's, bit by bit, on 256 inputs"


def test_what_the_figures_rest_on() -> None:
    hollow = replace(INT8, one_answer=True, whole=replace(WHOLE, tied=3, nonfinite=2))
    text = "\n".join(distance_lines([hollow]))
    assert "same top answer on all of these inputs, so that agreeing with it says nothing" in text
    assert "same top answer as" not in text
    assert "shared by several on 3 of 256 inputs" in text and "2 elements are not finite" in text
    assert "taken for probabilities" in text
    few = "no interval: 4 inputs given, at least 5 are needed"
    assert few in "\n".join(distance_lines([replace(INT8, inputs=4)]))
    assert "no interval" not in "\n".join(distance_lines([replace(INT8, inputs=5)]))
    assert list(distance_lines([])) == []


def test_outputs_are_told_one_by_one_the_furthest_first() -> None:
    outputs = [replace(WHOLE, output=f"out{n}", closeness=found(1.0 - n / 100)) for n in range(6)]
    text = list(distance_lines([replace(INT8, outputs=tuple(outputs))]))
    told = [line.split()[0] for line in text if line.startswith("    out")]
    assert told == ["out5", "out4", "out3", "out2"]
    assert text[-1].startswith("    2 more, all nearer")


def test_random_inputs_are_said_once() -> None:
    assert random_line([INT8]) is None and random_line([]) is None
    line = random_line([INT8, replace(INT8, random=True)])
    assert line is not None and line.startswith("RANDOM INPUTS  outputs were compared on 256 random inputs.")


def test_scores_below_one_do_not_look_like_one() -> None:
    assert [score_text(value) for value in (1.0, 0.9996, 0.99999, 0.9999999, 0.5, None)] == [
        "1.000",
        "0.9996",
        "0.99999",
        ">0.99999",
        "0.500",
        None,
    ]
    assert cell_text("sqnr_db", {"sqnr_db": 31.04, "closeness": 0.97}) == "31.0"
    assert cell_text("sqnr_db", {"sqnr_db": None, "closeness": 1.0}) == "exact"
    assert cell_text("sqnr_db", {"sqnr_db": None, "closeness": 0.0}) is None


def test_nothing_is_nearer_to_the_baseline_than_itself() -> None:
    all_same = NoGain(PairedOutcomes(1000, 0, 0))
    interval = all_same.interval()
    assert all_same.p_above(0.0) == 1.0 and all_same.p_below(0.001) == 0.0
    assert interval.high == 0.0 and interval.low is not None and -0.005 < interval.low < -0.003
    assert judge(all_same, 0.005, lower_is_better=False).kind == "equivalent"
    assert judge(NoGain(PairedOutcomes(8, 0, 0)), 0.005, lower_is_better=False).kind == "inconclusive"
    off = judge(NoGain(PairedOutcomes(1000, 50, 0)), 0.005, lower_is_better=False)
    assert off.kind == "worse" and off.p_difference is not None and off.p_difference < 1e-9
    assert judge(Known(0.0), 0.005, lower_is_better=False).kind == "equivalent"


class NoPairs:
    def figures(self, a: str, b: str) -> Iterator[FigureVerdict]:
        return iter(())

    def request(self, a: str, b: str) -> Kind | None:
        return None


def candidate(name: str, drop: float, score_name: str = "same_top") -> Candidate:
    return Candidate(name, 1.0 - drop, 1.0 - (1.0 - drop), drop, 100.0 - drop, None, 10, score_name=score_name)


def test_what_holds_on_random_inputs_alone_is_doubtful() -> None:
    near, far = (replace(candidate("int8", drop), random_inputs=True) for drop in (0.01, 0.2))
    limits = Limits(score_drop=0.05)
    choice = choose([near], limits, NoPairs())
    assert (choice.variant, choice.doubts) == (
        "int8",
        ["its same_top is that on random inputs, which bound nothing on yours"],
    )
    assert choose([near], Limits(size_bytes=20), NoPairs()).doubts == []
    assert [check.outcome for one in (near, far) for check in _of_limits(one, limits)] == ["doubtful", "failed"]
    (given,) = _of_limits(candidate("int8", 0.01), limits)
    assert given.outcome == "passed"
    # The upper bound lies on the limit, but for rounding.
    (at_limit,) = _of_limits(replace(candidate("int8", 0.01), most_drop=1.0 - 0.95), limits)
    assert at_limit.outcome == "passed"


def test_the_baselines_own_file_is_near_on_any_input() -> None:
    def entry(inputs: Literal["given", "random"], same: bool) -> VariantEntry:
        compared = OutputsCompared(samples=8, inputs=inputs, seconds=0.1, same=same)
        return VariantEntry(name="b", outputs_compared=compared)

    assert on_random_inputs(entry("random", same=False))
    assert not on_random_inputs(entry("random", same=True)) and not on_random_inputs(entry("given", same=False))


def test_nobody_knows_the_accuracy_without_labels() -> None:
    def told(metric: str) -> str:
        names = SimpleNamespace(run=SimpleNamespace(metric=metric), baseline="float32", variant="int8")
        return loses(cast(Comparison, names))

    assert told("AP") == told("accuracy") == "int8 loses its accuracy"
    assert told("closeness") == told("same_top") == "int8 moves away from float32's outputs"


def test_limits_without_labels_are_their_own() -> None:
    ones = [candidate("float32", 0.0), candidate("int8", 0.05), candidate("int4", 0.06)]
    limits = default_limits(ones)
    assert limits == Limits(score_drop=0.05)
    choice = choose(ones, limits, NoPairs())
    assert choice.misses == {"int4": ["loses same_top 6.00 points, the limit is 5.00 points"]}
    assert choice.doubts == []
    assert default_limits([candidate("a", 0.0, "closeness")]) == Limits(score_drop=0.1)
    assert default_limits([candidate("a", 0.0, "accuracy")]) == Limits(score_drop=0.01)
