"""`qprof run` on inputs of every kind: given, made, text, sizes, divisors; and what calibrates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from command_line import QUICK, CommandLine, Done
from qprof.findings.doubts import doubts
from qprof.findings.float_layers import error_rows
from qprof.store.run import Run
from tflite_builder import Graph, Signature, build_model

#: With the errors of layers, which QUICK leaves out.
ERRORS = (*(word for word in QUICK if "layer_errors" not in word), "--set=protocol.layer_errors=8")

WIDTH = 8


def run(qprof: CommandLine, *words: str | Path, settings: tuple[str, ...] = QUICK) -> tuple[Done, Run]:
    done = qprof("run", *words, *settings, "-o", qprof.folder / "run")
    assert done.code == 0, done.err
    found = Run(qprof.folder / "run")
    assert [entry.name for entry in found.manifest.variants if entry.status != "ok"] == []
    return done, found


def notes(found: Run) -> list[list[str]]:
    """What is said of each variant, but that a run this short ends before it is steady."""
    return [[note for note in entry.notes if "not steady" not in note] for entry in found.manifest.variants]


def write(path: Path, *graphs: Graph, signatures: tuple[Signature, ...] = ()) -> Path:
    path.write_bytes(build_model(graphs, signatures=signatures))
    return path


def refusal(qprof: CommandLine, *words: str | Path) -> str:
    """The one line that is said of what cannot be run."""
    done = qprof("run", *words, *QUICK, "-q")
    assert done.code == 2 and done.err.count("\n") == 1, done.err
    return done.err


def kinds(found: Run) -> set[str]:
    """Doubts that the models give cause for, not the machine."""
    return {doubt.what for doubt in doubts(found)} & {"closure", "invented calibration"}


def divided(folder: Path) -> Path:
    """96 // n: LiteRT refuses to divide by zero."""
    graph = Graph()
    n = graph.input("n", (1,), "int32")
    graph.outputs = [graph.tensor("quotient", (1,), "int32")]
    whole = graph.constant("whole", np.array([96], np.int32))
    graph.op("FLOOR_DIV", [whole, n], graph.outputs, schema.FloorDivOptionsT())
    return write(folder / "divided.tflite", graph)


def one_based(folder: Path) -> Path:
    graph = Graph()
    ids = graph.input("ids", (1, 4), "int32")
    shifted = graph.tensor("shifted", (1, 4), "int32")
    graph.op("SUB", [ids, graph.constant("one", np.array([1], np.int32))], [shifted], schema.SubOptionsT())
    table = graph.constant("table", np.random.default_rng(0).standard_normal((5, WIDTH)).astype(np.float32))
    graph.outputs = [graph.tensor("rows", (1, 4, WIDTH))]
    graph.op("GATHER", [table, shifted], graph.outputs, schema.GatherOptionsT())
    return write(folder / "one_based.tflite", graph)


def resized(folder: Path) -> Path:
    graph = Graph()
    image, size = graph.input("image", (1, 8, 8, 2)), graph.input("size", (2,), "int32")
    graph.outputs = [graph.tensor("resized", (1, 1, 1, 2), signature=(1, -1, -1, 2))]
    graph.op("RESIZE_BILINEAR", [image, size], graph.outputs, schema.ResizeBilinearOptionsT(), version=3)
    return write(folder / "resized.tflite", graph)


def typed_tokens(folder: Path) -> Path:
    """Two tables of 40 and 2 rows, their sum and a FULLY_CONNECTED."""
    random = np.random.default_rng(0)
    graph = Graph()
    sums = []
    for name, rows in (("ids", 40), ("types", 2)):
        ids = graph.input(name, (1, 6), "int32")
        table = graph.constant(f"{name}/table", random.standard_normal((rows, WIDTH)).astype(np.float32))
        sums.append(graph.tensor(f"{name}/rows", (1, 6, WIDTH)))
        graph.op("GATHER", [table, ids], [sums[-1]], schema.GatherOptionsT())
    both, flat = graph.add("both", *sums), graph.tensor("flat", (6, WIDTH))
    shape = graph.constant("shape", np.array([6, WIDTH], np.int32))
    graph.op("RESHAPE", [both, shape], [flat], schema.ReshapeOptionsT(newShape=[6, WIDTH]))
    weights = graph.constant("weights", random.standard_normal((3, WIDTH)).astype(np.float32))
    graph.outputs = [graph.fully_connected("scores", flat, weights)]
    return write(folder / "typed_tokens.tflite", graph)


@pytest.mark.parametrize("make", [divided, one_based, resized, typed_tokens])
def test_models_that_zeros_or_any_number_would_break_run_on_made_inputs(qprof: CommandLine, make: Any) -> None:
    _, found = run(qprof, make(qprof.folder))
    assert kinds(found) == set()
    assert notes(found) == [[]]


def test_tokens_of_two_tables_are_quantized_and_compared(qprof: CommandLine) -> None:
    model = typed_tokens(qprof.folder)
    done, found = run(qprof, model, "--variants", "float32,int8-dynamic,int8", settings=ERRORS)
    assert kinds(found) == {"invented calibration"}
    assert "DOUBT  int8: it is calibrated on random numbers" in done.out
    assert "DOUBT  int8-dynamic: it is calibrated" not in done.out


def test_text_goes_in_and_comes_out(qprof: CommandLine) -> None:
    graph = Graph()
    names, which = graph.input("names", (3,), "string"), graph.input("which", (2,), "int32")
    graph.outputs = [graph.tensor("picked", (2,), "string")]
    graph.op("GATHER", [names, which], graph.outputs, schema.GatherOptionsT(), version=1)
    model = write(qprof.folder / "names.tflite", graph)
    given = {"names": np.array(["über", "b", "c"]), "which": np.array([2, 0], np.int32)}
    np.savez(qprof.folder / "in.npz", **given)
    _, found = run(qprof, model, "--inputs", qprof.folder / "in.npz")
    assert kinds(found) == set()
    says = "input 'names' is text, for which no random values are made: give its values by files"
    assert says in refusal(qprof, model)


def open_length(folder: Path) -> Path:
    """[1, length, 8] through a FULLY_CONNECTED that keeps its dimensions, over any length."""
    graph = Graph()
    words = graph.input("words", (1, 1, WIDTH), signature=(1, -1, WIDTH))
    weights = graph.constant("weights", np.random.default_rng(0).standard_normal((5, WIDTH)).astype(np.float32))
    graph.outputs = [graph.tensor("scores", (1, 1, 5), signature=(1, -1, 5))]
    options = schema.FullyConnectedOptionsT(keepNumDims=True)
    graph.op("FULLY_CONNECTED", [words, weights, -1], graph.outputs, options, version=5)
    return write(folder / "open.tflite", graph)


def test_an_open_dimension_that_is_run_at_one_is_said(qprof: CommandLine) -> None:
    done, found = run(qprof, open_length(qprof.folder))
    ((note,),) = notes(found)
    assert "input 'words' leaves its shape open [1, -1, 8] and is run at [1, 1, 8]" in note
    assert "--shape words=1x128x8" in note and note in " ".join(done.out.split())


@pytest.mark.parametrize("variants", [(), ("--variants", "float32,int8-dynamic,int8")])
def test_a_shape_is_of_given_files_and_of_made_variants(qprof: CommandLine, variants: tuple[str, ...]) -> None:
    _, found = run(qprof, open_length(qprof.folder), "--shape", "words=1x24x8", *variants)
    assert len(found.manifest.variants) == (3 if variants else 1)
    for variant in found.manifest.variants:
        assert tuple(variant.inputs[0].shape) == (1, 24, WIDTH)
        assert not any("leaves its shape open" in note for note in variant.notes)
    for wrong, says in (
        ("1x24", "give all its 3 dimensions"),
        ("1x24x9", "given words = [1, 24, 9], and its file says words = [1, -1, 8], where -1 is open"),
    ):
        assert says in refusal(qprof, qprof.folder / "open.tflite", "--shape", f"words={wrong}")


def two_signatures(folder: Path) -> Path:
    """ "double": value + value, of [1, 4]; "square": value * value, of [1, 6]."""
    double, square = Graph("double"), Graph("square")
    value = double.input("double/value", (1, 4))
    double.outputs = [double.add("double/out", value, value)]
    other = square.input("square/value", (1, 6))
    square.outputs = [square.multiply("square/out", other, other)]
    signatures = (
        Signature("double", {"value": value}, {"out": double.outputs[0]}, 0),
        Signature("square", {"value": other}, {"out": square.outputs[0]}, 1),
    )
    return write(folder / "two.tflite", double, square, signatures=signatures)


def test_a_signature_is_run_and_the_others_are_named(qprof: CommandLine) -> None:
    model = two_signatures(qprof.folder)
    _, found = run(qprof, model)
    assert notes(found) == [["its signature 'double' is run; it also has 'square' (--signature, or model.signature)"]]
    done = qprof("run", model, "--signature", "square", *QUICK, "-o", qprof.folder / "second")
    assert done.code == 0, done.err
    second = Run(qprof.folder / "second")
    (variant,) = second.manifest.variants
    assert tuple(variant.inputs[0].shape) == (1, 6)
    assert notes(second) == [["its signature 'square' is run; it also has 'double' (--signature, or model.signature)"]]
    # By the interpreter alone: what qprof runs computes what the signature of the file computes.
    given = np.arange(6, dtype=np.float32).reshape(1, 6)
    expected = Interpreter(str(model)).get_signature_runner("square")(value=given)["out"]
    assert np.array_equal(invoked(Path(str(variant.path)), given), expected)
    assert "has no signature 'sqare'; did you mean square?" in refusal(qprof, model, "--signature", "sqare")


def invoked(path: Path, given: NDArray[Any]) -> NDArray[Any]:
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], given)
    interpreter.invoke()
    return np.array(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))


def test_what_several_cannot_have(qprof: CommandLine) -> None:
    model = typed_tokens(qprof.folder)
    for words, says in (
        (("--random", "mask=mask"), "the model has no input 'mask'; its inputs are 0 = ids, 1 = types"),
        (("--random", "ids=tokens:50"), "looks up rows up to 39: give tokens:40 or less"),
        (("--random", "ids=token"), "there is no recipe 'token'"),
        (("--random", "ids=tokens", "--inputs", "a.npz"), "inputs are random or given by files"),
        (("--signature", "x"), "has no signature 'x'; it has none; leave out the signature"),
        (("--inputs", "nowhere.npz"), "nowhere.npz"),
    ):
        assert says in refusal(qprof, model, *words)


def pixel_net(folder: Path) -> Path:
    """A CONV_2D and its mean, for pixels of 0..255."""
    random = np.random.default_rng(0)
    graph = Graph()
    image = graph.input("image", (1, 16, 16, 3))
    kernel = graph.constant("kernel", (random.standard_normal((8, 3, 3, 3)) / 255).astype(np.float32))
    pooled = graph.mean_pool("pooled", graph.conv_2d("features", image, kernel))
    weights = graph.constant("weights", random.standard_normal((4, 8)).astype(np.float32))
    graph.outputs = [graph.fully_connected("scores", pooled, weights)]
    signatures = (Signature("serving_default", {"image": image}, {"scores": graph.outputs[0]}),)
    return write(folder / "pixels.tflite", graph, signatures=signatures)


def images(folder: Path, count: int) -> list[Path]:
    random = np.random.default_rng(1)
    files = [folder / f"{n}.npz" for n in range(count)]
    for path in files:
        np.savez(path, image=random.uniform(0, 255, (1, 16, 16, 3)).astype(np.float32))
    return files


def scales(path: Path) -> dict[str, tuple[float, int]]:
    """Scale and zero point of every activation of a file."""
    interpreter = Interpreter(str(path), experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    return {
        detail["name"].removesuffix("_quantized"): detail["quantization"]  # of an input that is float outside
        for detail in interpreter.get_tensor_details()
        if detail["dtype"] is np.int8 and detail["quantization"][0]
    }


def by_the_quantizer_alone(model: Path, files: list[Path], destination: Path) -> Path:
    from ai_edge_quantizer import quantizer, recipe

    maker = quantizer.Quantizer(str(model))
    maker.load_quantization_recipe(recipe.static_wi8_ai8())
    samples = [{"image": np.load(path)["image"]} for path in files]
    maker.quantize(maker.calibrate({"serving_default": samples})).export_model(str(destination))
    return destination


@pytest.mark.parametrize("own", [False, True])
def test_given_inputs_calibrate(qprof: CommandLine, own: bool) -> None:
    pytest.importorskip("ai_edge_quantizer")
    model, files = pixel_net(qprof.folder), images(qprof.folder, 6)
    words: list[str | Path] = ["--variants", "float32,int8"]
    words += ["--inputs", *files[:2], "--calibration-inputs", *files[2:]] if own else ["--inputs", *files]
    done, found = run(qprof, model, *words, settings=ERRORS)
    assert kinds(found) == set()
    assert ("3 of the 6 input files, every second one" in " ".join(done.out.split())) is not own
    (int8,) = (entry for entry in found.manifest.variants if entry.name == "int8")
    calibrating = files[2:] if own else files[1::2]
    expected = scales(by_the_quantizer_alone(model, calibrating, qprof.folder / "expected.tflite"))
    got = scales(Path(str(int8.path)))
    assert expected and got.keys() == expected.keys()
    for name, (scale, zero_point) in expected.items():
        assert got[name] == (pytest.approx(scale, rel=1e-5), zero_point), name
    errors = {row.op: row.sqnr_db for row in error_rows(found, "int8")}
    assert errors and min(errors.values()) > 25, errors


def test_a_calibration_on_random_numbers_is_said_above_all_tables(qprof: CommandLine) -> None:
    done, found = run(qprof, pixel_net(qprof.folder), "--variants", "float32,int8")
    assert kinds(found) == {"invented calibration"}
    lines = done.out.splitlines()
    says = "DOUBT  int8: it is calibrated on random numbers, which are no data"
    place = next(number for number, line in enumerate(lines) if line.startswith(says))
    assert place < next(number for number, line in enumerate(lines) if line.startswith("variant"))


def test_no_calibration_is_doubted_where_nothing_is_calibrated(qprof: CommandLine) -> None:
    files = images(qprof.folder, 6)
    done, found = run(qprof, pixel_net(qprof.folder), "--inputs", *files, "--variants", "float32,int8-dynamic")
    assert kinds(found) == set() and "calibrated" not in done.out
    assert found.manifest.samples == 6
