"""LLM.int8(), NF4 and FP4 by bitsandbytes, on the CPU and on CUDA."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, field

from qprof.errors import ModelError
from qprof.record.sections import MadeVariantSection, Positive
from qprof.runtimes.base import Calibration, Made
from qprof.runtimes.torch_lm.build_bound import built_within
from qprof.runtimes.torch_lm.forms.bitsandbytes import BLOCK, CPU_OUT_MULTIPLE, FORM
from qprof.runtimes.torch_lm.methods import by_form
from qprof.runtimes.torch_lm.methods.base import Method, Source
from qprof.runtimes.torch_lm.sections import DType

_METHOD = re.compile(r"bnb-(?P<scheme>int8|nf4|fp4)\Z")

#: Activations from here on are computed in float by LLM.int8(); its paper's value, and transformers'.
_THRESHOLD = 6.0


class BitsAndBytesVariant(MadeVariantSection, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A variant that bitsandbytes quantizes. `threshold`: activations of that size or more are computed in float, with
    their columns of the weights (int8 alone; 0: none); `double_quant`: the scales are quantized as well (4 bits alone);
    `skip_layers`: linears that stay in float; `kernel`: "" or "dequantized"; `dtype` of the computation; `batch`: rows
    of a prompt, instead of the task's."""

    threshold: Annotated[float, Meta(ge=0, le=1e6)] | None = None
    double_quant: bool = False
    skip_layers: list[str] = field(default_factory=list)
    kernel: str = ""
    dtype: DType = ""
    batch: Positive | None = None


class BitsAndBytesMethod(Method[BitsAndBytesVariant]):
    """bnb-int8, bnb-nf4, bnb-fp4."""

    section = BitsAndBytesVariant
    spelled = ("bnb-int8", "bnb-nf4", "bnb-fp4")

    def claims(self, method: str, keys: Mapping[str, Any]) -> bool:
        return _METHOD.match(method) is not None

    def make(self, source: Source, section: BitsAndBytesVariant, calibration: Calibration) -> Made:
        method = section.method or section.name
        match = _METHOD.match(method)
        if match is None:
            raise ModelError(f"variant {section.name}: {method!r} is no method of bitsandbytes")
        scheme, checkpoint = match["scheme"], source.checkpoint()
        if scheme == "int8" and section.double_quant:
            raise ModelError(f"variant {section.name}: double_quant is for bnb-nf4 and bnb-fp4; int8 has a scale a row")
        if scheme != "int8" and section.threshold is not None:
            raise ModelError(f"variant {section.name}: threshold is for bnb-int8; {method} keeps activations in float")
        linears = by_form.linears_to_quantize(checkpoint, section.skip_layers)
        unfit = [] if scheme == "int8" else _unfit(linears, source.device)
        left = {name: features for name, features in linears.items() if name not in unfit}
        if not left:
            raise ModelError(
                f"{checkpoint.path}: bitsandbytes' 4-bit kernel takes in_features in multiples of {BLOCK}, and on a "
                f"CPU outputs in multiples of {CPU_OUT_MULTIPLE}; no layer has such; choose bnb-int8"
            )
        options: dict[str, Any] = {"load_in_8bit": True}
        options["llm_int8_threshold"] = _THRESHOLD if section.threshold is None else section.threshold
        if scheme != "int8":
            options = {"load_in_4bit": True, "bnb_4bit_quant_type": scheme}
            options["bnb_4bit_use_double_quant"] = section.double_quant
        dtype = by_form.storage_dtype(checkpoint)

        def write(folder: Path) -> None:
            import torch
            from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig

            # The names that its own settings leave out are found by the whole model's, of which nothing is loaded.
            with torch.device("meta"), built_within(checkpoint.path):
                config = AutoConfig.from_pretrained(str(checkpoint.path), local_files_only=True)
                empty = AutoModelForCausalLM.from_config(config)
            skipped = by_form.names_beside(empty, left)
            four = {"bnb_4bit_compute_dtype": getattr(torch, dtype)} if scheme != "int8" else {}
            asked = BitsAndBytesConfig(**options, **four, llm_int8_skip_modules=skipped)
            model = by_form.float_model(checkpoint, dtype, source.device, quantization_config=asked)
            model.save_pretrained(str(folder))

        notes = by_form.left_in_float(
            unfit,
            f"bitsandbytes' 4-bit kernel takes in_features in multiples of {BLOCK}, and on a CPU out_features in "
            f"multiples of {CPU_OUT_MULTIPLE}",
        )
        return by_form.made_by(
            FORM,
            source,
            {"method": f"bnb-{scheme}", "options": options, "linears": sorted(left), "dtype": dtype},
            write,
            method=method,
            section=section,
            facts={"scheme": scheme, "threshold": options.get("llm_int8_threshold"), "left_in_float": unfit},
            notes=notes,
        )


def _unfit(linears: Mapping[str, tuple[int, int]], device: str) -> list[str]:
    """Linears that the 4-bit kernels do not take."""
    multiple = CPU_OUT_MULTIPLE if device == "cpu" else 1
    return [name for name, (into, out) in linears.items() if into % BLOCK or out % multiple]


METHOD = BitsAndBytesMethod()
