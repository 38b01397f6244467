"""`qprof run` on files as people bring them, where `QPROF_DATA` names a folder that has such beside it: models with
loops, state, text, open shapes, and integers that zeros or any number would break."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from command_line import QUICK, CommandLine
from qprof.findings.doubts import doubts
from qprof.findings.layers import layers
from qprof.store.run import Run

CASES = Path(os.environ.get("QPROF_DATA", "/nowhere")).parent / "cases/litert"
FILES = sorted(CASES.glob("*.tflite"))
#: Inputs whose files are not named as their models are.
GIVEN = {
    "floordiv_len": "floordiv_in.npz",
    "gather_1based": "gather1_in.npz",
    "resize_size_in": "resize_in.npz",
    "pixels": "pixels_image.npy",
}
#: What a call of the interpreter takes beside its ops and partitions: all of an inference of half a microsecond.
CALL_US = 3.0
#: Doubts that a model gives cause for, not the machine.
OF_MODELS = {"closure", "invented calibration"}

pytestmark = pytest.mark.skipif(not FILES, reason="QPROF_DATA names no folder with cases beside it")


def inputs_of(model: Path) -> list[str | Path]:
    own = CASES / GIVEN.get(model.stem, f"{model.stem}.npz")
    return ["--inputs", own] if own.exists() else []


@pytest.mark.parametrize("given", [True, False], ids=["given", "made"])
@pytest.mark.parametrize("model", FILES, ids=lambda path: path.stem)
def test_it_runs_and_its_ops_add_up(qprof: CommandLine, model: Path, given: bool) -> None:
    inputs = inputs_of(model)
    if given is not bool(inputs) and (given or model.stem == "gather_names"):
        pytest.skip("no inputs are given with it" if given else "no text is made up")
    settings = [word for word in QUICK if "block_ms" not in word]
    done = qprof("run", model, *(inputs if given else []), *settings, "--set=protocol.block_ms=20", "-o", "out")
    assert done.code == 0, done.err
    found = Run(qprof.folder / "out")
    (entry,) = found.manifest.variants
    assert entry.status == "ok" and entry.instrumented
    assert {doubt.what for doubt in doubts(found)} & OF_MODELS == set()
    whole = layers(found, entry.name)
    assert whole.clean_us.value > 0
    rows = sum(row.share for row in whole.rows)
    rest_us = (1.0 - rows) * whole.end_to_end_us.value
    assert rows <= 1.02
    assert rows >= 0.9 or rest_us <= CALL_US, f"{rows:.1%} of {whole.end_to_end_us.value:.3g} us"


def test_a_detector_that_is_always_right_has_an_ap_of_1(qprof: CommandLine) -> None:
    done = qprof("run", CASES / "yolo_form.toml", *QUICK, "-o", "out")
    assert done.code == 0, done.err
    found = Run(qprof.folder / "out")
    assert [found.score(name, "AP") for name in ("float32", "int8-dynamic")] == [1.0, 1.0]


def test_pixels_that_are_given_calibrate(qprof: CommandLine) -> None:
    wanted = [word for word in QUICK if "layer_errors" not in word]
    model, pixels = CASES / "pixels.tflite", CASES / "pixels_image.npy"
    done = qprof("run", model, "--variants", "float32,int8", "--inputs", pixels, *wanted, "-o", "out")
    assert done.code == 0, done.err
    layers_db = [row.sqnr_db for row in Run(qprof.folder / "out").layer_errors if row.sqnr_db is not None]
    assert len(layers_db) >= 5 and min(layers_db) > 20.0
