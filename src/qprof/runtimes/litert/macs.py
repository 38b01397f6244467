"""Multiply-accumulates of one TFLite op, from the shapes of its tensors.

One MAC is one product added to a running sum, as convolutions and matrix products do: half of what papers call
FLOPs. Ops that accumulate no products (copies, element-wise arithmetic, pooling, activations) count 0. Sparse weights
count as if they were dense. The operand layouts are those of the operator kernels of TensorFlow Lite
(tensorflow/lite/kernels, tensorflow/lite/schema/schema.fbs).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

Shape = tuple[int, ...]
Shapes = Sequence[Shape | None]  # None: an optional input that is left out


class _Unknown(Exception):
    """A dimension that the count needs is open, missing or of the wrong rank."""


def count_macs(
    op_type: str, inputs: Shapes, outputs: Shapes, adjoint: tuple[bool, bool] = (False, False)
) -> int | None:
    """MACs of one execution of an op.

    `inputs` and `outputs` are the shapes of its tensors in order, -1 for an open dimension; `adjoint` are adj_x and
    adj_y of BATCH_MATMUL. `None`: the op is custom, runs other subgraphs, has no rule here, or its shapes are open.
    """
    if op_type in _NO_MACS:
        return 0
    rule = _RULES.get(op_type)
    if rule is None and op_type != "BATCH_MATMUL":
        return None
    try:
        return _batch_matmul(inputs, outputs, adjoint) if rule is None else rule(inputs, outputs)
    except _Unknown:
        return None


def _shape(shapes: Shapes, position: int, rank: int | None = None) -> Shape:
    shape = shapes[position] if position < len(shapes) else None
    if shape is None or (rank is not None and len(shape) != rank) or any(extent < 0 for extent in shape):
        raise _Unknown
    return shape


def _elements(shapes: Shapes, *positions: int) -> int:
    """Elements of the tensors at these positions together; an optional one that is left out has none."""
    total = 0
    for position in positions:
        if position < len(shapes) and shapes[position] is not None:
            total += math.prod(_shape(shapes, position))
    return total


def _conv_2d(inputs: Shapes, outputs: Shapes) -> int:
    # The kernel's depth is the input's divided by the number of groups, so grouped convolutions come out right.
    _, height, width, depth = _shape(inputs, 1, 4)
    return math.prod(_shape(outputs, 0, 4)) * height * width * depth


def _depthwise_conv_2d(inputs: Shapes, outputs: Shapes) -> int:
    _, height, width, _ = _shape(inputs, 1, 4)
    return math.prod(_shape(outputs, 0, 4)) * height * width


def _transpose_conv(inputs: Shapes, outputs: Shapes) -> int:
    # inputs: output shape, kernel [out, height, width, in], activation. Each input element is spread over the whole
    # kernel; products that fall outside the output are counted too.
    channels, height, width, _ = _shape(inputs, 1, 4)
    return math.prod(_shape(inputs, 2, 4)) * height * width * channels


def _conv_3d(inputs: Shapes, outputs: Shapes) -> int:
    depth, height, width, channels_in, _ = _shape(inputs, 1, 5)
    return math.prod(_shape(outputs, 0, 5)) * depth * height * width * channels_in


def _conv_3d_transpose(inputs: Shapes, outputs: Shapes) -> int:
    # inputs: output shape, kernel [depth, height, width, out, in], activation
    depth, height, width, channels_out, _ = _shape(inputs, 1, 5)
    return math.prod(_shape(inputs, 2, 5)) * depth * height * width * channels_out


def _fully_connected(inputs: Shapes, outputs: Shapes) -> int:
    units, depth = _shape(inputs, 1, 2)
    output = _shape(outputs, 0)
    if not output or output[-1] != units:
        raise _Unknown
    return math.prod(output) * depth


def _batch_matmul(inputs: Shapes, outputs: Shapes, adjoint: tuple[bool, bool]) -> int:
    left = inputs[0] if inputs else None
    output = _shape(outputs, 0)
    if left is None or len(left) < 2 or len(output) < 2:
        raise _Unknown
    contracted = left[-2] if adjoint[0] else left[-1]
    if contracted < 0:
        right = _shape(inputs, 1)
        if len(right) < 2:
            raise _Unknown
        contracted = right[-1] if adjoint[1] else right[-2]
    return math.prod(output) * contracted


def _svdf(inputs: Shapes, outputs: Shapes) -> int:
    # inputs: activation [batch, in], feature weights [filters, in], time weights [filters, memory]
    batch, _ = _shape(inputs, 0, 2)
    return batch * (math.prod(_shape(inputs, 1, 2)) + math.prod(_shape(inputs, 2, 2)))


def _rnn(inputs: Shapes, outputs: Shapes) -> int:
    # inputs: activation [..., in], weights [units, in], recurrent weights [units, units]
    steps = math.prod(_shape(inputs, 0)[:-1])
    return steps * (math.prod(_shape(inputs, 1, 2)) + math.prod(_shape(inputs, 2, 2)))


def _lstm(inputs: Shapes, outputs: Shapes) -> int:
    steps = math.prod(_shape(inputs, 0)[:-1])
    if len(inputs) == 5:
        # the "basic" kernel: activation, previous activation, weights [4 * cells, in + cells], bias, state
        return steps * math.prod(_shape(inputs, 2, 2))
    _shape(inputs, 2, 2)
    # 1-4 input and 5-8 recurrent weights of the four gates, 16 the projection; peephole weights (9-11), biases and
    # layer normalization act element by element.
    return steps * _elements(inputs, 1, 2, 3, 4, 5, 6, 7, 8, 16)


_RULES: dict[str, Callable[[Shapes, Shapes], int]] = {
    "CONV_2D": _conv_2d,
    "DEPTHWISE_CONV_2D": _depthwise_conv_2d,
    "TRANSPOSE_CONV": _transpose_conv,
    "CONV_3D": _conv_3d,
    "CONV_3D_TRANSPOSE": _conv_3d_transpose,
    "FULLY_CONNECTED": _fully_connected,
    "SVDF": _svdf,
    "RNN": _rnn,
    "UNIDIRECTIONAL_SEQUENCE_RNN": _rnn,
    "LSTM": _lstm,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _lstm,
}

#: Op types that this module counts products for.
RULED_TYPES = frozenset(_RULES) | {"BATCH_MATMUL"}

# Named one by one, so that an op the runtime gains later is unknown rather than free.
_WITHOUT_MACS = """
    ABS ADD ADD_N ARG_MAX ARG_MIN ASSIGN_VARIABLE ATAN2 AVERAGE_POOL_2D BATCH_TO_SPACE_ND BITCAST BITWISE_XOR
    BROADCAST_ARGS BROADCAST_TO BUCKETIZE CAST CEIL COMPLEX_ABS CONCATENATION COS CUMSUM DENSIFY DEPTH_TO_SPACE
    DEQUANTIZE DILATE DIV DYNAMIC_UPDATE_SLICE ELU EMBEDDING_LOOKUP EQUAL EXP EXPAND_DIMS FAKE_QUANT FILL FLOOR
    FLOOR_DIV FLOOR_MOD GATHER GATHER_ND GELU GREATER GREATER_EQUAL HARD_SWISH HASHTABLE HASHTABLE_FIND
    HASHTABLE_IMPORT HASHTABLE_LOOKUP HASHTABLE_SIZE IMAG LEAKY_RELU LESS LESS_EQUAL LOG LOGICAL_AND LOGICAL_NOT
    LOGICAL_OR LOGISTIC LOG_SOFTMAX MATRIX_DIAG MATRIX_SET_DIAG MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL
    MULTINOMIAL NEG NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 NOT_EQUAL ONE_HOT PACK PAD PADV2 POW PRELU QUANTIZE
    RANDOM_STANDARD_NORMAL RANDOM_UNIFORM RANGE RANK READ_VARIABLE REAL REDUCE_ALL REDUCE_ANY REDUCE_MAX REDUCE_MIN
    REDUCE_PROD RELU RELU6 RELU_0_TO_1 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR REVERSE_SEQUENCE
    REVERSE_V2 RIGHT_SHIFT ROUND RSQRT SCATTER_ND SEGMENT_SUM SELECT SELECT_V2 SHAPE SIGN SIN SLICE SOFTMAX
    SPACE_TO_BATCH_ND SPACE_TO_DEPTH SPARSE_TO_DENSE SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE SQUEEZE
    STRIDED_SLICE SUB SUM TANH TILE TOPK_V2 TRANSPOSE UNIQUE UNPACK UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_MIN
    UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_SUM VAR_HANDLE WHERE ZEROS_LIKE
    STABLEHLO_ABS STABLEHLO_ADD STABLEHLO_AND STABLEHLO_BROADCAST_IN_DIM STABLEHLO_CBRT STABLEHLO_CLAMP
    STABLEHLO_COMPARE STABLEHLO_CONCATENATE STABLEHLO_CONVERT STABLEHLO_COSINE STABLEHLO_DIVIDE
    STABLEHLO_DYNAMIC_SLICE STABLEHLO_DYNAMIC_UPDATE_SLICE STABLEHLO_EXPONENTIAL STABLEHLO_FLOOR STABLEHLO_GATHER
    STABLEHLO_IOTA STABLEHLO_LOGISTIC STABLEHLO_MAXIMUM STABLEHLO_MINIMUM STABLEHLO_MULTIPLY STABLEHLO_NEGATE
    STABLEHLO_OR STABLEHLO_PAD STABLEHLO_POWER STABLEHLO_REMAINDER STABLEHLO_RESHAPE STABLEHLO_RSQRT STABLEHLO_SELECT
    STABLEHLO_SHIFT_LEFT STABLEHLO_SLICE STABLEHLO_SUBTRACT STABLEHLO_TANH STABLEHLO_TRANSPOSE
"""
_NO_MACS = frozenset(_WITHOUT_MACS.split())
