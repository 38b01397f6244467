"""The rules of the suite of real cases, its editor and its truths, on small made-up inputs: no case is run."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import makers_edits as edits
import makers_language as language
import truth_language
from case import Case, Loaded, Planted, Scored, Timed
from graph import Graph
from judge import judge
from suite import calibrated
from table import calibration, totals
from truth import compared, timed

from qprof import embedded

PAIR = Timed({"file": "b"}, {"file": "a"})
MODS = Planted(("insert",), PAIR, 1, ("work",), ("FLOOR_MOD",))
TRUTH = {"delta_us": 100.0, "ratio": 1.1, "low": 1.095, "high": 1.105, "absent_us": 1000.0}


def case(*planted: Planted, **more: Any) -> Case:
    return Case("made-up", lambda folder: None, ({"name": "a"}, {"name": "b"}), planted, **more)


def finding(status: str, claim: str, effect: float | None = 100.0, **more: Any) -> dict[str, Any]:
    made = {"cause": "some_cause", "claim": claim, "figure": "latency", "effect": effect and {"value": effect}}
    return {"hypothesis": made, "status": status} | more


def judged(planted: list[Planted], *items: dict[str, Any], rows: Any = None, **top: Any) -> dict[str, Any]:
    comparison: dict[str, Any] = {"variant": "b", "difference_us": {"value": 100}, "unexplained_us": 20}
    if rows is not None:
        made = {"rows": rows, "same_model": True, "share_explained": 0.9, "difference_us": {"value": 100}}
        comparison["decomposition"] = made
    comparison["findings"] = list(items)
    truth = {"pairs": [TRUTH] * len(planted)}
    return judge(case(*planted), truth, {"comparisons": [comparison]} | top)


def row(mechanism: str, value: float, *ops: tuple[str, float]) -> dict[str, Any]:
    listed = [{"name": "x", "type": kind, "delta_us": delta} for kind, delta in ops]
    return {"mechanism": mechanism, "delta_us": {"value": value}, "ops": listed}


@pytest.mark.parametrize(
    ("made", "named"),
    [
        (row("work", 110, ("FLOOR_MOD", 110)), True),
        (row("work", 400, ("FLOOR_MOD", 110), ("CONV_2D", 290)), True),
        (row("work", 130, ("FLOOR_MOD", 130)), False),
        (row("rate", 110, ("FLOOR_MOD", 110)), False),
        (row("work", 110, ("CONV_2D", 110)), False),
        (row("work", -110, ("FLOOR_MOD", -110)), False),
    ],
)
def test_a_row_names_what_it_holds_at_its_true_size(made: dict[str, Any], named: bool) -> None:
    assert judged([MODS], rows=[made])["planted"][0]["named"] is named


def test_a_row_may_miss_a_small_truth_by_the_truths_own_interval() -> None:
    small = TRUTH | {"delta_us": 4.0}
    made = {"rows": [row("work", 8, ("FLOOR_MOD", 8))], "difference_us": 8}
    comparison = {"variant": "b", "findings": [], "decomposition": made}
    assert judge(case(MODS), {"pairs": [small]}, {"comparisons": [comparison]})["planted"][0]["named"]


@pytest.mark.parametrize(
    ("item", "named", "confirmed"),
    [
        (finding("hypothesis", "inserted FLOOR_MOD"), True, False),
        (finding("confirmed", "inserted FLOOR_MOD"), True, True),
        (finding("confirmed", "inserted ops", ops=[{"name": "x", "type": "FLOOR_MOD"}]), True, True),
        (finding("refuted", "inserted FLOOR_MOD"), False, False),
        (finding("confirmed", "inserted ops"), False, False),
        (finding("confirmed", "FLOOR_MOD is bound by arithmetic", None), False, False),
    ],
)
def test_a_finding_names_by_word_and_op_and_confirms_by_status(item: Any, named: bool, confirmed: bool) -> None:
    found = judged([MODS], item)["planted"][0]
    assert (found["named"], found["confirmed"]) == (named, confirmed)


@pytest.mark.parametrize(
    ("item", "false"),
    [
        (finding("confirmed", "inserted FLOOR_MOD"), 0),
        (finding("confirmed", "inserted FLOOR_MOD", -100.0), 1),
        (finding("confirmed", "inserted FLOOR_MOD", 250.0), 1),
        (finding("confirmed", "17 ops left the delegate"), 1),
        (finding("hypothesis", "17 ops left the delegate"), 0),
        (finding("confirmed", "91 % is bound by arithmetic", None), 0),
        (finding("confirmed", "later ops", mechanism="neighbourhood"), 0),
        (finding("confirmed", "inserted FLOOR_MOD", mechanism="rate"), 1),
        (finding("confirmed", "inserted", mechanism="work", ops=[{"name": "x", "type": "CONV_2D"}]), 1),
    ],
)
def test_a_confirmation_is_false_where_it_contradicts_what_is_planted(item: Any, false: int) -> None:
    assert len(judged([MODS], item)["false"]) == false


def test_every_claimed_difference_is_false_between_identical_files() -> None:
    assert len(judged([], finding("confirmed", "inserted FLOOR_MOD"))["false"]) == 1


@pytest.mark.parametrize(
    ("truth", "established"),
    [({}, True), ({"low": 0.99}, False), ({"ratio": 0.9, "low": 0.895, "high": 0.905}, False)],
)
def test_what_the_truth_does_not_show_counts_in_no_total(truth: dict[str, float], established: bool) -> None:
    found = judge(case(MODS), {"pairs": [TRUTH | truth]}, {"comparisons": []})
    assert found["planted"][0]["established"] is established
    counted = totals([found | {"variants": {}}])
    assert f"{int(established)} things planted" in counted


def test_a_busy_machine_is_named_by_a_doubt_or_an_audit_that_failed() -> None:
    busy = Planted(("busy",), Loaded("a"), 1, figure="environment")
    assert judged([busy], doubts=["the core was busy"])["planted"][0]["named"]
    assert judged([busy], audits=[{"passed": False, "says": "busy"}])["planted"][0]["named"]
    assert not judged([busy], audits=[{"passed": True, "says": "not busy"}])["planted"][0]["named"]


def test_the_share_is_the_decompositions_and_else_what_is_not_unexplained() -> None:
    assert judged([MODS], rows=[])["share"] == 0.9
    assert judged([MODS])["share"] == pytest.approx(0.8)
    assert judged([])["share"] is None


def test_rows_have_to_add_up_to_the_difference() -> None:
    assert judged([MODS], rows=[row("work", 60), row("unattributed", 40)])["closed"] is True
    assert judged([MODS], rows=[row("work", 60), row("unattributed", 40.1)])["closed"] is False
    assert judged([MODS])["closed"] is None


def test_the_error_of_a_prediction_is_in_percent_of_the_latency() -> None:
    prediction = {"figure": "latency", "a": "b", "low": np.log(0.8), "high": np.log(0.9), "relative": True}
    item = finding("confirmed", "inserted FLOOR_MOD", measured={"value": float(np.log(0.8))})
    item["hypothesis"]["intervention"] = {"prediction": prediction}
    assert judged([MODS], item)["errors"] == [pytest.approx(5.0)]


def test_texts_without_a_finite_likelihood_are_a_figure_of_their_own() -> None:
    item = finding("confirmed", "computes infinities", 0.97)
    item["hypothesis"]["figure"] = "not_finite"
    infinite = Planted(("infinit",), Scored({"file": "b"}, {"file": "a"}), 1, figure="not_finite")
    comparison = {"variant": "b", "findings": [item]}
    truth = {"present": 1.0, "absent": 0.0, "points": 100.0}
    found = judge(case(infinite), {"pairs": [truth]}, {"comparisons": [comparison]})
    assert found["planted"][0]["confirmed"] and found["false"] == []
    assert judged([MODS], item)["false"] == ["no not_finite is planted: some_cause: computes infinities"]


def test_a_likelihood_is_finite_or_not_by_the_type_that_it_is_computed_in(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    folder, texts = tmp_path / "large", tmp_path / "texts.jsonl"
    language.plain(folder, language.large_inside(2, 2.0**15))
    texts.write_text('{"text": "the dog sees the cat and the dog"}\n')
    assert truth_language.share(folder, str(texts), "float16", "not finite") == 1.0
    assert truth_language.share(folder, str(texts), "bfloat16", "not finite") == 0.0


@pytest.mark.parametrize("less", [1, 0])
def test_zero_points_are_stored_one_less_or_as_they_are(less: int) -> None:
    """As they are, a reader of version 1 takes every weight for one step less."""
    pytest.importorskip("torch")
    weight = np.random.default_rng(0).normal(size=(48, 128)).astype(np.float32)
    steps, scales = language._rounded(weight, 4, 64)
    packed = {f"layer.{key}": value for key, value in language._packed(steps, scales, 4, 64, less).items()}
    off = truth_language._unpacked(packed, "layer", 4).numpy() - language._real(steps, scales, 4, 64).T
    expected = np.repeat(scales, 64, axis=0).T * (less - 1.0)
    np.testing.assert_allclose(off, expected, rtol=1e-3, atol=1e-6)


def test_a_ratio_is_the_median_of_the_rounds_and_heeds_no_disturbed_one() -> None:
    absent = np.asarray([100.0, 200.0] * 7 + [100.0])
    present = 1.5 * absent
    present[3] *= 9
    found = compared(present, absent)
    assert (found["ratio"], found["low"], found["high"]) == (1.5, 1.5, 1.5)


def test_an_interval_of_15_rounds_ends_at_the_fourth_of_either_side() -> None:
    found = compared(np.arange(1.0, 16.0), np.ones(15))
    assert (found["low"], found["ratio"], found["high"]) == (4, 8, 12)


def test_floor_mod_is_inserted_without_changing_what_the_model_computes(tmp_path: Path) -> None:
    source, planted = embedded.path("shapes_detector.tflite"), tmp_path / "planted.tflite"
    edits.floor_mods(source, planted, 2)
    graph = Graph(planted)
    inserted = {int(op.outputs[0]) for op in graph.of_type("FLOOR_MOD")}
    assert len(inserted) == 2
    assert inserted <= {int(tensor) for op in graph.ops for tensor in op.inputs}
    np.testing.assert_array_equal(_heatmap(planted), _heatmap(source))


def test_an_edited_file_that_is_read_again_is_the_same(tmp_path: Path) -> None:
    source = embedded.path("shapes_detector.tflite")
    again = Graph(source).save(tmp_path / "again.tflite")
    np.testing.assert_array_equal(_heatmap(again), _heatmap(source))


def test_what_takes_longer_is_timed_longer(tmp_path: Path) -> None:
    source, planted = embedded.path("shapes_detector.tflite"), tmp_path / "planted.tflite"
    edits.floor_mods(source, planted, 8)
    medians = np.median(timed([{"file": str(planted)}, {"file": str(source)}], rounds=3), axis=0)
    assert medians[0] > 2 * medians[1]  # 3.5 times where it was written


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_packed_weights_are_unpacked_to_what_they_stand_for(bits: int) -> None:
    pytest.importorskip("torch")
    weight = np.random.default_rng(0).normal(size=(48, 128)).astype(np.float32)
    steps, scales = language._rounded(weight, bits, 64)
    scales = scales.astype(np.float16)
    packed = {f"layer.{key}": value for key, value in language._packed(steps, scales, bits, 64).items()}
    unpacked = truth_language._unpacked(packed, "layer", bits).numpy()
    np.testing.assert_allclose(unpacked, language._real(steps, scales, bits, 64).T, rtol=1e-6)
    assert np.abs(unpacked - weight).max() <= np.abs(weight).max() / 2 ** (bits - 1)


def _heatmap(path: Path) -> np.ndarray:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    entry = interpreter.get_input_details()[0]
    values = np.random.default_rng(1).uniform(-1, 1, entry["shape"]).astype(np.float32)
    interpreter.set_tensor(entry["index"], values)
    interpreter.invoke()
    return next(
        interpreter.get_tensor(detail["index"])
        for detail in interpreter.get_output_details()
        if detail["name"].startswith("heatmap")
    )


def predicted(value: float | None, error: float, measured: float) -> dict[str, Any]:
    """A claim on latency whose intervention was run and measured within 0.5 %."""
    half = 1.96 * error
    middle = measured if value is None else value
    prediction = {"figure": "latency", "a": "b", "low": middle - half, "high": middle + half, "relative": True}
    item = finding(
        "confirmed",
        "inserted FLOOR_MOD",
        measured={"value": measured, "low": measured - 0.0098, "high": measured + 0.0098},
        control={"outcome": "reproduced"},
    )
    item["hypothesis"]["intervention"] = {"prediction": prediction | {"value": value}}
    return item


def test_the_suite_fails_where_predictions_are_not_off_by_as_much_as_they_say() -> None:
    """Errors that are doubled or halved for all, or gone with all but the sign, fall out of what the suite takes."""
    rng = random.Random(0)
    off = [rng.gauss(0.0, 0.03) for _ in range(60)]

    def passes(widths: float, value: float | None = -0.3) -> bool:
        items = [predicted(value, widths * 0.03, -0.3 + one) for one in off]
        return calibrated([judged([MODS], item) for item in items], whole=True)

    assert passes(1.0)
    assert not passes(2.0) and not passes(0.5) and not passes(1.0, None)


def test_a_few_cases_are_too_few_to_say_so() -> None:
    one = [judged([MODS], predicted(-0.3, 0.001, -0.6))]
    assert calibrated(one, whole=False) and not calibrated(one, whole=True)
    assert calibration([{"failed": "x"}]) == 1.0
