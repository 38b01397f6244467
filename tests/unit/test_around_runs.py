"""Which variants of several runs belong together."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from qprof.findings.around_runs import align_variants
from qprof.record.manifest import VariantEntry


def run(*variants: tuple[str, str | None]) -> Any:
    """A run of variants (name, hash), the first of which is the baseline."""
    entries = [VariantEntry(name=name, sha256=sha256) for name, sha256 in variants]
    return SimpleNamespace(variants=entries, manifest=SimpleNamespace(baseline=entries[0]))


def lines(*runs: Any) -> list[tuple[str | None, ...]]:
    return [line.names for line in align_variants(runs)]


def test_one_name_goes_before_one_file() -> None:
    assert lines(run(("a", "1"), ("b", "2")), run(("b", "1"), ("a", "2"))) == [("a", "a"), ("b", "b")]


def test_of_those_left_one_file_and_then_the_baselines_belong_together() -> None:
    first, second = run(("float", "1"), ("int8", "2")), run(("fp32", "9"), ("quantized", "2"))
    assert lines(first, second) == [("float", "fp32"), ("int8", "quantized")]
    assert align_variants([first, second])[0].label == "float / fp32"


def test_what_has_no_partner_stands_alone() -> None:
    assert lines(run(("a", "1"), ("b", None)), run(("a", "1"), ("c", None))) == [("a", "a"), ("b", None), (None, "c")]


def test_a_third_run_joins_what_only_the_second_has() -> None:
    found = lines(run(("a", "1")), run(("a", "1"), ("c", "3")), run(("a", "1"), ("c", "4")))
    assert found == [("a", "a", "a"), (None, "c", "c")]
