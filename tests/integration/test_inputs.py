"""Whole runs of models that do not take just any input; the truth is what the interpreter by itself gives."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

models = pytest.importorskip("input_models", reason="models are built with ai_edge_litert's schema")

from command_line import QUICK, CommandLine  # noqa: E402
from qprof.findings.difference import differ  # noqa: E402
from qprof.store.run import Run  # noqa: E402

LENGTH = "serving_default_length:0"

#: Kind of model -> one sample that it takes.
SAMPLES: dict[str, tuple[Any, dict[str, Any]]] = {
    "token types": (
        models.token_types_net,
        {"input_ids": np.array([[5, 399, 7, 8, 0, 1]]), "token_type_ids": np.array([[0, 0, 0, 1, 1, 1]])},
    ),
    "ids from 1": (models.one_based_net, {"ids": np.array([[1, 16, 2, 3, 4, 5, 6, 7]])}),
    "a divisor": (models.divided_net, {LENGTH: np.array([4])}),
    "a size": (models.resized_net, {"size": np.array([64, 48]), "image": np.ones((1, 32, 32, 8), np.float32)}),
    "strings": (models.names_net, {"names": np.array(["a", "bb", "ç", "d"]), "which": np.array([2, 0])}),
}

#: Case files that are here -> their inputs; the others are run on random ones.
CASES = Path(os.environ.get("QPROF_DATA", "/nowhere")).parent / "cases" / "litert"
INPUTS = {
    "floordiv_len": "floordiv_in.npz",
    "gather_1based": "gather1_in.npz",
    "gather_names": "gather_names.npz",
    "pixels": "pixels_image.npy",
    "resize_size_in": "resize_in.npz",
    "token_types": "token_types.npz",
}
MISTRUST = ("per-op timing is off", "mistrust", "were not compared", "were lost")


def sound(run: Run) -> None:
    """Measured, instrumented, with equal outputs, no note that mistrusts it, and a table that adds up."""
    for entry in run.variants:
        assert entry.status == "ok", entry.reason
        assert run.latency(entry.name).duration_ns.min() > 0
        assert entry.instrumented and entry.outputs_identical
        assert [note for note in entry.notes if any(word in note for word in MISTRUST)] == []
    if len(run.variants) > 1:
        table = differ(run, run.variants[0].name, run.variants[1].name)
        assert table.closing_error_us == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("kind", SAMPLES)
def test_given_inputs_are_what_is_run(kind: str, qprof: CommandLine) -> None:
    make, sample = SAMPLES[kind]
    path, given = qprof.folder / "m.tflite", qprof.folder / "given.npz"
    path.write_bytes(make())
    np.savez(given, **sample)
    done = qprof("run", path, "--inputs", given, *QUICK, "-o", qprof.folder / "run")
    assert done.code == 0, done.err
    run = Run(qprof.folder / "run")
    sound(run)
    assert "it is calibrated" not in done.out


@pytest.mark.parametrize("kind", [kind for kind in SAMPLES if kind != "strings"])
def test_random_inputs_are_ones_that_it_takes(kind: str, qprof: CommandLine) -> None:
    path = qprof.folder / "m.tflite"
    path.write_bytes(SAMPLES[kind][0]())
    done = qprof("run", path, *QUICK, "-o", qprof.folder / "run")
    assert done.code == 0, done.err
    sound(Run(qprof.folder / "run"))


def test_inputs_that_a_model_does_not_take_are_blamed(qprof: CommandLine) -> None:
    from tflite_builder import gather_net

    path, given = qprof.folder / "m.tflite", qprof.folder / "given.npz"
    path.write_bytes(gather_net())
    np.savez(given, values=np.zeros(4, np.float32), row=np.array([9]))
    done = qprof("run", path, "--inputs", given, *QUICK)
    assert done.code == 2 and "LiteRT cannot run" in done.err
    assert "its inputs are random" not in done.err


def save_images(folder: Path, count: int) -> list[Path]:
    random = np.random.default_rng(0)
    paths = [folder / f"image{n}.npz" for n in range(count)]
    for path in paths:
        np.savez(path, image=random.uniform(0, 255, (1, 32, 32, 3)).astype(np.float32))
    return paths


def logits_error(run: Run) -> float:
    (row,) = [row for row in run.layer_errors if row.variant == "int8" and row.name == "logits"]
    assert row.sqnr_db is not None
    return row.sqnr_db


def test_given_inputs_calibrate(qprof: CommandLine) -> None:
    """Pixels 0..255 through ranges of -1..1 are nothing but noise; through their own they are not."""
    path = qprof.folder / "pixels.tflite"
    path.write_bytes(models.pixel_net())
    files = save_images(qprof.folder, 6)
    options = ("--variants", "float32,int8", *QUICK, "--set=protocol.layer_errors=2")
    done = qprof("run", path, "--inputs", *files, *options, "-o", qprof.folder / "own")
    assert done.code == 0, done.err
    own = Run(qprof.folder / "own")
    sound(own)
    assert logits_error(own) > 20
    assert own.manifest.samples == 3 and "calibrated on 3 of the 6 input files" in done.out
    assert "calibrated on random" not in done.out

    apart = qprof(
        "run", path, "--inputs", *files[:2], "--calibration-inputs", *files[2:], *options, "-o", qprof.folder / "apart"
    )
    assert apart.code == 0, apart.err
    assert Run(qprof.folder / "apart").manifest.samples == 2 and logits_error(Run(qprof.folder / "apart")) > 20

    # Where nothing is calibrated, every file is run.
    plain = qprof("run", path, "--inputs", *files, *QUICK, "-o", qprof.folder / "plain")
    assert plain.code == 0 and Run(qprof.folder / "plain").manifest.samples == 6


def test_an_invented_calibration_stands_above_everything(qprof: CommandLine) -> None:
    path = qprof.folder / "pixels.tflite"
    path.write_bytes(models.pixel_net())
    run = qprof.folder / "invented"
    done = qprof("run", path, "--variants", "float32,int8", "--random", "pixels", *QUICK, "-o", run)
    assert done.code == 0, done.err
    says = "DOUBT int8: it is calibrated on random numbers (pixels), which are no data"
    for out in (done.out, qprof("show", run).out, qprof("explain", run).out):
        assert says in " ".join(out.split())
        first = next(line for line in out.splitlines() if line.startswith("#") or "variant" in line)
        assert out.index("it is calibrated") < out.index(first)


def test_a_shape_is_that_of_every_variant(qprof: CommandLine) -> None:
    path = qprof.folder / "open.tflite"
    path.write_bytes(models.open_sequence_net())
    options = ("--variants", "float32,int8,int8-dynamic", *QUICK, "--set=protocol.layer_errors=2")
    done = qprof("run", path, "--shape", "a=1x24x16", *options, "-o", qprof.folder / "run")
    assert done.code == 0, done.err
    run = Run(qprof.folder / "run")
    sound(run)
    assert [entry.inputs[0].shape for entry in run.variants] == [(1, 24, 16)] * 3
    assert "leaves its shape open" not in done.out
    unsaid = qprof("run", path, *QUICK)
    assert "leaves its shape open [1, -1, 16] and is run at [1, 1, 16]" in " ".join(unsaid.out.split())


def test_another_signature_of_a_file_and_of_what_is_made_of_it(qprof: CommandLine) -> None:
    path = qprof.folder / "two.tflite"
    path.write_bytes(models.two_signatures_net())
    first = qprof("run", path, *QUICK, "-o", qprof.folder / "first")
    assert "its signature 'double' is run; it also has 'square'" in " ".join(first.out.split())
    second = qprof("run", path, "--signature", "square", *QUICK, "-o", qprof.folder / "second")
    assert second.code == 0, second.err
    run = Run(qprof.folder / "second")
    sound(run)
    assert {op.type for op in run.op_meta["two"]} >= {"STABLEHLO_COMPOSITE"}
    wrong = qprof("run", path, "--signature", "sqare", *QUICK)
    assert wrong.code == 2 and "did you mean square?" in wrong.err


def test_options_that_are_wrong_are_one_line(qprof: CommandLine) -> None:
    path = qprof.folder / "m.tflite"
    path.write_bytes(models.token_types_net())
    for options, says in (
        (["--random", "ids=tokens"], "has no input 'ids'; its inputs are 0 = input_ids, 1 = token_type_ids"),
        (["--random", "input_ids=tokens:500"], "give tokens:400 or less"),
        (["--random", "tokenz"], "there is no recipe 'tokenz'; did you mean tokens?"),
        (["--shape", "input_ids"], "write it as INPUT=SHAPE"),
        (["--shape", "ids=1x2"], "has no input 'ids'"),
    ):
        done = qprof("run", "-q", path, *options, *QUICK)
        assert done.code == 2 and says in done.err and len(done.err.strip().splitlines()) == 1, done.err


@pytest.mark.parametrize("name", sorted(path.stem for path in CASES.glob("*.tflite")))
def test_every_case_that_is_here(name: str, qprof: CommandLine) -> None:
    """Files that were wrong, or ended the process."""
    known = CASES / INPUTS.get(name, "none")
    inputs = ["--inputs", known] if known.is_file() else []
    done = qprof("run", CASES / f"{name}.tflite", *inputs, *QUICK, "-o", qprof.folder / "run")
    assert done.code == 0, done.err
    sound(Run(qprof.folder / "run"))
    assert ("leaves its shape open" in done.out) == (name == "dynseq")
    assert "it also has" not in done.out
