"""Op types that are forms of one thing: those that converters exchange for one another when they fold, fuse or lower a
layer, and what other runtimes call the same."""

from __future__ import annotations

#: One family a line, called by its first type; those of LiteRT come first, then those of ONNX, then those of torch.
_FAMILIES = (
    (
        *("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL"),
        *("Conv", "Gemm", "MatMul", "FusedMatMul"),
        *("conv1d", "conv2d", "conv3d", "convolution", "linear", "addmm", "matmul", "mm", "bmm", "baddbmm"),
    ),
    ("TRANSPOSE_CONV", "ConvTranspose", "conv_transpose2d"),
    (
        *("AVERAGE_POOL_2D", "MEAN", "AveragePool", "GlobalAveragePool", "ReduceMean"),
        *("avg_pool2d", "adaptive_avg_pool2d", "mean"),
    ),
    ("MAX_POOL_2D", "MaxPool", "GlobalMaxPool", "max_pool2d", "max_pool2d_with_indices", "adaptive_max_pool2d"),
    (
        *("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "Reshape", "Squeeze", "Unsqueeze", "Flatten"),
        *("view", "reshape", "flatten", "squeeze", "unsqueeze", "_unsafe_view"),
    ),
    ("PAD", "PADV2", "MIRROR_PAD", "Pad", "pad", "constant_pad_nd"),
    ("RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "Relu", "Clip", "relu", "relu_", "hardtanh", "hardtanh_", "relu6"),
    ("STRIDED_SLICE", "SLICE", "Slice", "slice"),
    ("SPLIT", "SPLIT_V", "Split", "split", "split_with_sizes", "chunk"),
    ("CONCATENATION", "PACK", "Concat", "cat", "stack"),
    ("MUL", "DIV", "Mul", "Div", "mul", "div"),
    ("ADD", "SUB", "ADD_N", "Add", "Sub", "Sum", "add", "add_", "sub"),
    ("LSTM", "UNIDIRECTIONAL_SEQUENCE_LSTM"),
    ("SOFTMAX", "Softmax", "softmax", "_softmax"),
    ("LOGISTIC", "Sigmoid", "sigmoid"),
    ("HARD_SWISH", "HardSwish", "hardswish", "hardswish_"),
    ("TRANSPOSE", "Transpose", "permute", "transpose"),
    ("GATHER", "Gather", "embedding", "index_select"),
    ("QUANTIZE", "QuantizeLinear", "quantize_per_tensor", "quantize_per_channel"),
    ("DEQUANTIZE", "DequantizeLinear", "dequantize_per_tensor", "dequantize_per_channel"),
    ("CAST", "Cast", "to", "_to_copy"),
)
_FAMILY = {op_type: family[0] for family in _FAMILIES for op_type in family}


def family(op_type: str) -> str:
    """What a type is a form of, the type itself where that is not known. Of ops in one ("conv2d + relu") the first
    counts; the quantized linear layers of torch all call themselves ...Linear."""
    first = op_type.partition(" + ")[0]
    return "Linear" if first.endswith("Linear") and first not in _FAMILY else _FAMILY.get(first, first)
