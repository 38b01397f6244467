"""Which node of a delegate's partition each XNNPACK kernel belongs to.

XNNPACK reports the time of its kernels ("Fully Connected (NC, F32) GEMM") without saying which TFLite node they stem
from. It creates kernels in the order of the partition's nodes, so the assignment is an alignment of two sequences that
keeps their order: a node may have no kernel (folded or fused away), one, or several (a reshape before a matrix
product, a clamp after an addition).

The alignment of least cost is found by dynamic programming (Needleman & Wunsch, J. Mol. Biol. 48(3), 1970, with a
second state for whether a node's main kernel has been seen). Kernel names are those of `xnn_operator_type_to_string`
(XNNPACK, src/operator-utils.c and src/xnnpack/operator-type-defs.inc), which kernels a node becomes follows
tensorflow/lite/delegates/xnnpack/xnnpack_delegate.cc; both were checked against runs in which every node has a
partition of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Costs of assigning one kernel. Only their order matters: an expected helper is cheaper than a repeated or seldom
# main kernel, all these are cheaper than leaving a computing node without a kernel, and a misfit is the last resort.
_LOOKUP_ON_UNARY = 0.5  # a table look-up, where the chain may go on behind that node
_EXPECTED_HELPER = 1.0  # a reshape before a matrix product
_UNKNOWN = 2.0  # a kernel or a node that the tables below do not hold: it may be anything
_REPEATED = 3.0  # a second main kernel on one node
_MISPLACED_HELPER = 4.0  # a helper after the main kernel that belongs before it, or the reverse
_SELDOM = 4.0  # possible, yet not what XNNPACK chooses as a rule
_STRAY_HELPER = 8.0  # a layout or conversion kernel on a node that is not known to need one
_MISFIT = 50.0

# Costs of a node that has no main kernel.
_SKIPPED = 20.0
_SKIPPED_FREELY = 1.0  # not 0, so that of two adjacent reshapes and two kernels each gets its own

# Nodes that often vanish: constants converted at load, padding and activations fused into a neighbour. A variable is a
# buffer of XNNPACK's: naming and reading it takes no kernel, assigning it copies.
_OFTEN_FUSED = (
    "DENSIFY DEQUANTIZE EXPAND_DIMS PAD PADV2 QUANTIZE RELU RELU6 RELU_0_TO_1 RELU_N1_TO_1 RESHAPE SQUEEZE"
    " READ_VARIABLE VAR_HANDLE"
)
_FOLDABLE = frozenset(_OFTEN_FUSED.split())

_UNARY = "ABS CEIL COS ELU EXP FLOOR GELU HARD_SWISH LEAKY_RELU LOG LOGISTIC NEG ROUND RSQRT SIGN SIN SQRT SQUARE TANH"
_BINARY = "ADD ATAN2 DIV FLOOR_MOD MAXIMUM MINIMUM MUL POW PRELU SQUARED_DIFFERENCE SUB"
_ELEMENTWISE = frozenset(f"{_UNARY} {_BINARY}".split())
_MATRIX_PRODUCTS = "BATCH_MATMUL CONV_2D DEPTHWISE_CONV_2D FULLY_CONNECTED TRANSPOSE_CONV"

# What a table look-up is called that XNNPACK makes of a chain of int8 element-wise nodes (LOGISTIC and MUL: x *
# sigmoid(x)). It runs in the place of the chain's last node; the others have no kernel.
_TABLE_LOOKUP = "Invalid Unary Op"

# Kernel -> node types whose main kernel it is.
_MAIN: dict[str, str] = {
    "ATan2": "ATAN2",
    "Abs": "ABS",
    "Add": "ADD",
    "ApproxGELU": "GELU",
    "Average Pooling": "AVERAGE_POOL_2D MEAN",
    "Bankders Rounding": "ROUND",  # so spelt in XNNPACK
    "Bankers Rounding": "ROUND",
    "Batch Matrix Multiply": "BATCH_MATMUL FULLY_CONNECTED",
    "Binary Elementwise": _BINARY,
    "Bitwise Xor": "BITWISE_XOR",
    "Ceiling": "CEIL",
    "Clamp": "MAXIMUM MINIMUM RELU RELU6 RELU_0_TO_1 RELU_N1_TO_1",  # with one constant operand
    "Constant Pad": "PAD PADV2",
    "Convert": "CAST DEQUANTIZE QUANTIZE",
    "Convolution": "CONV_2D",
    "Convolution DWConv": "DEPTHWISE_CONV_2D",
    "Convolution VMulCAddC": "DEPTHWISE_CONV_2D",
    "Copy": "ASSIGN_VARIABLE BROADCAST_TO CONCATENATION EXPAND_DIMS PACK RESHAPE SPLIT SPLIT_V SQUEEZE UNPACK",
    "Cosine": "COS",
    "Deconvolution": "TRANSPOSE_CONV",
    "Depth To Space": "DEPTH_TO_SPACE",
    "Divide": "DIV",
    "Dynamic Fully Connected": "BATCH_MATMUL CONV_2D FULLY_CONNECTED",
    "ELU": "ELU",
    "Exp": "EXP",
    "Floor": "FLOOR",
    "Fully Connected": "BATCH_MATMUL CONV_2D FULLY_CONNECTED",  # a 1x1 convolution is a matrix product
    "Fuse Dims": "RESHAPE",
    "GELU": "GELU",
    "HardSwish": "HARD_SWISH",
    _TABLE_LOOKUP: f"{_BINARY} CAST DEQUANTIZE QUANTIZE",
    "LeakyReLU": "LEAKY_RELU",
    "Log": "LOG",
    "Max Pooling": "MAX_POOL_2D",
    "Maximum": "MAXIMUM",
    "Mean": "AVERAGE_POOL_2D MEAN",
    "Minimum": "MINIMUM",
    "Modulus": "FLOOR_MOD",
    "Multiply": "MUL",
    "Negate": "NEG",
    "PReLU": "PRELU",
    "Power": "POW",
    "Reciprocal Square Root": "RSQRT",
    "Reduce Max": "REDUCE_MAX",
    "Reduce Min": "REDUCE_MIN",
    "Resize Bilinear": "RESIZE_BILINEAR",
    "Sigmoid": "LOGISTIC",
    "Sign": "SIGN",
    "Sine": "SIN",
    "Slice": "SLICE SPLIT SPLIT_V STRIDED_SLICE UNPACK",
    "Softmax": "SOFTMAX",
    "Space To Depth": "SPACE_TO_DEPTH",
    "Split Dims": "RESHAPE",
    "Square": "SQUARE",
    "Square Root": "SQRT",
    "Squared Difference": "SQUARED_DIFFERENCE",
    "Static Expand Dims": "EXPAND_DIMS RESHAPE",
    "Static Reshape": "EXPAND_DIMS RESHAPE SQUEEZE",
    "Subtract": "SUB",
    "Sum": "MEAN SUM",
    "TanH": "TANH",
    "Transpose": "TRANSPOSE",
    "Unary Elementwise": _UNARY,
}

# Kernel -> node types that it may stand for, though as a rule another kernel does.
_SELDOM_MAIN: dict[str, str] = {
    "Convolution": "DEPTHWISE_CONV_2D",
    "Convolution DWConv": "CONV_2D",
    "Convolution VMulCAddC": "CONV_2D",
    _TABLE_LOOKUP: _UNARY,
    "Multiply": "SQUARE",
    "Square": "MUL",  # of a tensor with itself
    "Transpose": "DEPTH_TO_SPACE SPACE_TO_DEPTH",
}

# Kernel -> node types that need it before or after their main kernel.
_HELPS_BEFORE: dict[str, str] = {
    "Constant Pad": "AVERAGE_POOL_2D CONV_2D DEPTHWISE_CONV_2D MAX_POOL_2D TRANSPOSE_CONV",
    "Convert dynamic": _MATRIX_PRODUCTS,
    "Pack LH": _MATRIX_PRODUCTS,
    "Static Reshape": "BATCH_MATMUL FULLY_CONNECTED",
    "Transpose": "BATCH_MATMUL FULLY_CONNECTED",
}
_HELPS_AFTER: dict[str, str] = {
    "Clamp": f"{_BINARY} AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D FULLY_CONNECTED L2_NORMALIZATION"
    " MAX_POOL_2D TRANSPOSE_CONV",
}
_HELPERS = frozenset((*_HELPS_BEFORE, *_HELPS_AFTER, "Convert", "Copy", "Mean", "Sum"))

# These copy or cut one piece per kernel, so several main kernels are what is expected of them.
_PIECEWISE = frozenset(["CONCATENATION", "PACK", "SPLIT", "SPLIT_V", "UNPACK"])

_KNOWN_NODES = frozenset(
    node
    for table in (_MAIN, _SELDOM_MAIN, _HELPS_BEFORE, _HELPS_AFTER)
    for nodes in table.values()
    for node in nodes.split()
) | {"READ_VARIABLE", "VAR_HANDLE"}


@dataclass(frozen=True, slots=True)
class Alignment:
    """`positions[i]` is the position in the partition of the node that kernel i belongs to, never falling.

    `cost` is the sum of the costs of this module; 0 where each node has its one expected kernel. `doubtful` are the
    kernels whose assignment rests on order alone: their name does not fit the node, or is not known.
    """

    positions: list[int]
    cost: float
    doubtful: list[int]


@dataclass(frozen=True, slots=True)
class _Pairing:
    """What one kernel costs on one node: `before` and `after` that node's main kernel was seen. `is_main`: the kernel
    is that main kernel itself."""

    is_main: bool
    before: float
    after: float
    doubtful: bool = False


def align_kernels(kernels: Sequence[str], node_types: Sequence[str]) -> Alignment:
    """Assign the kernels of one partition, in the order they ran, to its nodes, in the order of the partition.

    `kernels` are names as XNNPACK reports them, `node_types` TFLite op types ("CONV_2D"). Any names are accepted, and
    either may be the longer. Raises ValueError for kernels without a node. Time and memory grow with the product of
    the lengths: 100 x 100 take about 10 ms, 600 x 600 about 100.
    """
    if not kernels:
        return Alignment([], float(_skip_costs(node_types, _FOLDABLE).sum()), [])
    if not node_types:
        raise ValueError(f"{len(kernels)} kernels ran in a partition that has no node")
    pairings = _Pairings(kernels, node_types)
    foldable = _FOLDABLE | _ELEMENTWISE if any(_stem(kernel) == _TABLE_LOOKUP for kernel in kernels) else _FOLDABLE
    positions, cost = _cheapest(pairings, _skip_costs(node_types, foldable))
    doubtful = [kernel for kernel, node in enumerate(positions) if pairings.doubtful[kernel, node]]
    return Alignment(positions, cost, doubtful)


class _Pairings:
    """The costs of all kernels on all nodes, as arrays [kernels, nodes]."""

    def __init__(self, kernels: Sequence[str], node_types: Sequence[str]) -> None:
        names, rows = np.unique(np.array([_stem(kernel) for kernel in kernels], object), return_inverse=True)
        types, columns = np.unique(np.array(list(node_types), object), return_inverse=True)
        table = [[_pair(name, node_type) for node_type in types] for name in names]
        spread = np.ix_(rows, columns)
        self.is_main: NDArray[np.bool_] = np.array([[pair.is_main for pair in row] for row in table])[spread]
        self.before: NDArray[np.float64] = np.array([[pair.before for pair in row] for row in table])[spread]
        self.after: NDArray[np.float64] = np.array([[pair.after for pair in row] for row in table])[spread]
        self.doubtful: NDArray[np.bool_] = np.array([[pair.doubtful for pair in row] for row in table])[spread]


def _cheapest(pairings: _Pairings, skip: NDArray[np.float64]) -> tuple[list[int], float]:
    """Positions and cost of the cheapest alignment.

    After kernel i, `open_[j]` is the least cost of having it on node j, whose main kernel has not been seen, and
    `done[j]` that of having seen it; the nodes before j are paid for, those from j on are not.
    """
    kernel_count, node_count = pairings.is_main.shape
    skipped_before = np.concatenate(([0.0], np.cumsum(skip)))  # [j]: cost of having skipped all nodes before j
    nodes = np.arange(node_count)
    # Where the best way into each state came from, by kernel: the node, and whether its main kernel had been seen.
    came_from = np.zeros((kernel_count, 2, node_count), np.int32)
    was_done = np.zeros((kernel_count, 2, node_count), np.bool_)
    open_: NDArray[np.float64] = np.full(node_count, np.inf)
    done = open_
    arrive: NDArray[np.float64] = skipped_before[:-1]
    source: NDArray[np.int64] = nodes
    source_done: NDArray[np.bool_] = np.zeros(node_count, np.bool_)
    for kernel in range(kernel_count):
        main = pairings.is_main[kernel]
        if kernel > 0:
            arrive, source, source_done = _arrive(open_, done, skip, skipped_before)
        first = arrive + pairings.before[kernel]
        from_open = open_ + pairings.before[kernel]
        from_done = done + pairings.after[kernel]

        # A main kernel leads to "done" from anywhere; a helper leaves the state of its node as it is.
        ways = np.stack([first, from_open, np.where(main, from_done, np.inf)])
        best = np.argmin(ways, axis=0)
        reached = ways[best, nodes]
        reached_from = np.where(best == 0, source, nodes)
        reached_done = np.where(best == 0, source_done, best == 2)
        open_ = np.where(main, np.inf, reached)
        done = np.where(main, reached, from_done)
        came_from[kernel, 0], was_done[kernel, 0] = reached_from, reached_done
        came_from[kernel, 1] = np.where(main, reached_from, nodes)
        was_done[kernel, 1] = np.where(main, reached_done, True)

    rest = skipped_before[-1] - skipped_before[1:]
    final = np.stack([open_ + skip + rest, done + rest])
    state, node = (int(i) for i in np.unravel_index(np.argmin(final), final.shape))
    cost = float(final[state, node])
    positions = [0] * kernel_count
    for kernel in range(kernel_count - 1, -1, -1):
        positions[kernel] = node
        node, state = int(came_from[kernel, state, node]), int(was_done[kernel, state, node])
    return positions, cost


def _arrive(
    open_: NDArray[np.float64],
    done: NDArray[np.float64],
    skip: NDArray[np.float64],
    skipped_before: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]:
    """For each node: the least cost of coming to it from an earlier one, that node, and its state."""
    left_open = open_ + skip  # a node that is left before its main kernel ran counts as skipped
    leave = np.minimum(left_open, done) - skipped_before[1:]
    nodes = np.arange(len(leave))
    lowest = np.minimum.accumulate(leave)
    where = np.maximum.accumulate(np.where(leave <= lowest, nodes, 0))
    arrive = np.concatenate(([np.inf], lowest[:-1])) + skipped_before[:-1]
    source = np.concatenate(([0], where[:-1]))
    return arrive, source, (done <= left_open)[source]


def _stem(kernel: str) -> str:
    """The kernel's name without its formats, as the tables above have it."""
    name, _, formats = kernel.partition(" (")
    if name == "Convolution":
        for algorithm in ("DWConv", "VMulCAddC"):
            if algorithm in formats:
                return f"{name} {algorithm}"
    # F32 to a format whose scale is found at run time (QD8, QDU8, QP8): the first half of a dynamic matrix product.
    if name == "Convert" and any(target in formats for target in (", QD", ", QP")):
        return "Convert dynamic"
    return name


def _pair(kernel: str, node_type: str) -> _Pairing:
    repeated = 0.0 if node_type in _PIECEWISE else _REPEATED
    if kernel not in _MAIN and kernel not in _HELPERS:
        return _Pairing(True, _UNKNOWN, _UNKNOWN, doubtful=True)
    if _lists(_MAIN, kernel, node_type):
        return _Pairing(True, 0.0, repeated)
    if _lists(_SELDOM_MAIN, kernel, node_type):
        seldom = _LOOKUP_ON_UNARY if kernel == _TABLE_LOOKUP else _SELDOM
        return _Pairing(True, seldom, seldom + repeated)
    if _lists(_HELPS_BEFORE, kernel, node_type):
        return _Pairing(False, _EXPECTED_HELPER, _MISPLACED_HELPER)
    if _lists(_HELPS_AFTER, kernel, node_type):
        return _Pairing(False, _MISPLACED_HELPER, _EXPECTED_HELPER)
    if node_type not in _KNOWN_NODES:
        # A composite or a node newer than these tables: any kernels, any number of them.
        return _Pairing(True, _UNKNOWN, _UNKNOWN, doubtful=True)
    stray = _STRAY_HELPER if kernel in _HELPERS else _MISFIT
    return _Pairing(False, stray, stray, doubtful=True)


def _lists(table: dict[str, str], kernel: str, node_type: str) -> bool:
    return node_type in table.get(kernel, "").split()


def _skip_costs(node_types: Sequence[str], foldable: frozenset[str]) -> NDArray[np.float64]:
    return np.array([_SKIPPED_FREELY if node_type in foldable else _SKIPPED for node_type in node_types])
