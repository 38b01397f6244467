"""GPTAQ (Li et al., "Efficient Finetuning-Free Quantization with Asymmetric Calibration", arXiv 2504.02692): GPTQ that
also corrects the errors which the layers before have put into the activations. By gptqmodel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qprof.runtimes.torch_lm.gptq import Settings
from qprof.runtimes.torch_lm.methods.gptq_relatives import GPTQLikeMethod


class GPTAQMethod(GPTQLikeMethod):
    """gptaq-<bits>bit[-g<group size>]."""

    name = "gptaq"
    calibrated = True
    batch_rows = 1  # gptqmodel pairs the activations of both models row by row

    def config(self, package: Any, settings: Settings, common: Mapping[str, Any]) -> Any:
        own = package.GPTAQConfig(device=common["device"])
        return package.GPTQConfig(sym=settings.sym, desc_act=False, gptaq=own, **common)


METHOD = GPTAQMethod()
