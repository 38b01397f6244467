"""SavedModels and Keras files that would read or write files, or run code, are refused before they are loaded."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

tf = pytest.importorskip("tensorflow")

from qprof.errors import ModelError  # noqa: E402
from qprof.runtimes.litert import convert  # noqa: E402


class Net(tf.Module):  # type: ignore[misc]
    """A dense layer, and what else a call does."""

    def __init__(self, beside: Callable[[], Any] = lambda: None) -> None:
        self.weights, self.beside = tf.Variable(tf.ones((4, 2))), beside

    @tf.function(input_signature=[tf.TensorSpec([1, 4], tf.float32)])  # type: ignore[untyped-decorator,unused-ignore]
    def __call__(self, x: Any) -> Any:
        self.beside()
        return {"y": x @ self.weights}


def saved(folder: Path, beside: Callable[[], Any] = lambda: None) -> Path:
    net = Net(beside)
    tf.saved_model.save(net, str(folder), signatures=net.__call__)
    return folder


def refused(source: Path, match: str) -> None:
    target = source.parent / "made.tflite"
    with pytest.raises(ModelError, match=match) as found:
        convert.convert("float32", source, target)
    assert "\n" not in str(found.value) and not target.exists()


def test_a_plain_saved_model_with_its_saver_is_converted(tmp_path: Path) -> None:
    assert convert.convert("float32", saved(tmp_path / "net"), tmp_path / "net.tflite").bytes > 0


def test_an_init_op_that_writes_a_file_is_not_run(tmp_path: Path) -> None:
    v1, trace = tf.compat.v1, tmp_path / "trace"
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [1, 4], "x")
        signature = v1.saved_model.predict_signature_def({"x": x}, {"y": x * 2.0})
        builder = v1.saved_model.Builder(str(tmp_path / "net"))
        init = tf.io.write_file(str(trace), "x")
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature}, main_op=init)
        builder.save()
    refused(tmp_path / "net", "'WriteFile'")
    assert not trace.exists()


@pytest.mark.parametrize(
    ("op", "beside"),
    [
        ("ReadFile", lambda: tf.io.read_file("/etc/hostname")),
        ("MatchingFiles", lambda: tf.io.matching_files("/etc/*")),
        ("EagerPyFunc", lambda: tf.py_function(lambda: 1.0, [], tf.float32)),
        ("PrintV2", lambda: tf.print("x", output_stream="file:///tmp/never-written")),
        ("ImmutableConst", lambda: tf.raw_ops.ImmutableConst(dtype=tf.uint8, shape=[4], memory_region_name="/etc/x")),
        ("SaveV2", lambda: tf.raw_ops.SaveV2(prefix="/tmp/x", tensor_names=["a"], shape_and_slices=[""], tensors=[1])),
        ("RestoreV2", lambda: tf.raw_ops.RestoreV2(prefix="/x", tensor_names=["a"], shape_and_slices=[""], dtypes=[1])),
    ],
)
def test_ops_that_reach_beyond_tensors_are_refused(tmp_path: Path, op: str, beside: Callable[[], Any]) -> None:
    """Those of the saver too, where a signature leads to them."""
    refused(saved(tmp_path / "net", beside), f"'{op}'")


def test_a_graph_that_tensorflow_would_take_instead_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "net")
    (folder / "saved_model.cpb").write_bytes(b"")
    refused(folder, "saved_model.cpb")


def keras_file(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    keras = pytest.importorskip("keras")
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(path.with_name("good.keras"))
    with zipfile.ZipFile(path.with_name("good.keras")) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                config = json.loads(content)
                change(config)
                content = json.dumps(config).encode()
            new.writestr(name, content)
    return path


@pytest.mark.parametrize(
    ("layer", "match"),
    [
        ({"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "/x"}}, "a TFSMLayer layer"),
        ({"module": "keras.layers", "class_name": "TorchModuleWrapper", "config": {}}, "a TorchModuleWrapper layer"),
        ({"module": "os", "class_name": "function", "config": "system"}, "names os.function"),
        ({"module": "builtins", "class_name": "exec", "config": {}}, "names builtins.exec"),
        ({"module": "keras.layers", "class_name": "Package>Lambda", "config": {}}, "a Lambda layer"),
    ],
)
def test_keras_files_with_code_or_foreign_classes_are_refused(
    tmp_path: Path, layer: dict[str, Any], match: str
) -> None:
    refused(keras_file(tmp_path / "net.keras", lambda config: config["config"]["layers"].append(layer)), match)


def test_what_rewriting_does_to_a_keras_file_is_converted_all_the_same(tmp_path: Path) -> None:
    source = keras_file(tmp_path / "net.keras", lambda config: None)
    assert convert.convert("float32", source, tmp_path / "net.tflite").bytes > 0


def test_a_keras_file_nested_without_end_is_told_in_one_line(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "net.keras", "w") as file:
        file.writestr("config.json", "[" * 200_000)
    refused(tmp_path / "net.keras", "is not a Keras model file")
