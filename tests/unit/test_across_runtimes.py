"""Two variants of different runtimes: which op is which, the same numbers in another layout, and true sentences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qprof.errors import DataError
from qprof.measure.worker.output_distances import matched_outputs
from qprof.measure.worker.shared_inputs import same_inputs
from qprof.record.layouts import transposition
from qprof.record.manifest import VariantEntry
from qprof.record.ops import FUSED, OpMeta
from qprof.record.tensors import TensorSpec
from qprof.runtimes.across import ACROSS_RUNTIMES
from qprof.runtimes.interventions import Impossible, Interventions
from qprof.runtimes.match_ops import match_ops
from qprof.runtimes.op_families import family
from qprof.tasks.latency.kind import LatencyKind, LatencySection
from qprof.tasks.latency.task import LatencyTask


def ops(*told: tuple[str, str, str]) -> list[OpMeta]:
    return [
        OpMeta(op=str(i), name=name, type=kind, index=i, outputs=(shape,) if shape else ())
        for i, (name, kind, shape) in enumerate(told)
    ]


def test_ops_of_two_runtimes_are_matched_by_name_and_by_order():
    litert = ops(
        ("net/stem/Relu;net/stem/Conv2D", "CONV_2D", "float32[1,32,32,16]"),
        ("net/add", "ADD", "float32[1,32,32,16]"),
        ("pool", "MEAN", "float32[1,16]"),
        ("Identity", "FULLY_CONNECTED", "float32[1,10]"),
    )
    onnx = ops(
        ("move", "Transpose", "float32[1,3,32,32]"),
        ("net/stem/Relu;net/stem/Conv2D1", "Conv", "float32[1,16,32,32]"),
        ("net/add", "Add", ""),
        ("mean", "GlobalAveragePool", "float32[1,16,1,1]"),
        ("gemm", "Gemm", "float32[1,10]"),
    )
    match = match_ops(litert, onnx)
    assert match.pairs == [(0, 1), (1, 2), (2, 3), (3, 4)] and match.inserted == [0]
    assert match.stages == ["part of name", "name", "order", "order"]
    back = match_ops(onnx, litert)
    assert back.pairs == [(1, 0), (2, 1), (3, 2), (4, 3)] and back.removed == [0]


def test_shapes_of_two_runtimes_tell_ops_apart():
    """The same extents in another order are one shape; others are not."""
    litert = ops(("a", "CONV_2D", "float32[1,8,8,4]"), ("b", "CONV_2D", "float32[1,4,4,8]"))
    onnx = ops(("x", "Conv", "float32[1,8,4,4]"))
    assert match_ops(litert, onnx).pairs == [(1, 0)]


def test_types_of_three_runtimes_have_families():
    assert family("CONV_2D") == family("Conv") == family("conv2d + relu") == family("linear") == family("Gemm")
    assert family("MEAN") == family("GlobalAveragePool") == family("mean")
    assert family("QUANTIZE") == family("QuantizeLinear") != family("DEQUANTIZE")
    assert family("TorchLinear") == "Linear" and family("NewOp") == "NewOp"


@pytest.mark.parametrize(
    ("given", "wanted", "axes"),
    [
        ((1, 32, 32, 3), (1, 3, 32, 32), (0, 3, 1, 2)),
        ((1, 3, 32, 16), (1, 32, 16, 3), (0, 2, 3, 1)),
        ((32, 32, 3), (3, 32, 32), (2, 0, 1)),
        ((2, 100, 40), (2, 40, 100), (0, 2, 1)),
        ((1, 2, 3, 4, 5), (1, 5, 2, 3, 4), (0, 4, 1, 2, 3)),
        ((1, 32, 32, 3), (1, 32, 32, 3), None),
        ((1, 32, 16, 3), (1, 3, 16, 32), None),
        ((1, 10), (10, 1), None),
        ((1, 32, 32, 3), (1, 32, 32, 4), None),
    ],
)
def test_channels_move_from_one_end_to_the_other(given, wanted, axes):
    assert transposition(given, wanted) == axes
    if axes is not None:
        assert np.zeros(given).transpose(axes).shape == wanted


FIRST, LAST = TensorSpec("x", (1, 3, 8, 4), "float32"), TensorSpec("input_1", (1, 8, 4, 3), "float32")


class _Bound:
    def __init__(self, spec: TensorSpec) -> None:
        from qprof.record.model import Loaded

        self.loaded = Loaded(inputs=[spec], outputs=[], op_types=[])


def bound(section: LatencySection, spec: TensorSpec) -> LatencyTask:
    task = LatencyKind().build(section, ())
    task.bind(_Bound(spec))  # type: ignore[arg-type]
    return task


def test_random_inputs_are_one_sample_in_both_layouts():
    section, _ = LatencyKind().settled(LatencySection(), [[LAST], [FIRST]])
    last, first = bound(section, LAST), bound(section, FIRST)
    assert np.array_equal(last.inputs(3)[0].transpose(0, 3, 1, 2), first.inputs(3)[0])
    assert not last.notes() and "keeps channels at the other end" in first.notes()[0]
    alone, _ = LatencyKind().settled(LatencySection(), [[LAST], [LAST]])
    assert not alone.made_like and np.array_equal(bound(alone, LAST).inputs(3)[0], last.inputs(3)[0])


def test_files_are_one_sample_in_both_layouts(tmp_path):
    array = np.random.default_rng(0).standard_normal((8, 4, 3)).astype(np.float32)
    np.save(tmp_path / "x.npy", array)
    section = LatencySection(inputs=[str(tmp_path / "x.npy")], calibration_samples=0)
    last, first = bound(section, LAST), bound(section, FIRST)
    assert np.array_equal(last.inputs(0)[0][0], array)
    assert np.array_equal(first.inputs(0)[0][0], array.transpose(2, 0, 1))
    assert not last.notes() and "keeps channels at the other end" in first.notes()[0]
    with pytest.raises(DataError, match="give an array of that shape"):
        bound(section, replace(FIRST, shape=(1, 3, 4, 8)))


def test_outputs_are_compared_on_the_same_numbers():
    quantized = replace(FIRST, dtype="int8", scale=0.5, zero_point=1)
    given = np.arange(96, dtype=np.int8).reshape(quantized.shape)
    own = np.zeros(LAST.shape, np.float32)
    mine, its = same_inputs([LAST], [quantized], [own], [given])
    assert its[0] is given and np.array_equal(mine[0].transpose(0, 3, 1, 2), 0.5 * (given.astype(np.float32) - 1))
    with pytest.raises(DataError, match="not the same"):
        same_inputs([LAST], [replace(FIRST, shape=(1, 3, 4, 8))], [own], [np.zeros((1, 3, 4, 8), np.float32)])
    pairs, notes = matched_outputs([LAST], [FIRST], "b")
    assert pairs == [(0, 0, LAST, FIRST)] and not notes


def test_no_change_is_offered_as_a_test_of_a_runtime():
    names = [name for name in vars(Interventions) if not name.startswith("_")]
    assert len(names) > 20
    entry = VariantEntry(name="a", section={"name": "a"})
    told = [ACROSS_RUNTIMES.without_delegate({"name": "a"}), ACROSS_RUNTIMES.next_width(entry)]
    told += [ACROSS_RUNTIMES.constants_from(entry, entry, [("a", "b")]), ACROSS_RUNTIMES.cut_off(entry, {"a"})]
    assert all(isinstance(one, Impossible) and "different runtimes" in one.reason for one in told)
    assert "different runtimes" in str(ACROSS_RUNTIMES.not_made_anew(entry))
    assert ACROSS_RUNTIMES.by_side(entry) == {} and FUSED


def test_an_op_that_one_alone_has_fused_is_other_work_and_no_other_rate():
    from qprof.findings.decomposition import OpPart, OpSide

    own, fused = OpSide(3.0, "Relu", 0, None, "Relu"), OpSide(0.0, "Relu", 0, None, FUSED)
    assert OpPart("r", "Relu", 3.0, fused, own).fused_in == "a"
    assert OpPart("r", "Relu", -3.0, own, fused).fused_in == "b"
    assert [OpPart("r", "Relu", 0.0, one, one).fused_in for one in (own, fused)] == ["", ""]
    assert OpPart("r", "Relu", 3.0, None, own).fused_in == ""
