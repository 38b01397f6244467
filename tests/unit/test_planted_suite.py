"""Planted causes are found, and nothing else is: all cases of `tests/planted`, and the suite that counts them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from planted import suite
from planted.cases_environment import busy_neighbour, nothing
from planted.suite import Case, Outcome


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    cases, _ = suite.discovered()
    causes, _ = suite.loaded_causes()
    return [suite.run_case(name, make, causes) for name, make in cases.items()]


def test_every_module_of_cases_and_causes_can_be_imported() -> None:
    broken = suite.discovered()[1] | suite.loaded_causes()[1]
    assert not broken, broken


def test_every_case_runs(outcomes: list[Outcome]) -> None:
    errors = [f"{outcome.name}:\n{outcome.error}" for outcome in outcomes if outcome.error]
    assert len(outcomes) >= 19 and not errors, "\n".join(errors)


def test_planted_causes_are_confirmed(outcomes: list[Outcome]) -> None:
    assert suite.recall(outcomes) >= 0.95, f"\n{suite.table(outcomes)}"


def test_nothing_else_is_confirmed(outcomes: list[Outcome]) -> None:
    assert not [outcome.name for outcome in outcomes if outcome.false], f"\n{suite.table(outcomes)}"


def test_the_suite_counts_what_is_missed_and_what_is_false() -> None:
    causes, _ = suite.loaded_causes()
    found = suite.run_case("missed", lambda: Case(busy_neighbour().world, {("no such cause", "int8")}), causes)
    assert found.error is None and found.missed == {("no such cause", "int8")}
    assert found.false == {("busy_neighbour", "int8")}
    right = suite.run_case("right", busy_neighbour, causes)
    assert suite.recall([found, right]) == 0.5 and suite.precision([found, right]) == 0.5
    quiet = suite.run_case("quiet", nothing, causes)
    assert suite.recall([quiet]) == suite.precision([quiet]) == 1.0
    text = suite.table([found, right])
    assert "missed: no such cause of int8 (no hypothesis)" in text and "false: busy_neighbour of int8" in text
    assert "recall 0.500, precision 0.500, 0 errors" in text


def test_a_case_or_a_cause_that_raises_is_an_error_of_the_suite() -> None:
    class Broken:
        name = title = "broken"

        def hypotheses(self, comparison):
            raise RuntimeError("not written yet")

    found = suite.run_case("quiet", nothing, [Broken()])
    assert found.error is not None and "RuntimeError: not written yet" in found.error
    assert "error: RuntimeError: not written yet" in suite.table([found])
    never = suite.run_case("never", lambda: replace(nothing(), worlds=1), [])  # type: ignore[call-arg]
    assert never.error is not None and "TypeError" in never.error


def test_a_broken_module_is_reported_and_the_others_are_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (("cases_broken", "import nonesuch"), ("cases_environment", "")):
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.setattr(suite, "__file__", str(tmp_path / "suite.py"))
    import planted

    monkeypatch.setattr(planted, "__path__", [str(tmp_path)])
    cases, broken = suite.discovered()
    assert list(broken) == ["planted.cases_broken"] and "nonesuch" in broken["planted.cases_broken"]
    assert "busy neighbour" in cases


def test_two_cases_of_one_name_are_refused() -> None:
    def other() -> Case:
        return nothing()

    with pytest.raises(ValueError, match="two cases are called 'busy neighbour'"):
        suite.case("busy neighbour")(other)
