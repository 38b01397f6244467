"""8-bit floats by gptqmodel: weights alone, a scale per row; no calibration data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import field

from qprof.record.sections import MadeVariantSection, Positive
from qprof.runtimes.base import Calibration, Made
from qprof.runtimes.torch_lm.checkpoint import Checkpoint
from qprof.runtimes.torch_lm.forms.fp8 import FORM
from qprof.runtimes.torch_lm.gptq import Settings
from qprof.runtimes.torch_lm.methods import by_form
from qprof.runtimes.torch_lm.methods.base import Method, Source
from qprof.runtimes.torch_lm.methods.gptqmodel import common_config, quantize
from qprof.runtimes.torch_lm.sections import DType

_FORMATS = {"fp8": "float8_e4m3fn", "fp8-e4m3": "float8_e4m3fn", "fp8-e5m2": "float8_e5m2"}


class FP8Variant(MadeVariantSection, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A variant with its weights as 8-bit floats. `skip_layers`: linears that stay as they are; `kernel`: "" or
    "dequantized"; `dtype` of the computation; `batch`: rows of a prompt, instead of the task's."""

    skip_layers: list[str] = field(default_factory=list)
    kernel: str = ""
    dtype: DType = ""
    batch: Positive | None = None


class FP8Method(Method[FP8Variant]):
    """fp8 (fp8-e4m3), fp8-e5m2."""

    section = FP8Variant
    spelled = ("fp8", "fp8-e5m2")

    def claims(self, method: str, keys: Mapping[str, Any]) -> bool:
        return method in _FORMATS

    def make(self, source: Source, section: FP8Variant, calibration: Calibration) -> Made:
        method = section.method or section.name
        layout, checkpoint = _FORMATS[method], source.checkpoint()
        linears = by_form.linears_to_quantize(checkpoint, section.skip_layers)
        settings = Settings(8, -1, skip_layers=tuple(sorted(set(section.skip_layers))))

        def config(_: Any, checkpoint: Checkpoint, settings: Settings, device: str) -> Any:
            from gptqmodel.quantization import config

            common = common_config(checkpoint, settings, device)
            for key in ("bits", "group_size", "pack_impl"):
                del common[key]
            return config.FP8Config(format=layout, **common)

        def write(folder: Path) -> Mapping[str, Any]:
            return quantize(
                *(checkpoint, folder, settings, []), device=source.device, configure=config, process="", batch_rows=1
            )

        return by_form.made_by(
            FORM,
            source,
            {"method": layout, "linears": sorted(linears)},
            write,
            method=method,
            section=section,
            facts={"scheme": layout},
        )


METHOD = FP8Method()
