"""Products of quantized linears in other kernels, run alone: what they would take there, for predictions.

A linear that unpacks its weights in every inference can be run with the weights unpacked once, or by a kernel that
unpacks as it multiplies. How long the products take there does not follow from any ceiling of the machine: it depends
on their shapes. So they are run, one linear after the other as in an inference, with weights of which only the form
is the model's.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from time import perf_counter_ns
from typing import Any

from qprof.errors import ModelError
from qprof.runtimes.torch_lm import forms
from qprof.runtimes.torch_lm.dequantized import plain_linear
from qprof.runtimes.torch_lm.kernels import DEQUANTIZED, choose
from qprof.runtimes.torch_lm.ops import linear_features
from qprof.runtimes.torch_lm.split import can_dequantize

#: Passes over all linears, of which the median counts, behind one that only warms up.
_PASSES = 7
#: Unpacked weights that are held at a time. Of a larger model every so many linears are run, and stand for the others.
_MOST_BYTES = 256 << 20
#: The kernel of a CPU that unpacks as it multiplies, and the form that it takes whatever the model's is.
_PACKED, _PACKED_BITS, _PACKED_GROUP = "torch-aten", 4, 64


def products_alone(linears: Mapping[int, Any], rows: Mapping[int, int], dtype: Any) -> dict[str, float]:
    """Kernel -> microseconds that the products of all these linears take in it: "dequantized", plain products of
    weights unpacked before, and, where there is one for GPTQ's layers on a CPU, the kernel that need not unpack.

    `linears`: number -> module, of which those that cannot unpack their weights alone are left out; `rows`: number ->
    rows of its input. `dtype`: of the inputs.
    """
    import torch

    features = {
        number: found
        for number, module in linears.items()
        if can_dequantize(module) and (found := linear_features(module)) is not None
    }
    chosen = _some({number: inputs * outputs for number, (inputs, outputs) in features.items()}, dtype.itemsize)
    if not chosen:
        return {}
    work = {number: rows[number] * features[number][0] * features[number][1] for number in features}
    scale = sum(work.values()) / sum(work[number] for number in chosen)
    given = {number: torch.zeros((rows[number], features[number][0]), dtype=dtype) for number in chosen}
    times_us: dict[str, float] = {}
    with torch.inference_mode():
        plain = {number: plain_linear(linears[number], dtype) for number in chosen}
        times_us[DEQUANTIZED] = scale * _median_us({number: one.forward for number, one in plain.items()}, given)
        del plain
        packed = _packed_forwards({number: linears[number] for number in chosen}, features, dtype)
        if packed:
            times_us[_PACKED] = scale * _median_us(packed, given)
    return times_us


def _some(elements: Mapping[int, int], itemsize: int) -> list[int]:
    """Numbers of linears whose unpacked weights fit together, evenly over the model."""
    total = sum(elements.values()) * itemsize
    every = max(1, -(-total // _MOST_BYTES))
    return list(elements)[::every]


def _packed_forwards(
    linears: Mapping[int, Any], features: Mapping[int, tuple[int, int]], dtype: Any
) -> dict[int, Callable[[Any], Any]]:
    """Layers of GPTQ's kernel that need not unpack, of the shapes of these; none where one of them is of another
    library, or of a shape that it does not take."""
    import torch

    if any(forms.form_of(module) is not None or not hasattr(module, "group_size") for module in linears.values()):
        return {}
    name = str(dtype).removeprefix("torch.")
    shapes = {str(number): features[number] for number in linears}
    for group_size in (_group(linears), _PACKED_GROUP):
        try:
            choose(_PACKED, bits=_PACKED_BITS, group_size=group_size, device="cpu", dtype=name, linears=shapes)
        except ModelError:  # the kernel does not take them, which its own cause says where it matters
            continue
        break
    else:
        return {}
    from gptqmodel.nn_modules.qlinear.torch_aten_kernel import TorchAtenLinear

    made: dict[int, Callable[[Any], Any]] = {}
    for number, module in linears.items():
        inputs, outputs = features[number]
        one = TorchAtenLinear(
            bits=_PACKED_BITS,
            group_size=group_size,
            sym=True,
            desc_act=False,
            in_features=inputs,
            out_features=outputs,
            bias=module.bias is not None,
            register_buffers=True,
        )
        one.scales = one.scales.to(dtype)
        if module.bias is not None:
            one.bias = one.bias.to(dtype)
        one.post_init()
        one.eval()
        one.forward(torch.zeros((1, inputs), dtype=dtype))  # packs
        made[number] = one.forward
    return made


def _group(linears: Mapping[int, Any]) -> int:
    return int(next(iter(linears.values())).group_size)


def _median_us(forwards: Mapping[int, Callable[[Any], Any]], given: Mapping[int, Any]) -> float:
    """Of a pass over all of them."""
    times = []
    for _ in range(_PASSES + 1):
        start_ns = perf_counter_ns()
        for number, forward in forwards.items():
            forward(given[number])
        times.append(perf_counter_ns() - start_ns)
    return statistics.median(times[1:]) / 1e3
