"""AWQ by gptqmodel: channels that activations make important are scaled up before weights are rounded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from msgspec import field

from qprof.errors import ModelError
from qprof.record.sections import MadeVariantSection, Positive
from qprof.runtimes.base import Calibration, Made
from qprof.runtimes.torch_lm.checkpoint import Checkpoint
from qprof.runtimes.torch_lm.forms.awq import FORM, kernel_for
from qprof.runtimes.torch_lm.gptq import Settings
from qprof.runtimes.torch_lm.methods import by_form
from qprof.runtimes.torch_lm.methods.base import Method, Source
from qprof.runtimes.torch_lm.methods.gptqmodel import common_config, quantize
from qprof.runtimes.torch_lm.sections import DType, GroupSize

_METHOD = re.compile(r"awq(?:-(?P<bits>\d+)bit)?(?:-g(?P<group>\d+))?\Z")

#: What AutoAWQ's layout packs, 8 outputs to a word.
_BITS, _GROUPS, _OUT_MULTIPLE = 4, (16, 32, 64, 128), 8


class AWQVariant(MadeVariantSection, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A variant that AWQ quantizes. `bits` and `group_size` where the method does not name them; `sym`: without zero
    points; `skip_layers`: linears that stay in float; `kernel` of the quantized layers, `dtype` of the computation;
    `batch`: rows of a prompt, instead of the task's."""

    bits: Literal[4] | None = None
    group_size: GroupSize | None = None
    sym: bool = False
    skip_layers: list[str] = field(default_factory=list)
    kernel: str = ""
    dtype: DType = ""
    batch: Positive | None = None


class AWQMethod(Method[AWQVariant]):
    """awq-4bit[-g<group size>]."""

    section = AWQVariant
    spelled = ("awq-4bit[-g<group size>]",)
    calibrated = True

    def claims(self, method: str, keys: Mapping[str, Any]) -> bool:
        return _METHOD.match(method) is not None

    def make(self, source: Source, section: AWQVariant, calibration: Calibration) -> Made:
        method = section.method or section.name
        match = _METHOD.match(method)
        if match is None:
            raise ModelError(f"variant {section.name}: {method!r} is no method of AWQ; write awq-4bit or awq-4bit-g128")
        named = {key: None if match[key] is None else int(match[key]) for key in ("bits", "group")}
        bits = by_form.agreed(section.name, "bits", section.bits, named["bits"], _BITS)
        if bits != _BITS:
            raise ModelError(
                f"variant {section.name}: AWQ with {bits} bits: its layout holds {_BITS} bits; use awq-4bit"
            )
        if section.dtype == "float32":
            raise ModelError(f"variant {section.name}: AWQ computes in float16 and bfloat16 only; leave dtype out")
        checkpoint = source.checkpoint()
        group, notes = by_form.group_size(section, named["group"], checkpoint, _GROUPS)
        linears = by_form.linears_to_quantize(checkpoint, section.skip_layers)
        by_form.refuse_undivided(checkpoint, linears, group, _GROUPS)
        unfit = next((name for name, (_, out) in linears.items() if out % _OUT_MULTIPLE), None)
        if unfit is not None:
            raise ModelError(
                f"{checkpoint.path}: AWQ packs {_OUT_MULTIPLE} outputs to a word, and {unfit} has {linears[unfit][1]}; "
                "name it in skip_layers"
            )
        kernel = kernel_for(section.kernel, source.device, group, linears)
        settings = Settings(bits, group, sym=section.sym, skip_layers=tuple(sorted(set(section.skip_layers))))

        def write(folder: Path) -> Mapping[str, Any]:
            return quantize(
                checkpoint,
                folder,
                settings,
                source.rows(calibration),
                device=source.device,
                configure=_config,
                process="awq",
                batch_rows=1,
                backend="AWQ_TORCH",  # the fused ones load, but do not pack
            )

        shape = {"bits": bits, "group_size": group, "sym": section.sym, "skip": settings.skip_layers}
        return by_form.made_by(
            FORM,
            source,
            {"method": "awq", **shape, "calibration": calibration.digest},
            write,
            method=method,
            section=section,
            facts={"scheme": "int4"},
            notes=notes,
            kernel=kernel,
        )


def _config(_: Any, checkpoint: Checkpoint, settings: Settings, device: str) -> Any:
    from gptqmodel.quantization import config

    return config.AWQConfig(sym=settings.sym, **common_config(checkpoint, settings, device))


METHOD = AWQMethod()
