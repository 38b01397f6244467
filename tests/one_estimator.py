"""One number, one interval, one word: what `show`, `diff`, `explain` and `check` say of one quantity of one run."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qprof.findings.margins import LATENCY_MARGIN

#: Runs a command on words: what it printed.
Out = Callable[..., str]
#: The same, for a command whose JSON is wanted.
Json = Callable[..., Any]


def assert_commands_agree(run: Path, out: Out, json_of: Json) -> int:
    """All latencies of all variants; returns how many were compared."""
    shown = {row["name"]: row for row in json_of("show", run) if row["status"] == "ok"}
    explained = json_of("explain", run, "-q")
    baseline = explained["baseline"]
    told = {(one["variant"], one["figure"]): one for one in explained["verdicts"]}
    phases = [phase["name"] for phase in shown[baseline]["phases"]]
    compared = 0
    for name, summary in shown.items():
        assert_check_uses_the_same_p50(run, out, summary, explained["candidates"])
        if name == baseline:
            continue
        for position, phase in enumerate(phases):
            verdict = told[name, "latency" if len(phases) == 1 else f"{phase} latency"]
            table = json_of("diff", run, baseline, name, "--phase", phase)
            show, base = summary["phases"][position], shown[baseline]["phases"][position]
            assert show["ratio"] == table["end_to_end"]
            ratio, difference = show["ratio"]["log_ratio"], show["ratio"]["difference"]
            assert (show["ratio"]["a"], show["ratio"]["b"]) == (base["latency_us"], show["latency_us"])
            assert (verdict["baseline"], verdict["value"]) == (base["latency_us"]["value"], show["latency_us"]["value"])
            assert verdict["difference"] == difference
            for bound in ("value", "low", "high"):
                if ratio[bound] is None:
                    assert verdict["change"][bound] is None and difference[bound] is None
                    continue
                assert verdict["change"][bound] == pytest.approx(math.expm1(ratio[bound]), abs=1e-12)
                assert difference[bound] == pytest.approx(verdict["baseline"] * verdict["change"][bound])
            words = [show["verdict"], verdict["kind"], table["verdict"]]
            assert words == [expected_word(explained, name, verdict["change"])] * 3
            parts = math.fsum(row["delta_us"]["value"] for row in table["rows"])
            assert parts == pytest.approx(difference["value"], abs=1e-6)
            for found in explained["comparisons"]:
                if (found["variant"], found["phase"]) == (name, phase):
                    assert found["difference_us"] == difference
            printed = out("diff", run, baseline, name, "--phase", phase).splitlines()
            assert next(line for line in printed if " (A) -> " in line).endswith(f": {verdict['kind']}")
            back = json_of("diff", run, name, baseline, "--phase", phase)["end_to_end"]["log_ratio"]
            assert back["value"] == pytest.approx(-ratio["value"], abs=1e-12)
            compared += 1
    return compared


def expected_word(explained: dict[str, Any], variant: str, change: dict[str, float | None]) -> str:
    """None is given where the machine was disturbed too much."""
    disturbed = {doubt["variant"] for doubt in explained["doubts"] if doubt["withholds"]}
    return "withheld" if disturbed & {variant, explained["baseline"]} else word_of(change)


def word_of(change: dict[str, float | None]) -> str:
    """By the rule that is told to readers."""
    low, high = change["low"], change["high"]
    if low is None or high is None:
        return "inconclusive"
    # The margin of a ratio is the same either way: x 1.02 and / 1.02.
    if high < LATENCY_MARGIN and low > 1.0 / (1.0 + LATENCY_MARGIN) - 1.0:
        return "equivalent"
    return "inconclusive" if low <= 0.0 <= high else "better" if high < 0.0 else "worse"


def assert_check_uses_the_same_p50(run: Path, out: Out, summary: dict[str, Any], candidates: list[Any]) -> None:
    """And is doubtful where the interval that `show` prints passes the limit, and the value does not."""
    [candidate] = [one for one in candidates if one["variant"] == summary["name"]]
    p50s = [phase["latency_us"] for phase in summary["phases"]]
    if len(p50s) > 1 or p50s[0]["high"] is None:
        return
    [p50] = p50s
    assert (candidate["latency_us"], candidate["most_latency_us"]) == (p50["value"], p50["high"])
    limits = {"passed": p50["high"] * 1.01, "doubtful": (p50["value"] + p50["high"]) / 2, "failed": p50["low"] * 0.99}
    for outcome, limit_us in limits.items():
        if outcome == "doubtful" and p50["high"] - p50["value"] < 1e-6 * p50["value"]:
            continue
        text = out("check", run, "--max-p50", f"{limit_us:.9f}us", "-v", summary["name"])
        [line] = [line for line in text.splitlines() if re.match(rf"{re.escape(summary['name'])}\s+p50\s", line)]
        assert outcome in line and f"{p50['value'] * 1e-3:.4g} ms, limit" in line
