"""What binds an op, with ceilings made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from qprof.findings.roofline import RooflineRow, roofline
from qprof.record.ceilings import Ceiling
from qprof.record.ops import FUSED, OpMeta

KIB, MIB = 1 << 10, 1 << 20
HYBRID = "int8 weights, float32 activations"


def ceiling(kind: Any, name: str, value: float | None, dtype: str = "float32", **more: Any) -> Ceiling:
    return Ceiling(
        kind, name, dtype, {"compute": "GMAC/s", "memory": "GB/s", "dispatch": "us"}[kind], "", value, **more
    )


LITERT = [
    ceiling("compute", "CONV_2D 1x1", 50.0),
    ceiling("compute", "CONV_2D 1x1", 200.0, "int8"),
    ceiling("compute", "CONV_2D 1x1", 190.0, HYBRID),
    ceiling("compute", "CONV_2D", 40.0),
    ceiling("compute", "DEPTHWISE_CONV_2D", 20.0),
    ceiling("compute", "DEPTHWISE_CONV_2D", 5.0, HYBRID),
    ceiling("compute", "FULLY_CONNECTED", 60.0),
    ceiling("memory", "L2", 100.0, up_to_bytes=MIB),
    ceiling("memory", "L3", 80.0, up_to_bytes=32 * MIB),
    ceiling("memory", "memory", 20.0),
    ceiling("memory", "weights", 25.0),
    ceiling("dispatch", "builtin", 0.1),
    ceiling("dispatch", "XNNPACK", 0.02),
]

TORCH = [
    ceiling("compute", "matmul", 50.0),
    ceiling("compute", "matmul", 100.0, "bfloat16"),
    ceiling("compute", "matmul", 10.0, "float16"),
    ceiling("compute", "matmul", None, "int8", reason="torch does not compute it here"),
    ceiling("memory", "L2", 100.0, up_to_bytes=MIB),
    ceiling("memory", "memory", 20.0),
    ceiling("memory", "weights", 25.0),
    ceiling("memory", "weights", 8.0, "bfloat16"),
    ceiling("dispatch", "op", 1.0),
    ceiling("dispatch", "linear", 4.0),
    ceiling("dispatch", "linear", 16.0, "bfloat16"),
    ceiling("dispatch", "norm", 2.0, "bfloat16"),
]


def op(type: str = "CONV_2D", **more: Any) -> OpMeta:
    given: dict[str, Any] = {
        "op": "0",
        "name": "features",
        "index": 0,
        "inputs": ("float32[1,28,28,64]", "float32[64,1,1,64]"),
        "outputs": ("float32[1,28,28,64]",),
        "macs": 1_000_000,
        "weight_bytes": 16 * KIB,
        "activation_bytes": 400_000,
        "kernel": "builtin",
    }
    return OpMeta(type=type, **(given | more))


def linear(**more: Any) -> OpMeta:
    given: dict[str, Any] = {
        "inputs": ("bfloat16[1,1,128]",),
        "outputs": ("bfloat16[1,1,128]",),
        "macs": 128 * 128,
        "weight_bytes": 32 * KIB,
        "activation_bytes": 512,
        "kernel": "torch.nn.Linear",
    }
    return op("Linear", **(given | more))


#: Of a runtime whose every op is one launch.
SINGLE = [
    ceiling("compute", "matmul", 50.0),
    ceiling("compute", "matmul", 200.0, "int8"),
    ceiling("memory", "L2", 100.0, up_to_bytes=MIB),
    ceiling("memory", "memory", 20.0),
    ceiling("dispatch", "kernel", 0.5),
]


def one(meta: OpMeta, us: float | None, ceilings: list[Ceiling] = LITERT) -> RooflineRow:
    (row,) = roofline([meta], [us], ceilings)
    return row


@pytest.mark.parametrize("kind", ["Conv", "LayerNormalization", "cpp_fused_add_0"])
def test_where_every_op_is_one_launch_a_slow_one_is_bound_by_nothing(kind: str) -> None:
    row = one(op(kind, macs=0, weight_bytes=0, activation_bytes=1000), 100.0, SINGLE)
    assert (row.bound, row.reason, row.launches) == ("neither", None, pytest.approx(200.0))
    assert one(op(kind, macs=0, weight_bytes=0, activation_bytes=1000), 0.8, SINGLE).bound == "dispatch"


@pytest.mark.parametrize(
    ("kind", "inputs", "gmacs"),
    [
        ("Conv", ("float32[1,8,4,4]", "float32[8,8,1,1]"), 50.0),
        ("Conv", ("uint8[1,8,4,4]", "float32[]"), 200.0),
        ("Conv", ("int8[1,8,4,4]", "float32[]"), 200.0),
        ("DynamicQuantizeMatMul", ("float32[4,8]", "int8[8,8]"), 200.0),
    ],
)
def test_quantized_products_are_held_against_those_in_eight_bits(
    kind: str, inputs: tuple[str, ...], gmacs: float
) -> None:
    row = one(op(kind, inputs=inputs), 40.0, SINGLE)
    assert row.compute_ceiling is not None and row.compute_ceiling.value == gmacs
    assert row.compute_share == pytest.approx(1_000_000 / gmacs / 1e3 / 40.0)
    assert row.notes == ()


@pytest.mark.parametrize(
    ("kernel", "dtype", "gmacs"),
    [
        ("Conv (NCHWc, depthwise) + Relu", "float32", 12.0),
        ("QLinearConv (NHWC, depthwise)", "uint8", 200.0),  # none of theirs was measured
        ("Conv (NCHWc) + Relu", "float32", 50.0),
    ],
)
def test_convolutions_of_single_channels_are_held_against_their_own(kernel: str, dtype: str, gmacs: float) -> None:
    known = [*SINGLE, ceiling("compute", "depthwise", 12.0)]
    row = one(op("Conv", kernel=kernel, inputs=(f"{dtype}[1,8,4,4]", f"{dtype}[8,1,3,3]")), 100.0, known)
    assert row.compute_ceiling is not None and row.compute_ceiling.value == gmacs


# -- the figures -------------------------------------------------------------------------------------------------------


def test_the_place_of_an_op() -> None:
    row = one(op(macs=2_000_000, weight_bytes=100_000, activation_bytes=400_000), 50.0)
    assert row.bytes == 500_000
    assert row.intensity == 4.0
    assert row.gmac_per_s == pytest.approx(40.0)
    assert row.gb_per_s == pytest.approx(10.0)
    assert row.compute_share == pytest.approx(0.8)  # 40 of 50 GMAC/s
    assert row.memory_share == pytest.approx(0.1)  # 10 of 100 GB/s
    assert row.dispatch_share == pytest.approx(0.002)
    assert row.launches == pytest.approx(500)
    assert row.shortest_us == pytest.approx(40.1)
    assert (row.bound, row.reason, row.notes) == ("compute", None, ())
    assert row.compute_ceiling is LITERT[0] and row.level is LITERT[7] and row.weights_level is LITERT[7]


@pytest.mark.parametrize(
    "us, bound", [(39.0, "compute"), (40.0, "compute"), (40.19, "compute"), (40.3, "neither"), (4000.0, "neither")]
)
def test_it_binds_up_to_twice_the_shortest_time(us: float, bound: str) -> None:
    row = one(op(macs=1_000_000), us)  # 20 us at 50 GMAC/s, 0.1 us of dispatch
    assert row.shortest_us == pytest.approx(20.1)
    assert row.bound == bound


def test_an_op_without_products_is_bound_by_its_bytes() -> None:
    row = one(op("ADD", macs=0, weight_bytes=0, activation_bytes=800_000, inputs=("float32[200000]",)), 10.0)
    assert (row.bound, row.compute_share, row.intensity, row.gmac_per_s) == ("memory", None, None, None)
    assert row.memory_share == pytest.approx(0.8)


def test_a_tiny_op_is_bound_by_its_dispatch() -> None:
    row = one(op("ADD", macs=0, weight_bytes=0, activation_bytes=48), 0.19)
    assert (row.bound, row.dispatch_share) == ("dispatch", pytest.approx(0.1 / 0.19))


def test_dispatch_and_work_add_up_on_a_processor_and_overlap_on_a_device() -> None:
    work = op(macs=500_000, weight_bytes=0, activation_bytes=0)  # 10 us
    processor = [*LITERT[:-2], ceiling("dispatch", "builtin", 9.0)]
    device = [*LITERT[:-2], ceiling("dispatch", "builtin", 9.0, overlaps=True)]
    assert (one(work, 25.0, processor).bound, one(work, 25.0, processor).shortest_us) == ("compute", pytest.approx(19))
    assert (one(work, 25.0, device).bound, one(work, 25.0, device).shortest_us) == ("neither", pytest.approx(10))


# -- caches ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "size, name, floor_us",
    [(MIB, "L2", MIB / 100e3), (MIB + 4, "L3", (MIB + 4) / 80e3), (64 * MIB, "weights", 64 * MIB / 25e3)],
)
def test_activations_are_held_against_the_level_that_holds_them(size: int, name: str, floor_us: float) -> None:
    row = one(op("ADD", macs=0, weight_bytes=0, activation_bytes=size), 2 * floor_us)
    assert row.level is not None and row.level.name == name
    assert row.memory_share == pytest.approx(0.5)


def test_weights_are_held_against_the_level_that_holds_those_of_all_ops() -> None:
    layer = op("FULLY_CONNECTED", macs=0, weight_bytes=MIB // 2, activation_bytes=0)
    (alone,) = roofline([layer], [10.0], LITERT)
    (first, *_) = roofline([layer] * 100, [10.0] * 100, LITERT)
    assert alone.memory_share == pytest.approx(MIB / 2 / 100e3 / 10)
    assert first.memory_share == pytest.approx(MIB / 2 / 25e3 / 10)  # 50 MiB fit no cache


def test_without_cache_ceilings_all_is_held_against_memory_with_its_note() -> None:
    memory = ceiling("memory", "memory", 20.0, note="cache sizes unknown: all traffic is held against memory")
    row = one(op("ADD", macs=0, weight_bytes=0, activation_bytes=20_000), 2.0, [memory, LITERT[-2]])
    assert (row.level, row.memory_share) == (memory, pytest.approx(0.5))
    assert row.notes == ("cache sizes unknown: all traffic is held against memory",)


def test_a_lookup_reads_its_rows_not_the_table() -> None:
    table = op(
        "Embedding",
        macs=0,
        inputs=("int64[1,64]",),
        outputs=("bfloat16[1,64,128]",),
        weight_bytes=100 * MIB,
        activation_bytes=16 * KIB,
    )
    row = one(table, 10.0, TORCH)
    assert row.bytes == 64 * 128 * 2 + 16 * KIB
    assert row.weights_level is not None and row.weights_level.name == "L2"


@pytest.mark.parametrize(
    "quantization", ["float16 weights, float32 activations", "int8 weights per-channel dequantized before use"]
)
def test_weights_widened_when_loaded_are_read_wide(quantization: str) -> None:
    assert one(op(quantization=quantization, weight_bytes=4096), 40.0).bytes == 64 * 64 * 4 + 400_000
    assert one(op(quantization=None, weight_bytes=4096), 40.0).bytes == 4096 + 400_000


# -- which ceiling -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "type, inputs, name, dtype",
    [
        ("CONV_2D", ("float32[1,8,8,4]", "float32[4,1,1,4]"), "CONV_2D 1x1", "float32"),
        ("CONV_2D", ("float32[1,8,8,4]", "float32[4,1,3,4]"), "CONV_2D", "float32"),
        ("CONV_2D", ("int8[1,8,8,4]", "int8[4,1,1,4]"), "CONV_2D 1x1", "int8"),
        ("CONV_2D", ("float32[1,8,8,4]", "int8[4,1,1,4]"), "CONV_2D 1x1", HYBRID),
        ("DEPTHWISE_CONV_2D", ("float32[1,8,8,4]", "float32[1,1,1,4]"), "DEPTHWISE_CONV_2D", "float32"),
        ("TRANSPOSE_CONV", ("int32[4]", "float32[4,1,1,4]", "float32[1,8,8,4]"), "CONV_2D", "float32"),
        ("BATCH_MATMUL", ("float32[8,8]", "float32[8,8]"), "FULLY_CONNECTED", "float32"),
    ],
)
def test_ceilings_are_chosen_by_kind_and_format(type: str, inputs: tuple[str, ...], name: str, dtype: str) -> None:
    row = one(op(type, inputs=inputs), 40.0)
    assert row.compute_ceiling is not None
    assert (row.compute_ceiling.name, row.compute_ceiling.dtype) == (name, dtype)


def test_a_format_slower_than_float32_is_no_limit_of_the_machine() -> None:
    hybrid = op("DEPTHWISE_CONV_2D", inputs=("float32[1,28,28,64]", "int8[1,3,3,64]"))
    row = one(hybrid, 200.0)  # all that its own kernel does, a quarter of what float32 does
    assert (row.bound, row.compute_share) == ("neither", pytest.approx(0.25))
    assert row.compute_ceiling is not None and row.compute_ceiling.dtype == "float32"
    assert row.notes == (
        f"DEPTHWISE_CONV_2D: {HYBRID} does 5 GMAC/s here at most, float32 20",
        "its activations are quantized as it runs, which no ceiling counts",
    )


def test_a_format_without_a_ceiling_is_held_against_float32() -> None:
    row = one(op(inputs=("int16[1,28,28,64]", "int8[64,1,1,64]")), 25.0)
    assert (row.bound, row.compute_share) == ("compute", pytest.approx(0.8))
    assert row.notes == ("no ceiling of its number format was measured: held against float32",)


def test_a_launch_costs_what_its_kernels_owner_takes() -> None:
    assert one(op(delegate="XNNPACK", kernel="Add"), 40.0).dispatch_share == pytest.approx(0.02 / 40)
    assert one(op(delegate=None), 40.0).dispatch_share == pytest.approx(0.1 / 40)


# -- torch -------------------------------------------------------------------------------------------------------------


def test_a_small_linear_is_bound_by_what_is_around_its_product() -> None:
    row = one(linear(), 20.0, TORCH)
    assert (row.bound, row.dispatch_share) == ("dispatch", pytest.approx(0.8))
    # In float32 the same layer has no such excuse.
    assert one(linear(inputs=("float32[1,1,128]",)), 20.0, TORCH).bound == "neither"
    # A product that is slow by itself is another matter: a fifth of what it takes would do for it.
    assert one(linear(inputs=("bfloat16[64,128]",), macs=10**7), 500.0, TORCH).notes == ()


def test_the_product_inside_a_quantized_linear_is_one_launch() -> None:
    inside = linear(kernel="TorchLinear", parent="q_proj", weight_bytes=0, activation_bytes=33 * KIB)
    assert one(inside, 20.0, TORCH).bound == "dispatch"


def test_decoding_reads_weights_from_memory_and_a_slow_kernel_is_told() -> None:
    big = linear(macs=64 * MIB, weight_bytes=128 * MIB, activation_bytes=16 * KIB, inputs=("bfloat16[1,1,8192]",))
    memory_us, kernel_us = 128 * MIB / 25e3, 128 * MIB / 8e3
    fast, slow = one(big, 1.1 * memory_us, TORCH), one(big, kernel_us, TORCH)
    assert fast.bound == "memory"
    assert slow.bound == "neither"
    assert slow.notes == ("weights times one row: bfloat16 does 8 GB/s here at most, the memory 25",)
    many = linear(macs=640 * MIB, weight_bytes=128 * MIB, inputs=("bfloat16[1,10,8192]",))
    assert one(many, kernel_us, TORCH).notes == ()


def test_how_many_ops_a_layer_launches_is_not_made_up() -> None:
    norm = op("LlamaRMSNorm", macs=None, inputs=("bfloat16[1,1,128]",), weight_bytes=256, activation_bytes=512)
    row = one(norm, 30.0, TORCH)
    assert (row.bound, row.launches) == (None, pytest.approx(30.0))
    assert row.reason == "takes as long as 30 launches; how many it makes is not recorded"
    assert one(norm, 1.5, TORCH).bound == "dispatch"


def test_a_layer_of_many_launches_is_held_against_all_of_them() -> None:
    norm = op("LlamaRMSNorm", macs=None, inputs=("bfloat16[1,1,128]",), weight_bytes=256, activation_bytes=512)
    (row,) = roofline([norm], [30.0], TORCH, {norm.op: 8})
    assert (row.bound, row.dispatch_share, row.launches) == ("dispatch", pytest.approx(16 / 30), pytest.approx(15))
    (row,) = roofline([norm], [40.0], TORCH, {norm.op: 8})
    assert (row.bound, row.reason) == ("neither", None)
    assert row.notes == ("hardly any of it is work: most is spent between its launches, or in slow ones",)
    (row,) = roofline([norm], [4.0], TORCH, {norm.op: 1})
    assert (row.bound, row.dispatch_share) == ("neither", pytest.approx(0.25))


def test_a_ceiling_without_a_value_is_none() -> None:
    row = one(linear(inputs=("int8[64,128]",), macs=10**6), 25.0, TORCH)
    assert row.compute_ceiling is not None and row.compute_ceiling.dtype == "float32"


# -- what stays open ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "meta, us, reason",
    [
        (op(kernel=FUSED, delegate="XNNPACK"), 0.0, "no kernel of its own"),
        (op(), None, "no time was measured"),
        (op(), 0.0, "no time was measured"),
        (op(delegate="XNNPACK", kernel="Add"), 1.5, "too short for the clock of XNNPACK"),
        (op("CUSTOM:Detect", macs=None), 4000.0, "how much it multiplies"),
        (op(activation_bytes=None), 4000.0, "how many bytes"),
        (op(weight_bytes=None), 4000.0, "how many bytes"),
    ],
)
def test_what_is_not_known_has_a_reason(meta: OpMeta, us: float | None, reason: str) -> None:
    row = one(meta, us)
    assert row.bound is None and row.reason is not None and reason in row.reason


@pytest.mark.parametrize(
    "kind, reason", [("compute", "this kind of product"), ("memory", "how fast"), ("dispatch", "launch costs")]
)
def test_a_missing_ceiling_is_a_reason(kind: str, reason: str) -> None:
    row = one(op(), 4000.0, [c for c in LITERT if c.kind != kind])
    assert row.bound is None and row.reason is not None and reason in row.reason
    assert {"compute": row.compute_share, "memory": row.memory_share, "dispatch": row.dispatch_share}[kind] is None


def test_no_ceilings_at_all() -> None:
    row = one(op(), 40.0, [])
    assert (row.bound, row.shortest_us, row.gmac_per_s) == (None, None, pytest.approx(25.0))


def test_what_is_known_binds_although_something_is_missing() -> None:
    assert one(op(activation_bytes=None), 25.0).bound == "compute"
    assert one(op("CUSTOM:Copy", macs=None, activation_bytes=800_000), 10.0).bound == "memory"


def test_faster_than_the_ceilings_is_said() -> None:
    row = one(op(macs=1_000_000), 10.0)
    assert row.bound == "compute"
    assert row.notes == ("faster than the ceilings allow: its data came from a nearer cache, or they were disturbed",)


def test_rows_come_in_the_order_of_the_ops() -> None:
    ops = [op(name="a"), op("ADD", name="b", macs=0), op(name="c")]
    assert [row.op.name for row in roofline(ops, [1.0, 2.0, 3.0], LITERT)] == ["a", "b", "c"]
    with pytest.raises(ValueError):
        roofline(ops, [1.0], LITERT)
