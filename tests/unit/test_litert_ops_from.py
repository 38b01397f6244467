"""Ops of a baseline in a finished file, and the control that converts as many numbers and computes the same."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import qprof
from litert_edits import entry, ops_of, real, sqnr_db
from qprof.errors import ModelError
from qprof.runtimes.interventions import Impossible
from qprof.runtimes.litert.edit import open_file
from qprof.runtimes.litert.interpreter import LiteRTModel
from qprof.runtimes.litert.ops_from import converted_alike, ops_from
from qprof.runtimes.litert.runtime import RUNTIME
from tflite_builder import tiny_conv_net, tiny_int8_net

EMBEDDED = Path(qprof.__file__).parent / "embedded"
FLOAT, INT8 = EMBEDDED / "shapes_detector.tflite", EMBEDDED / "shapes_detector_qat.tflite"
CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPROF_CACHE", str(tmp_path / "cache"))


def pairs(*types: str) -> list[tuple[str, str]]:
    """Ops of these types, all of them without any, that both files have in the same place."""
    own = [op for op in ops_of(INT8) if op.type not in CONVERSIONS]
    its = [op for op in ops_of(FLOAT) if op.type not in CONVERSIONS]
    assert [op.type for op in own] == [op.type for op in its]
    return [(a.name, b.name) for a, b in zip(own, its, strict=True) if not types or a.type in types]


def images() -> list[NDArray[np.float32]]:
    shape = LiteRTModel(FLOAT).loaded.inputs[0].shape
    random = np.random.default_rng(7)
    return [random.uniform(-1, 1, shape).astype(np.float32) for _ in range(3)]


def outputs(path: Path) -> NDArray[np.float32]:
    model = LiteRTModel(path)
    return np.concatenate([real(model, [image]).reshape(-1) for image in images()])


def converted(path: Path) -> int:
    """How many numbers an inference converts."""
    graph = open_file(path).graph
    return sum(math.prod(graph.tensors[op.inputs[0]].shape) for op in graph.ops if op.type in CONVERSIONS)


def test_with_every_op_of_the_baseline_it_is_the_baseline() -> None:
    whole = ops_from(INT8, FLOAT, pairs())
    rounded = sqnr_db(outputs(FLOAT), outputs(INT8))
    # What is left are the roundings of the input and of the outputs.
    assert sqnr_db(outputs(FLOAT), outputs(whole)) > rounded + 6.0
    assert Counter(op.type for op in ops_of(whole))["CONV_2D"] == Counter(op.type for op in ops_of(FLOAT))["CONV_2D"]


def test_ops_are_computed_in_float_and_nothing_is_converted_between_two_of_them() -> None:
    depthwise = ops_from(INT8, FLOAT, pairs("DEPTHWISE_CONV_2D"))
    both = ops_from(INT8, FLOAT, pairs("DEPTHWISE_CONV_2D", "CONV_2D"))
    graph = open_file(depthwise).graph
    kinds = {graph.tensors[op.inputs[0]].dtype for op in graph.ops if op.type == "DEPTHWISE_CONV_2D"}
    others = {graph.tensors[op.inputs[0]].dtype for op in graph.ops if op.type == "CONV_2D"}
    assert (kinds, others) == ({"float32"}, {"int8"})
    own = Counter(op.type for op in ops_of(INT8))
    count = Counter(op.type for op in ops_of(depthwise))
    assert count["DEPTHWISE_CONV_2D"] == own["DEPTHWISE_CONV_2D"] == count["QUANTIZE"] - own["QUANTIZE"]
    assert converted(both) < converted(depthwise)
    assert sqnr_db(outputs(INT8), outputs(depthwise)) > 15.0


@pytest.mark.parametrize("types", [("CONV_2D",), ("DEPTHWISE_CONV_2D",), ("ADD", "RESIZE_BILINEAR")])
def test_the_control_computes_the_same_and_converts_as_much(types: tuple[str, ...]) -> None:
    control, replaced = (make(INT8, FLOAT, pairs(*types)) for make in (converted_alike, ops_from))
    np.testing.assert_array_equal(outputs(control), outputs(INT8))
    before = converted(INT8)
    assert converted(control) - before == pytest.approx(converted(replaced) - before, rel=0.1)
    assert Counter(op.type for op in ops_of(control) if op.type not in CONVERSIONS) == Counter(
        op.type for op in ops_of(INT8) if op.type not in CONVERSIONS
    )


def test_an_op_with_float_activations_is_replaced_without_conversions(tmp_path: Path) -> None:
    """As in a file with dynamic ranges, whose weights alone are integers."""
    path = tmp_path / "float.tflite"
    path.write_bytes(tiny_conv_net())
    conv = next(op.name for op in ops_of(path) if op.type == "CONV_2D")
    same = ops_from(path, path, [(conv, conv)])
    assert [op.type for op in ops_of(same)] == [op.type for op in ops_of(path)]
    inputs = [np.random.default_rng(0).uniform(-1, 1, LiteRTModel(path).loaded.inputs[0].shape).astype(np.float32)]
    np.testing.assert_array_equal(real(LiteRTModel(same), inputs), real(LiteRTModel(path), inputs))


def test_what_does_not_fit_is_refused_in_one_line(tmp_path: Path) -> None:
    small, other, int8 = tmp_path / "small.tflite", tmp_path / "other.tflite", tmp_path / "int8.tflite"
    small.write_bytes(tiny_conv_net(size=16))
    other.write_bytes(tiny_conv_net(size=32))
    int8.write_bytes(tiny_int8_net())

    def conv(path: Path) -> str:
        return next(op.name for op in ops_of(path) if op.type == "CONV_2D")

    for path, baseline, message in (
        (small, other, "tensors of other shapes"),
        (small, int8, "does not compute in float32"),
    ):
        with pytest.raises(ModelError, match=message) as raised:
            ops_from(path, baseline, [(conv(path), conv(baseline))])
        assert "\n" not in str(raised.value)
    with pytest.raises(ModelError, match="no op named 'nothing'"):
        ops_from(small, small, [("nothing", conv(small))])
    with pytest.raises(ModelError, match="nothing is converted around these ops"):
        converted_alike(small, small, [(conv(small), conv(small))])


def test_the_intervention_names_a_file_and_says_where_it_is_impossible(tmp_path: Path) -> None:
    chosen, interventions = pairs("CONV_2D"), RUNTIME.interventions
    after = interventions.ops_from(entry(INT8, "int8"), entry(FLOAT, "float32"), chosen)
    before = interventions.converted_alike(entry(INT8, "int8"), entry(FLOAT, "float32"), chosen)
    assert not isinstance(after, Impossible) and not isinstance(before, Impossible)
    assert Path(after["file"]).is_file() and after["name"].startswith("int8+ops-") != before["name"]
    missing = interventions.ops_from(entry(INT8), entry(tmp_path / "gone.tflite", "float32"), chosen)
    assert isinstance(missing, Impossible) and "cannot be replaced by those of float32" in missing.reason


def test_a_tensor_that_several_of_the_ops_read_is_converted_once() -> None:
    """What lies before a block with a shortcut is read twice."""
    file = open_file(ops_from(INT8, FLOAT, pairs("CONV_2D", "ADD")))
    read = [op.inputs[0] for op in file.graph.ops if op.type == "DEQUANTIZE"]
    assert len(read) == len(set(read))
