"""Variants of a SavedModel or Keras model, converted with tf.lite.TFLiteConverter (extra `tensorflow`)."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from qprof.errors import DataError, MissingExtraError, ModelError
from qprof.runtimes.litert import float_model, quantize
from qprof.runtimes.litert.graph_code import refuse_keras_code, refuse_reaching_ops
from qprof.runtimes.litert.variant import MadeVariant, file_sha256, refuse_unloadable, write_atomically
from qprof.runtimes.tool_output import first_line, tool_output_to_log
from qprof.store.own import OwnFolder

TOOL = "tf.lite.TFLiteConverter"

#: The methods that the converter knows; the others of `quantize.METHODS` start from its float32 result.
METHODS = ("float32", "float16", "int8-dynamic", "int8", "int16x8")

#: The signature that is served where none is named.
_DEFAULT = "serving_default"


def is_convertible(source: Path) -> bool:
    """Whether `source` looks like a SavedModel folder or a Keras file."""
    return (source / "saved_model.pb").is_file() or source.suffix in (".keras", ".h5", ".hdf5")


def versions() -> dict[str, str]:
    """The packages whose versions shape a conversion.

    Raises:
        MissingExtraError: TensorFlow is not installed.
    """
    _require_tensorflow()
    return {name: importlib.metadata.version(name) for name in ("tensorflow", "keras")}


def convert(
    method: str,
    source: Path,
    destination: Path,
    *,
    calibration: Iterable[Sequence[NDArray[Any]]] | None = None,
    io: str | None = None,
    batch: int | None = 1,
    signature: str = "",
) -> MadeVariant:
    """Convert a SavedModel folder or a Keras file and write the .tflite to `destination`, atomically.

    Args:
        method: one of `METHODS`.
        source: folder with saved_model.pb, or .keras, .h5, .hdf5 file.
        destination: the file to write.
        calibration: for int8 and int16x8: samples, one array per model input in the order of the float32 variant.
        io: type of inputs and outputs for int8 and int16x8: "float", or "int8" ("int16"), which is also taken where
            it is left open, as in `quantize.make`.
        batch: size given to an open first dimension; `None` leaves it open.
        signature: the one to convert; left open, 'serving_default', or the only one.

    Raises:
        MissingExtraError: TensorFlow is not installed.
        ModelError: the source cannot be read, holds code, or cannot be converted; the method or io is not possible.
        DataError: calibration samples are missing.
    """
    started = time.perf_counter()
    if method not in METHODS:
        raise ModelError(f"{source}: the converter has no method {method!r}; use one of {', '.join(METHODS)}")
    chosen = quantize.METHODS[method]
    io = _checked_io(chosen, io)
    if chosen.needs_calibration and calibration is None:
        raise DataError(f"{source}: method {method} needs calibration samples; name a data set that has them")
    version = versions()["tensorflow"]
    with tool_output_to_log(), _as_saved_model(source, batch) as folder:
        content, others = _convert(chosen, source, folder, calibration, io, batch, signature)
    refuse_unloadable(content, f"{source}: method {method}", "choose another method")
    write_atomically(destination, content)
    return MadeVariant(
        path=destination,
        sha256=file_sha256(destination),
        bytes=len(content),
        method=method,
        seconds=time.perf_counter() - started,
        tool=TOOL,
        tool_version=version,
        settings={"io": io, "batch": batch} | ({"ranges": "min-max"} if chosen.how == "static" else {}),
        notes=[*_notes(chosen, content), *others],
    )


def _checked_io(method: quantize.Method, io: str | None) -> str:
    if method.how != "static":
        if io not in (None, "float"):
            raise ModelError(f"{method.name}: io {io!r} is not possible; use 'float'")
        return "float"
    if io not in (None, "float", method.integer_io):
        raise ModelError(f"{method.name}: io {io!r} is not possible; use 'float' or '{method.integer_io}'")
    return io or method.integer_io


def _require_tensorflow() -> None:
    if importlib.util.find_spec("tensorflow") is None:
        raise MissingExtraError(
            'converting a SavedModel or Keras model needs TensorFlow; run: pip install "qprof[tensorflow]"'
        )


def _convert(
    method: quantize.Method,
    source: Path,
    folder: Path,
    calibration: Iterable[Sequence[NDArray[Any]]] | None,
    io: str,
    batch: int | None,
    signature: str,
) -> tuple[bytes, list[str]]:
    """The file, and a note that names the signatures that are not in it."""
    import tensorflow as tf  # type: ignore[import-untyped,unused-ignore]

    function, owner, others = _serving_function(source, folder, batch, signature)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], owner)
    if method.name != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if method.name == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if method.how == "static":
        # Float builtins beside the integer ones: an op without an integer form stays float and is noted.
        integer = (
            tf.lite.OpsSet.TFLITE_BUILTINS_INT8
            if method.activation_bits == 8
            else tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        )
        converter.target_spec.supported_ops = [integer, tf.lite.OpsSet.TFLITE_BUILTINS]
        converter.representative_dataset = _representative(source, calibration or ())
        if io != "float":
            converter.inference_input_type = converter.inference_output_type = getattr(tf, io)
    try:
        return bytes(converter.convert()), others
    except Exception as error:
        raise ModelError(
            f"{source}: method {method.name} failed in {TOOL}: {first_line(error)}; "
            "convert the model yourself and give the .tflite"
        ) from error


def _representative(
    source: Path, samples: Iterable[Sequence[NDArray[Any]]]
) -> Callable[[], Iterator[list[NDArray[Any]]]]:
    # Kept, because for int16 activations the converter goes through the samples twice.
    kept = [list(arrays) for arrays in samples]
    if not kept:
        raise DataError(f"{source}: calibration got no sample; give the data set's calibration images or inputs")
    return lambda: iter(kept)


@contextlib.contextmanager
def _as_saved_model(source: Path, batch: int | None) -> Iterator[Path]:
    """A SavedModel folder: the source itself, or what a Keras file was exported to for the time being."""
    if not source.exists():
        raise ModelError(f"{source}: does not exist; check the path of the model")
    if source.is_dir():
        if not (source / "saved_model.pb").is_file():
            raise ModelError(f"{source}: holds no saved_model.pb; give a SavedModel folder, a Keras file or a .tflite")
        yield source
        return
    with OwnFolder() as temporary:
        _export_keras(source, temporary, batch)
        yield temporary


def _serving_function(source: Path, folder: Path, batch: int | None, signature: str = "") -> tuple[Any, Any, list[str]]:
    """The serving function of a SavedModel with its batch fixed, the object that keeps its variables alive, and a note
    where there are other signatures."""
    import tensorflow as tf

    refuse_reaching_ops(folder, source)
    try:
        loaded = tf.saved_model.load(str(folder))
        signatures = loaded.signatures
    except Exception as error:
        raise ModelError(f"{source}: cannot be loaded as a SavedModel: {first_line(error)}; export it again") from error
    keys = sorted(signatures)
    chosen = signature or (_DEFAULT if _DEFAULT in keys else "".join(keys) if len(keys) == 1 else "")
    # Keras exports its default under two names.
    others = [key for key in keys if key != chosen and (chosen, key) != (_DEFAULT, "serve")]
    notes = [f"its signature {chosen!r} is converted; it also has {', '.join(map(repr, others))} (model.signature)"]
    if chosen in keys:
        serve = signatures[chosen]
    elif signature:
        raise ModelError(f"{source}: has no signature {signature!r}; it has {', '.join(keys) or 'none'}")
    else:
        raise ModelError(
            f"{source}: has no signature 'serving_default' (it has {', '.join(keys) or 'none'}); "
            "name one of them (model.signature), or export it with one serving signature"
        )
    arguments = serve.structured_input_signature[1]
    fixed = {name: tf.TensorSpec(_shape(spec.shape, batch), spec.dtype, name) for name, spec in arguments.items()}

    @tf.function  # type: ignore[untyped-decorator,unused-ignore]
    def serving(**tensors: Any) -> Any:
        return serve(**tensors)

    return serving.get_concrete_function(**fixed), loaded, notes if others else []


def _export_keras(source: Path, folder: Path, batch: int | None) -> None:
    """Write a Keras model as a SavedModel: from there its variables are frozen, while a function traced over the
    live model keeps them as resource variables, which integer conversion cannot run.

    Its batch is fixed here already: the converter lowers the loops of recurrent layers only where the state's shape is
    known when they are traced."""
    import keras  # type: ignore[import-untyped,unused-ignore]

    refuse_keras_code(source)
    try:
        model = keras.saving.load_model(str(source), compile=False, safe_mode=True)
        model.export(str(folder), format="tf_saved_model", verbose=False, input_signature=_signature(model, batch))
    except Exception as error:
        raise ModelError(
            f"{source}: cannot be loaded by Keras {keras.__version__}: {first_line(error)}; export it as a SavedModel"
        ) from error


def _signature(model: Any, batch: int | None) -> list[Any] | None:
    """What a functional model takes, with its batch fixed; `None`, for as it is, of a model that does not tell."""
    import keras

    inputs = getattr(model, "input", None)
    if batch is None or inputs is None:
        return None
    return [
        keras.tree.map_structure(
            lambda tensor: keras.InputSpec(shape=_shape(tensor.shape, batch), dtype=tensor.dtype, name=tensor.name),
            inputs,
        )
    ]


def _shape(shape: Any, batch: int | None) -> list[int | None]:
    sizes = list(shape)
    if sizes and sizes[0] is None:
        sizes[0] = batch
    return sizes


def _notes(method: quantize.Method, content: bytes) -> list[str]:
    if method.name in ("float32", "float16"):
        return []
    found = float_model.outcome(content, static=method.how == "static")
    if not found.float_ops:
        return []
    part = "activations" if method.how == "static" else "weights"
    listed = ", ".join(f"{op_type} x{count}" for op_type, count in sorted(found.float_ops.items()))
    return [
        f"{part} left in float32 by {TOOL}: {listed}; expect float kernels and conversions around them"
        + ("" if method.how == "static" else " (it keeps weights of fewer than 1024 elements in float)")
    ]
