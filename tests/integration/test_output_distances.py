"""How near outputs are to the baseline's, in whole runs: against the interpreter itself, and what is said of it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tflite_builder
from command_line import QUICK, CommandLine, Done
from qprof.findings.distance import output_distances
from qprof.findings.effects import effect
from qprof.record.manifest import PreparedTask
from qprof.store.run import Run
from qprof.tasks import registry as tasks

interpreters = pytest.importorskip("ai_edge_litert.interpreter")

MODELS = Path(os.environ.get("QPROF_DATA", "/nowhere")) / "models"
IMAGES = MODELS.parent / "cifar10_test"


def measured(line: CommandLine, *words: str | Path) -> tuple[Run, Done]:
    """A finished run, and what its command printed."""
    done = line("run", *words, *QUICK, "-o", line.folder / "run")
    assert done.code == 0, done.err
    return Run(line.folder / "run"), done


def outputs_of(model: Path, inputs: list[NDArray[Any]]) -> NDArray[np.float64]:
    """Real values of the only output on each input, quantized and dequantized by what the file says."""
    interpreter = interpreters.Interpreter(str(model), num_threads=1)
    interpreter.allocate_tensors()
    (given,), (made,) = interpreter.get_input_details(), interpreter.get_output_details()
    found = []
    for array in inputs:
        stored = array
        if given["dtype"] != np.float32 and array.dtype == np.float32:
            scale, zero = given["quantization"]
            stored = np.clip(np.rint(array / scale) + zero, -128, 127).astype(given["dtype"])
        interpreter.set_tensor(given["index"], stored)
        interpreter.invoke()
        out = interpreter.get_tensor(made["index"]).astype(np.float64)
        scale, zero = made["quantization"]
        found.append((out - zero) * scale if scale else out)
    return np.stack([out.reshape(-1) for out in found])


def expected(a: NDArray[np.float64], b: NDArray[np.float64]) -> dict[str, float]:
    """The figures of single rows, as textbooks have them."""
    noise, signal = ((a - b) ** 2).sum(1), (a**2).sum(1)
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return {
        "same_top": float((a.argmax(1) == b.argmax(1)).mean()),
        "closeness": float(1 - np.sqrt(noise / signal).mean()),
        "cosine": float(cosine.mean()),
        "sqnr_db": float(10 * np.log10(signal.sum() / noise.sum())),
    }


@pytest.mark.skipif(not MODELS.is_dir(), reason="QPROF_DATA is not set")
def test_real_classifiers_on_real_images(qprof: CommandLine) -> None:
    from PIL import Image

    folder = qprof.folder / "inputs"
    folder.mkdir()
    files = [file for kind in sorted(IMAGES.iterdir()) for file in sorted(kind.iterdir())[:12]]
    images = [np.asarray(Image.open(file).convert("RGB"), np.float32)[np.newaxis] for file in files]
    for number, image in enumerate(images):
        np.savez(folder / f"{number:03d}.npz", input_1=image, input_1_int8=image)
    models = [MODELS / "pretrainedResnet.tflite", MODELS / "pretrainedResnet_quant.tflite"]
    run, done = measured(qprof, *models, "--inputs", *sorted(folder.iterdir()))

    a, b = (outputs_of(model, images) for model in models)
    truth = expected(a, b)
    p, q = a / a.sum(1, keepdims=True), np.maximum(b, 1 / 512)
    q /= q.sum(1, keepdims=True)
    truth["kl"] = float((p * np.log(p / q)).sum(1).mean())
    name = "pretrainedResnet_quant"
    assert {metric: run.score(name, metric) for metric in truth} == pytest.approx(truth, rel=1e-4)
    assert truth["same_top"] < 1.0
    assert run.manifest.score_columns == ["same_top", "closeness"]
    assert [run.score(run.baseline, metric) for metric in ("same_top", "closeness", "cosine", "kl")] == [1, 1, 1, 0]
    assert run.score(run.baseline, "sqnr_db") is None
    same = run.sample_scores(name, "same_top")
    assert [same[n] for n in range(120)] == (a.argmax(1) == b.argmax(1)).tolist()

    (one,) = output_distances(run)
    assert (one.inputs, one.random, one.one_answer, one.whole.meaning) == (120, False, False, "probabilities")
    assert "RANDOM INPUTS" not in done.out
    assert f"same top answer as pretrainedResnet on {100 * truth['same_top']:.1f} %" in " ".join(done.out.split())
    explained = qprof("explain", run.folder)
    assert "how near the outputs are to those of pretrainedResnet" in explained.out
    assert "no accuracy was scored" not in explained.out
    strict = qprof("check", run.folder, "--max-accuracy-drop", "0.1pt")
    assert (strict.code, "same_top drop" in strict.out) == (1, True)
    assert qprof("check", run.folder, "--max-accuracy-drop", "30pt").code == 0
    assert qprof("check", run.folder, "--against", run.folder).code == 0


@pytest.mark.skipif(not MODELS.is_dir(), reason="QPROF_DATA is not set")
def test_random_inputs_are_the_same_numbers_for_both_and_said_above_all(qprof: CommandLine) -> None:
    models = [MODELS / "vww_96_float.tflite", MODELS / "vww_96_int8.tflite"]
    run, done = measured(qprof, *models, "--set=protocol.output_samples=40")
    assert done.out.lstrip().startswith(("RANDOM INPUTS", "DOUBT")) and "on 40 random inputs" in done.out
    assert run.manifest.task is not None
    task = tasks.build(PreparedTask(section=run.manifest.task.section), at_least=40)
    task.bind(_bound(run, "vww_96_int8"))
    stored = [task.inputs(n)[0] for n in range(40)]
    scale, zero = run.variant("vww_96_int8").inputs[0].scale, run.variant("vww_96_int8").inputs[0].zero_point
    real = [((array.astype(np.float64) - (zero or 0)) * (scale or 1)).astype(np.float32) for array in stored]
    truth = expected(outputs_of(models[0], real), outputs_of(models[1], stored))
    assert {metric: run.score("vww_96_int8", metric) for metric in truth} == pytest.approx(truth, rel=1e-4)
    # Noise is nobody: to agree on that says nothing, and nothing is decided by it.
    assert output_distances(run)[0].one_answer
    assert run.manifest.score_columns == ["closeness"]
    assert "gives the same top answer on all of these inputs" in " ".join(qprof("explain", run.folder).out.split())


def _bound(run: Run, variant: str) -> Any:
    class Loaded:
        inputs = run.variant(variant).inputs
        outputs = run.variant(variant).outputs

    class Model:
        loaded = Loaded

    return Model


def test_the_same_file_is_exactly_as_near_as_can_be(qprof: CommandLine, models: Path) -> None:
    run, done = measured(qprof, models / "a.tflite", models / "a.tflite", models / "b.tflite")
    names = [entry.name for entry in run.variants]
    assert [run.score(names[1], m) for m in ("closeness", "cosine", "sqnr_db")] == [1.0, 1.0, None]
    assert "exact" in done.out and "nan" not in done.out.lower()
    found = effect(run, "closeness", names[0], names[1])
    assert found is not None
    interval = found.interval()
    assert (interval.low, interval.high) == (0.0, 0.0)
    shown = " ".join(qprof("explain", run.folder).out.split())
    assert f"outputs are the same as {names[0]}'s, bit by bit" in shown
    rows = json.loads(qprof("show", run.folder, "--scores", "--json").out)
    assert not [row for row in rows if row["value"] is not None and row["value"] != row["value"]]


def test_outputs_that_do_not_go_together_are_said(qprof: CommandLine, models: Path) -> None:
    other = qprof.folder / "other.tflite"
    other.write_bytes(tflite_builder.while_net())
    run, _ = measured(qprof, models / "a.tflite", other)
    assert any("its outputs were not compared with the baseline's" in note for note in run.variant("other").notes)
    assert run.output_distances == [] and run.manifest.score_columns == []
    assert "no accuracy was scored" in qprof("explain", run.folder).out


def test_nothing_is_compared_where_that_is_not_wanted(qprof: CommandLine, models: Path) -> None:
    run, done = measured(qprof, models / "a.tflite", models / "b.tflite", "--set=protocol.output_samples=0")
    assert run.scores == [] and run.variant("b").outputs_compared is None
    assert "RANDOM INPUTS" not in done.out


def test_what_the_profile_says_of_outputs_counts(qprof: CommandLine, models: Path) -> None:
    told = "--set=task.outputs_are=values"
    run, _ = measured(qprof, models / "a.tflite", models / "b.tflite", told, "--set=protocol.output_samples=12")
    assert {row.meaning for row in run.output_distances} == {"values"}
    assert run.variant("b").outputs_compared is not None
    assert {row.sample for row in run.output_distances} == set(range(12))
    assert run.score("b", "same_top") is None and run.score("b", "closeness") is not None


def test_a_task_with_labels_has_them_beside_its_scores_where_they_are_asked_for(qprof: CommandLine) -> None:
    pytest.importorskip("ai_edge_quantizer")
    profile = qprof.folder / "shapes.toml"
    profile.write_text(
        'name = "shapes"\nvariants = ["float32", "int8"]\n[model]\npath = "embedded:shapes_detector.tflite"\n'
        '[task]\nkind = "detection"\ndataset = "shapes"\nlimit = 20\ncalibration_samples = 8\n'
        '[task.head]\nkind = "centernet"\n[protocol]\noutput_samples = 10\n'
    )
    run, done = measured(qprof, profile)
    assert run.metric == "AP"
    closeness = run.score("int8", "closeness")
    assert closeness is not None and 0.5 < closeness < 1.0
    assert "RANDOM INPUTS" not in done.out and "closeness" in qprof("show", run.folder, "--scores").out
