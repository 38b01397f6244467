"""Ops of two variants are paired by name, then by part of a name, then by order; conversions by nothing else."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qprof.record.ops import OpMeta
from qprof.runtimes.match_ops import OpMatch, match_ops


def ops(*rows: tuple[str, ...]) -> list[OpMeta]:
    """(name, type) or (name, type, output) per op."""
    return [
        OpMeta(op=str(index), name=row[0], type=row[1], index=index, outputs=tuple(row[2:]))
        for index, row in enumerate(rows)
    ]


def is_complete(match: OpMatch, a: int, b: int) -> bool:
    of_a = sorted([i for i, _ in match.pairs] + match.removed)
    of_b = sorted([j for _, j in match.pairs] + match.inserted)
    return of_a == list(range(a)) and of_b == list(range(b)) and len(match.stages) == len(match.pairs)


def test_same_names_pair_whatever_the_order():
    a = ops(("x", "ADD"), ("y", "ADD"), ("z", "CONV_2D"))
    match = match_ops(a, [a[2], a[0], a[1]])
    assert match.pairs == [(0, 1), (1, 2), (2, 0)]
    assert match.stages == ["name"] * 3


def test_conversions_are_inserted_and_pair_with_themselves_alone():
    a = ops(("c", "CONV_2D", "float32[1,8]"), ("p", "ADD", "float32[1,8]"))
    b = ops(
        ("c_q", "QUANTIZE", "int8[1,8]"),
        ("c", "CONV_2D", "int8[1,8]"),
        ("c_dequant", "DEQUANTIZE", "float32[1,8]"),
        ("p", "ADD", "float32[1,8]"),
    )
    match = match_ops(a, b)
    assert match.pairs == [(0, 1), (1, 3)] and match.inserted == [0, 2] and match.removed == []
    assert match_ops(a[:1], ops(("c", "DEQUANTIZE", "float32[1,8]"))).pairs == []
    assert match_ops(b[:1], b[2:3]).pairs == []
    assert match_ops(b, b).pairs == [(k, k) for k in range(4)]


def test_quantizers_suffixes_are_seen_through():
    a = ops(("Identity", "SOFTMAX", "float32[1,10]"), ("StatefulPartitionedCall:0", "LOGISTIC", "float32[1,4]"))
    b = ops(("Identity_int8", "SOFTMAX", "int8[1,10]"), ("StatefulPartitionedCall:01", "LOGISTIC", "int8[1,4]"))
    assert match_ops(a, b).pairs == [(0, 0), (1, 1)]


def test_fused_names_pair_by_the_part_that_is_their_own():
    shared = "model/last/depthwise"
    a = ops(
        (f"model/conv_1/BiasAdd;{shared};model/conv_1/Conv2D1", "CONV_2D", "float32[1,6,6,8]"),
        (f"model/conv_2/BiasAdd;{shared};model/conv_2/Conv2D1", "CONV_2D", "float32[1,6,6,8]"),
    )
    b = ops(
        (f"{shared};model/conv_2/Conv2D", "CONV_2D", "int8[1,6,6,8]"),
        ("other", "CONV_2D", "int8[1,6,6,8]"),
    )
    match = match_ops(a, b)
    assert match.pairs == [(1, 0)] and match.stages == ["part of name"]
    assert match.removed == [0] and match.inserted == [1], "order forbids the pair that is left"


def test_a_prefix_of_the_call_or_the_model_does_not_matter():
    a = ops(("model/block1/conv", "CONV_2D", "float32[1,4]"), ("model/block2/conv", "CONV_2D", "float32[1,4]"))
    b = ops(("StatefulPartitionedCall/functional_1/block2/conv", "CONV_2D", "int8[1,4]"))
    assert match_ops(a, b).pairs == [(1, 0)]


def test_parts_of_names_and_order_never_cross():
    a = ops(("x_int8", "ADD", "float32[4]"), ("y_int8", "ADD", "float32[4]"))
    b = ops(("y", "ADD", "float32[4]"), ("x", "ADD", "float32[4]"))
    match = match_ops(a, b)
    assert len(match.pairs) == 1 and is_complete(match, 2, 2)


def test_numbered_names_do_not_cross_although_they_are_equal():
    a = ops(("Identity", "ADD", "float32[4]"), ("Identity_1", "ADD", "float32[4]"))
    match = match_ops(a, ops(("Identity_1", "ADD", "float32[4]"), ("Identity", "ADD", "float32[4]")))
    assert len(match.pairs) == 1


def test_partitions_that_run_at_other_times_are_aligned_in_the_order_of_the_graph():
    # XNNPACK runs the two products of the first list behind the gather, and those of the second before it.
    rows = [("a/add", "ADD"), ("a/MatMul_11", "FULLY_CONNECTED"), ("a/slice", "SLICE"), ("a/gather", "GATHER")]
    later = [(f"{name}_12" if name.startswith("a/M") else name, kind) for name, kind in rows]
    a, b = (
        [replace(op, op=f"2/{op.op}", subgraph=2, outputs=("float32[1,8]",)) for op in ops(*one)]
        for one in (rows, later)
    )
    a = [a[0], a[3], a[1], a[2]]
    match = match_ops(a, b)
    assert [(a[i].name, b[j].name) for i, j in match.pairs if a[i].type == "FULLY_CONNECTED"] == [
        ("a/MatMul_11", "a/MatMul_11_12")
    ]
    assert is_complete(match, 4, 4) and not match.removed and match.pairs == sorted(match.pairs)


def test_order_pairs_type_and_shape_between_neighbours():
    a = ops(
        ("s", "CONV_2D", "f[1,8,8,4]"), ("u1", "ADD", "f[1,8,8,4]"), ("u2", "ADD", "f[1,4,4,4]"), ("e", "MEAN", "f[4]")
    )
    b = ops(
        ("s", "CONV_2D", "i[1,8,8,4]"), ("v2", "ADD", "i[1,4,4,4]"), ("e", "MEAN", "i[4]"), ("v1", "ADD", "i[1,8,8,4]")
    )
    match = match_ops(a, b)
    assert match.pairs == [(0, 0), (2, 1), (3, 2)]
    assert match.stages == ["name", "order", "name"]
    assert match.removed == [1] and match.inserted == [3], "v1 has the shape of u1 but lies outside its gap"


def test_an_op_that_moved_does_not_tear_the_order_apart():
    a = ops(("p", "ADD"), ("x", "ADD"), ("u", "MUL"), ("q", "ADD"))
    b = ops(("p", "ADD"), ("v", "MUL"), ("q", "ADD"), ("x", "ADD"))
    assert match_ops(a, b).pairs == [(0, 0), (1, 3), (2, 1), (3, 2)]


def test_compatible_types_pair_last():
    a = ops(("a1", "AVERAGE_POOL_2D", "f[1,1,1,64]"), ("a2", "FULLY_CONNECTED", "f[1,10]"), ("a3", "RELU", "f[1,10]"))
    b = ops(("b1", "MEAN", "f[1,64]"), ("b2", "CONV_2D", "f[1,1,1,10]"), ("b3", "LOGISTIC", "f[1,10]"))
    match = match_ops(a, b)
    assert match.pairs == [(0, 0), (1, 1)] and match.stages == ["order, other type"] * 2
    assert match.removed == [2] and match.inserted == [2]


def test_a_pad_fused_into_its_convolution_is_removed():
    a = ops(("stem/pad", "PAD", "f[1,10,10,3]"), ("stem/conv", "CONV_2D", "f[1,4,4,8]"), ("act", "RELU", "f[1,4,4,8]"))
    b = ops(("stem/pad;stem/conv;act", "CONV_2D", "i[1,4,4,8]"))
    match = match_ops(a, b)
    assert match.pairs == [(1, 0)] and match.removed == [0, 2]


def test_linear_layers_of_other_classes_pair_by_name():
    a = ops(("layers.0.q_proj", "Linear"), ("layers.0.norm", "RMSNorm"))
    b = ops(("layers.0.q_proj", "TritonV2QuantLinear"), ("layers.0.norm", "RMSNorm"))
    match = match_ops(a, b)
    assert match.pairs == [(0, 0), (1, 1)] and match.stages == ["name, other type", "name"]


def test_open_and_unknown_dimensions_fit_any():
    a = ops(("", "ADD", "f[-1,4]"), ("", "MUL"))
    b = ops(("", "ADD", "f[1,4]"), ("", "MUL", "f[9]"))
    assert match_ops(a, b).pairs == [(0, 0), (1, 1)]
    assert match_ops(a[:1], ops(("", "ADD", "f[1,5]"))).pairs == []


def test_subgraphs_are_kept_apart():
    a = ops(("x", "ADD", "f[1]"))
    assert match_ops(a, [replace(a[0], subgraph=1)]).pairs == []


def test_repeated_names_pair_in_order_only_when_as_many():
    a = ops(("x", "ADD", "f[1]"), ("x", "ADD", "f[2]"))
    assert match_ops(a, a).pairs == [(0, 0), (1, 1)]
    assert match_ops(a, a[1:]).pairs == [(1, 0)], "the shape tells which one is gone"


@pytest.mark.parametrize(("a", "b"), [([], []), (ops(("x", "ADD")), []), ([], ops(("x", "ADD")))])
def test_nothing_to_pair(a, b):
    match = match_ops(a, b)
    assert match.pairs == [] and is_complete(match, len(a), len(b))


names = st.sampled_from(["", "a", "b", "a;b", "b_int8", "Identity", "m/x/a1", "m/x/a", "tfl.quantize"])
metas = st.builds(
    OpMeta,
    op=st.just("0"),
    name=names,
    type=st.sampled_from(["ADD", "SUB", "CONV_2D", "QUANTIZE", "DEQUANTIZE"]),
    index=st.just(0),
    subgraph=st.sampled_from([0, 0, 1]),
    outputs=st.sampled_from([(), ("f[1,2]",), ("i[-1,2]",), ("f[3]",)]),
)


@given(st.lists(metas, max_size=14), st.lists(metas, max_size=14))
def test_every_op_stands_once_and_only_names_cross(a, b):
    match = match_ops(a, b)
    assert is_complete(match, len(a), len(b))
    assert match.pairs == sorted(match.pairs)
    in_order = [pair for pair, stage in zip(match.pairs, match.stages, strict=True) if not stage.startswith("name")]
    assert [j for _, j in in_order] == sorted(j for _, j in in_order)
    for i, j in match.pairs:
        kinds = {a[i].type, b[j].type}
        assert len(kinds) == 1 or not kinds & {"QUANTIZE", "DEQUANTIZE"}


def test_a_long_model_without_any_name_is_aligned_by_order():
    rng = random.Random(0)
    a = [
        OpMeta("", "", rng.choice(["CONV_2D", "ADD", "MUL", "LOGISTIC"]), i, outputs=(f"f[1,{rng.randint(1, 9)}]",))
        for i in range(800)
    ]
    kept = sorted(rng.sample(range(800), 760))
    match = match_ops(a, [a[i] for i in kept])
    assert len(match.pairs) == 760
    assert sum(i != kept[j] for i, j in match.pairs) < 0.05 * 760, "runs of equal ops may shift by one"


def read_ops(path: Path) -> list[OpMeta]:
    flatbuffer = pytest.importorskip("qprof.runtimes.litert.flatbuffer")
    pytest.importorskip("ai_edge_litert")
    model = flatbuffer.read_model(path)
    return [
        OpMeta(str(op.index), op.name, op.type, op.index, outputs=tuple(graph.tensors[i].label for i in op.outputs))
        for graph in model.subgraphs[:1]
        for op in graph.ops
    ]


@pytest.mark.parametrize(
    ("base", "variant"), [("vww_96_float", "vww_96_int8"), ("pretrainedResnet", "pretrainedResnet_quant")]
)
def test_separately_converted_pairs_match_completely(qprof_data, base, variant):
    a, b = (read_ops(qprof_data / "models" / f"{name}.tflite") for name in (base, variant))
    match = match_ops(a, b)
    assert match.pairs == [(i, i) for i in range(len(a))]
    assert len(a) == len(b) and match.stages.count("name") == len(a) - 1


@pytest.mark.parametrize("name", ["vww_96_float", "pretrainedResnet", "yolox_nano"])
def test_a_real_model_is_matched_with_its_names_taken_away(qprof_data, name):
    named = read_ops(qprof_data / "models" / f"{name}.tflite")
    nameless = [replace(op, name="") for op in named]
    assert match_ops(named, nameless).pairs == [(i, i) for i in range(len(named))]


def test_two_conversions_of_one_architecture_match_by_order(qprof_data):
    a = read_ops(qprof_data / "models" / "mobilenet_v2_1.0_224_quant.tflite")
    b = read_ops(qprof_data / "models" / "tf2_mobilenet_v2_1.0_224_ptq.tflite")
    match = match_ops(a, b)
    assert match.removed == [] and [b[j].type for j in match.inserted] == ["QUANTIZE", "QUANTIZE"]
    other = [(a[i].type, b[j].type) for i, j in match.pairs if a[i].type != b[j].type]
    assert other == [("AVERAGE_POOL_2D", "MEAN")]


def test_unrelated_models_do_not_match_their_convolutions(qprof_data):
    a = read_ops(qprof_data / "models" / "mobilenet_v1_0.25_128_quant.tflite")
    b = read_ops(qprof_data / "models" / "ssd_mobilenet_v1_1_metadata_1.tflite")
    assert not any(a[i].type == "CONV_2D" for i, _ in match_ops(a, b).pairs)
