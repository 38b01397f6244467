"""GPTQ of a checkpoint by gptqmodel (Frantar et al., "GPTQ", arXiv 2210.17323), each width a run of its own."""

from __future__ import annotations

import contextlib
import gc
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.runtimes.base import Calibration, Made
from qprof.runtimes.recipe import Recipe
from qprof.runtimes.tool_output import tool_output_to_log
from qprof.runtimes.torch_lm import library
from qprof.runtimes.torch_lm.build_bound import built_within
from qprof.runtimes.torch_lm.checkpoint import CONFIG, QUANTIZE_CONFIG, Checkpoint, inspect
from qprof.runtimes.torch_lm.gptq import (
    BITS,
    Settings,
    check,
    failures_named,
    quantized_linears,
    settings_of,
    torch_threads,
    worth_threads,
)
from qprof.runtimes.torch_lm.gptq import METHOD as GPTQ_METHOD
from qprof.runtimes.torch_lm.kernels import kernel_for
from qprof.runtimes.torch_lm.methods.base import Method, Source, keys_say, made
from qprof.runtimes.torch_lm.sections import GPTQMODEL, GPTQVariant
from qprof.runtimes.torch_lm.text_config import text_alone

#: Tokens per forward pass while calibrating: enough to fill a core, little beside a model's weights.
_BATCH_TOKENS = 4096

#: Above this size, layers go through files so that the model need not fit in memory twice.
_OFFLOAD_BYTES = 2 << 30


#: (the package gptqmodel, source, settings, device) -> its settings.
Configure = Callable[[Any, Checkpoint, Settings, str], Any]


def quantize(
    source: Checkpoint,
    destination: Path,
    settings: Settings,
    rows: Sequence[NDArray[np.int64]],
    *,
    threads: int | None = None,
    device: str = "cpu",
    configure: Configure | None = None,
    process: str = "gptq",
    batch_rows: int | None = None,
    backend: str = "AUTO",
) -> dict[str, Any]:
    """Write a GPTQ checkpoint of `source`, tokenizer included, into the new folder `destination`.

    `rows`: calibration tokens, int64[tokens] each; rows of one length are run many at a time. `threads`: of torch,
    `None` for as many as the model is worth. Methods beside GPTQ: `configure` makes gptqmodel's settings, `process` is
    what it calls the pass whose losses are kept ("": none), `batch_rows` limits the rows at a time, `backend` packs.
    Returns facts: seconds, calibration_tokens, losses (module -> the error
    that GPTQ left, as gptqmodel gives it, `None` where it fell back to rounding).

    Raises:
        ModelError: the settings do not fit the model, or gptqmodel failed. MissingExtraError: it is not installed.
    """
    check(source, settings)
    started = time.perf_counter()
    with (
        failures_named(source, settings),
        tool_output_to_log(),
        torch_threads(threads or worth_threads(source)),
        _no_progress_bars(),
    ):
        gptqmodel = library.import_gptqmodel()
        with built_within(source.path):
            model = gptqmodel.GPTQModel.load(
                str(text_alone(source)),
                (configure or _quantize_config)(gptqmodel, source, settings, device),
                dtype=_storage_dtype(source),
            )
        found = model.quantize(
            _batches(rows) if rows else None,
            batch_size=batch_rows or _batch_size(rows),
            backend=gptqmodel.BACKEND[backend],
            calibration_data_min_length=1,
        )
        model.save(str(destination))
    del model
    gc.collect()  # its parts refer to one another, and the next width needs the room
    _strip_volatile(destination)
    return {
        "seconds": time.perf_counter() - started,
        "losses": _losses(found, list(inspect(destination).linears), process),
        "calibration_tokens": sum(len(row) for row in rows),
    }


def is_act_group_aware(settings: Settings) -> bool:
    """Whether gptqmodel takes columns within each group in the order of their activations: it needs groups."""
    return not settings.desc_act and settings.group_size > 0


def _quantize_config(gptqmodel: Any, source: Checkpoint, settings: Settings, device: str) -> Any:
    return gptqmodel.QuantizeConfig(
        desc_act=settings.desc_act,
        act_group_aware=is_act_group_aware(settings),
        sym=settings.sym,
        **common_config(source, settings, device),
    )


def common_config(source: Checkpoint, settings: Settings, device: str) -> dict[str, Any]:
    """What every method's settings have alike."""
    return {
        "bits": settings.bits,
        "group_size": settings.group_size,
        "device": device,
        "dynamic": _dynamic(settings) or None,
        "pack_impl": "original",  # others compile a C++ extension first
        "offload_to_disk": source.weight_bytes > _OFFLOAD_BYTES,
    }


def _dynamic(settings: Settings) -> dict[str, dict[str, Any]]:
    """Settings of single layers: "-:" leaves out what the expression matches from its beginning."""
    return {rf"-:{re.escape(name)}\Z": {} for name in settings.skip_layers}


def _storage_dtype(source: Checkpoint) -> Any:
    """What is not quantized is stored, and scales too, in 16 bits: in the source's own where it has such."""
    import torch

    return torch.float16 if source.dtype == "float16" else torch.bfloat16


def _batches(rows: Sequence[NDArray[np.int64]]) -> list[dict[str, Any]]:
    import torch

    ids = [torch.from_numpy(np.ascontiguousarray(row))[None] for row in rows]
    return [{"input_ids": row, "attention_mask": torch.ones_like(row)} for row in ids]


def _batch_size(rows: Sequence[NDArray[np.int64]]) -> int:
    """Rows of different lengths would have to be padded, and padding is no calibration data."""
    lengths = {len(row) for row in rows}
    return max(1, _BATCH_TOKENS // lengths.pop()) if len(lengths) == 1 else 1


def _losses(found: Any, names: Sequence[str], process: str) -> dict[str, float | None]:
    """`names`: of the linears as they were written, which are not always the source's: fused ones are taken apart."""
    rows = found.get(process, []) if isinstance(found, Mapping) else []
    losses: dict[str, float | None] = {}
    for row in rows:
        tail = f".{row['layer']}.{row['module']}"
        name = next((name for name in names if name.endswith(tail)), tail[1:])
        try:
            losses[name] = float(row["loss"])
        except ValueError:
            losses[name] = None
    place = {name: position for position, name in enumerate(names)}
    return {name: losses[name] for name in sorted(losses, key=lambda name: place.get(name, len(names)))}


def _strip_volatile(folder: Path) -> None:
    """Take out what differs between two runs with the same result: the path of a temporary folder."""
    for name in (CONFIG, QUANTIZE_CONFIG):
        path = folder / name
        content = json.loads(path.read_text(encoding="utf-8"))
        settings = content.get("quantization_config", content)
        settings.get("meta", {}).pop("offload_to_disk_path", None)
        path.write_text(json.dumps(content, indent=2, sort_keys=True), encoding="utf-8")


@contextlib.contextmanager
def _no_progress_bars() -> Iterator[None]:
    from transformers.utils import logging

    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()


class GPTQModelMethod(Method[GPTQVariant]):
    """gptq-<bits>bit[-g<group size>]."""

    section = GPTQVariant
    spelled = ("gptq-<bits>bit[-g<group size>]",)
    calibrated = True
    widths = BITS

    def claims(self, method: str, keys: Mapping[str, Any]) -> bool:
        return GPTQ_METHOD.match(method) is not None and keys_say(keys, "library", GPTQMODEL)

    def make(self, source: Source, section: GPTQVariant, calibration: Calibration) -> Made:
        settings, notes = settings_of(section, source.checkpoint)
        checkpoint = source.checkpoint()
        check(checkpoint, settings)
        linears = quantized_linears(checkpoint, settings)
        # Refused before minutes are spent on it.
        dtype, kernel = kernel_for(
            settings, linears, device=source.device, dtype=section.dtype, requested=section.kernel
        )
        library.require()
        versions = library.versions()
        entry = source.cached(
            {"settings": asdict(settings), "calibration": calibration.digest, "versions": versions},
            lambda folder: quantize(checkpoint, folder, settings, source.rows(calibration), device=source.device),
        )
        facts = {"library": GPTQMODEL, "act_group_aware": is_act_group_aware(settings), **entry.facts}
        return made(
            *(entry.checkpoint, entry.sha256, section.method or section.name, facts),
            tool=(GPTQMODEL, versions.get(GPTQMODEL)),
            dtype=dtype,
            kernel=kernel.name,
            notes=notes,
        )

    def recipe(self, source: Source, section: GPTQVariant) -> Recipe:
        settings, _ = settings_of(section, source.checkpoint)
        content = {
            "bits": settings.bits,
            "group_size": settings.group_size,
            "desc_act": settings.desc_act,
            "act_group_aware": is_act_group_aware(settings),
            "sym": settings.sym,
            "dynamic": _dynamic(settings),
        }
        return Recipe(GPTQMODEL, content, "gptqmodel.QuantizeConfig(**the content of this file)")


METHOD = GPTQModelMethod()
