"""FOEM (Zheng et al., "First-Order Error Matters", arXiv 2507.11017): GPTQ with the first-order term that its
compensation leaves out. By gptqmodel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qprof.runtimes.torch_lm.gptq import Settings
from qprof.runtimes.torch_lm.methods.gptq_relatives import GPTQLikeMethod


class FOEMMethod(GPTQLikeMethod):
    """foem-<bits>bit[-g<group size>]."""

    name = "foem"
    calibrated = True

    def config(self, package: Any, settings: Settings, common: Mapping[str, Any]) -> Any:
        own = package.FOEMConfig(device=common["device"])
        return package.GPTQConfig(sym=settings.sym, desc_act=False, foem=own, **common)


METHOD = FOEMMethod()
