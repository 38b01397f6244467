"""Cases on integer files, on converted Keras networks, and on settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import makers_edits as edits
import makers_quantized as quantized
from case import Case, Planted, Scored, Timed
from cases_edits import BASE, PLANTED, WORK, base
from makers_keras import converted

from data import calibration

DETECTION = {"kind": "detection", "head": {"kind": "centernet"}}
SCORED = {"layer_errors": 8}
FLOAT = {"file": "base.tflite"}
INT8 = {"file": "int8.tflite"}

#: int8 kernels do more arithmetic in a second.
RATE = {
    "words": ("int8", "integer", "rate", "faster kernel", "GMAC"),
    "direction": -1,
    "mechanisms": ("rate",),
}
LAYER = ("layer", "SQNR", "error", "scale", "range", "cut off", "saturat")


def images(folder: Path) -> list[Any]:
    return quantized.photographs(calibration(folder.parent) / "images")


def int8_file(folder: Path) -> Path:
    quantized.static(base(folder), folder / "int8.tflite", images(folder))
    return folder / "int8.tflite"


def _dynamic(folder: Path) -> None:
    source = base(folder)
    quantized.dynamic(source, folder / "dynamic.tflite")
    quantized.dynamic(source, folder / "partly.tflite", skip="DEPTHWISE_CONV_2D")


def _weights_spoiled(folder: Path) -> None:
    quantized.spoil_weights(int8_file(folder), folder / "planted.tflite", "refine1_pointwise_1/", 2)


def _activation_spoiled(folder: Path) -> None:
    quantized.spoil_activation(int8_file(folder), folder / "planted.tflite", "stage3_block1_expand_1/", 1 / 12)


def _per_tensor(folder: Path, spread: bool) -> None:
    source = base(folder)
    if spread:
        edits.spread(source, source)
    photographs = images(folder)
    quantized.static(source, folder / "int8.tflite", photographs)
    quantized.per_tensor(folder / "int8.tflite", folder / "planted.tflite")


def _black(folder: Path) -> None:
    from PIL import Image

    int8_file(folder)
    quantized.static(folder / "base.tflite", folder / "planted.tflite", quantized.black())
    (folder / "black").mkdir(exist_ok=True)
    for index in range(24):
        Image.new("RGB", (192, 192)).save(folder / "black" / f"{index}.png")


def _wrong_range(folder: Path) -> None:
    int8_file(folder)
    raw = [image * 127.5 + 127.5 for image in images(folder)]
    quantized.static(folder / "base.tflite", folder / "planted.tflite", raw)


def _one_scale(folder: Path) -> None:
    int8_file(folder)
    edits.one_scale(folder / "base.tflite", folder / "joined.tflite")
    quantized.static(folder / "joined.tflite", folder / "joined8.tflite", images(folder))


def _wide_int8(folder: Path) -> None:
    int8_file(folder)
    edits.widened(folder / "base.tflite", folder / "wide.tflite", "stage1_block1", 4)
    quantized.static(folder / "wide.tflite", folder / "planted.tflite", images(folder))


def _score(present: str, absent: dict[str, Any], words: tuple[str, ...], ops: tuple[str, ...] = ()) -> Planted:
    return Planted(words=words, ops=ops, truth=Scored({"file": present}, absent), direction=-1, figure="score")


def _keras(**files: tuple[dict[str, Any], str]) -> Any:
    return lambda folder: converted(folder, {f"{name}.tflite": value for name, value in files.items()})


def _rate(present: dict[str, Any], absent: dict[str, Any]) -> Planted:
    return Planted(truth=Timed(present, absent), **RATE)


INT8_FILE = (BASE, {"name": "int8", "file": "int8.tflite"})
DYNAMIC = (
    Planted(
        words=("delegate", "XNNPACK", "placement"),
        truth=Timed({"file": "dynamic.tflite"}, {"file": "partly.tflite"}),
        direction=1,
        mechanisms=("placement",),
        ops=("DEPTHWISE",),
    ),
    Planted(
        words=("quantize their activations", "hybrid", "rate", "at run time"),
        truth=Timed({"file": "partly.tflite"}, FLOAT),
        direction=1,
        mechanisms=("rate", "conversions"),
        ops=(r"(?<!DEPTHWISE_)CONV_2D",),
    ),
)
#: Two threads are faster where the second core is free, and slower where it is not.
THREADS = {"words": ("thread",), "mechanisms": ("settings",)}
DELEGATE = {"words": ("delegate", "XNNPACK"), "mechanisms": ("settings", "placement")}


def _settings(name: str, one: dict[str, Any], other: dict[str, Any], cores: int = 1, **planted: Any) -> Case:
    file = planted.pop("file", "base.tflite")
    first = {"name": "base", "file": file, **one}
    second = {"name": "planted", "file": file, **other}
    make = int8_file if file == "int8.tflite" else base
    return Case(name, make, (first, second), (Planted(truth=Timed(second, first), **planted),), cores=cores)


CASES: tuple[Case, ...] = (
    Case("int8_file", int8_file, INT8_FILE, (_rate(INT8, FLOAT),)),
    Case(
        "int8_made",
        int8_file,
        ({"name": "float32"}, {"name": "int8"}),
        (_rate(INT8, FLOAT),),
        model="base.tflite",
        task=DETECTION,
    ),
    Case("dynamic_file", _dynamic, (BASE, {"name": "dynamic", "file": "dynamic.tflite"}), DYNAMIC),
    Case("dynamic_made", _dynamic, ({"name": "float32"}, {"name": "int8-dynamic"}), DYNAMIC, model="base.tflite"),
    Case("int8_same_files", lambda f: edits.copied(int8_file(f), f / "planted.tflite"), (INT8_FILE[1], PLANTED)),
    Case(
        "weights_spoiled",
        _weights_spoiled,
        (BASE, PLANTED),
        (_score("planted.tflite", INT8, LAYER, (r"refine(1_|…)pointwise",)), _rate(PLANTED, FLOAT)),
        task=DETECTION,
        protocol=SCORED,
    ),
    Case(
        "activation_spoiled",
        _activation_spoiled,
        (BASE, PLANTED),
        (_score("planted.tflite", INT8, LAYER, (r"stage3(_bloc|…)k1_expand",)), _rate(PLANTED, FLOAT)),
        task=DETECTION,
        protocol=SCORED,
    ),
    Case(
        "spoiled_of_int8",
        _weights_spoiled,
        (INT8_FILE[1], PLANTED),
        (_score("planted.tflite", INT8, LAYER, (r"refine(1_|…)pointwise",)),),
        task=DETECTION,
        protocol=SCORED,
    ),
    Case(
        "per_tensor_harmless",
        lambda folder: _per_tensor(folder, False),
        (INT8_FILE[1], PLANTED),
        task=DETECTION,
        protocol=SCORED,
    ),
    Case(
        "per_tensor_spread",
        lambda folder: _per_tensor(folder, True),
        (INT8_FILE[1], PLANTED),
        (_score("planted.tflite", INT8, ("per.?tensor", "per.?channel", *LAYER), ("stage2",)),),
        task=DETECTION,
        protocol=SCORED,
    ),
    Case(
        "black_calibration_made",
        _black,
        ({"name": "float32"}, {"name": "int8"}),
        (_score("planted.tflite", INT8, ("calibrat", "range", "saturat")), _rate(PLANTED, FLOAT)),
        model="base.tflite",
        task=DETECTION | {"calibration_images": "black"},
        protocol=SCORED,
    ),
    Case(
        "black_calibration_file",
        _black,
        (BASE, PLANTED),
        (_score("planted.tflite", INT8, ("calibrat", "range", "saturat")), _rate(PLANTED, FLOAT)),
        task=DETECTION,
        protocol=SCORED,
    ),
    Case(
        "calibration_wrong_range",
        _wrong_range,
        (BASE, PLANTED),
        (_score("planted.tflite", INT8, ("calibrat", "range", "input", "step")), _rate(PLANTED, FLOAT)),
        task=DETECTION,
        protocol=SCORED,
    ),
    Case(
        "one_scale",
        _one_scale,
        ({"name": "float32"}, {"name": "int8"}),
        (
            _score("joined8.tflite", INT8, ("one scale", "scale", "unlike ranges", "range", "step"), ()),
            _rate({"file": "joined8.tflite"}, {"file": "joined.tflite"}),
        ),
        model="joined.tflite",
        task=DETECTION,
        protocol=SCORED,
    ),
    Case(
        "int8_of_wider",
        _wide_int8,
        (BASE, PLANTED),
        (
            Planted(truth=Timed(PLANTED, INT8), direction=1, ops=("stage1_block1",), **WORK),
            _rate(INT8, FLOAT),
        ),
        same_model=False,
    ),
    Case(
        "keras_wider_called_int8",
        _keras(base=({}, "float32"), int8=({}, "int8"), planted=({"width": 48}, "int8")),
        (BASE, {"name": "int8", "file": "planted.tflite"}),
        (
            Planted(
                truth=Timed({"file": "planted.tflite"}, INT8),
                direction=1,
                words=(*WORK["words"], "not the same", "other model", "different model"),
                mechanisms=("work",),
            ),
            _rate(INT8, FLOAT),
        ),
        same_model=False,
    ),
    Case(
        "keras_deeper",
        _keras(base=({}, "float32"), planted=({"depth": 8}, "float32")),
        (BASE, PLANTED),
        (Planted(truth=Timed(PLANTED, BASE), direction=1, **WORK),),
        same_model=False,
    ),
    Case(
        "keras_dense",
        _keras(base=({}, "float32"), planted=({"dense": True}, "float32")),
        (BASE, PLANTED),
        (Planted(truth=Timed(PLANTED, BASE), direction=1, **WORK),),
        same_model=False,
    ),
    Case(
        "keras_activation",
        _keras(base=({}, "float32"), planted=({"activation": "swish"}, "float32")),
        (BASE, PLANTED),
        (
            Planted(
                truth=Timed(PLANTED, BASE),
                direction=1,
                words=(*WORK["words"], "LOGISTIC", "insert", "added"),
                mechanisms=("work",),
            ),
        ),
        same_model=False,
    ),
    Case(
        "keras_hybrid_dense",
        _keras(base=({"dense": True}, "float32"), planted=({"dense": True}, "int8-dynamic")),
        (BASE, PLANTED),
        (
            Planted(
                truth=Timed(PLANTED, BASE),
                direction=-1,
                words=("quantize their activations", "hybrid", "rate", "int8", "integer"),
                mechanisms=("rate", "conversions"),
            ),
        ),
    ),
    Case(
        "keras_int8",
        _keras(base=({"dense": True}, "float32"), planted=({"dense": True}, "int8")),
        (BASE, PLANTED),
        (_rate(PLANTED, BASE),),
    ),
    _settings("threads_2", {"threads": 1}, {"threads": 2}, cores=2, direction=0, **THREADS),
    _settings("threads_1", {"threads": 2}, {"threads": 1}, cores=2, direction=0, **THREADS),
    _settings("delegate_off", {}, {"delegate": "none"}, direction=1, **DELEGATE),
    _settings("delegate_on", {"delegate": "none"}, {}, direction=-1, **DELEGATE),
    _settings("int8_delegate_off", {}, {"delegate": "none"}, direction=1, file="int8.tflite", **DELEGATE),
)
