"""When output counts as collapsed, and what its next bit width has to bring back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from planted.cases_accuracy import SHORT, Reader, readers, two_bits
from planted.world import PlantedVariant, World
from qprof.findings.causes.base import Hypothesis
from qprof.findings.causes.collapsed_output import CAUSE
from qprof.findings.comparison import Comparison

BROKEN = Reader(0.1, 0.1, junk=0.85, place=300.0, **SHORT)


def hypotheses(world: World, folder: Path) -> list[Hypothesis]:
    run = world.record(folder / "run")
    return list(CAUSE.hypotheses(Comparison(run, "bfloat16", world.variants[1].name, run.phase())))


def collapsed(folder: Path, name: str, **section: Any) -> Hypothesis:
    variants = [two_bits(BROKEN)[0], BROKEN.variant(name, 2, section=section)]
    (found,) = hypotheses(readers(variants), folder)
    return found


def test_the_claim_and_what_must_come_back(tmp_path: Path) -> None:
    found = collapsed(tmp_path, "gptq-2bit")
    assert found.intervention is not None and found.effect is not None and found.untestable is None
    prediction, lost = found.intervention.prediction, -found.effect.value
    assert (prediction.a, prediction.b) == ("gptq-2bit", "gptq-2bit+3bit")
    assert (prediction.low, prediction.high) == pytest.approx((0.5 * lost, 1.1 * lost))
    assert "the output of gptq-2bit has collapsed" in found.claim
    places = [one.value for one in found.evidence if "median place" in one.what]
    assert places[0] == 1.0 and places[1] > 100.0


@pytest.mark.parametrize(
    ("reader", "why"),
    [
        (Reader(0.1, 0.1, junk=0.2, place=300.0, **SHORT), "words, and not pieces, come first"),
        (Reader(0.1, 0.1, junk=0.85, place=4.0, **SHORT), "the right token is near"),
        (Reader(0.45, 0.45, junk=0.85, place=300.0, **SHORT), "most is right still"),
    ],
)
def test_losses_of_another_kind(tmp_path: Path, reader: Reader, why: str) -> None:
    assert hypotheses(readers(two_bits(reader)), tmp_path) == [], why


def test_pieces_that_the_baseline_puts_first_too_do_not_count(tmp_path: Path) -> None:
    """A tokenizer that begins most words with a piece: the variant is wrong by other words."""
    variants = two_bits(Reader(0.1, 0.1, junk=0.6, place=300.0, **SHORT))
    pieces = {"miss_punctuation": 0.0, "miss_fragment": 0.3, "miss_other": 0.0}
    variants[0] = PlantedVariant(**{**vars(variants[0]), "summary_scores": {**variants[0].summary_scores, **pieces}})
    assert hypotheses(readers(variants), tmp_path) == []


@pytest.mark.parametrize(
    ("name", "section", "method", "bits"),
    [
        ("gptq-2bit", {}, "gptq-3bit", None),
        ("gptq-2bit-g32", {"sym": False}, "gptq-3bit-g32", None),
        ("small", {"method": "gptq-3bit", "bits": 3}, "gptq-4bit", 4),
        ("small", {"method": "gptq", "bits": 4, "kernel": "torch-aten"}, "gptq", 8),
    ],
)
def test_the_next_width_of_the_same_method(
    tmp_path: Path, name: str, section: dict[str, Any], method: str, bits: int | None
) -> None:
    found = collapsed(tmp_path, name, **section)
    assert found.intervention is not None
    (wider,) = found.intervention.variants
    assert (wider["method"], wider["bits"], wider["kernel"]) == (method, bits, "")
    assert wider["sym"] == section.get("sym", True)
    assert wider["name"].startswith(f"{name}+")


@pytest.mark.parametrize(
    ("name", "section", "why"),
    [
        ("gptq-8bit", {}, "has 8 bits, the most there are"),
        ("float16", {}, "names no width"),
        ("gptq-2bit", {"file": "/nowhere/model"}, "ready-made file"),
    ],
)
def test_where_there_is_no_next_width_it_stays_a_hypothesis(
    tmp_path: Path, name: str, section: dict[str, Any], why: str
) -> None:
    found = collapsed(tmp_path, name, **section)
    assert found.intervention is None and why in (found.untestable or "")
