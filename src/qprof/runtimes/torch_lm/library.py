"""Importing gptqmodel without what its import does to the process around it.

Seen with gptqmodel 7.6.0: its import sets environment variables (CUDA_DEVICE_ORDER renumbers devices,
PYTORCH_ALLOC_CONF changes the CUDA allocator, HF_HOME and three more redirect the Hugging Face caches to /tmp), gives
the root logger a handler on stderr at level INFO, adds warning filters, prints a banner, and starts a thread that wakes
ten times a second to redraw progress bars. All of these are undone or silenced here. What stays: three threads that
sleep, a lock around safetensors' `save_file`, and GPTQ classes of transformers made to take more.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.metadata
import importlib.util
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from qprof.errors import MissingExtraError

_log = logging.getLogger(__name__)

#: Distributions whose versions shape what is made and how it runs.
PACKAGES: Sequence[str] = ("torch", "transformers", "gptqmodel", "tokenizers", "safetensors", "numpy")

#: 31 years: within what a thread can be told to sleep.
_FOREVER_S = 1e9

#: From gptqmodel's log levels to ours.
_LEVELS = {logging.WARNING: logging.INFO, logging.ERROR: logging.WARNING, logging.CRITICAL: logging.WARNING}

_NEEDED = ("torch", "transformers", "safetensors", "gptqmodel")


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """The installed ones of these distributions."""
    found = {}
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def require(packages: Sequence[str] = _NEEDED) -> None:
    """Raise `MissingExtraError` where a package is not installed."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(f"language models need {', '.join(missing)}: pip install 'qprof[gptq]'")


def import_gptqmodel() -> Any:
    """The package gptqmodel, imported so that it changes nothing that a measurement could see.

    Its log lines go to this module's logger. Its dequantization is not compiled (TORCHDYNAMO_DISABLE=1) unless the
    environment says otherwise: compiling takes long on a CPU and hides the ops inside. Raises `MissingExtraError`.
    """
    require()
    # One worker per core at most is gptqmodel's own default; with one it fails where it asks for two. It looks when it
    # first quantizes, whoever imported it, and long after that.
    os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")
    if "gptqmodel" not in sys.modules:
        _import_unnoticed()
        # What it defines stays. Collections pass over it from now on: behind each width that is made one took 0.3 s.
        gc.collect()
        gc.freeze()
    import gptqmodel
    from gptqmodel.looper import loop_processor
    from gptqmodel.utils import logger, threadx

    _tame_logbar()
    logger._suppress_live_renderables = lambda: True
    threadx._DeviceWorker._abort_process = _log_failure
    # Of every quantization it writes a log into ./logs; what is in there, it returns as well.
    loop_processor.LoopProcessor._build_log_file_path = staticmethod(lambda name, time: Path(os.devnull))
    return gptqmodel


def _import_unnoticed() -> None:
    if os.environ.setdefault("TORCHDYNAMO_DISABLE", "1") == "1":
        import torch._dynamo

        torch._dynamo.config.disable = True  # the variable is only read by torch's own import
    import huggingface_hub.constants  # reads HF_HOME before gptqmodel's import redirects it
    import transformers  # noqa: F401

    with _nothing_changed(huggingface_hub.constants.HF_HOME):
        _tame_logbar()
        import gptqmodel  # noqa: F401


def _log_failure(worker: Any, error: BaseException) -> None:
    """In the place of gptqmodel's `os._exit(1)` where a task fails: who waits for the task is given its error too."""
    _log.info("%s: %s: %s", worker.name, type(error).__name__, error)


@contextlib.contextmanager
def _nothing_changed(hf_home: str) -> Iterator[None]:
    """Put the environment, the root logger and the warning filters back to what they were."""
    root = logging.getLogger()
    environment, level, handlers = dict(os.environ), root.level, list(root.handlers)
    os.environ.setdefault("HF_HOME", hf_home)
    # With a handler in place, `logging.basicConfig` in a library does nothing.
    root.addHandler(logging.NullHandler())
    try:
        with warnings.catch_warnings():
            yield
    finally:
        for name in set(os.environ) - set(environment):
            del os.environ[name]
        os.environ.update(environment)
        root.setLevel(level)
        for handler in set(root.handlers) - set(handlers):
            root.removeHandler(handler)


def _tame_logbar() -> None:
    """Make LogBar, which gptqmodel logs and draws with, an ordinary logger that draws nothing."""
    # It starts a thread per stream that it writes to, which ends when the stream is gone.
    with contextlib.redirect_stdout(io.StringIO()):
        from logbar import logbar

    def process(self: Any, level: Any, message: Any, *arguments: Any, **keywords: Any) -> None:
        # Its "warn" is about its own settings, and its "info" a line per layer, kernel and setting.
        wanted = _LEVELS.get(self._normalize_level(level), logging.DEBUG)
        if _log.isEnabledFor(wanted):
            for line in str(self._format_message(message, arguments)).splitlines():
                if line.strip():
                    _log.log(wanted, "%s", line.rstrip())

    logbar.LogBar._process = process
    # The thread that redraws has no way out, but it looks up here how long to sleep next.
    logbar._REFRESH_INTERVAL_SECONDS = _FOREVER_S
    logbar._print = lambda *arguments, **keywords: None


@contextlib.contextmanager
def loading_without_disk() -> Iterator[None]:
    """While inside, the weights that gptqmodel loads stay in memory.

    It has accelerate write each into a file of its own and read it again, to have room for a second model: four fifths
    of the time that a small one takes is waiting for the disk.
    """
    import accelerate

    load = accelerate.load_checkpoint_in_model

    def without_disk(model: Any, *arguments: Any, **keywords: Any) -> Any:
        found = load(model, *arguments, **{**keywords, "offload_state_dict": False})
        # What was read lies in the pages of the file, at any address: let it be memory like that of other models.
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.data = tensor.data.clone()
        return found

    accelerate.load_checkpoint_in_model = without_disk
    try:
        yield
    finally:
        accelerate.load_checkpoint_in_model = load
