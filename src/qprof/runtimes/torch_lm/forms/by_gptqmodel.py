"""Loading what gptqmodel loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qprof.runtimes.torch_lm import library
from qprof.runtimes.torch_lm.architecture import attention_for


def load(path: Path, *, device: str, dtype: str, backend: str) -> Any:
    """The module of a checkpoint's folder, by one of gptqmodel's backends."""
    import torch

    gptqmodel = library.import_gptqmodel()
    return gptqmodel.GPTQModel.load(
        str(path),
        device=device if ":" in device or device == "cpu" else f"{device}:0",
        backend=gptqmodel.BACKEND[backend],
        dtype=getattr(torch, dtype),
        attn_implementation=attention_for(path),
        local_files_only=True,
    ).model
