"""What is told of a search."""

from __future__ import annotations

from pathlib import Path

from qprof.findings.search.outcome import Member, Outcome
from qprof.report.search import outcome_lines, outcome_table
from qprof.report.table import render
from qprof.stats.intervals import Interval


def member(name: str, layers: int, gained: Interval | None = None, ratio: Interval | None = None) -> Member:
    names = tuple(f"layer{number}" for number in range(layers))
    return Member(name, names, "", 0.7, 0.65, gained, gained, 1.0, 1000, None, ratio)


def outcome(layers: int, metric: str = "AP", good_enough: bool = True) -> Outcome:
    gained = Interval(0.02, 0.01, 0.03, 0.99)
    members = [member("int8", 0), member("mixed", layers, gained, Interval(0.0, -0.01, 0.01, 0.99)), member("f", 0)]
    half = {"selection": 20, "report": 21}
    path = Path("s/chosen.toml")
    return Outcome(
        *(metric, "latency", "f", "int8", "mixed", good_enough, 9, 2, members, 0.99, 3, half),
        recipe=Path("s/mixed.json"),
        usage="tool: call",
        profile=path,
        files={},
    )


def test_the_table_tells_both_halves_and_what_makes_the_intervals_honest() -> None:
    text = render(outcome_table(outcome(3)), width=None, color=False)
    row = next(line for line in text.splitlines() if line.startswith("chosen  mixed"))
    assert "0.7000" in row and "0.6500" in row
    assert "+2.00 pt [+1.00, +3.00]" in row and "x1.000 [0.990, 1.010]" in row
    assert "chosen by 20 samples, told by 21 others" in text
    assert "each at 99.00%; look 3" in text and "2 trials could not be made" in text


def test_likelihoods_are_no_points() -> None:
    text = render(outcome_table(outcome(3, "log_likelihood")), width=None, color=False)
    assert "+0.020 nats [+0.010, +0.030]" in text


def test_many_layers_are_not_all_listed_and_a_poor_best_is_told_as_such() -> None:
    lines = outcome_lines(outcome(15, good_enough=False))
    assert sum(line.startswith("  layer") for line in lines) == 12
    assert "  and 3 more, listed in chosen.toml" in lines
    assert any("not as good as was asked for" in line for line in lines)
    assert lines[-2:] == ["run it: qprof run s/chosen.toml", "recipe: s/mixed.json, for tool: call"]
