"""RTN: every weight rounded to the nearest number by itself, what GPTQ is to be held against. By gptqmodel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qprof.runtimes.torch_lm.gptq import Settings
from qprof.runtimes.torch_lm.methods.gptq_relatives import GPTQLikeMethod


class RTNMethod(GPTQLikeMethod):
    """rtn-<bits>bit[-g<group size>]."""

    name = "rtn"

    def config(self, package: Any, settings: Settings, common: Mapping[str, Any]) -> Any:
        return package.RTNConfig(sym=settings.sym, **common)


METHOD = RTNMethod()
