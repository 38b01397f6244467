"""Inputs from files: strings, other integers, which of them calibrate; the options that name them."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bound_models import described
from qprof.errors import DataError, ProfileError
from qprof.measure.input_options import InputOptions, recipes, shapes
from qprof.record.tensors import TensorSpec
from qprof.tasks.latency import LatencyTask
from qprof.tasks.latency.given_inputs import divided
from qprof.tasks.latency.kind import KIND, LatencySection


def bound(path: Path, *specs: TensorSpec) -> LatencyTask:
    task = LatencyTask([path])
    task.bind(described(specs, ()))
    return task


@pytest.mark.parametrize("texts", [["a", "bb"], [b"a", b"bb"], ["ä", "日本"]], ids=["ascii", "bytes", "unicode"])
def test_strings_need_no_pickle(texts: list[Any], tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", names=np.array(texts))
    (array,) = bound(tmp_path / "s.npz", TensorSpec("names", (2,), "bytes")).inputs(0)
    assert array.dtype == object
    assert array.tolist() == [text if isinstance(text, bytes) else text.encode() for text in texts]


def test_pickled_strings_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", names=np.array(["a", "b"], dtype=object))
    with pytest.raises(DataError, match="cannot be read as a"):
        bound(tmp_path / "s.npz", TensorSpec("names", (2,), "bytes"))


@pytest.mark.parametrize(
    ("shape", "record"), [((2**64, 1), "ids.npy"), ((2,), "ids")], ids=["a size that no number holds", "no array"]
)
def test_archives_of_something_else_are_refused(shape: tuple[int, ...], record: str, tmp_path: Path) -> None:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    array = b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header + bytes(8)
    with zipfile.ZipFile(tmp_path / "s.npz", "w") as file:
        file.writestr(record, array if record.endswith(".npy") else b"text")
    with pytest.raises(DataError, match=r"cannot be read as a \.npz archive") as caught:
        bound(tmp_path / "s.npz", TensorSpec("ids", (2,), "float32")).inputs(0)
    assert "\n" not in str(caught.value)


def test_integers_fit_where_their_values_do(tmp_path: Path) -> None:
    np.savez(tmp_path / "i.npz", ids=np.array([1, 2]))
    task = bound(tmp_path / "i.npz", TensorSpec("serving_default_ids:0", (1, 2), "int32"))
    assert task.inputs(0)[0].dtype == np.int32 and task.inputs(0)[0].tolist() == [[1, 2]]
    np.savez(tmp_path / "i.npz", ids=np.array([1, 2**40]))
    with pytest.raises(DataError, match="int64 values for input 'ids' of int32"):
        bound(tmp_path / "i.npz", TensorSpec("ids", (2,), "int32"))


def test_numbers_are_no_text(tmp_path: Path) -> None:
    np.savez(tmp_path / "i.npz", names=np.array([1, 2]))
    with pytest.raises(DataError, match="int64 values for input 'names' of text: give text"):
        bound(tmp_path / "i.npz", TensorSpec("names", (2,), "bytes"))


def files(count: int, suffix: str = ".npz") -> list[Path]:
    return [Path(f"{n}{suffix}") for n in range(count)]


def test_every_second_of_many_files_calibrates() -> None:
    found = divided(files(7), 100)
    assert [path.stem for path in found.run] == ["0", "2", "4", "6"]
    assert [path.stem for path in found.calibrate] == ["1", "3", "5"] and not found.reused
    found = divided(files(10), 2)
    assert [path.stem for path in found.calibrate] == ["1", "3"] and len(found.run) == 8


def test_few_files_do_both_and_none_is_kept_aside_for_nothing() -> None:
    assert divided(files(3), 100).reused and len(divided(files(3), 100).run) == 3
    assert divided(files(5, ".npy"), 100).reused
    assert divided(files(7), 0).run == files(7) and divided(files(7), 0).calibrate == []


def test_calibration_reads_the_files_as_real_numbers(tmp_path: Path) -> None:
    for n in range(4):
        np.savez(tmp_path / f"{n}.npz", x=np.full((1, 3), 50.0 * n))
    names = [str(tmp_path / f"{n}.npz") for n in range(4)]
    model = described([TensorSpec("x", (1, 3), "float32")], ())
    section = LatencySection(inputs=names)
    task = KIND.build(section, ())
    task.bind(model)
    assert [float(arrays[0].max()) for arrays in task.calibration(10)] == [50.0, 150.0]
    assert [float(task.inputs(n)[0].max()) for n in range(task.sample_count())] == [0.0, 100.0]
    ready = KIND.prepare(section)
    assert ready.samples == 2 and not ready.task.calibration_invented
    assert ready.notes == ["calibrated on 2 of the 4 input files, every second one, which are not run; the other 2 are"]
    own = KIND.prepare(LatencySection(inputs=names[:1], calibration_inputs=names[1:]))
    assert own.notes == [] and own.calibration_digest != ready.calibration_digest
    few = KIND.prepare(LatencySection(inputs=names[:1]))
    assert "the very inputs that are run" in few.notes[0]


def test_an_invented_calibration_is_known_as_such() -> None:
    ready = KIND.prepare(LatencySection(random={"x": "pixels"}))
    assert ready.task.calibration_invented and ready.task.calibration == "random numbers (x = pixels)"
    nothing = KIND.prepare(KIND.without_calibration(LatencySection()))
    assert not nothing.task.calibration_invented and nothing.task.calibration == ""


def test_sections_that_contradict_themselves() -> None:
    with pytest.raises(ProfileError, match="leave out one"):
        KIND.check(LatencySection(inputs=["a.npz"], random={"x": "mask"}))
    with pytest.raises(ProfileError, match=r"task\.random\.x: there is no recipe 'maks'; did you mean mask"):
        KIND.check(LatencySection(random={"x": "maks"}))


def test_options_of_a_command_line() -> None:
    assert recipes(["ids=tokens:30522,mask=mask", "pixels"]) == {
        "ids": "tokens:30522",
        "mask": "mask",
        "*": "pixels",
    }
    assert recipes(["serving_default_x:0=uniform:0:1"]) == {"serving_default_x:0": "uniform:0:1"}
    assert shapes(["ids=1x128,b=2", "c=1x1"]) == {"ids": [1, 128], "b": [2], "c": [1, 1]}
    options = InputOptions(random={"a": "mask"}, shapes={"a": [1, 2]}, signature="s")
    assert options.task() == {"random": {"a": "mask"}}
    assert options.model() == {"input_shapes": {"a": [1, 2]}, "signature": "s"}
    assert options and not InputOptions()


@pytest.mark.parametrize("text", ["ids", "ids=", "ids=1xa", "=1x2", "ids=1x2,ids=3"])
def test_shapes_that_are_none(text: str) -> None:
    with pytest.raises(ProfileError, match="--shape"):
        shapes([text])


@pytest.mark.parametrize("text", ["ids=", "=mask", "a=mask,a=pixels", ""])
def test_recipes_of_no_form(text: str) -> None:
    with pytest.raises(ProfileError, match="--random"):
        recipes([text])
