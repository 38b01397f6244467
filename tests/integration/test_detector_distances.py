"""How near a detector's outputs are to its baseline's, on real images: no top answer, no divergence."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from command_line import QUICK, CommandLine
from qprof.findings.distance import output_distances
from qprof.store.run import Run

interpreters = pytest.importorskip("ai_edge_litert.interpreter")

DATA = Path(os.environ.get("QPROF_DATA", "/nowhere"))
MODELS = DATA / "models"
needs_data = pytest.mark.skipif(not MODELS.is_dir(), reason="QPROF_DATA is not set")


def pictures(folder: Path, name: str, size: int, dtype: type) -> tuple[list[Path], list[NDArray[Any]]]:
    """Real photographs and their mirror images as files that `--inputs` takes, and as arrays."""
    from PIL import Image

    files, arrays = [], []
    for file in sorted((DATA / "coco_val_images").glob("*.jpg")):
        with Image.open(file) as image:
            array = np.asarray(image.convert("RGB").resize((size, size)), dtype)[np.newaxis]
        arrays += [array, np.ascontiguousarray(array[:, :, ::-1])]
    for number, array in enumerate(arrays):
        files.append(folder / f"{number:02d}.npz")
        np.savez(files[-1], **{name: array})
    return files, arrays


def outputs_of(model: Path, inputs: list[NDArray[Any]]) -> list[NDArray[np.float64]]:
    """By the interpreter itself: per output of the file, one row for each input."""
    interpreter = interpreters.Interpreter(str(model), num_threads=1)
    interpreter.allocate_tensors()
    (given,), made = interpreter.get_input_details(), interpreter.get_output_details()
    rows = []
    for array in inputs:
        interpreter.set_tensor(given["index"], array)
        interpreter.invoke()
        rows.append([interpreter.get_tensor(one["index"]).astype(np.float64).reshape(-1) for one in made])
    return [np.stack(column) for column in zip(*rows, strict=True)]


@needs_data
def test_boxes_have_a_signal_to_noise_ratio_and_a_cosine_alone(qprof: CommandLine) -> None:
    pytest.importorskip("ai_edge_quantizer")
    files, images = pictures(qprof.folder, "images", 416, np.float32)
    assert len(images) >= 8
    made = ("--variants", "float32,float16,int8-dynamic", "--calibration-inputs", files[0])
    done = qprof("run", MODELS / "yolox_nano.tflite", *made, "--inputs", *files, *QUICK, "-o", qprof.folder / "run")
    assert done.code == 0, done.err
    run = Run(qprof.folder / "run")
    (a,) = outputs_of(MODELS / "yolox_nano.tflite", images)
    signal, ratios = (a**2).sum(1), []
    for name in ("float16", "int8-dynamic"):
        (b,) = outputs_of(Path(run.variant(name).path or ""), images)
        noise = ((a - b) ** 2).sum(1)
        truth = {
            "sqnr_db": 10 * np.log10(signal.sum() / noise.sum()),
            "cosine": ((a * b).sum(1) / np.sqrt(signal * (b**2).sum(1))).mean(),
            "closeness": 1 - np.sqrt(noise / signal).mean(),
        }
        found = {metric: run.score(name, metric) for metric in truth}
        # float16 differs from float32 by so little that the last bits of the sums are in it.
        assert found == pytest.approx(truth, rel=2e-3 if name == "float16" else 1e-4)
        assert run.score(name, "same_top") is None and run.score(name, "kl") is None
        ratios.append(truth["sqnr_db"])
    assert ratios[0] > ratios[1] + 10
    assert run.manifest.score_columns == ["closeness"]
    ones = {one.variant: one for one in output_distances(run)}
    assert {(one.inputs, one.random, one.whole.meaning) for one in ones.values()} == {(len(images), False, "values")}
    interval = ones["int8-dynamic"].whole.sqnr_db
    assert interval is not None and interval.low is not None and interval.high is not None
    assert interval.low < interval.value < interval.high
    told = " ".join(qprof("explain", run.folder).out.split())
    assert f"int8-dynamic: on {len(images)} inputs: SQNR {ratios[1]:.1f} dB" in told
    assert "taken for values, without a top answer or KL divergence" in told
    assert "same top answer" not in told and "same_top" not in told
