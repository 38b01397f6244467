"""Static facts of .tflite files: built by hand with known figures, real ones, and damaged ones."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

import tflite_builder as tflite
from qprof.errors import ModelError
from qprof.runtimes.litert.flatbuffer import read_model, validate_header
from qprof.runtimes.litert.macs import _NO_MACS, RULED_TYPES, count_macs
from qprof.runtimes.litert.model_facts import ModelFacts, OpFacts, SubgraphFacts, describe_quantization, with_shapes
from tflite_builder import Graph, Quantization, build_model

Read = Callable[[bytes], ModelFacts]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Write bytes to a file and read it."""

    def write_and_read(content: bytes) -> ModelFacts:
        path = tmp_path / "model.tflite"
        path.write_bytes(content)
        return read_model(path)

    return write_and_read


def only_op(read: Read, graph: Graph, external_buffers: bool = False) -> tuple[OpFacts, SubgraphFacts]:
    subgraph = read(build_model([graph], external_buffers=external_buffers)).subgraphs[0]
    assert len(subgraph.ops) == 1
    return subgraph.ops[0], subgraph


def one_conv(kernel_dtype: str = "float32", **kernel_facts: Quantization) -> Graph:
    graph = Graph()
    image = graph.input("image", (1, 8, 8, 3))
    values = np.ones((4, 3, 3, 3), np.int8 if kernel_dtype == "int4" else kernel_dtype)
    kernel = graph.constant("kernel", values, kernel_dtype, **kernel_facts)
    graph.outputs = [graph.conv_2d("features", image, kernel, stride=2)]
    return graph


# -- what is read -----------------------------------------------------------------------------------------------


def test_a_conv_net_reads_back_as_it_was_built(read: Read) -> None:
    content = tflite.tiny_conv_net(batch=2, size=16, channels=4)
    model = read(content)
    assert model.bytes == len(content)
    assert model.description == "tiny conv net"
    (subgraph,) = model.subgraphs
    assert subgraph.name == "main"
    assert [(op.type, op.name) for op in subgraph.ops] == [
        ("CONV_2D", "stem"),
        ("DEPTHWISE_CONV_2D", "depthwise"),
        ("ADD", "residual"),
        ("MEAN", "pooled"),
        ("FULLY_CONNECTED", "logits"),
        ("SOFTMAX", "probabilities"),
    ]
    assert [op.macs for op in subgraph.ops] == [2 * 64 * 4 * 27, 2 * 64 * 4 * 9, 0, 0, 2 * 4 * 10, 0]
    stem = subgraph.ops[0]
    assert stem.weight_bytes == (4 * 27 + 4) * 4
    assert stem.activation_bytes == 2 * (16 * 16 * 3 + 8 * 8 * 4) * 4
    assert [subgraph.tensors[i].label for i in stem.inputs] == ["float32[2,16,16,3]", "float32[4,3,3,3]", "float32[4]"]
    assert [subgraph.tensors[i].constant for i in stem.inputs] == [False, True, True]
    (signature,) = model.signatures
    assert (signature.key, signature.subgraph) == ("serving_default", 0)
    assert signature.inputs == {"image": subgraph.inputs[0]}
    assert signature.outputs == {"probabilities": subgraph.outputs[0]}


def test_metadata_names(read: Read) -> None:
    model = read(build_model([one_conv()], metadata={"TFLITE_METADATA": b"zip", "min_runtime_version": b"1.5.0"}))
    assert model.metadata == ("TFLITE_METADATA", "min_runtime_version")


def test_an_input_used_twice_counts_once_and_an_omitted_one_not_at_all(read: Read) -> None:
    graph = Graph()
    source = graph.input("source", (1, 10))
    graph.outputs = [graph.multiply("square", source, source)]
    op, _ = only_op(read, graph)
    assert op.activation_bytes == (10 + 10) * 4

    graph = Graph()
    source = graph.input("source", (1, 10))
    weights = graph.constant("weights", np.ones((3, 10), np.float32))
    graph.outputs = [graph.fully_connected("dense", source, weights)]
    op, _ = only_op(read, graph)
    assert op.inputs[2] == -1
    assert (op.macs, op.weight_bytes, op.activation_bytes) == (30, 120, 52)


def test_child_subgraphs_of_a_loop(read: Read) -> None:
    model = read(tflite.while_net())
    assert [subgraph.name for subgraph in model.subgraphs] == ["main", "cond", "body"]
    loop = model.subgraphs[0].ops[0]
    assert (loop.type, loop.subgraphs, loop.name) == ("WHILE", (1, 2), "counter_end")
    assert loop.macs is None  # how often the body runs is not in the file
    assert [op.type for op in model.subgraphs[2].ops] == ["ADD", "ADD"]


@pytest.mark.parametrize(
    ("op_type", "options", "children"),
    [
        ("IF", schema.IfOptionsT(thenSubgraphIndex=1, elseSubgraphIndex=2), (1, 2)),
        ("CALL_ONCE", schema.CallOnceOptionsT(initSubgraphIndex=2), (2,)),
        ("STABLEHLO_COMPOSITE", schema.StableHLOCompositeOptionsT(name="sdpa", decompositionSubgraphIndex=1), (1,)),
        ("STABLEHLO_WHILE", schema.StablehloWhileOptionsT(condSubgraphIndex=2, bodySubgraphIndex=1), (2, 1)),
        ("STABLEHLO_CASE", schema.StablehloCaseOptionsT(branchSubgraphIndices=np.array([2, 1], np.int32)), (2, 1)),
        ("ADD", schema.AddOptionsT(), ()),
    ],
)
def test_child_subgraphs(read: Read, op_type: str, options: object, children: tuple[int, ...]) -> None:
    main = Graph()
    source = main.input("source", (1,))
    main.outputs = [main.tensor("result", (1,))]
    main.op(op_type, [source, source], main.outputs, options)
    model = read(build_model([main, Graph("one"), Graph("two")]))
    assert model.subgraphs[0].ops[0].subgraphs == children


def test_a_child_subgraph_that_does_not_exist_is_an_error(read: Read) -> None:
    graph = Graph()
    graph.op("CALL_ONCE", [], [], schema.CallOnceOptionsT(initSubgraphIndex=9))
    with pytest.raises(ModelError, match="a CALL_ONCE runs a subgraph that does not exist"):
        read(build_model([graph]))


def test_an_op_without_output_is_named_by_type_and_position(read: Read) -> None:
    graph = Graph()
    graph.op("CALL_ONCE", [], [], schema.CallOnceOptionsT(initSubgraphIndex=0))
    op, _ = only_op(read, graph)
    assert op.name == "CALL_ONCE:0"


def test_a_custom_op_has_its_code_as_type_and_unknown_macs(read: Read) -> None:
    ops = read(tflite.custom_op_net("Mine")).subgraphs[0].ops
    assert ops[1].type == "CUSTOM:Mine"
    assert ops[1].macs is None
    assert ops[1].activation_bytes == 2 * 8 * 8 * 4 * 4


def test_names_that_are_not_utf8_are_read(read: Read) -> None:
    content = build_model([one_conv()]).replace(b"features\0", b"feat\xff\xfees\0")
    assert read(content).subgraphs[0].ops[0].name == "feat\ufffd\ufffdes"


def test_constants_outside_the_flatbuffer_are_weighed(read: Read) -> None:
    inside, _ = only_op(read, one_conv())
    outside, subgraph = only_op(read, one_conv(), external_buffers=True)
    assert outside.weight_bytes == inside.weight_bytes == (4 * 27 + 4) * 4
    assert subgraph.tensors[outside.inputs[1]].constant


def test_an_external_constant_beyond_the_end_is_an_error(read: Read) -> None:
    content = build_model([one_conv()], external_buffers=True)
    with pytest.raises(ModelError, match="a constant ends at byte"):
        read(content[:-64])


# -- quantization -----------------------------------------------------------------------------------------------


def test_quantization_facts(read: Read) -> None:
    subgraph = read(tflite.tiny_int8_net(channels=4)).subgraphs[0]
    stem, _, logits, probabilities = subgraph.ops
    kernel = subgraph.tensors[stem.inputs[1]].quantization
    assert (kernel.kind, kernel.scale_count, kernel.axis) == ("per-channel", 4, 0)
    assert kernel.first_scale == pytest.approx(0.01)
    weights = subgraph.tensors[logits.inputs[1]].quantization
    assert (weights.kind, weights.scale_count, weights.axis) == ("per-tensor", 1, None)
    output = subgraph.tensors[probabilities.outputs[0]].quantization
    assert (output.first_scale, output.first_zero_point) == (1 / 256, -128)
    assert describe_quantization(stem, subgraph) == "int8 weights per-channel, int8 activations"
    assert describe_quantization(logits, subgraph) == "int8 weights per-tensor, int8 activations"
    assert describe_quantization(probabilities, subgraph) == "int8 activations"


def test_float32_has_no_quantization_to_describe(read: Read) -> None:
    subgraph = read(tflite.tiny_conv_net()).subgraphs[0]
    assert {describe_quantization(op, subgraph) for op in subgraph.ops} == {None}
    assert {tensor.quantization.kind for tensor in subgraph.tensors} == {"none"}


def test_dynamic_int8(read: Read) -> None:
    op, subgraph = only_op(read, one_conv("int8", quantization=Quantization([0.1] * 4)))
    assert describe_quantization(op, subgraph) == "int8 weights per-channel, float32 activations"


def test_int4_is_weighed_as_it_is_packed(read: Read) -> None:
    op, subgraph = only_op(read, one_conv("int4", quantization=Quantization([0.1])))
    kernel = subgraph.tensors[op.inputs[1]]
    assert (kernel.dtype, kernel.shape, kernel.bytes) == ("int4", (4, 3, 3, 3), 54)
    assert describe_quantization(op, subgraph) == "int4 weights per-tensor, float32 activations"


def test_blockwise(read: Read) -> None:
    graph = Graph()
    source = graph.input("source", (1, 64))
    scales = graph.constant("scales", np.ones((8, 2), np.float16))
    weights = graph.constant(
        "weights", np.ones((8, 64), np.int8), "int4", quantization=Quantization(block_size=32, scales_tensor=scales)
    )
    graph.outputs = [graph.fully_connected("dense", source, weights)]
    op, subgraph = only_op(read, graph)
    facts = subgraph.tensors[weights].quantization
    assert (facts.kind, facts.scale_count, facts.block_size, facts.first_scale) == ("blockwise", 16, 32, None)
    assert describe_quantization(op, subgraph) == "int4 weights blockwise, float32 activations"


def weights_behind_dequantize(dtype: str, quantization: Quantization | None = None) -> Graph:
    graph = Graph()
    image = graph.input("image", (1, 8, 8, 3))
    stored = graph.constant("kernel/stored", np.ones((4, 3, 3, 3), dtype), quantization=quantization)
    kernel = graph.tensor("kernel", (4, 3, 3, 3))
    graph.op("DEQUANTIZE", [stored], [kernel], schema.DequantizeOptionsT())
    graph.outputs = [graph.conv_2d("features", image, kernel)]
    return graph


def test_float16_weights_count_in_the_op_that_uses_them(read: Read) -> None:
    subgraph = read(build_model([weights_behind_dequantize("float16")])).subgraphs[0]
    dequantize, conv = subgraph.ops
    assert conv.weight_bytes == 4 * 27 * 2 + 4 * 4  # float16 kernel, float32 bias
    assert conv.activation_bytes == (8 * 8 * 3 + 8 * 8 * 4) * 4
    assert (dequantize.weight_bytes, dequantize.activation_bytes, dequantize.macs) == (0, 0, 0)
    assert dict(subgraph.constant_behind) == {dequantize.outputs[0]: dequantize.inputs[0]}
    assert describe_quantization(conv, subgraph) == "float16 weights"
    assert describe_quantization(dequantize, subgraph) == "float16 to float32"


def test_weight_only_int8(read: Read) -> None:
    graph = weights_behind_dequantize("int8", Quantization([0.1] * 4))
    subgraph = read(build_model([graph])).subgraphs[0]
    expected = "int8 weights per-channel dequantized before use, float32 activations"
    assert describe_quantization(subgraph.ops[1], subgraph) == expected
    assert subgraph.ops[1].weight_bytes == 4 * 27 + 4 * 4


def test_dequantize_of_an_activation_is_an_op_like_any(read: Read) -> None:
    graph = Graph()
    source = graph.input("source", (1, 10), "int8", quantization=Quantization([0.5], [3]))
    graph.outputs = [graph.tensor("real", (1, 10))]
    graph.op("DEQUANTIZE", [source], graph.outputs, schema.DequantizeOptionsT())
    op, subgraph = only_op(read, graph)
    assert op.activation_bytes == 10 + 40
    assert describe_quantization(op, subgraph) == "int8 to float32"


def test_sparse_weights_are_weighed_as_stored(read: Read) -> None:
    graph = Graph()
    source = graph.input("source", (1, 64))
    stored = graph.tensor("weights/stored", (8, 64), data=bytes(100), sparse=True)
    weights = graph.tensor("weights", (8, 64))
    graph.op("DENSIFY", [stored], [weights], schema.DensifyOptionsT())
    graph.outputs = [graph.fully_connected("dense", source, weights)]
    subgraph = read(build_model([graph])).subgraphs[0]
    densify, dense = subgraph.ops
    assert (dense.weight_bytes, dense.macs, densify.weight_bytes) == (100, 512, 0)
    assert describe_quantization(dense, subgraph) == "float32 weights sparse"


# -- MACs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op_type", "inputs", "outputs", "macs"),
    [
        ("CONV_2D", [(1, 8, 8, 3), (4, 3, 3, 3), (4,)], [(1, 8, 8, 4)], 8 * 8 * 4 * 27),
        ("CONV_2D", [(1, 8, 8, 6), (4, 3, 3, 3), (4,)], [(1, 8, 8, 4)], 8 * 8 * 4 * 27),  # two groups
        ("DEPTHWISE_CONV_2D", [(1, 8, 8, 3), (1, 3, 3, 6), None], [(1, 4, 4, 6)], 4 * 4 * 6 * 9),
        ("TRANSPOSE_CONV", [(4,), (8, 2, 2, 16), (1, 5, 5, 16)], [(1, 10, 10, 8)], 5 * 5 * 16 * 4 * 8),
        ("CONV_3D", [(1, 4, 4, 4, 2), (3, 3, 3, 2, 5)], [(1, 4, 4, 4, 5)], 64 * 5 * 27 * 2),
        ("CONV_3D_TRANSPOSE", [(5,), (2, 2, 2, 5, 3), (1, 4, 4, 4, 3)], [(1, 8, 8, 8, 5)], 64 * 3 * 8 * 5),
        ("FULLY_CONNECTED", [(2, 7, 16), (10, 16), None], [(2, 7, 10)], 2 * 7 * 10 * 16),
        ("SVDF", [(2, 16), (8, 16), (8, 10), None, (2, 80)], [(2, 4)], 2 * (8 * 16 + 8 * 10)),
        ("RNN", [(2, 16), (8, 16), (8, 8), (8,), (2, 8)], [(2, 8)], 2 * (8 * 16 + 8 * 8)),
        ("LSTM", [(2, 16), (2, 8), (32, 24), (32,), (2, 8)], [(2, 8)], 2 * 32 * 24),
        (
            "UNIDIRECTIONAL_SEQUENCE_LSTM",
            [(2, 5, 16), *[(8, 16)] * 4, *[(8, 6)] * 4, None, None, None, *[(8,)] * 4, (6, 8), (6,), (2, 6), (2, 8)],
            [(2, 5, 6)],
            2 * 5 * (4 * 8 * 16 + 4 * 8 * 6 + 6 * 8),
        ),
        ("MUL", [(1, 8), (1, 8)], [(1, 8)], 0),
        ("CUSTOM:Mine", [(1, 8)], [(1, 8)], None),
        ("BUILTIN_999", [(1, 8)], [(1, 8)], None),
        ("WHILE", [(1,)], [(1,)], None),
        # shapes that are open, missing or of the wrong rank
        ("CONV_2D", [(-1, 8, 8, 3), (4, 3, 3, 3)], [(-1, 8, 8, 4)], None),
        ("CONV_2D", [(1, 8, 8, 3), None], [(1, 8, 8, 4)], None),
        ("CONV_2D", [(1, 8, 8, 3), (4, 3, 3)], [(1, 8, 8, 4)], None),
        ("CONV_2D", [], [], None),
        ("FULLY_CONNECTED", [(1, 16), (10, 16)], [()], None),
        ("SVDF", [(2, 16)], [(2, 4)], None),
    ],
)
def test_mac_rules(
    op_type: str, inputs: list[tuple[int, ...] | None], outputs: list[tuple[int, ...]], macs: int | None
) -> None:
    assert count_macs(op_type, inputs, outputs) == macs


@pytest.mark.parametrize(
    ("adjoint", "left", "right"),
    [
        ((False, False), (2, 3, 5), (2, 5, 7)),
        ((True, False), (2, 5, 3), (2, 5, 7)),
        ((False, True), (2, 3, 5), (2, 7, 5)),
        ((True, True), (2, 5, 3), (2, 7, 5)),
        ((False, True), (2, 3, -1), (2, 7, 5)),  # the other operand knows it
    ],
)
def test_macs_of_batch_matmul(adjoint: tuple[bool, bool], left: tuple[int, ...], right: tuple[int, ...]) -> None:
    assert count_macs("BATCH_MATMUL", [left, right], [(2, 3, 7)], adjoint) == 2 * 3 * 7 * 5


def test_the_adjoints_are_read_from_the_options(read: Read) -> None:
    graph = Graph()
    left, right = graph.input("left", (1, 5, 3)), graph.input("right", (1, 7, 5))
    graph.outputs = [graph.tensor("product", (1, 3, 7))]
    graph.op("BATCH_MATMUL", [left, right], graph.outputs, schema.BatchMatMulOptionsT(adjX=True, adjY=True))
    op, _ = only_op(read, graph)
    assert op.adjoint == (True, True)
    assert op.macs == 3 * 7 * 5


def test_every_op_type_with_a_rule_is_one_of_the_schema() -> None:
    assert not [name for name in _NO_MACS | RULED_TYPES if not hasattr(schema.BuiltinOperator, name)]
    assert not _NO_MACS & RULED_TYPES


# -- shapes after allocation ------------------------------------------------------------------------------------


def test_shapes_of_the_runtime_replace_those_of_the_file(read: Read, tmp_path: Path) -> None:
    facts = read(tflite.dynamic_batch_net()).subgraphs[0]
    image = facts.tensors[facts.inputs[0]]
    assert (image.shape, image.shape_signature) == ((1, 16, 16, 3), (-1, 16, 16, 3))
    batched = {t.index: (4, *t.shape[1:]) for t in facts.tensors if not t.constant}
    resized = with_shapes(facts, batched | {999: (7,)})
    assert [op.macs for op in resized.ops] == [4 * (op.macs or 0) for op in facts.ops]
    assert resized.ops[0].activation_bytes == 4 * (facts.ops[0].activation_bytes or 0)
    assert resized.ops[0].weight_bytes == facts.ops[0].weight_bytes
    assert read_model(tmp_path / "model.tflite", batched).subgraphs[0] == resized


def test_an_open_batch_leaves_macs_and_bytes_unknown_until_it_is_known(read: Read) -> None:
    graph = Graph()
    source = graph.input("source", (-1, 16))
    weights = graph.constant("weights", np.ones((10, 16), np.float32))
    graph.outputs = [graph.fully_connected("dense", source, weights)]
    op, facts = only_op(read, graph)
    assert (op.macs, op.activation_bytes, op.weight_bytes) == (None, None, 640)
    resized = with_shapes(facts, {source: (2, 16), graph.outputs[0]: (2, 10)})
    assert (resized.ops[0].macs, resized.ops[0].activation_bytes) == (320, (32 + 20) * 4)


def test_the_shape_of_a_constant_is_that_of_the_file(read: Read) -> None:
    op, facts = only_op(read, one_conv())
    assert with_shapes(facts, {op.inputs[1]: (1, 1, 1, 1)}) == facts


# -- files that are no models -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"TFL", "is not a TFLite model"),
        (b"# just some text\n" * 20, "is not a TFLite model"),
        (bytes(range(256)) * 8, "is not a TFLite model"),
        (b"\x1c\0\0\0TFL3", "is truncated or not a TFLite model"),
        (b"\xff\xff\xff\xffTFL3" + bytes(64), "is truncated or not a TFLite model"),
        (b"\x08\0\0\0TFL3" + bytes(64), "is truncated or not a TFLite model"),
    ],
)
def test_what_is_no_model_is_a_model_error_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "broken.tflite"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        read_model(path)
    assert "broken.tflite" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_path_that_leads_to_no_file(tmp_path: Path) -> None:
    for check in (validate_header, read_model):
        with pytest.raises(ModelError, match="no such file"):
            check(tmp_path / "missing.tflite")
        with pytest.raises(ModelError, match="is a directory"):
            check(tmp_path)
        with pytest.raises(ModelError, match="cannot be read"):
            check(tmp_path / "nul\0byte")


def test_a_sound_header_passes(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(tflite.tiny_conv_net())
    validate_header(path)


def test_a_vector_longer_than_the_file_is_refused_at_once(read: Read) -> None:
    graph = Graph()
    graph.input("image", (7, 11, 13, 17))
    content = build_model([graph])
    shape = struct.pack("<5i", 4, 7, 11, 13, 17)
    assert content.count(shape) == 1
    start = time.perf_counter()
    with pytest.raises(ModelError, match="longer than the file"):
        read(content.replace(shape, struct.pack("<i", 2**31 - 1) + shape[4:]))
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize("index", [2, -2, 2**31 - 1])
def test_an_op_on_a_tensor_that_does_not_exist_is_refused(read: Read, index: int) -> None:
    graph = Graph()
    source = graph.input("source", (1,))
    graph.op("ADD", [source, index], [graph.tensor("sum", (1,))], schema.AddOptionsT())
    with pytest.raises(ModelError, match="names a tensor that does not exist"):
        read(build_model([graph]))


def damaged(content: bytes, seed: int) -> bytes:
    """The content with a few bytes changed, cut off, or a whole stretch overwritten; its identifier is left alone."""
    random = np.random.default_rng(seed)
    broken = bytearray(content)
    kind = seed % 4
    if kind == 0:
        return bytes(broken[: random.integers(8, len(broken))])
    if kind == 1:
        start = int(random.integers(8, len(broken)))
        length = min(32, len(broken) - start)
        broken[start : start + length] = random.bytes(length)
        return bytes(broken)
    for position in random.integers(8, len(broken), 8 if kind == 2 else 1):
        broken[position] = random.integers(256)
    return bytes(broken)


@pytest.mark.parametrize("net", [tflite.tiny_conv_net, tflite.tiny_int8_net, tflite.while_net])
def test_damaged_files_are_read_or_refused_quickly(read: Read, net: Callable[[], bytes]) -> None:
    content = net()
    refused = 0
    start = time.perf_counter()
    for seed in range(300):
        try:
            model = read(damaged(content, seed))
        except ModelError:
            refused += 1
            continue
        for subgraph in model.subgraphs:
            for op in subgraph.ops:
                describe_quantization(op, subgraph)
    assert refused > 50
    assert time.perf_counter() - start < 20


# -- real files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "macs"),
    [
        ("mobilenet_v2_1.0_224_quant", 300_775_552),
        ("tf2_mobilenet_v2_1.0_224_ptq", 300_775_552),
        ("vww_96_float", 7_489_664),
        ("vww_96_int8", 7_489_664),
    ],
)
def test_macs_of_real_models(qprof_data: Path, name: str, macs: int) -> None:
    model = read_model(qprof_data / "models" / f"{name}.tflite")
    assert sum(op.macs or 0 for op in model.subgraphs[0].ops) == macs
    assert all(op.macs is not None for op in model.subgraphs[0].ops)


def test_a_detector_with_a_custom_op(qprof_data: Path) -> None:
    subgraph = read_model(qprof_data / "models" / "ssd_mobilenet_v1_1_metadata_1.tflite").subgraphs[0]
    assert subgraph.ops[-1].type == "CUSTOM:TFLite_Detection_PostProcess"
    assert subgraph.ops[-1].macs is None
    assert describe_quantization(subgraph.ops[0], subgraph) == "uint8 weights per-tensor, uint8 activations"


def test_a_damaged_real_model(qprof_data: Path, read: Read) -> None:
    content = (qprof_data / "models" / "pretrainedResnet_quant.tflite").read_bytes()
    for seed in range(0, 40, 4):  # truncations
        with pytest.raises(ModelError):
            read(damaged(content, seed))
    for seed in range(60):
        try:
            read(damaged(content, seed))
        except ModelError as error:
            assert "\n" not in str(error)
