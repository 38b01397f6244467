"""Kernel-to-node alignment against recorded partitions, and its behaviour at the edges."""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qprof.runtimes.litert.align import Alignment, align_kernels

RECORDED = sorted((Path(__file__).parents[1] / "data" / "alignment").glob("*.json"))

FULLY_CONNECTED = "Fully Connected (NC, F32) GEMM"
CONVOLUTION = "Convolution (NHWC, F32) IGEMM"
DEPTHWISE = "Convolution (NHWC, F32) DWConv"
RESHAPE = "Static Reshape (NC)"
LOOKUP = "Invalid Unary Op"


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_recorded_partitions_are_aligned_as_the_unfused_run_showed(path: Path) -> None:
    recorded = json.loads(path.read_text())
    alignment = align_kernels(recorded["kernels"], recorded["node_types"])
    assert alignment.positions == recorded["positions"]
    assert alignment.doubtful == []


def test_there_are_recorded_partitions() -> None:
    assert len(RECORDED) >= 5


@pytest.mark.parametrize(
    ("kernels", "node_types", "positions"),
    [
        ([FULLY_CONNECTED], ["CONV_2D"], [0]),
        ([CONVOLUTION, DEPTHWISE], ["CONV_2D", "DEPTHWISE_CONV_2D"], [0, 1]),
        ([DEPTHWISE], ["CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D"], [1]),
        ([CONVOLUTION], ["DEPTHWISE_CONV_2D", "CONV_2D", "DEPTHWISE_CONV_2D"], [1]),
        # a fused activation is a clamp of its own behind the addition, and belongs to it
        (["Add (ND)", "Clamp (NC)", FULLY_CONNECTED], ["ADD", "FULLY_CONNECTED"], [0, 0, 1]),
        # ... unless there is a node for it
        (["Add (ND)", "Clamp (NC)", FULLY_CONNECTED], ["ADD", "RELU", "FULLY_CONNECTED"], [0, 1, 2]),
        # of two reshapes the second is the matrix product's own
        ([RESHAPE, RESHAPE, FULLY_CONNECTED], ["RESHAPE", "FULLY_CONNECTED"], [0, 1, 1]),
        ([RESHAPE, RESHAPE, FULLY_CONNECTED], ["RESHAPE", "RESHAPE", "FULLY_CONNECTED"], [0, 1, 2]),
        # the run-time quantization of activations belongs to the convolution behind it, not to the one before
        (
            [CONVOLUTION, "Convert (NC, F32, QDU8)", "Convolution (NHWC, QDU8, F32, QC8W) IGEMM"],
            ["CONV_2D", "CONV_2D"],
            [0, 1, 1],
        ),
        # nodes that were folded or fused away have no kernel
        ([CONVOLUTION], ["DEQUANTIZE", "DEQUANTIZE", "CONV_2D"], [2]),
        ([DEPTHWISE, "Constant Pad (ND, X32)"], ["PAD", "DEPTHWISE_CONV_2D", "PAD"], [1, 2]),
        # a look-up runs in the place of the chain's last node
        ([CONVOLUTION, LOOKUP, CONVOLUTION], ["CONV_2D", "LOGISTIC", "MUL", "CONV_2D"], [0, 2, 3]),
        ([CONVOLUTION, LOOKUP, CONVOLUTION], ["CONV_2D", "TANH", "CONV_2D"], [0, 1, 2]),
        # a concatenation may take several copies
        (["Copy (NC, X32)", "Copy (NC, X32)", "Add (ND)"], ["CONCATENATION", "ADD"], [0, 0, 1]),
        (["Copy (NC, X32)", "Copy (NC, X32)"], ["CONCATENATION", "CONCATENATION"], [0, 1]),
    ],
)
def test_kernels_land_on_the_node_they_stem_from(
    kernels: list[str], node_types: list[str], positions: list[int]
) -> None:
    alignment = align_kernels(kernels, node_types)
    assert alignment.positions == positions
    assert alignment.doubtful == []


def test_one_expected_kernel_a_node_costs_nothing() -> None:
    assert align_kernels([CONVOLUTION, "Add (ND)"], ["CONV_2D", "ADD"]).cost == 0
    assert align_kernels([CONVOLUTION], ["CONV_2D", "ADD"]).cost > align_kernels([CONVOLUTION], ["CONV_2D", "PAD"]).cost


def test_an_unknown_kernel_takes_the_free_node_and_is_doubtful() -> None:
    alignment = align_kernels([CONVOLUTION, "Novel Thing (NC)", "Add (ND)"], ["CONV_2D", "GELU", "ADD"])
    assert alignment.positions == [0, 1, 2]
    assert alignment.doubtful == [1]


def test_a_kernel_on_a_node_it_cannot_stem_from_is_doubtful() -> None:
    alignment = align_kernels(["Softmax (NC, F32)"], ["CONV_2D"])
    assert alignment.positions == [0]
    assert alignment.doubtful == [0]


def test_a_node_of_unknown_type_may_have_any_kernels() -> None:
    kernels = [CONVOLUTION, "Softmax (NC, F32)", "Batch Matrix Multiply (NC, F32)", "Add (ND)"]
    alignment = align_kernels(kernels, ["CONV_2D", "STABLEHLO_COMPOSITE", "ADD"])
    assert alignment.positions == [0, 1, 1, 2]
    assert alignment.doubtful == [1, 2]


def test_no_kernels() -> None:
    assert align_kernels([], []) == Alignment([], 0.0, [])
    assert align_kernels([], ["CONV_2D", "PAD"]).positions == []


def test_kernels_without_a_node_are_refused() -> None:
    with pytest.raises(ValueError, match="2 kernels ran in a partition that has no node"):
        align_kernels([CONVOLUTION, CONVOLUTION], [])


@pytest.mark.parametrize("kernels", [["", " (", "(((", "\N{SNOWMAN}"], ["Convolution"], ["Convert (NC"]])
def test_odd_names_are_aligned_all_the_same(kernels: list[str]) -> None:
    positions = align_kernels(kernels, ["CONV_2D", "", "CUSTOM:x"]).positions
    assert len(positions) == len(kernels)


_KERNELS = st.sampled_from([CONVOLUTION, FULLY_CONNECTED, RESHAPE, "Add (ND)", "Clamp (NC)", LOOKUP, "Novel (NC)"])
_NODES = st.sampled_from(["CONV_2D", "FULLY_CONNECTED", "RESHAPE", "ADD", "LOGISTIC", "MUL", "CUSTOM:x"])


@settings(max_examples=60, deadline=None)
@given(st.lists(_KERNELS, min_size=1, max_size=4), st.lists(_NODES, min_size=1, max_size=4))
def test_the_alignment_is_the_cheapest_of_all(kernels: list[str], node_types: list[str]) -> None:
    """No order-keeping assignment is cheaper, each priced by itself, without the recursion."""
    alignment = align_kernels(kernels, node_types)
    candidates = itertools.combinations_with_replacement(range(len(node_types)), len(kernels))
    assert alignment.cost == pytest.approx(min(_price(kernels, node_types, list(found)) for found in candidates))
    assert alignment.cost == pytest.approx(_price(kernels, node_types, alignment.positions))


def _price(kernels: list[str], node_types: list[str], positions: list[int]) -> float:
    from qprof.runtimes.litert import align

    foldable = align._FOLDABLE | (align._ELEMENTWISE if LOOKUP in kernels else frozenset())
    total = 0.0
    for node, node_type in enumerate(node_types):
        seen_main = False
        for kernel in (kernels[i] for i, position in enumerate(positions) if position == node):
            pairing = align._pair(align._stem(kernel), node_type)
            total += pairing.after if seen_main else pairing.before
            seen_main = seen_main or pairing.is_main
        if not seen_main:
            total += align._SKIPPED_FREELY if node_type in foldable else align._SKIPPED
    return total


def test_large_partitions_take_no_time() -> None:
    block = ["CONV_2D", "DEPTHWISE_CONV_2D", "PAD", "ADD", "RESHAPE"]
    node_types = block * 120
    kernels = [CONVOLUTION, DEPTHWISE, "Add (ND)", RESHAPE] * 120
    start = time.perf_counter()
    alignment = align_kernels(kernels, node_types)
    assert time.perf_counter() - start < 10.0  # without its table it would take hours
    assert [node_types[position] for position in alignment.positions] == [
        node_type for node_type in node_types if node_type != "PAD"
    ]
