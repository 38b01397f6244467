"""GPTQ checkpoints that are there already, run by AutoGPTQ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qprof.runtimes.base import Calibration, Made
from qprof.runtimes.torch_lm.autogptq import library
from qprof.runtimes.torch_lm.checkpoint import inspect
from qprof.runtimes.torch_lm.methods.base import FILE, Method, Source, folder_of, made
from qprof.runtimes.torch_lm.sections import AUTOGPTQ, AutoGPTQCheckpointVariant


class AutoGPTQFileMethod(Method[AutoGPTQCheckpointVariant]):
    """A GPTQ checkpoint with library = "autogptq"."""

    section = AutoGPTQCheckpointVariant

    def claims(self, method: str, keys: Mapping[str, Any]) -> bool:
        return method == FILE and keys.get("library") == AUTOGPTQ

    def make(self, source: Source, section: AutoGPTQCheckpointVariant, calibration: Calibration) -> Made:
        checkpoint = inspect(folder_of(section.file))
        if checkpoint.quantization is None:
            return made(checkpoint, checkpoint.sha256(), FILE, {}, dtype=section.dtype or checkpoint.dtype)
        library.require()
        dtype = library.choose_dtype(section.dtype, source.device)
        return made(checkpoint, checkpoint.sha256(), FILE, {"library": AUTOGPTQ}, dtype=dtype, by=AUTOGPTQ)


METHOD = AutoGPTQFileMethod()
