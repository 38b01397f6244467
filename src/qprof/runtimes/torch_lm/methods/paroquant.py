"""ParoQuant by gptqmodel: pairs of channels are rotated, by angles that are trained, so that no weight stands out."""

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
from qprof.runtimes.torch_lm.forms.paroquant import FORM
from qprof.runtimes.torch_lm.gptq import Settings
from qprof.runtimes.torch_lm.methods import by_form
from qprof.runtimes.torch_lm.methods.base import Method, Source
from qprof.runtimes.torch_lm.methods.gptqmodel import common_config, quantize
from qprof.runtimes.torch_lm.sections import DType, GroupSize

_METHOD = re.compile(r"paroquant(?:-(?P<bits>\d+)bit)?(?:-g(?P<group>\d+))?\Z")

#: What gptqmodel's kernel takes, and how many outputs AWQ's layout packs to a word.
_BITS, _GROUPS, _OUT_MULTIPLE = 4, (16, 32, 64, 128), 8


class ParoQuantVariant(MadeVariantSection, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A variant that ParoQuant quantizes. `bits` and `group_size` where the method does not name them; `epochs`: passes
    over the calibration data that train the rotations, and as many that train the rounding (gptqmodel's own: 10);
    `skip_layers`: linears that stay in float; `kernel`: "" or "dequantized"; `dtype` of the computation; `batch`: rows
    of a prompt, instead of the task's."""

    bits: Literal[4] | None = None
    group_size: GroupSize | None = None
    epochs: Positive = 10
    skip_layers: list[str] = field(default_factory=list)
    kernel: str = ""
    dtype: DType = ""
    batch: Positive | None = None


class ParoQuantMethod(Method[ParoQuantVariant]):
    """paroquant-4bit[-g<group size>]."""

    section = ParoQuantVariant
    spelled = ("paroquant-4bit[-g<group size>]",)
    calibrated = True

    def claims(self, method: str, keys: Mapping[str, Any]) -> bool:
        return _METHOD.match(method) is not None

    def make(self, source: Source, section: ParoQuantVariant, calibration: Calibration) -> Made:
        method = section.method or section.name
        match = _METHOD.match(method)
        if match is None:
            raise ModelError(f"variant {section.name}: {method!r} is no method of ParoQuant; write paroquant-4bit")
        named = {key: None if match[key] is None else int(match[key]) for key in ("bits", "group")}
        bits = by_form.agreed(section.name, "bits", section.bits, named["bits"], _BITS)
        if bits != _BITS:
            raise ModelError(f"variant {section.name}: ParoQuant with {bits} bits: its layout holds {_BITS} bits")
        if section.dtype == "float32":
            raise ModelError(
                f"variant {section.name}: ParoQuant computes in float16 and bfloat16 only; leave dtype out"
            )
        checkpoint = source.checkpoint()
        group, notes = by_form.group_size(section, named["group"], checkpoint, _GROUPS)
        linears = by_form.linears_to_quantize(checkpoint, section.skip_layers)
        by_form.refuse_undivided(checkpoint, linears, group, _GROUPS)
        unfit = next((name for name, (_, out) in linears.items() if out % _OUT_MULTIPLE), None)
        if unfit is not None:
            raise ModelError(
                f"{checkpoint.path}: ParoQuant packs {_OUT_MULTIPLE} outputs to a word, and {unfit} has "
                f"{linears[unfit][1]}; name it in skip_layers"
            )
        settings = Settings(bits, group, sym=True, skip_layers=tuple(sorted(set(section.skip_layers))))

        def configure(_: Any, checkpoint: Checkpoint, settings: Settings, device: str) -> Any:
            from gptqmodel.quantization import config

            return config.ParoConfig(
                sym=True,
                opt_rotation_epochs=section.epochs,
                opt_finetune_epochs=section.epochs,
                **common_config(checkpoint, settings, device),
            )

        def write(folder: Path) -> Mapping[str, Any]:
            return quantize(
                *(checkpoint, folder, settings, source.rows(calibration)),
                device=source.device,
                configure=configure,
                process="paroquant",
            )

        shape = {"bits": bits, "group_size": group, "epochs": section.epochs, "skip": settings.skip_layers}
        return by_form.made_by(
            FORM,
            source,
            {"method": "paroquant", **shape, "calibration": calibration.digest},
            write,
            method=method,
            section=section,
            facts={"scheme": "int4"},
            notes=notes,
        )


METHOD = ParoQuantMethod()
