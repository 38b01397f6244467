"""GPTQ of a checkpoint by AutoGPTQ, in a process of its own: `python -m MODULE REQUEST RESULT`."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import ModelError, QprofError
from qprof.runtimes.base import Calibration, Made
from qprof.runtimes.torch_lm.autogptq import library
from qprof.runtimes.torch_lm.build_bound import built_within
from qprof.runtimes.torch_lm.checkpoint import CONFIG, QUANTIZE_CONFIG, Checkpoint, inspect
from qprof.runtimes.torch_lm.gptq import (
    BITS,
    Settings,
    check,
    failures_named,
    settings_of,
    torch_threads,
    worth_threads,
)
from qprof.runtimes.torch_lm.gptq import METHOD as GPTQ_METHOD
from qprof.runtimes.torch_lm.methods.base import Method, Source, made
from qprof.runtimes.torch_lm.sections import AUTOGPTQ, AutoGPTQVariant
from qprof.store.own import OwnFolder

_SAMPLES = "samples.npz"

#: Rows that go through a layer at a time, where all are of one length.
_BATCH_ROWS = 32

#: What AutoGPTQ logs, "Quantizing self_attn.k_proj in layer 1/5..." and then "avg loss: 0.01".
_QUANTIZING = re.compile(r"^Quantizing (?P<module>\S+) in layer (?P<layer>\d+)/")
_LOSS = re.compile(r"^avg loss: (?P<loss>\S+)")


def quantize_in_process(
    source: Checkpoint, destination: Path, settings: Settings, rows: Sequence[NDArray[np.int64]]
) -> dict[str, Any]:
    """Write a GPTQ checkpoint of `source` by AutoGPTQ into `destination`, tokenizer included.

    `rows`: calibration tokens, int64[tokens] each. Returns facts as the method of gptqmodel does; the losses are
    AutoGPTQ's sums over rows of samples, another scale than gptqmodel's.

    Raises:
        ModelError: AutoGPTQ failed, or its process died.
    """
    with OwnFolder() as folder:
        np.savez(folder / _SAMPLES, *rows)
        request = {
            "source": str(source.path.absolute()),
            "destination": str(destination.absolute()),
            "settings": asdict(settings),
            "samples": str(folder / _SAMPLES),
        }
        (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
        arguments = [str(folder / "request.json"), str(folder / "result.json")]
        done = subprocess.run(
            [sys.executable, "-P", "-m", __name__, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        return _result(folder / "result.json", done, source, settings)


def _result(
    path: Path, done: subprocess.CompletedProcess[str], source: Checkpoint, settings: Settings
) -> dict[str, Any]:
    try:
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        why = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        raise ModelError(
            f"{source.path}: AutoGPTQ quantizing to {settings.bits} bits died with {why}"
            f"{': ' + lines[-1][:200] if lines else ''}; other variants go on"
        ) from None
    if "error" in result:
        raise ModelError(f"AutoGPTQ: {result['error']}")
    return result


def quantize(request: Mapping[str, Any]) -> dict[str, Any]:
    """Do what a request describes, in this process. Raises `QprofError`."""
    source, settings = inspect(Path(request["source"])), Settings(**request["settings"])
    library.check(source, settings.bits, settings.group_size)
    with np.load(request["samples"], allow_pickle=False) as stored:
        rows = [stored[name] for name in stored.files]
    started = time.perf_counter()
    losses = _LossLog(source)
    with failures_named(source, settings), library.torch_init_kept(), torch_threads(worth_threads(source)):
        _run(source, Path(request["destination"]), settings, rows, losses)
    return {
        "seconds": time.perf_counter() - started,
        "losses": losses.found,
        "calibration_tokens": sum(len(row) for row in rows),
    }


def _run(
    source: Checkpoint, destination: Path, settings: Settings, rows: Sequence[NDArray[np.int64]], losses: _LossLog
) -> None:
    auto_gptq = library.import_autogptq()
    import torch
    from auto_gptq.modeling.auto import GPTQ_CAUSAL_LM_MODEL_MAP
    from transformers import AutoModelForCausalLM, AutoTokenizer

    dtype = torch.float16 if source.dtype == "float16" else torch.bfloat16
    where: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    wanted: dict[str, Any] = {"dtype": torch.float32, "use_safetensors": True, **where}
    with built_within(source.path):
        inner = AutoModelForCausalLM.from_pretrained(str(source.path), **wanted)
    inner.config.use_cache = False
    config = auto_gptq.BaseQuantizeConfig(
        bits=settings.bits, group_size=settings.group_size, desc_act=settings.desc_act, sym=settings.sym
    )
    model = GPTQ_CAUSAL_LM_MODEL_MAP[source.model_type](inner.eval(), False, config)
    batch = _BATCH_ROWS if len({len(row) for row in rows}) == 1 else 1
    logger = logging.getLogger("auto_gptq")
    logger.setLevel(logging.INFO)
    logger.addHandler(losses)
    with library.quantizable(model):
        model.quantize(_examples(rows), batch_size=batch, use_triton=False, use_cuda_fp16=False)
    inner.config.use_cache = True
    model.model.to(dtype)
    model.save_quantized(str(destination), use_safetensors=True)
    AutoTokenizer.from_pretrained(str(source.path), **where).save_pretrained(str(destination))
    _strip_volatile(destination)


def _examples(rows: Sequence[NDArray[np.int64]]) -> list[dict[str, Any]]:
    import torch

    ids = [torch.from_numpy(np.ascontiguousarray(row))[None] for row in rows]
    return [{"input_ids": row, "attention_mask": torch.ones_like(row)} for row in ids]


def _strip_volatile(folder: Path) -> None:
    """Take the machine's paths out of the settings, so that the same making gives the same files."""
    for name in (CONFIG, QUANTIZE_CONFIG):
        content = json.loads((folder / name).read_text(encoding="utf-8"))
        for settings in (content, content.get("quantization_config", {})):
            settings.pop("model_name_or_path", None)
            settings.pop("_name_or_path", None)
        (folder / name).write_text(json.dumps(content, indent=2, sort_keys=True), encoding="utf-8")


class _LossLog(logging.Handler):
    """Reads the loss of every layer off AutoGPTQ's log: it keeps them nowhere else."""

    def __init__(self, source: Checkpoint) -> None:
        super().__init__(logging.INFO)
        self.found: dict[str, float | None] = {}
        self._source, self._name = source, ""

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if named := _QUANTIZING.match(text):
            tail = f".{int(named['layer']) - 1}.{named['module']}"
            self._name = next((name for name in self._source.linears if name.endswith(tail)), tail[1:])
        elif self._name and (loss := _LOSS.match(text)):
            self.found[self._name] = float(loss["loss"])


class AutoGPTQMethod(Method[AutoGPTQVariant]):
    """gptq-<bits>bit[-g<group size>] with library = "autogptq": what older write-ups measured, beside its successor."""

    section = AutoGPTQVariant
    spelled = ()
    calibrated = True
    widths = BITS

    def claims(self, method: str, keys: Mapping[str, Any]) -> bool:
        return GPTQ_METHOD.match(method) is not None and keys.get("library") == AUTOGPTQ

    def make(self, source: Source, section: AutoGPTQVariant, calibration: Calibration) -> Made:
        settings, notes = settings_of(section, source.checkpoint)
        checkpoint = source.checkpoint()
        check(checkpoint, settings)
        library.check(checkpoint, settings.bits, settings.group_size)
        versions = library.versions()
        entry = source.cached(
            {"settings": asdict(settings), "calibration": calibration.digest, "versions": versions, "by": AUTOGPTQ},
            lambda folder: quantize_in_process(checkpoint, folder, settings, source.rows(calibration)),
        )
        return made(
            *(entry.checkpoint, entry.sha256, section.method or section.name),
            {"act_group_aware": False, **entry.facts, "library": AUTOGPTQ},
            tool=(AUTOGPTQ, versions.get("auto_gptq")),
            dtype=library.choose_dtype(section.dtype, source.device),
            by=AUTOGPTQ,
            notes=notes,
        )


METHOD = AutoGPTQMethod()


def main(arguments: Sequence[str]) -> int:
    """Read the request file, quantize, write the result file; an error goes into it, too."""
    request, result = (Path(argument) for argument in arguments)
    try:
        answer = quantize(json.loads(request.read_text(encoding="utf-8")))
    except QprofError as error:
        answer = {"error": str(error)}
    result.write_text(json.dumps(answer), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
