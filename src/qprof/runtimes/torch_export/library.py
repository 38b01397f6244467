"""Importing torch and torchao without what their imports say or change."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import logging
import os
import warnings
from collections.abc import Iterator, Sequence

from qprof.errors import MissingExtraError
from qprof.runtimes.tool_output import tool_output_to_log
from qprof.store.cache import cache_root

#: Distributions whose versions shape what is made and how it runs.
PACKAGES: Sequence[str] = ("torch", "torchao", "transformers", "safetensors")


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """The installed ones of these distributions."""
    found = {}
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def require(packages: Sequence[str] = ("torch",)) -> None:
    """Raise `MissingExtraError` where a package is not installed."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(f"exported networks need {', '.join(missing)}: pip install 'qprof[torch]'")


def import_torch() -> None:
    """torch with its compiler's cache inside qprof's, so that a variant is compiled once for all of its workers."""
    require()
    os.environ.setdefault("TORCHAO_FORCE_SKIP_LOADING_SO_FILES", "1")  # of CUDA, which it logs to be absent
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_root() / "inductor"))
    with quiet():
        import torch._inductor
        import torch.ao.quantization.fx._decomposed  # registers the ops of quantized graphs
        import torch.export  # noqa: F401


def import_compiler() -> None:
    """What inductor imports when it first compiles, so that a variant's memory is counted above it."""
    with quiet():
        import torch._inductor.compile_fx
        import torch._inductor.fx_passes.joint_graph
        import torch.export.pt2_archive._package  # noqa: F401


def import_pt2e() -> None:
    """torchao's quantization of exported programs."""
    require(("torch", "torchao"))
    import_torch()
    with quiet():
        import torchao.quantization.pt2e.quantize_pt2e
        import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer  # noqa: F401


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Let torch write its remarks into the log, and warn of nothing."""
    loggers = [
        logging.getLogger(name) for name in ("torch", "torchao", "torch.export", "torch._export", "transformers")
    ]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), tool_output_to_log():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
