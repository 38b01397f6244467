"""Classifiers through the command line: scored, made, explained; on real models as a plain interpreter scores them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray
from PIL import Image

from colour_models import COLOURS, colour_net, write_colours
from command_line import QUICK, CommandLine
from qprof.store.run import Run
from tflite_builder import Graph, build_model


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    folder = tmp_path_factory.mktemp("classify")
    write_colours(folder / "data", each=40)
    (folder / "net.tflite").write_bytes(colour_net())
    return CommandLine(folder)


@pytest.fixture(scope="module")
def made(place: CommandLine) -> Run:
    """A float model, and variants that qprof makes of it on samples that it does not score."""
    arguments = ("--variants", "float32,int8", "--images", "data", "-o", "made", "-q")
    done = place("run", "net.tflite", *arguments, *QUICK)
    assert done.code == 0, done.err
    return Run(place.folder / "made")


def test_variants_are_calibrated_beside_what_is_scored(made: Run) -> None:
    assert [entry.status for entry in made.variants] == ["ok", "ok"]
    assert made.manifest.score_columns == ["top1", "top5"]
    assert len(made.sample_scores("float32", "correct")) == 288  # a fifth of 360 is kept back
    assert any("72 of 360 samples are kept back" in note for note in made.manifest.notes)
    assert made.score("float32", "top1") == 1.0 and (made.score("int8", "top1") or 0.0) > 0.8


def test_commands_show_it(place: CommandLine, made: Run) -> None:
    for arguments, expected in (
        (("show", "made"), ["top1", "top5", "the outputs are probabilities"]),
        (("show", "made", "--scores"), ["mean_class_accuracy", "ece", "accuracy/orange"]),
        (("show", "made", "--confusion", "int8"), list(COLOURS)),
        (("show", "made", "--flips", "int8"), ["right -> wrong", "McNemar", "ece"]),
        (("explain", "made"), ["top1"]),
    ):
        done = place(*arguments)
        assert done.code == 0, done.err
        for text in expected:
            assert text in done.out, done.out
    told = json.loads(place("show", "made", "--flips", "int8", "--json").out)
    assert {one["label"] for one in told["others"]} == {"nll", "brier", "ece", "mean_class_accuracy"}
    counts = json.loads(place("show", "made", "--confusion", "float32", "--json").out)["counts"]
    assert np.trace(np.array(counts)) == 288


def test_a_worse_variant_is_taken_apart(place: CommandLine) -> None:
    """Beside it a file with two classes changed for one another: what flips is known sample by sample."""
    names = tuple(COLOURS)
    swapped = {"red": "white", "white": "red"}
    (place.folder / "swapped.tflite").write_bytes(colour_net(tuple(swapped.get(name, name) for name in names)))
    done = place("run", "net.tflite", "swapped.tflite", "--images", "data", "-o", "pair", "-q", *QUICK)
    assert done.code == 0, done.err
    run = Run(place.folder / "pair")
    assert run.score("net", "top1") == 1.0 and run.score("swapped", "top1") == pytest.approx(280 / 360)
    told = json.loads(place("show", "pair", "--flips", "swapped", "--json").out)
    lost = next(one for one in told["flip_kinds"] if one["kind"] == "right -> wrong")
    assert sorted({file.split("/")[0] for file in lost["places"]}) == ["red", "white"] and len(lost["places"]) == 80
    assert sorted(map(tuple, lost["pairs"])) == [("red -> white", 40), ("white -> red", 40)]
    assert told["flips"]["exact_p_value"] == pytest.approx(2 * 0.5**80)
    assert [part["label"] for part in told["classes"][:2]] == ["red", "white"]
    done = place("explain", "pair")
    assert "classes: red -100" in done.out and "right -> wrong: 80 (" in done.out and "beside it: nll" in done.out
    assert "right-class-second errors" in done.out or "right-class-beyond-top-5 errors" in done.out, done.out


def test_a_broken_baseline_is_the_first_line(place: CommandLine) -> None:
    arguments = ("--images", "data", "-o", "broken", "-q", *QUICK, "--set=protocol.plausibility=50")
    done = place("run", "net.tflite", *arguments, "--set=task.preprocess.color=bgr")
    assert done.code == 0, done.err
    shown = (done, place("show", "broken"), place("explain", "broken"))
    for first, second in (one.out.splitlines()[:2] for one in shown):
        assert first.startswith("THE BASELINE IS BROKEN: net") and 'task.preprocess.color = "rgb"' in second


def test_a_score_of_nothing_that_no_setting_mends_is_doubted(place: CommandLine) -> None:
    """Four images under names that have nothing to do with them: nothing can be fitted to one image of a class."""
    folder = place.folder / "mixed"
    folder.mkdir()
    named = {"ash": "green", "blue": "red", "brown": "ash", "coal": "orange"}
    for colour in named:
        image = next((place.folder / "data" / colour).iterdir())
        (folder / f"{colour}.png").write_bytes(image.read_bytes())
    (place.folder / "mixed.csv").write_text("".join(f"{colour}.png,{name}\n" for colour, name in named.items()))
    (place.folder / "names.txt").write_text("\n".join(COLOURS))
    where = ("--images", "mixed", "--truth", "mixed.csv", "--labels", "names.txt", "-o", "nothing", "-q")
    done = place("run", "net.tflite", "net.tflite", *where, *QUICK, "--set=protocol.plausibility=50")
    assert done.code == 0, done.err
    explained = place("explain", "nothing")
    for shown in (done.out, place("show", "nothing").out, explained.out):
        assert "DOUBT  net: it scores 0.000 in top1, and no setting of the task that was tried mends that" in shown
    assert "nothing is recommended where net scores next to nothing" in explained.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("net.tflite", "--images", "nowhere"), "no such file or folder"),
        (("net.tflite", "--labels", "l.txt"), "--labels and --truth go with --images"),
        (("net.tflite", "--images", "data", "--inputs", "x.npz"), "give one or the other"),
        (("quickstart", "--images", "data"), "a profile names its own"),
    ],
)
def test_what_does_not_go_together_is_one_line(place: CommandLine, arguments: tuple[str, ...], message: str) -> None:
    done = place("run", *arguments, "-q")
    assert done.code == 2 and message in done.err and len(done.err.strip().splitlines()) == 1, done.err


def text_net() -> bytes:
    """A classifier of token ids in three classes: the mean over the tokens of a table's rows, as fastText has it."""
    graph = Graph("main")
    ids = graph.input("input_ids", (1, 6), "int32")
    table = np.zeros((10, 3), np.float32)
    table[1:4, 0], table[4:7, 1], table[7:10, 2] = 3.0, 3.0, 3.0
    rows = graph.tensor("rows", (1, 6, 3))
    graph.op("GATHER", [graph.constant("table", table), ids], [rows], schema.GatherOptionsT())
    logits = graph.tensor("logits", (1, 3))
    axes = graph.constant("axes", np.array([1], np.int32))
    graph.op("MEAN", [rows, axes], [logits], schema.ReducerOptionsT(keepDims=False))
    graph.outputs = [logits]
    return build_model([graph])


def test_text_as_token_ids(place: CommandLine) -> None:
    rng = np.random.default_rng(4)
    lines = []
    for n in range(30):
        ids = rng.integers(1 + 3 * (n % 3), 4 + 3 * (n % 3), rng.integers(1, 9)).tolist()
        lines.append(json.dumps({"ids": ids, "label": ("eins", "zwei", "drei")[n % 3]}))
    (place.folder / "text.jsonl").write_text("\n".join(lines))
    (place.folder / "names.txt").write_text("eins\nzwei\ndrei\n")
    (place.folder / "text.tflite").write_bytes(text_net())
    data = ("--images", "text.jsonl", "--labels", "names.txt")
    done = place("run", "text.tflite", *data, "-o", "text", "-q", *QUICK)
    assert done.code == 0, done.err
    run = Run(place.folder / "text")
    assert run.score("text", "top1") == 1.0 and run.score("text", "accuracy/zwei") == 1.0
    assert any("the outputs are logits" in note for note in run.variant("text").notes)


# -- real models, against a plain interpreter -------------------------------------------------------------------------


def independent(model: Path, images: list[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """Real outputs of a model that takes pixels of 0..255, or whose uint8 or int8 input is -1..1 or 0..255."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(model))
    interpreter.allocate_tensors()
    taken, given = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    found = []
    for pixels in images:
        array: Any = pixels
        if taken["dtype"] == np.int8:
            array = pixels.astype(np.int16) - 128
        interpreter.set_tensor(taken["index"], array.astype(taken["dtype"])[None])
        interpreter.invoke()
        scale, zero = given["quantization"]
        output = interpreter.get_tensor(given["index"])[0].astype(np.float64)
        found.append((output - zero) * scale if scale else output)
    return np.array(found)


def test_the_cifar_pair_scores_what_a_plain_interpreter_scores(qprof_data: Path, place: CommandLine) -> None:
    """Nothing said of the pixels: the quantized input's scale says 0..255, for the float model beside it as well."""
    models = [qprof_data / "models" / f"pretrainedResnet{kind}.tflite" for kind in ("", "_quant")]
    done = place("run", *models, "--images", qprof_data / "cifar10_test", "-o", "cifar", "-q", *QUICK)
    assert done.code == 0, done.err
    run = Run(place.folder / "cifar")
    files = sorted((qprof_data / "cifar10_test").glob("*/*.jpg"))
    labels = np.array([sorted({file.parent.name for file in files}).index(file.parent.name) for file in files])
    images = [np.asarray(Image.open(file).convert("RGB")) for file in files]
    right = []
    for model in models:
        outputs = independent(model, images)
        hits = outputs.argmax(axis=1) == labels
        right.append(hits)
        assert run.score(model.stem, "top1") == pytest.approx(hits.mean()) and 0.73 < hits.mean() < 0.78
        recorded = run.sample_scores(model.stem, "correct")
        assert [recorded[n] == 1.0 for n in range(len(files))] == hits.tolist()
    told = json.loads(place("show", "cifar", "--flips", models[1].stem, "--json").out)
    counts = {one["kind"]: len(one["samples"]) for one in told["flip_kinds"]}
    assert counts["right -> wrong"] == np.count_nonzero(right[0] & ~right[1])
    assert counts["wrong -> right"] == np.count_nonzero(~right[0] & right[1])


def test_the_imagenet_trio_knows_photographs(qprof_data: Path, place: CommandLine) -> None:
    truth = {"grace_hopper.bmp": "military uniform", "cat.bmp": "Egyptian cat", "parrot.jpg": "macaw"}
    (place.folder / "photos.csv").write_text("file,label\n" + "".join(f"{a},{b}\n" for a, b in truth.items()))
    names = ("mobilenet_v2_1.0_224_quant", "tf2_mobilenet_v2_1.0_224_ptq", "mobilenet_v1_0.25_128_quant")
    models = [qprof_data / "models" / f"{name}.tflite" for name in names]
    labels = qprof_data / "models/imagenet_labels.txt"
    data = ("--images", qprof_data / "images", "--truth", "photos.csv", "--labels", labels)
    done = place("run", *models, *data, "-o", "trio", "-q", *QUICK)
    assert done.code == 0, done.err
    run = Run(place.folder / "trio")
    lines = labels.read_text().splitlines()
    numbers = [next(n for n, line in enumerate(lines) if name in line.split(", ")) for name in truth.values()]
    for model, side in zip(models, (224, 224, 128), strict=True):
        images = []
        for file in truth:
            image = Image.open(qprof_data / "images" / file).convert("RGB")
            short = round(side / 0.875)
            width, height = (
                (short, int(short * image.height / image.width))
                if image.width <= image.height
                else (int(short * image.width / image.height), short)
            )
            left, top = round((width - side) / 2.0), round((height - side) / 2.0)
            scaled = image.resize((width, height), Image.Resampling.BILINEAR)
            images.append(np.asarray(scaled.crop((left, top, left + side, top + side))))
        outputs = independent(model, images)
        assert outputs.shape[1] == 1001
        hits = outputs.argmax(axis=1) == numbers
        # The scale of an input may put a pixel half a step aside, which a close call may turn on.
        assert abs((run.score(model.stem, "top1") or 0.0) - hits.mean()) < 0.34
        assert run.score(model.stem, "top5") == 1.0 and run.score(model.stem, "accuracy/macaw") == 1.0


def test_vww_has_an_accuracy(qprof_data: Path, place: CommandLine) -> None:
    (place.folder / "vww.csv").write_text("file,label\nperson.bmp,person\nno_person.bmp,no_person\n")
    models = [qprof_data / "models" / f"vww_96_{kind}.tflite" for kind in ("float", "int8")]
    data = ("--images", qprof_data / "images", "--truth", "vww.csv")
    done = place("run", *models, *data, "-o", "vww", "-q", *QUICK)
    assert done.code == 0, done.err
    run = Run(place.folder / "vww")
    for model in models:
        assert run.score(model.stem, "top1") in (0.5, 1.0)
    assert any("all variants are given pixels scaled to 0..1" in note for note in run.manifest.notes)
