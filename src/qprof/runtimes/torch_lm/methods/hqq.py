"""HQQ: weights rounded so that a half-quadratic solver finds the zero points; no calibration data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import field

from qprof.errors import ModelError
from qprof.record.sections import MadeVariantSection, Positive
from qprof.runtimes.base import Calibration, Made
from qprof.runtimes.torch_lm.forms import hqq as form
from qprof.runtimes.torch_lm.forms import stored
from qprof.runtimes.torch_lm.methods import by_form
from qprof.runtimes.torch_lm.methods.base import Method, Source
from qprof.runtimes.torch_lm.sections import Bits, DType, GroupSize

_METHOD = re.compile(r"hqq(?:-(?P<bits>\d+)bit)?(?:-g(?P<group>\d+))?\Z")

_BITS = (2, 4, 8)
_GROUPS, _MULTIPLE = (-1, 8, 16, 32, 64, 128, 256, 512, 1024), 8


class HQQVariant(MadeVariantSection, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A variant that HQQ quantizes. `bits` and `group_size` where the method does not name them (-1: one group per
    row); `skip_layers`: linears that stay in float; `kernel`: "" or "dequantized"; `dtype` of the computation;
    `batch`: rows of a prompt, instead of the task's."""

    bits: Bits | None = None
    group_size: GroupSize | None = None
    skip_layers: list[str] = field(default_factory=list)
    kernel: str = ""
    dtype: DType = ""
    batch: Positive | None = None


class HQQMethod(Method[HQQVariant]):
    """hqq-<bits>bit[-g<group size>]."""

    section = HQQVariant
    spelled = ("hqq-<bits>bit[-g<group size>]",)
    widths = _BITS

    def claims(self, method: str, keys: Mapping[str, Any]) -> bool:
        return _METHOD.match(method) is not None

    def make(self, source: Source, section: HQQVariant, calibration: Calibration) -> Made:
        method = section.method or section.name
        match = _METHOD.match(method)
        if match is None:
            raise ModelError(f"variant {section.name}: {method!r} is no method of HQQ; write hqq-4bit or hqq-4bit-g128")
        named = {key: None if match[key] is None else int(match[key]) for key in ("bits", "group")}
        bits = by_form.agreed(section.name, "bits", section.bits, named["bits"], 0)
        if bits not in _BITS:
            what = f"{bits} bits" if bits else f"method {method} names no bits; write hqq-4bit, or bits = 4"
            raise ModelError(f"variant {section.name}: {what}: HQQ's bits may be {', '.join(map(str, _BITS))} here")
        checkpoint = source.checkpoint()
        group, notes = by_form.group_size(section, named["group"], checkpoint, _GROUPS)
        linears = by_form.linears_to_quantize(checkpoint, section.skip_layers)
        by_form.refuse_undivided(checkpoint, linears, group, _GROUPS)
        uneven = next((name for name, (into, _) in linears.items() if into % _MULTIPLE), None)
        if uneven is not None:  # one group per row is as long as the row
            raise ModelError(
                f"{checkpoint.path}: HQQ's groups are multiples of {_MULTIPLE}, and {uneven} has "
                f"{linears[uneven][0]} in_features; name it in skip_layers"
            )
        dtype = by_form.storage_dtype(checkpoint)

        def write(folder: Path) -> None:
            _write(by_form.float_model(checkpoint, dtype), folder, linears, bits, group, dtype)

        return by_form.made_by(
            form.FORM,
            source,
            {"method": "hqq", "bits": bits, "group_size": group, "linears": sorted(linears), "dtype": dtype},
            write,
            method=method,
            section=section,
            facts={"scheme": f"int{bits}"},
            notes=notes,
        )


def _write(model: Any, folder: Path, linears: Mapping[str, Any], bits: int, group: int, dtype: str) -> None:
    import torch

    packed: dict[str, Any] = {}
    shapes: dict[str, list[int]] = {}
    for name in linears:
        plain = model.get_submodule(name)
        if not isinstance(plain, torch.nn.Linear):
            raise ModelError(f"{name} is {type(plain).__name__}, which HQQ does not quantize; name it in skip_layers")
        shapes[name] = [plain.out_features, plain.in_features]
        bias = plain.bias
        quantized = form.linear(plain, bits, group, getattr(torch, dtype))
        packed[name] = form.store(quantized)
        if bias is not None:
            plain.bias = bias
    settings = {"quant_method": form.OWN, "bits": bits, "group_size": group, "shapes": shapes}
    stored.save(model, folder, {**settings, "tensors": [form.CODES, form.SCALE, form.ZERO]}, packed)


METHOD = HQQMethod()
