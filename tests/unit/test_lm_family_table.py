"""The README's table of families of language models says of each what the tests run, and of no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import qprof
from lm_families import FAMILIES

README = Path(qprof.__file__).parent / "runtimes" / "torch_lm" / "README.md"
TESTS = Path(__file__).parent / "test_lm_families.py"

#: What a column's head claims -> the check of `test_lm_families.py` that every family goes through for it.
CHECKS = {"per layer": "check_layers(model, ", "decoding": "check_phases(model)", "GPTQ": "check_variant(family, "}


def table() -> tuple[list[str], dict[str, list[str]]]:
    """The columns' heads, and family -> the other cells of its row."""
    text = README.read_text(encoding="utf-8")
    head, _, *rows = (line.strip("| ").split(" | ") for line in re.findall(r"^\|.*$", text, re.MULTILINE))
    named = [(name, cells) for first, *cells in rows for name in first.split(", ")]
    found = {name.strip("`"): cells for name, cells in named}
    assert len(found) == len(named), "a family stands in two rows"
    return head, found


def test_its_columns_are_what_is_checked_of_every_family() -> None:
    head, _ = table()
    assert head == ["families", *CHECKS, "what is particular"]
    code = TESTS.read_text(encoding="utf-8")
    assert all(check in code for check in CHECKS.values())


def test_it_lists_every_family_and_no_other() -> None:
    assert sorted(table()[1]) == sorted(FAMILIES)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_row_says_what_the_tests_expect(name: str) -> None:
    family = FAMILIES[name]
    per_layer, decoding, gptq, particular = table()[1][name]
    assert per_layer == "yes"
    assert decoding == f"{family.rows} row{'s' * (family.rows > 1)}"
    assert gptq == (f'"{family.no_gptq}"' if family.no_gptq else "yes")
    assert particular.startswith("experts") == family.experts


def test_its_counts_are_those_of_the_families() -> None:
    text = " ".join(README.read_text(encoding="utf-8").split())
    without = sum(bool(family.no_gptq) for family in FAMILIES.values())
    assert f"All {len(FAMILIES)} went through" in text
    assert f"{len(FAMILIES) - without} with bfloat16 and `gptq-4bit-g32`, the other {without} with" in text
