"""What ONNX Runtime's kernels are forms of: which op of the model, its weights, its multiplications, its formats."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from qprof.record.ceilings import DEPTHWISE

#: Kernel that stands in an optimized graph -> the op of the model that it is a form of.
_FORMS: Mapping[str, str] = {
    "FusedConv": "Conv",
    "NhwcFusedConv": "Conv",
    "NhwcConv": "Conv",
    "QLinearConv": "Conv",
    "ConvInteger": "Conv",
    "FusedGemm": "Gemm",
    "QGemm": "Gemm",
    "FusedMatMul": "MatMul",
    "TransposeMatMul": "MatMul",
    "QLinearMatMul": "MatMul",
    "MatMulInteger": "MatMul",
    "MatMulInteger16": "MatMul",
    "MatMulIntegerToFloat": "MatMul",
    "DynamicQuantizeMatMul": "MatMul",
    "MatMulNBits": "MatMul",
    "QAttention": "Attention",
    "QLinearReduceMean": "ReduceMean",
    "NhwcMaxPool": "MaxPool",
    "DynamicQuantizeLSTM": "LSTM",
    **{
        f"QLinear{name}": name
        for name in (
            ["Add", "Mul", "AveragePool", "GlobalAveragePool", "Sigmoid", "LeakyRelu", "Softmax", "Concat", "Where"]
        )
    },
}

#: Op -> which of its inputs holds its weights, in each of its kernels; of several, the first that is constant.
_WEIGHTS: Mapping[str, Sequence[int]] = {
    "QLinearConv": (3,),
    "QGemm": (3,),
    "QLinearMatMul": (3, 0),
    "Gather": (0,),
    "MatMul": (1, 0),
    "FusedMatMul": (1, 0),
    "MatMulInteger": (1, 0),
}
_WEIGHTED = frozenset(
    [
        "Conv",
        "ConvTranspose",
        "Gemm",
        "MatMul",
        "Gather",
        "LSTM",
        "GRU",
        "RNN",
        "Attention",
        "BatchNormalization",
        "LayerNormalization",
        "SkipLayerNormalization",
        "InstanceNormalization",
        "GroupNormalization",
        "PRelu",
    ]
)
#: Ops that multiply and accumulate, whatever their count.
MULTIPLYING = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
#: Those whose multiplications are not counted here.
_UNCOUNTED = frozenset(
    [
        "LSTM",
        "GRU",
        "RNN",
        "Attention",
        "MultiHeadAttention",
        "GroupQueryAttention",
        "Einsum",
        "If",
        "Loop",
        "Scan",
        "STFT",
        "DFT",
    ]
)
#: Ops that do nothing but change the number format.
CONVERSIONS = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})

#: ONNX Runtime's names of types -> NumPy's.
_DTYPES = {"float": "float32", "double": "float64"}
_INTEGERS = ("int4", "uint4", "int8", "uint8", "int16", "uint16")

#: One tensor, as a profile tells it: {"float": [1, 3, 32, 32]}.
Told = Mapping[str, Sequence[int]]


def op_type(kernel: str, domain: str = "") -> str:
    """The op of the model that a kernel is a form of."""
    del domain  # the kernels of all domains have one name for one thing
    return _FORMS.get(kernel, kernel)


def weight_slots(kernel: str) -> Sequence[int]:
    """Which inputs of a kernel may hold its weights; empty for one that has none."""
    if kernel in _WEIGHTS:
        return _WEIGHTS[kernel]
    return (1,) if op_type(kernel) in _WEIGHTED else ()


def kernel_name(
    kernel: str, domain: str, attributes: Mapping[str, object], weights: tuple[int, ...] | None = None
) -> str:
    """The kernel with what sets it apart: the layout that it works in, whether each filter takes one channel of many
    in, and what was fused into it. `weights`: their shape in the model's file."""
    layout = "NCHWc" if domain.endswith(".nchwc") else "NHWC" if attributes.get("channels_last") else ""
    groups = attributes.get("group")
    single = isinstance(groups, int) and groups > 1 and weights is not None and weights[1:2] == (1,)
    apart = [text for text in (layout, DEPTHWISE if single and op_type(kernel) == "Conv" else "") if text]
    name = f"{kernel} ({', '.join(apart)})" if apart else kernel
    fused = attributes.get("activation")
    return f"{name} + {fused.decode(errors='replace')}" if isinstance(fused, bytes) and fused else name


def label(told: Told) -> str:
    """ "float32[1,3,32,32]"."""
    return " ".join(f"{_DTYPES.get(dtype, dtype)}[{','.join(map(str, shape))}]" for dtype, shape in told.items())


def dtype_of(told: Told) -> str:
    """NumPy's name of a tensor's type."""
    return next((_DTYPES.get(dtype, dtype) for dtype in told), "")


def shape_of(told: Told) -> tuple[int, ...] | None:
    return next((tuple(shape) for shape in told.values()), None)


def count_macs(
    kernel: str,
    inputs: Sequence[tuple[int, ...] | None],
    outputs: Sequence[tuple[int, ...] | None],
    weights: tuple[int, ...] | None,
    attributes: Mapping[str, object],
    channels_last: bool,
) -> int | None:
    """Products that are added up in one run of a kernel (half of what papers call FLOPs).

    `weights`: the shape as the model's file has it, since a kernel may pad it to its blocks. 0 for ops that add up no
    products, `None` where a shape is not known or the op has no rule here.
    """
    kind = op_type(kernel)
    if kind in _UNCOUNTED:
        return None
    if kind not in MULTIPLYING:
        return 0
    first, out = (inputs[0] if inputs else None), (outputs[0] if outputs else None)
    if kind in ("Conv", "ConvTranspose"):
        if weights is None or out is None or first is None or len(weights) < 3:
            return None
        over = out if kind == "Conv" else first
        places = math.prod(over[1:-1] if channels_last else over[2:])
        return over[0] * places * math.prod(weights)
    if kind == "Gemm":
        if first is None or out is None or len(first) != 2:
            return None
        return math.prod(out) * first[0 if attributes.get("transA") else 1]
    if first is None or out is None or not first:
        return None
    depth = first[-2] if attributes.get("transA") and len(first) > 1 else first[-1]
    return math.prod(out) * depth


def describe_quantization(
    kernel: str, inputs: Sequence[Told], outputs: Sequence[Told], weights: str | None, per_channel: bool
) -> str | None:
    """One line on the number formats an op works in, "int8 weights per-channel, uint8 activations"; `None` for one in
    float32 throughout, or that handles shapes and indices alone. `weights`: the type of its constant, if it has one."""
    takes = next((dtype_of(told) for told in inputs if told), "")
    gives = next((dtype_of(told) for told in outputs if told), "")
    if kernel in CONVERSIONS:
        return f"{takes} to {gives}"
    if kernel == "Cast" and "float16" in (takes, gives):
        return f"{takes} to {gives}"
    parts = []
    if weights in (*_INTEGERS, "float16") and weight_slots(kernel):
        parts.append(f"{weights} weights" + (" per-channel" if per_channel and weights != "float16" else ""))
    if takes in (*_INTEGERS, "float16"):
        parts.append(f"{takes} activations")
    return ", ".join(parts) or None
