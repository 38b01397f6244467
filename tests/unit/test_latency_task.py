"""Random inputs that are the same for every variant, arrays from files, digests of outputs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bound_models import described
from qprof.errors import DataError
from qprof.record.quantization import dequantize
from qprof.record.tensors import TensorSpec
from qprof.tasks.base import Task
from qprof.tasks.latency import LatencyTask
from qprof.tasks.latency.kind import KIND, LatencySection


def spec(
    dtype: str = "float32",
    shape: tuple[int, ...] = (1, 40, 50, 3),
    scale: float | None = None,
    zero_point: int | None = None,
    name: str = "x",
    signature: tuple[int, ...] | None = None,
) -> TensorSpec:
    return TensorSpec(name, shape, dtype, scale, zero_point, signature)


def bound(*inputs: TensorSpec, outputs: tuple[TensorSpec, ...] = (), **settings: Any) -> LatencyTask:
    task = LatencyTask(**settings)
    task.bind(described(inputs, outputs))
    return task


def test_it_is_a_task_without_score() -> None:
    task: Task = bound(spec())
    assert task.name == "latency" and task.sample_count() == 8
    assert task.score({0: {}}) is None


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        ("float32", -1, 1),
        ("float16", -1, 1),
        ("int8", -128, 127),
        ("uint8", 0, 255),
        ("int16", -32768, 32767),
        ("int32", 0, 7),
        ("int64", 0, 7),
        ("bool", 0, 1),
    ],
)
def test_random_values_fill_the_range_of_the_type(dtype: str, low: float, high: float) -> None:
    tensor = spec(dtype)
    (array,) = bound(tensor).inputs(0)
    assert array.shape == tensor.shape and array.dtype == np.dtype(dtype)
    span = high - low
    assert low <= array.min() <= low + 0.01 * span and high - 0.01 * span <= array.max() <= high
    assert abs(float(array.mean(dtype=np.float64)) - (low + high) / 2) < 0.02 * span


def test_a_quantized_input_fills_its_real_range() -> None:
    tensor = spec("int8", scale=0.1, zero_point=-128)
    real = dequantize(bound(tensor).inputs(0)[0], tensor)
    assert real.min() == pytest.approx(0.0, abs=0.1) and real.max() == pytest.approx(25.5, abs=0.1)


def test_variants_see_the_same_reals_up_to_the_quantization_step() -> None:
    plain, quantized = spec(), spec("uint8", scale=2 / 255, zero_point=127)
    task = bound(quantized)
    real = dequantize(task.inputs(3)[0], quantized)
    assert np.abs(real - bound(plain).inputs(3)[0]).max() < 1.1 * 2 / 255
    assert task.notes() == []
    assert "span 0..25.5" in bound(spec("uint8", scale=0.1, zero_point=0)).notes()[0]


def test_inputs_depend_on_seed_sample_and_position_alone() -> None:
    task = bound(spec(), spec(name="y"))
    assert np.array_equal(task.inputs(1)[0], bound(spec(), spec(name="y")).inputs(1)[0])
    first, second = task.inputs(1)
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, task.inputs(2)[0])
    assert not np.array_equal(first, bound(spec(), seed=1).inputs(1)[0])


def test_calibration_is_float_and_disjoint_from_the_samples() -> None:
    task = bound(spec("uint8", scale=1 / 128, zero_point=128), spec("int32", (2,), name="n"), samples=2)
    drawn = list(task.calibration(3))
    assert len(drawn) == 3 and drawn[0][0].dtype == np.float32 and drawn[0][1].dtype == np.int32
    plain = bound(spec(), samples=2)
    samples = [plain.inputs(n)[0] for n in range(2)]
    assert not any(np.array_equal(c[0], s) for c in plain.calibration(3) for s in samples)


def test_scalars_and_empty_shapes() -> None:
    assert bound(spec("int32", ())).inputs(0)[0].shape == ()
    assert bound(spec("float32", ())).inputs(0)[0].shape == ()
    assert bound(spec("float32", (0, 3))).inputs(0)[0].shape == (0, 3)


@pytest.mark.parametrize("dtype", ["object", "str", "bytes", "complex64"])
def test_types_without_random_values_are_refused(dtype: str) -> None:
    with pytest.raises(DataError, match="for which no random values"):
        bound(spec(dtype))


def test_wrong_settings_are_refused() -> None:
    for settings, message in (
        ({"samples": 0}, "samples = 0"),
        ({"seed": -1}, "seed = -1"),
        ({"files": []}, "list of input files is empty"),
        ({"files": [Path("a.npy"), Path("b.npz")]}, "end in .npy, .npz"),
        ({"files": [Path("a.csv")]}, "end in .csv"),
    ):
        with pytest.raises(DataError, match=message):
            LatencyTask(**settings)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="leaves its shape open"):
        bound(spec(shape=(1, -1)))
    with pytest.raises(DataError, match="bound to no variant"):
        LatencyTask().inputs(0)
    with pytest.raises(DataError, match="sample 8 does not exist"):
        bound(spec()).inputs(8)


def saved(path: Path, array: np.ndarray[Any, Any]) -> Path:
    np.save(path, array)
    return path


def test_one_npy_per_input_makes_one_sample(tmp_path: Path) -> None:
    a, b = np.arange(6, dtype=np.float32).reshape(1, 2, 3), np.array([1, 2], np.int32)
    files = [saved(tmp_path / "a.npy", a), saved(tmp_path / "b.npy", b)]
    task = bound(spec(shape=(1, 2, 3)), spec("int32", (2,)), files=files)
    assert task.sample_count() == 1
    assert [x.tolist() for x in task.inputs(0)] == [a.tolist(), b.tolist()]
    with pytest.raises(DataError, match=r"2 \.npy files for a model with 1 inputs"):
        bound(spec(shape=(1, 2, 3)), files=files)


def test_npz_files_are_samples_keyed_by_input_name(tmp_path: Path) -> None:
    for n in range(3):
        np.savez(tmp_path / f"{n}.npz", **{"in/b:0": np.full((2,), n, np.int32), "a": np.full((1, 3), n, np.float32)})
    files = [tmp_path / f"{n}.npz" for n in range(3)]
    task = bound(spec(shape=(1, 3), name="a"), spec("int32", (2,), name="in/b:0"), files=files)
    assert task.sample_count() == 3
    assert [x.tolist() for x in task.inputs(2)] == [[[2, 2, 2]], [2, 2]]
    with pytest.raises(DataError, match=r"0.npz: holds .* but not the inputs \['c'\]"):
        bound(spec(shape=(1, 3), name="c"), files=files)


def test_real_values_are_quantized_and_a_batch_axis_is_added(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npy", np.array([0.0, 0.5, 9.0]))
    task = bound(spec("int8", (1, 3), 0.5, -1), files=[path])
    assert task.inputs(0)[0].tolist() == [[-1, 0, 17]] and task.inputs(0)[0].dtype == np.int8
    assert bound(spec("float16", (1, 3)), files=[path]).inputs(0)[0].dtype == np.float16


@pytest.mark.parametrize(
    ("array", "tensor", "message"),
    [
        (np.zeros((2, 3), np.float32), spec(shape=(1, 3)), r"shape \[2, 3\] .* give an array of that shape"),
        (np.zeros((2, 3), np.float32), spec(shape=(1, 3), signature=(-1, 3)), "set the variant's input shape"),
        (np.zeros((1, 3), np.int32), spec(shape=(1, 3)), "int32 values for input 'x' of float32"),
        (np.zeros((1, 3), np.float32), spec("int32", (1, 3)), "float32 values for input 'x' of int32"),
        (np.array([["a", "b", "c"]]), spec(shape=(1, 3)), "values for input 'x'"),
        (np.full((1, 3), np.nan), spec("int8", (1, 3), 0.5, 0), "NaN"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path: Path, array: np.ndarray[Any, Any], tensor: TensorSpec, message: str) -> None:
    path = saved(tmp_path / "a.npy", array)
    with pytest.raises(DataError, match=message):
        bound(tensor, files=[path])


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_files_that_cannot_be_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    tensor = spec(shape=(1, 3))
    with pytest.raises(DataError, match=f"a.{suffix}: cannot be read"):
        bound(tensor, files=[path])
    for content in (b"", b"hello", b"PK\x03\x04 cut", b"\x93NUMPY\x01\x00"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"a.{suffix}: cannot be read"):
            bound(tensor, files=[path])


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "a.npz", x=np.array([{}], dtype=object))
    for name in ("a.npy", "a.npz"):
        with pytest.raises(DataError, match="cannot be read"):
            bound(spec(shape=(1,)), files=[tmp_path / name])


def test_the_digest_of_outputs_by_hand() -> None:
    plain, quantized = spec(shape=(4,), name="f"), spec("int8", (2,), 0.5, 2, name="q")
    task = bound(spec(), outputs=(plain, quantized))
    floats = np.array([1.0, 3.0, np.nan, np.inf], np.float32)
    stored = np.array([2, 6], np.int8)
    first, second = task.decode(0, [floats, stored])["outputs"]
    assert first == {
        "name": "f", "mean": 2.0, "std": 1.0, "min": 1.0, "max": 3.0, "nonfinite": 2,
        "sha256": hashlib.sha256(floats.tobytes()).hexdigest()[:16],
    }  # fmt: skip
    assert (second["min"], second["max"], second["mean"]) == (0.0, 2.0, 1.0)
    assert json.loads(json.dumps([first, second], allow_nan=False)) == [first, second]


def test_digests_of_nothing_finite_of_booleans_and_of_strings() -> None:
    outputs = (spec(shape=(1,)), spec("bool", (2,)), spec("object", (1,)), spec(shape=(0,)))
    task = bound(spec(), outputs=outputs)
    arrays = [
        np.array([np.nan], np.float32),
        np.array([True, False]),
        np.array([b"text"], dtype=object),
        np.zeros(0, np.float32),
    ]
    nothing, booleans, strings, empty = task.decode(0, arrays)["outputs"]
    assert nothing["mean"] is None and nothing["nonfinite"] == 1
    assert booleans["mean"] == 0.5
    assert strings["mean"] is None and len(strings["sha256"]) == 16
    assert empty["mean"] is None and empty["nonfinite"] == 0


def image(scale: float | None = None, zero_point: int | None = None) -> TensorSpec:
    return TensorSpec("image", (1, 4), "float32" if scale is None else "int8", scale, zero_point)


def test_a_float_variant_is_given_what_a_quantized_one_can_hold() -> None:
    """0..1 in int8 beside float32: random numbers of -1..1 would be cut off in one of them alone."""
    pair = [[image()], [image(1 / 255, -128)]]
    section, (note,) = KIND.settled(LatencySection(), pair)
    assert section.random == {"0": "uniform:0:1"} and "'image' lie in 0..1" in note
    task = KIND.build(section, ())
    task.bind(described([image()], ()))
    numbers = np.concatenate([task.inputs(n)[0] for n in range(task.sample_count())])
    assert 0.0 <= numbers.min() < 0.1 and 0.9 < numbers.max() <= 1.0
    wide, narrow = image(2 / 255, -128), image(1 / 255, -64)
    assert KIND.settled(LatencySection(), [[wide], [narrow]])[0].random == {"0": "uniform:0:0.74902"}


@pytest.mark.parametrize(
    ("section", "inputs"),
    [
        (LatencySection(), [[image()], [image()]]),  # nothing tells a range
        (LatencySection(), [[image()], []]),  # to be made of the float model
        (LatencySection(), [[image(0.1, 0)], [image(0.1, 0)]]),  # all alike
        (LatencySection(random={"image": "pixels"}), [[image()], [image(0.1, 0)]]),
        (LatencySection(random={"*": "pixels"}), [[image()], [image(0.1, 0)]]),
        (LatencySection(inputs=["a.npz"]), [[image()], [image(0.1, 0)]]),
        (LatencySection(), [[image(0.1, -128)], [image(0.1, 127)]]),  # no number is held by both
    ],
)
def test_inputs_are_left_as_they_are(section: LatencySection, inputs: list[list[TensorSpec]]) -> None:
    assert KIND.settled(section, inputs) == (section, [])


def test_arrays_are_found_by_any_name_of_the_input(tmp_path: Path) -> None:
    called = TensorSpec("serving_default_ids:0", (1, 2), "int32", argument="input_ids")
    for key in ("serving_default_ids:0", "input_ids", "ids"):
        np.savez(tmp_path / "a.npz", **{key: np.array([[3, 4]], np.int32), "unused": np.zeros(1)})
        assert bound(called, files=[tmp_path / "a.npz"]).inputs(0)[0].tolist() == [[3, 4]]


def section(tmp_path: Path, count: int, suffix: str = "npz", **more: Any) -> LatencySection:
    files = []
    for n in range(count):
        path = tmp_path / f"{n}.{suffix}"
        np.savez(path, x=np.full((1, 3), n, np.float32)) if suffix == "npz" else np.save(path, np.zeros((1, 3)))
        files.append(str(path))
    return LatencySection(inputs=files, **more)


def drawn(chosen: LatencySection) -> tuple[list[float], list[float]]:
    """First value of the samples that are run, and of those that calibrate."""
    task = KIND.build(chosen, ())
    task.bind(described([spec(shape=(1, 3))], ()))
    run = [float(task.inputs(n)[0].flat[0]) for n in range(task.sample_count())]
    return run, [float(sample[0].flat[0]) for sample in task.calibration(100)]


def test_few_inputs_are_run_and_calibrate_and_that_is_said(tmp_path: Path) -> None:
    chosen = section(tmp_path, 3)
    assert drawn(chosen) == ([0, 1, 2], [0, 1, 2])
    ready = KIND.prepare(chosen)
    assert not ready.task.calibration_invented and "the very inputs that are run" in ready.notes[0]


def test_every_second_of_many_inputs_calibrates_and_is_not_run(tmp_path: Path) -> None:
    chosen = section(tmp_path, 7)
    assert drawn(chosen) == ([0, 2, 4, 6], [1, 3, 5])
    ready = KIND.prepare(chosen)
    assert ready.samples == 4 and not ready.task.calibration_invented
    assert "3 of the 7 input files, every second one, which are not run; the other 4 are" in ready.notes[0]
    assert drawn(section(tmp_path, 7, calibration_samples=2)) == ([0, 2, 4, 5, 6], [1, 3])


def test_where_nothing_is_calibrated_all_inputs_are_run(tmp_path: Path) -> None:
    chosen = KIND.without_calibration(section(tmp_path, 7))
    assert drawn(chosen)[0] == [0, 1, 2, 3, 4, 5, 6]
    ready = KIND.prepare(chosen)
    assert ready.notes == [] and not ready.task.calibration_invented


def test_inputs_of_their_own_calibrate(tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", x=np.full((1, 3), 9, np.float32))
    chosen = section(tmp_path, 5, calibration_inputs=[str(tmp_path / "own.npz")])
    assert drawn(chosen) == ([0, 1, 2, 3, 4], [9])
    ready = KIND.prepare(chosen)
    assert ready.notes == [] and not ready.task.calibration_invented
    other = KIND.prepare(section(tmp_path, 5))
    # What is made on the one is not to be taken from the cache for the other.
    assert ready.calibration_digest != other.calibration_digest


def test_random_calibration_is_said_to_be_invented() -> None:
    ready = KIND.prepare(LatencySection(random={"x": "pixels"})).task
    assert ready.calibration_invented and ready.calibration == "random numbers (x = pixels)"
