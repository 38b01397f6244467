"""Conversion of SavedModel folders and Keras files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from qprof.errors import DataError, MissingExtraError, ModelError
from qprof.runtimes.litert import convert, make
from qprof.runtimes.litert.variant import MadeVariant

IMAGE = (1, 16, 16, 3)


def images(count: int) -> list[list[NDArray[np.float32]]]:
    random = np.random.default_rng(7)
    return [[random.uniform(0, 1, IMAGE).astype(np.float32)] for _ in range(count)]


@pytest.fixture(scope="module")
def keras() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    pytest.importorskip("tensorflow")
    return pytest.importorskip("keras")


@pytest.fixture(scope="module")
def model(keras: Any) -> Any:
    keras.utils.set_random_seed(0)
    image = keras.Input(IMAGE[1:], name="image")
    features = keras.layers.Conv2D(64, 3, strides=2, activation="relu", padding="same")(image)
    features = keras.layers.BatchNormalization()(features)
    pooled = keras.layers.GlobalAveragePooling2D()(features)
    return keras.Model(image, keras.layers.Dense(10, activation="softmax")(pooled))


@pytest.fixture(scope="module")
def sources(keras: Any, model: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    model.save(folder / "m.keras")
    model.save(folder / "m.h5")
    model.export(folder / "saved", verbose=False)
    return {"keras": folder / "m.keras", "h5": folder / "m.h5", "saved": folder / "saved"}


def load(path: Path) -> Any:
    interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter(str(path))
    interpreter.allocate_tensors()
    return interpreter


@pytest.mark.parametrize("kind", ["keras", "h5", "saved"])
def test_every_kind_of_source_gives_the_float_model(
    sources: dict[str, Path], model: Any, tmp_path: Path, kind: str
) -> None:
    made = convert.convert("float32", sources[kind], tmp_path / "out.tflite")
    interpreter = load(made.path)
    (detail,) = interpreter.get_input_details()
    assert list(detail["shape_signature"]) == list(IMAGE)
    (sample,) = images(1)[0]
    interpreter.set_tensor(detail["index"], sample)
    interpreter.invoke()
    result = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(result, model.predict(sample, verbose=0), atol=1e-5)


@pytest.mark.parametrize(
    ("method", "io", "expected"),
    [
        ("float16", None, "float32"),
        ("int8-dynamic", None, "float32"),
        ("int8", None, "int8"),
        ("int8", "float", "float32"),
        ("int16x8", None, "int16"),
        ("int16x8", "float", "float32"),
    ],
)
def test_methods(sources: dict[str, Path], tmp_path: Path, method: str, io: str | None, expected: str) -> None:
    # A generator: the converter must not depend on passing over the samples twice.
    samples = (sample for sample in images(6))
    made = convert.convert(method, sources["keras"], tmp_path / "out.tflite", calibration=samples, io=io)
    interpreter = load(made.path)
    assert interpreter.get_input_details()[0]["dtype"].__name__ == expected
    assert interpreter.get_output_details()[0]["dtype"].__name__ == expected
    types = {tensor["dtype"].__name__ for tensor in interpreter.get_tensor_details()}
    assert ("float16" if method == "float16" else "int8") in types
    assert made.tool == "tf.lite.TFLiteConverter" and made.settings["batch"] == 1
    assert made.bytes == made.path.stat().st_size


def test_same_inputs_same_bytes(sources: dict[str, Path], tmp_path: Path) -> None:
    hashes = {
        convert.convert("int8", sources[kind], tmp_path / "out.tflite", calibration=images(6)).sha256
        for kind in ("keras", "h5", "saved", "saved")
    }
    assert len(hashes) == 1


def test_the_batch_can_stay_open_or_be_set(sources: dict[str, Path], tmp_path: Path) -> None:
    shapes = []
    for batch in (None, 4):
        made = convert.convert("float32", sources["saved"], tmp_path / "out.tflite", batch=batch)
        shapes.append(list(load(made.path).get_input_details()[0]["shape_signature"]))
    assert shapes == [[-1, 16, 16, 3], [4, 16, 16, 3]]


@pytest.mark.parametrize("structure", ["list", "dict"])
def test_samples_reach_the_inputs_in_the_order_of_the_float_variant(keras: Any, tmp_path: Path, structure: str) -> None:
    zeta, alpha = keras.Input((4,), name="zeta"), keras.Input((4,), name="alpha")
    output = keras.layers.Add()([keras.layers.Dense(3)(zeta), keras.layers.Dense(3)(alpha)])
    inputs = [zeta, alpha] if structure == "list" else {"zeta": zeta, "alpha": alpha}
    keras.Model(inputs, output).save(tmp_path / "two.keras")
    made = convert.convert("float32", tmp_path / "two.keras", tmp_path / "float.tflite")
    names = [detail["name"] for detail in load(made.path).get_input_details()]
    high = [50.0 if "zeta" in name else 0.5 for name in names]
    random = np.random.default_rng(0)
    samples = [[random.uniform(-h, h, (1, 4)).astype(np.float32) for h in high] for _ in range(50)]
    made = convert.convert("int8", tmp_path / "two.keras", tmp_path / "int8.tflite", calibration=samples)
    scales = {detail["name"]: detail["quantization"][0] for detail in load(made.path).get_input_details()}
    assert [name for name, scale in scales.items() if "zeta" in name and scale > 0.1]
    assert [name for name, scale in scales.items() if "alpha" in name and scale < 0.01]


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_lambda_layer_is_refused(keras: Any, tmp_path: Path, suffix: str) -> None:
    image = keras.Input((4,))
    inner = keras.Sequential([keras.layers.Lambda(lambda tensor: tensor * 2)])  # nested: not a layer of the top level
    keras.Model(image, inner(image)).save(tmp_path / f"m.{suffix}")
    with pytest.raises(ModelError, match="holds a Lambda layer"):
        convert.convert("float32", tmp_path / f"m.{suffix}", tmp_path / "out.tflite")


def test_sources_that_cannot_be_read(keras: Any, tmp_path: Path) -> None:
    (tmp_path / "bad.keras").write_bytes(b"no zip")
    (tmp_path / "bad.h5").write_bytes(b"no hdf5")
    (tmp_path / "empty").mkdir()
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "saved_model.pb").write_bytes(b"no protocol buffer")
    for name, message in {
        "bad.keras": "is not a Keras model file",
        "bad.h5": "is not a Keras model file",
        "absent.keras": "does not exist",
        "empty": "holds no saved_model.pb",
        "broken": "cannot be loaded as a SavedModel",
    }.items():
        with pytest.raises(ModelError, match=message) as caught:
            convert.convert("float32", tmp_path / name, tmp_path / "out.tflite")
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.tflite").exists()


def test_requests_that_do_not_fit(sources: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out.tflite"
    with pytest.raises(ModelError, match="the converter has no method 'int4-dynamic'"):
        convert.convert("int4-dynamic", sources["keras"], out)
    with pytest.raises(ModelError, match="io 'int8' is not possible"):
        convert.convert("float16", sources["keras"], out, io="int8")
    with pytest.raises(DataError, match="needs calibration samples"):
        convert.convert("int8", sources["keras"], out)
    with pytest.raises(DataError, match="got no sample"):
        convert.convert("int8", sources["keras"], out, calibration=iter(()))
    with pytest.raises(ModelError, match="method int8 failed"):
        convert.convert("int8", sources["keras"], out, calibration=[[np.zeros((1, 5), np.float32)]])
    assert not out.exists()


def test_nothing_is_printed(sources: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    convert.convert("float32", sources["keras"], tmp_path / "out.tflite")
    assert capsys.readouterr().out == ""


def test_what_the_converter_lacks_starts_from_its_float_model(
    sources: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ai_edge_quantizer")
    monkeypatch.setenv("QPROF_CACHE", str(tmp_path / "cache"))
    calibration = make.Calibration(lambda: images(4), "d")
    source = sources["keras"]
    results = make.make_variants(
        [
            make.MakeRequest(source, "float32"),
            make.MakeRequest(source, "int8", calibration),
            make.MakeRequest(source, "int4-weight-only"),
            make.MakeRequest(source, "int8:CONV_2D", calibration),
        ]
    )
    made = [result for result in results if isinstance(result, MadeVariant)]
    assert [variant.tool for variant in made] == ["tf.lite.TFLiteConverter"] * 2 + ["ai-edge-quantizer"] * 2
    assert len({variant.sha256 for variant in made}) == 4


def test_without_tensorflow_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (tmp_path / "m.keras").write_bytes(b"")
    with pytest.raises(MissingExtraError, match=r'pip install "qprof\[tensorflow\]"'):
        convert.convert("float32", tmp_path / "m.keras", tmp_path / "out.tflite")


RECURRENT = ("GRU", "LSTM", "SimpleRNN")


@pytest.fixture(scope="module")
def recurrent(keras: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Path]]:
    """layer -> a model whose batch is open, and its file; one whose sequence is open as well."""
    keras.utils.set_random_seed(0)
    folder = tmp_path_factory.mktemp("recurrent")
    found = {}
    for name in (*RECURRENT, "open"):
        steps = keras.Input((None if name == "open" else 12, 8))
        layer = getattr(keras.layers, "LSTM" if name == "open" else name)(40)
        built = keras.Model(steps, keras.layers.Dense(40)(layer(steps)))
        built.save(folder / f"{name}.keras")
        found[name] = (built, folder / f"{name}.keras")
    return found


def sequences(count: int) -> list[list[NDArray[np.float32]]]:
    random = np.random.default_rng(3)
    return [[random.normal(0, 1, (1, 12, 8)).astype(np.float32)] for _ in range(count)]


@pytest.mark.parametrize("layer", RECURRENT)
def test_recurrent_layers_give_what_keras_gives(
    recurrent: dict[str, tuple[Any, Path]], tmp_path: Path, layer: str
) -> None:
    built, source = recurrent[layer]
    made = convert.convert("float32", source, tmp_path / "out.tflite")
    (sample,) = sequences(1)
    np.testing.assert_allclose(outputs(made.path, sample), built.predict(sample[0], verbose=0), atol=1e-5)


def test_a_sequence_of_open_length_converts(recurrent: dict[str, tuple[Any, Path]], tmp_path: Path) -> None:
    made = convert.convert("float32", recurrent["open"][1], tmp_path / "out.tflite")
    assert list(load(made.path).get_input_details()[0]["shape_signature"]) == [1, -1, 8]


@pytest.mark.parametrize("method", ["int8", "int16x8", "int8-dynamic", "float16"])
def test_recurrent_layers_are_quantized(
    recurrent: dict[str, tuple[Any, Path]], tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The converter's own calibration ends in a segmentation fault."""
    monkeypatch.setenv("QPROF_CACHE", str(tmp_path))
    built, source = recurrent["GRU"]
    samples = sequences(6)
    calibration = make.Calibration(lambda: iter(samples), "six")
    made = make.make_variant(make.MakeRequest(source, method, calibration=calibration, io="float"))
    expected, found = built.predict(samples[0][0], verbose=0), outputs(made.path, samples[0])
    error = float(((found - expected) ** 2).mean() / (expected**2).mean())
    assert error < 10**-2.5, "25 dB"
    if method.startswith("int8") or method == "int16x8":
        assert made.bytes < 0.65 * make.make_variant(make.MakeRequest(source, "float32")).bytes, (
            "the loop's weights too"
        )
    if method in ("int8", "int16x8"):
        assert any("loop bodies" in note and "weights are int8" in note for note in made.notes)


def outputs(path: Path, sample: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    model = load(path)
    model.set_tensor(model.get_input_details()[0]["index"], sample[0])
    model.invoke()
    return np.asarray(model.get_tensor(model.get_output_details()[0]["index"]))


def test_another_signature_of_a_saved_model(keras: Any, tmp_path: Path) -> None:
    import tensorflow as tf

    class Two(tf.Module):  # type: ignore[misc,unused-ignore]
        @tf.function(input_signature=[tf.TensorSpec((1, 4), tf.float32, name="x")])  # type: ignore[untyped-decorator,unused-ignore]
        def double(self, x: Any) -> Any:
            return 2.0 * x

        @tf.function(input_signature=[tf.TensorSpec((1, 4), tf.float32, name="x")])  # type: ignore[untyped-decorator,unused-ignore]
        def square(self, x: Any) -> Any:
            return x * x

    two = Two()
    tf.saved_model.save(two, str(tmp_path / "two"), signatures={"serving_default": two.double, "square": two.square})
    numbers = np.array([[1.0, -2.0, 3.0, 0.5]], np.float32)
    for signature, expected, other in (("", 2 * numbers, "square"), ("square", numbers**2, "serving_default")):
        made = convert.convert("float32", tmp_path / "two", tmp_path / f"{other}.tflite", signature=signature)
        interpreter = load(made.path)
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], numbers)
        interpreter.invoke()
        result = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        np.testing.assert_allclose(result, expected, rtol=1e-6)
        assert next(note for note in made.notes if "it also has" in note).count(repr(other)) == 1
    with pytest.raises(ModelError, match="has no signature 'cube'; it has serving_default, square"):
        convert.convert("float32", tmp_path / "two", tmp_path / "no.tflite", signature="cube")
