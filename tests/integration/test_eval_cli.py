"""`qprof eval coco`: tables, JSON, CSV, comparisons, and what is said of bad input."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coco_shapes import results_with, shaped_content
from command_line import CommandLine
from qprof import coco

NAMES = [
    "AP",
    "AP50",
    "AP75",
    "APsmall",
    "APmedium",
    "APlarge",
    "AR1",
    "AR10",
    "AR100",
    "ARsmall",
    "ARmedium",
    "ARlarge",
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """A folder with gt.json, dt.json and the worse worse.json."""
    folder = tmp_path_factory.mktemp("eval")
    rng = np.random.default_rng(2)
    annotations: list[dict[str, Any]] = []
    for number in range(1, 200):
        box = np.round([*rng.uniform(0, 90, 2), *rng.choice([20.0, 50.0, 120.0], 2)], 1).tolist()
        place = {"image_id": int(rng.integers(1, 41)), "category_id": int(rng.integers(1, 3))}
        annotations.append({"id": number, "bbox": box, "area": box[2] * box[3], "iscrowd": 0, **place})
    found = []
    for near in annotations * 3:
        box = np.round(np.array(near["bbox"]) + rng.normal(0, 4, 4), 1).tolist()
        place = {key: near[key] for key in ("image_id", "category_id")}
        found.append({**place, "bbox": box, "score": round(float(rng.uniform()), 3)})
    worse = [{**entry, "bbox": [entry["bbox"][0] + 6.0, *entry["bbox"][1:]]} for entry in found]
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "=dog"}, {"id": 3, "name": "emu"}]
    truth = {"images": [{"id": i} for i in range(1, 41)], "categories": categories, "annotations": annotations}
    for name, content in (("gt", truth), ("dt", found), ("worse", worse)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    return CommandLine(folder)


def out_of(line: CommandLine, *words: str) -> str:
    done = line("eval", "coco", *words)
    assert (done.code, done.err) == (0, ""), done.err
    return done.out


def body(out: str) -> dict[str, list[str]]:
    """Rows of the piped tables by their first field."""
    lines = [re.split("  +", line.strip()) for line in out.splitlines() if line and not line.startswith("#")]
    return {line[0]: line[1:] for line in lines}


def test_the_table_has_the_twelve_figures_with_intervals(files: CommandLine) -> None:
    out = out_of(files, "gt.json", "dt.json")
    assert out.startswith("# dt.json on gt.json: 40 images, 199 objects\n")
    rows = body(out)
    assert list(rows) == ["figure", *NAMES]
    result = coco.evaluate(files.folder / "gt.json", files.folder / "dt.json")
    for name, value in result.summary.items():
        cell = re.fullmatch(r"(\d\.\d{3}) \[(\d\.\d{3}), (\d\.\d{3})\]", rows[name][-1])
        assert cell and value is not None
        shown, low, high = map(float, cell.groups())
        assert shown == pytest.approx(value, abs=5.1e-4) and low <= shown <= high
    assert "1,000 resamples, seed 0" in out
    assert rows["AP75"][:3] == [".75", "all", "100"] and rows["ARsmall"][:3] == [".50:.95", "small", "100"]


def test_without_intervals(files: CommandLine) -> None:
    out = out_of(files, "gt.json", "dt.json", "--no-intervals")
    assert "[" not in out and "resamples" not in out
    assert re.fullmatch(r"0\.\d{3}", body(out)["AP"][-1])


def test_classes_and_sizes(files: CommandLine) -> None:
    out = out_of(files, "gt.json", "dt.json", "--per-class", "--per-area", "--resamples", "50")
    rows = body(out)
    result = coco.evaluate(files.folder / "gt.json", files.folder / "dt.json")
    first = result.per_class()[0]
    assert rows["cat"][0] == str(first.truths) and rows["cat"][1].startswith(f"{first.figures['AP']:.3f} [")
    assert rows["emu"] == ["0"] + ["\N{EN DASH}"] * 12
    small = result.per_area()[1]
    assert rows["small"][0] == str(small.truths) and rows["small"][2] == f"{small.figures['AP50']:.3f}"
    assert out.index("# by size") < out.index("# by category")


def test_two_detectors(files: CommandLine) -> None:
    out = out_of(files, "gt.json", "dt.json", "worse.json", "--per-class", "--per-area")
    assert "A = dt.json, B = worse.json" in out
    rows = body(out)
    a, b, difference = rows["AP"][-3:]
    assert difference.startswith("-0.") and difference.endswith("]")
    assert float(b[:5]) - float(a[:5]) == pytest.approx(float(difference[:6]), abs=0.0011)
    assert len(rows["cat"]) == 4 and rows["cat"][-1].startswith("-0.") and len(rows["large"]) == 4
    same = body(out_of(files, "gt.json", "dt.json", "dt.json"))
    assert same["AP"][-1] == "+0.000 [+0.000, +0.000]"


def test_json_holds_all_figures_in_full(files: CommandLine) -> None:
    found = json.loads(out_of(files, "gt.json", "dt.json", "worse.json", "--json", "--per-class", "--seed", "3"))
    a, b = (coco.evaluate(files.folder / "gt.json", files.folder / name) for name in ("dt.json", "worse.json"))
    intervals = coco.paired_bootstrap(a, b, seed=3)
    rows = {(row["scope"], row["label"], row["figure"]): row for row in found["figures"]}
    assert len(rows) == 12 + 3 * 12
    for name in NAMES:
        row, expected = rows["all", "all", name], intervals[name]
        assert expected is not None
        for key in ("a", "b", "difference"):
            side = getattr(expected, key)
            assert (row[key]["value"], row[key]["low"], row[key]["high"]) == (side.value, side.low, side.high)
    assert rows["class", "emu", "AP"]["a"] is None
    assert (found["images"], found["truths"], found["max_dets"]) == (40, 199, [1, 10, 100])
    assert found["resampling"]["seed"] == 3


def test_sizes_have_the_intervals_of_the_summary(files: CommandLine) -> None:
    found = json.loads(out_of(files, "gt.json", "dt.json", "--json", "--per-area"))
    rows = {(row["scope"], row["label"], row["figure"]): row["a"] for row in found["figures"]}
    assert rows["area", "all", "AP50"] == rows["all", "all", "AP50"]
    assert rows["area", "small", "AP"] == rows["all", "all", "APsmall"]
    assert rows["area", "large", "AR100"] == rows["all", "all", "ARlarge"]
    assert rows["area", "small", "AP50"]["low"] is None and rows["area", "small", "AR1"]["low"] is None


def test_csv_has_a_row_for_every_figure(files: CommandLine) -> None:
    out_of(files, "gt.json", "dt.json", "--per-class", "--no-intervals", "--csv", "figures.csv")
    with open(files.folder / "figures.csv", newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    result = coco.evaluate(files.folder / "gt.json", files.folder / "dt.json")
    assert [row["figure"] for row in rows] == NAMES * 4
    assert float(rows[0]["a"]) == result.summary["AP"] and rows[0]["a_low"] == ""
    assert {row["label"] for row in rows} == {"all", "cat", "'=dog", "emu"}
    assert rows[-1]["a"] == "" and "b" not in rows[0]
    out_of(files, "gt.json", "dt.json", "worse.json", "--csv", "pair.csv")
    with open(files.folder / "pair.csv", newline="", encoding="utf-8") as stream:
        assert float(next(csv.DictReader(stream))["difference_high"]) < 0


def test_other_numbers_of_detections(files: CommandLine) -> None:
    rows = body(out_of(files, "gt.json", "dt.json", "--max-dets", "1,2,300", "--threads", "1", "--no-intervals"))
    assert list(rows)[7:10] == ["AR1", "AR2", "AR300"] and rows["AP"][2] == "300"
    assert float(rows["AP"][-1]) > 0


def test_remarks_are_printed_and_can_be_made_errors(files: CommandLine) -> None:
    found = json.loads((files.folder / "dt.json").read_text())
    (files.folder / "more.json").write_text(json.dumps([*found, {**found[0], "image_id": 777}]))
    assert "1 of 598 detections are of images that gt.json does not list (777)" in out_of(files, "gt.json", "more.json")
    done = files("eval", "coco", "gt.json", "more.json", "--strict")
    assert done.code == 2 and "(777)" in done.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["gt.json", "absent.json"], "absent.json"),
        (["absent.json", "dt.json"], "absent.json"),
        (["dt.json", "gt.json"], "dt.json: is not a COCO annotation file"),
        (["gt.json", "gt.json"], "gt.json: is not a COCO results file"),
        (["gt.json", "broken.json"], "broken.json: is not valid JSON"),
        (["gt.json", "nan.json"], "nan.json: score of detection 1 (counted from 0) is NaN"),
        (["twice.json", "dt.json"], "twice.json: annotation id 1 is there more than once"),
        (["gt.json", "dt.json", "--max-dets", "0,1"], "--max-dets"),
        (["gt.json", "dt.json", "--max-dets", "x"], "--max-dets"),
        (["gt.json", "dt.json", "--threads", "0"], "--threads"),
        (["gt.json", "dt.json", "--seed", "-1"], "--seed"),
        (["gt.json", "dt.json", "--csv", "no/such/folder.csv"], "folder.csv"),
        (["gt.json"], "DT"),
    ],
)
def test_bad_input_is_one_line_and_code_2(files: CommandLine, words: list[str], said: str) -> None:
    truth = json.loads((files.folder / "gt.json").read_text())
    found = json.loads((files.folder / "dt.json").read_text())
    (files.folder / "broken.json").write_text('[{"image_id": 1,')
    (files.folder / "nan.json").write_text(json.dumps([found[0], {**found[1], "score": float("nan")}]))
    truth["annotations"].append(truth["annotations"][0])
    (files.folder / "twice.json").write_text(json.dumps(truth))
    done = files("eval", "coco", *words)
    assert (done.code, done.out) == (2, "")
    assert re.fullmatch(r"qprof: [^\n]*\n", done.err) and said in done.err


def test_the_fake_boxes_of_pycocotools(files: CommandLine, qprof_data: Path) -> None:
    folder = qprof_data / "coco_fake100"
    paths = [str(folder / "instances_val2014_100.json"), str(folder / "instances_val2014_fakebbox100_results.json")]
    found = json.loads(out_of(files, *paths, "--json"))
    expected = json.loads((folder / "expected_stats.json").read_text())["bbox"]
    assert [row["a"]["value"] for row in found["figures"]] == pytest.approx(expected, abs=1e-12)


def test_masks_keypoints_and_the_rules_of_lvis(tmp_path: Path) -> None:
    truth, results = shaped_content(3, images=8)
    line = CommandLine(tmp_path)
    masks = results_with([{**row, "segmentation": as_text(row["segmentation"])} for row in results], "segmentation")
    for number, image in enumerate(truth["images"]):
        image |= {"neg_category_ids": [2] if number % 2 else [], "not_exhaustive_category_ids": []}
    for row, frequency in zip(truth["categories"], "rcf", strict=True):
        row["frequency"] = frequency
    for name, content in (("gt", truth), ("masks", masks), ("points", results_with(results, "keypoints"))):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    table = out_of(line, "gt.json", "masks.json", "--iou-type", "segm", "--no-intervals")
    expected = coco.evaluate(truth, masks, iou_type="segm").summary["AP"]
    assert f"{expected:.3f}" in next(row for row in table.splitlines() if row.startswith("AP "))
    assert "evaluate with style='lvis'" in table
    table = out_of(line, "gt.json", "masks.json", "--iou-type", "boundary", "--style", "lvis", "--resamples", "20")
    assert [row.split()[0] for row in table.splitlines() if row.startswith("AP")][-3:] == ["APr", "APc", "APf"]
    table = out_of(line, "gt.json", "points.json", "--iou-type", "keypoints", "--per-area", "--no-intervals")
    assert sum(row.startswith(("AP", "AR")) for row in table.splitlines()) == 10
    done = line("eval", "coco", "gt.json", "points.json", "--iou-type", "segm")
    assert (done.code, done.out) == (2, "") and "points.json: entry 0 has no segmentation" in done.err


def as_text(rle: dict[str, Any]) -> dict[str, Any]:
    counts = rle["counts"]
    return {**rle, "counts": counts.decode() if isinstance(counts, bytes) else counts}
