"""`qprof eval coco` and the classes on annotations and results as people write them, where `QPROF_DATA` names a folder
that has such beside it: the figures of pycocotools, or one line that says what is wrong."""

from __future__ import annotations

import contextlib
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO as TheirCOCO
from pycocotools.cocoeval import COCOeval as TheirCOCOeval

import qprof.coco
from qprof.cli.main import main

CASES = Path(os.environ.get("QPROF_DATA", "/nowhere")).parent / "cases/coco"
NAMES = sorted(path.name.removesuffix("_dt.json") for path in CASES.glob("*_dt.json"))
#: AP of files that pycocotools does not read, or reads otherwise; None where there is nothing to find.
OWN = {
    "annotation_id_zero": 1.0,  # a match to the annotation with id 0 counts
    "area_missing": 1.0,
    "gzip": 1.0,
    "iscrowd_missing": 1.0,
    "results_dict_other_key": 1.0,
    "results_empty": 0.0,
    "results_json_lines": 1.0,
    "results_wrapped_in_dict": 1.0,
    "unicode_bom": 1.0,
}
#: What pycocotools gives a figure for and the command refuses, and what it says.
REFUSED = {
    "annotation_ids_duplicate": "annotation id 1 is there more than once",
    "bbox_nan": "give four finite numbers",
    "huge_ids_over_64": "is not an integer of 64 bits",
    "image_id_strings_both": "is not an integer of 64 bits",
    "image_ids_duplicate": "image id 1 is there more than once",
    "nan_literal_json": "area of annotation 0 (counted from 0) is NaN",
    "score_nan": "score of detection 0 (counted from 0) is NaN",
}
#: Where the classes differ: a box of NaN is a match of everything in pycocotools, and of nothing here.
OWN_OF_CLASSES = {"annotation_id_zero": 1.0, "bbox_nan": 0.626}

pytestmark = pytest.mark.skipif(not NAMES, reason="QPROF_DATA names no folder with cases beside it")


def pair(name: str) -> tuple[Path, Path]:
    """Annotations and results; the two that have results alone are given those of another."""
    given = [*CASES.glob(f"{name}_gt.json*"), CASES / "area_zero_gt.json"]
    return given[0], CASES / f"{name}_dt.json"


def stats(coco: Any, coco_eval: Any, name: str) -> Any:
    """The figures, or None where the classes refuse the files."""
    truth, found = map(str, pair(name))
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            side = coco(truth)
            evaluator = coco_eval(side, side.loadRes(found), "bbox")
            evaluator.evaluate()
            evaluator.accumulate()
            evaluator.summarize()
    except Exception:
        return None
    return np.asarray(evaluator.stats)


@pytest.mark.parametrize("name", NAMES)
def test_the_command_gives_the_figure_or_says_what_is_wrong(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["eval", "coco", *map(str, pair(name)), "--no-intervals", "--json"])
    told = capsys.readouterr()
    theirs = stats(TheirCOCO, TheirCOCOeval, name)
    if code == 2:
        assert told.err.startswith("qprof: ") and len(told.err.splitlines()) == 1
        assert REFUSED.get(name, "") in told.err
        assert theirs is None or name in REFUSED
        return
    assert code == 0 and name not in REFUSED
    rows = json.loads(told.out)["figures"]
    (figure,) = [row["a"] for row in rows if row["figure"] == "AP" and row["scope"] == "all"]
    expected = OWN[name] if name in OWN else theirs[0]
    assert (-1.0 if figure is None else figure["value"]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_the_classes_give_the_figures_of_pycocotools(name: str) -> None:
    theirs = stats(TheirCOCO, TheirCOCOeval, name)
    ours = stats(qprof.coco.COCO, qprof.coco.COCOeval, name)
    if name in OWN_OF_CLASSES:
        assert ours[0] == pytest.approx(OWN_OF_CLASSES[name], abs=1e-3)
    elif theirs is not None:
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)
    else:
        assert ours is None or ours[0] == pytest.approx(OWN[name], abs=1e-12)
