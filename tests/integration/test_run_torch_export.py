"""Exported networks through the command line: made, scored, timed by op, explained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchao")

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

from command_line import QUICK, CommandLine  # noqa: E402
from qprof.store.run import Run  # noqa: E402
from qprof.tasks.classification.recorded import predictions_of  # noqa: E402
from torch_networks import WORDS, save_images, tiny_images, write_image_folder, write_text_folder  # noqa: E402


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    folder = tmp_path_factory.mktemp("exported")
    save_images(folder / "net.pt2")
    random = np.random.default_rng(0)
    for name in ("c0", "c1", "c2", "c3"):
        (folder / "data" / name).mkdir(parents=True)
        for number in range(10):
            pixels = random.integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(folder / "data" / name / f"{number}.png")
    return CommandLine(folder, patience_s=500.0)  # a compiler runs in it


@pytest.fixture(scope="module")
def made(place: CommandLine) -> Run:
    quick = [one for one in QUICK if "layer_errors" not in one]
    arguments = ("--variants", "float32,int8", "--images", "data", "--set=protocol.layer_errors=2", "-o", "made", "-q")
    done = place("run", "net.pt2", *arguments, *quick)
    assert done.code == 0, done.err
    assert place.left_behind() == []  # no process of the compiler's either
    return Run(place.folder / "made")


def test_variants_are_made_scored_and_timed(made: Run) -> None:
    assert [(entry.name, entry.runtime, entry.status) for entry in made.variants] == [
        ("float32", "torch_export", "ok"),
        ("int8", "torch_export", "ok"),
    ]
    for name in ("float32", "int8"):
        assert {"stem.0", "body.0", "head"} <= {op.name for op in made.ops_of(name)}
        assert made.variant(name).outputs_identical is not False
    making = made.variant("int8").making
    assert making.calibrated and making.facts["calibration_samples"] == 8  # a fifth of 40 is kept back
    assert not made.variant("float32").making.calibrated


def test_scores_are_those_of_plain_torch(place: CommandLine, made: Run) -> None:
    net, right = tiny_images(), 0
    correct = made.sample_scores("float32", "correct")
    files = [one["file"] for one in predictions_of(made, "float32").values()]
    for file in files:
        pixels = np.asarray(Image.open(place.folder / "data" / file), np.float32)
        with torch.no_grad():
            found = net(torch.from_numpy((pixels.transpose(2, 0, 1)[None] - 127.5) / 127.5))
        right += int(found.argmax()) == int(Path(file).parts[-2][1:])
    assert len(correct) == len(files) == 32
    assert made.score("float32", "top1") == pytest.approx(right / 32)


def test_commands_show_it(place: CommandLine, made: Run) -> None:
    for arguments, expected in (
        (("show", "made"), ["top1", "int8"]),
        (("layers", "made", "--variant", "int8"), ["body.0", "onednn.qconv", "quantize"]),
        (("diff", "made", "float32", "int8"), ["body.0", "matched", "end to end"]),
        (("explain", "made"), ["conv2d", "scales and zero points"]),
    ):
        done = place(*arguments)
        assert done.code == 0, done.err
        for text in expected:
            assert text in done.out, done.out
    told = json.loads(place("layers", "made", "--variant", "int8", "--json").out)
    assert 0.4 < sum(row["share"] for row in told) <= 1.0


def test_texts_are_tokenized_by_the_models_own_tokenizer(place: CommandLine) -> None:
    write_text_folder(place.folder / "texts")
    rows = [
        f'"{first}, {second} film",{label}' for first in WORDS for second, label in (("good", "pos"), ("bad", "neg"))
    ]
    (place.folder / "texts.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    arguments = ("--variants", "float32-eager,int8-eager", "--images", "texts.csv", "--set=model.tokens=8")
    done = place("run", "texts", *arguments, *QUICK, "--set=task.calibration_samples=0", "-o", "read", "-q")
    assert done.code == 0, done.err
    run = Run(place.folder / "read")
    assert [entry.status for entry in run.variants] == ["ok", "ok"]
    assert len(run.sample_scores("float32-eager", "correct")) == 16
    linears = {op.name: op for op in run.ops_of("int8-eager") if op.type == "linear"}
    assert linears["classifier"].quantization == "int8 weights, activations quantized as they come"
    assert set(linears) == {op.name for op in run.ops_of("float32-eager") if op.type == "linear"}


def test_a_profile_that_differs_from_the_models_settings_is_told(place: CommandLine) -> None:
    write_image_folder(place.folder / "images")
    for number, name in enumerate(("a", "b", "c")):
        (place.folder / "three" / name).mkdir(parents=True)
        Image.new("RGB", (16, 16), (80 * number, 0, 0)).save(place.folder / "three" / name / "one.png")
    arguments = ("--variants", "float32-eager", "--images", "three", "--set=task.calibration_samples=0", "-q")
    said = "the model says that it was trained on pixels of mean 127.5, 102, 76.5"
    plain = place("run", "images", *arguments, *QUICK, "-o", "follows")
    other = place("run", "images", *arguments, *QUICK, "--set=task.preprocess.mean=0", "--set=task.preprocess.std=255")
    assert plain.code == other.code == 0, plain.err + other.err
    assert said in other.out + other.err and said not in plain.out + plain.err
    assert "scaled to -1..1" not in plain.out  # what is done where a model does not say


def test_pickles_are_refused_in_one_line(place: CommandLine) -> None:
    torch.save(tiny_images(), place.folder / "module.pt")
    done = place("run", "module.pt", *QUICK)
    assert done.code == 2
    assert "is TorchScript or a pickled module, which is not loaded" in done.out + done.err
    assert "Traceback" not in done.err
