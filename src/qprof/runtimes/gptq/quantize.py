"""GPTQ of a checkpoint by gptqmodel (Frantar et al., "GPTQ", arXiv 2210.17323), each width a run of its own."""

from __future__ import annotations

import contextlib
import difflib
import gc
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError, ModelError, QprofError
from qprof.probes.machine import available_cores
from qprof.runtimes.gptq import library
from qprof.runtimes.gptq.checkpoint import CONFIG, QUANTIZE_CONFIG, Checkpoint
from qprof.runtimes.gptq.kernels import DEFAULT, KERNELS
from qprof.runtimes.tool_output import first_line, tool_output_to_log

BITS = (2, 3, 4, 8)

#: Tokens per forward pass while calibrating: enough to fill a core, little beside a model's weights.
_BATCH_TOKENS = 4096

#: Weights of a layer up to which one thread quantizes faster than two: with 192 x 512 the two took four times as long,
#: and as much processor time, on cores that were in use.
_SMALL_LAYER = 1 << 18

#: Above this size, layers go through files so that the model need not fit in memory twice.
_OFFLOAD_BYTES = 2 << 30


@dataclass(frozen=True, slots=True)
class Settings:
    """What shapes a quantized checkpoint beside its source and samples. `group_size` -1: one group per row.
    `skip_layers`: linear layers that stay as they are, by name."""

    bits: int
    group_size: int = 64
    desc_act: bool = False
    sym: bool = True
    skip_layers: tuple[str, ...] = ()


def check(source: Checkpoint, settings: Settings) -> None:
    """Raise `ModelError` where the source cannot be quantized so."""
    if source.quantization is not None:
        raise ModelError(
            f"{source.path}: already quantized ({source.quantization.bits} bits); name the unquantized original, or "
            "run it as it is with file ="
        )
    if settings.bits not in BITS:
        raise ModelError(f"GPTQ with {settings.bits} bits: bits may be {', '.join(map(str, BITS))}")
    if not source.linears:
        raise ModelError(f"{source.path}: no linear layers were found to quantize in {source.architecture}")
    linears = quantized_linears(source, settings)
    _refuse_unpackable(source, settings)
    sizes = [size for size in KERNELS[DEFAULT].group_sizes if size > 0]
    for name, (in_features, _) in linears.items():
        if settings.group_size != -1 and (settings.group_size not in sizes or in_features % settings.group_size):
            fits = [size for size in sizes if all(wide % size == 0 for wide, _ in linears.values())]
            nearest = sorted(fits, key=lambda size: abs(size - settings.group_size))[:2]
            raise ModelError(
                f"{source.path}: group_size {settings.group_size} does not divide the {in_features} in_features of "
                f"{name}; choose {' or '.join(map(str, [*sorted(nearest), -1]))} (-1: one group per row)"
            )


def quantized_linears(source: Checkpoint, settings: Settings) -> dict[str, tuple[int, int]]:
    """The linear layers that are to be quantized: name -> (in_features, out_features).

    Raises `ModelError` where a layer to skip is none of the model's, or where none is left.
    """
    for name in settings.skip_layers:
        if name not in source.linears:
            close = difflib.get_close_matches(name, source.linears, n=1)
            raise ModelError(
                f"{source.path}: skip_layers names {name!r}, which is no linear layer of it; "
                + (f"did you mean {close[0]!r}?" if close else f"they are called like {next(iter(source.linears))!r}")
            )
    left = {name: features for name, features in source.linears.items() if name not in settings.skip_layers}
    if not left:
        raise ModelError(f"{source.path}: skip_layers names all {len(source.linears)} linear layers; leave one to GPTQ")
    return left


def _refuse_unpackable(source: Checkpoint, settings: Settings) -> None:
    """Three bits do not divide a word of 32: they are packed 32 at a time, rows and columns."""
    for name, features in quantized_linears(source, settings).items():
        if settings.bits == 3 and any(count % 32 for count in features):
            raise ModelError(
                f"{source.path}: 3 bits are packed 32 at a time, and {name} has {features[0]} inputs and {features[1]} "
                "outputs; choose 2, 4 or 8 bits"
            )


def token_rows(samples: Sequence[Sequence[NDArray[Any]]]) -> list[NDArray[np.int64]]:
    """Calibration samples, each [input_ids int64[1, tokens]], as rows of tokens.

    Raises:
        DataError: there are none, or one is empty or of another shape.
    """
    rows = [np.atleast_2d(np.asarray(sample[0])) for sample in samples]
    if not rows:
        raise DataError("GPTQ needs calibration samples, and the data set gives none; raise calibration_samples")
    for row in rows:
        if row.ndim != 2 or row.shape[0] != 1 or row.shape[1] < 1 or row.dtype.kind not in "iu":
            raise DataError(f"a calibration sample is {row.dtype}{list(row.shape)}; each must be int64[1, tokens]")
    return [row.astype(np.int64)[0] for row in rows]


def quantize(
    source: Checkpoint,
    destination: Path,
    settings: Settings,
    rows: Sequence[NDArray[np.int64]],
    *,
    threads: int | None = None,
    device: str = "cpu",
) -> dict[str, Any]:
    """Write a GPTQ checkpoint of `source`, tokenizer included, into the new folder `destination`.

    `rows`: calibration tokens, int64[tokens] each; rows of one length are run many at a time. `threads`: of torch,
    `None` for as many as the model is worth. Returns facts: seconds, calibration_tokens, losses (module -> the error
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
        model = gptqmodel.GPTQModel.load(
            str(source.path), _quantize_config(gptqmodel, source, settings, device), dtype=_storage_dtype(source)
        )
        found = model.quantize(_batches(rows), batch_size=_batch_size(rows), calibration_data_min_length=1)
        model.save(str(destination))
    del model
    gc.collect()  # its parts refer to one another, and the next width needs the room
    _strip_volatile(destination)
    return {
        "seconds": time.perf_counter() - started,
        "losses": _losses(found, source),
        "calibration_tokens": sum(len(row) for row in rows),
    }


def is_act_group_aware(settings: Settings) -> bool:
    """Whether gptqmodel takes columns within each group in the order of their activations: it needs groups."""
    return not settings.desc_act and settings.group_size > 0


def _quantize_config(gptqmodel: Any, source: Checkpoint, settings: Settings, device: str) -> Any:
    return gptqmodel.QuantizeConfig(
        bits=settings.bits,
        group_size=settings.group_size,
        desc_act=settings.desc_act,
        act_group_aware=is_act_group_aware(settings),
        sym=settings.sym,
        device=device,
        # "-:" leaves out what the expression matches from its beginning.
        dynamic={rf"-:{re.escape(name)}\Z": {} for name in settings.skip_layers} or None,
        pack_impl="original",  # others compile a C++ extension first
        offload_to_disk=source.weight_bytes > _OFFLOAD_BYTES,
    )


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


def _losses(found: Any, source: Checkpoint) -> dict[str, float | None]:
    rows = found.get("gptq", []) if isinstance(found, Mapping) else []
    losses: dict[str, float | None] = {}
    for row in rows:
        tail = f".{row['layer']}.{row['module']}"
        name = next(name for name in source.linears if name.endswith(tail))
        try:
            losses[name] = float(row["loss"])
        except ValueError:
            losses[name] = None
    return {name: losses[name] for name in sorted(losses, key=list(source.linears).index)}


def _strip_volatile(folder: Path) -> None:
    """Take out what differs between two runs with the same result: the path of a temporary folder."""
    for name in (CONFIG, QUANTIZE_CONFIG):
        path = folder / name
        content = json.loads(path.read_text(encoding="utf-8"))
        settings = content.get("quantization_config", content)
        settings.get("meta", {}).pop("offload_to_disk_path", None)
        path.write_text(json.dumps(content, indent=2, sort_keys=True), encoding="utf-8")


@contextlib.contextmanager
def failures_named(source: Checkpoint, settings: Settings) -> Iterator[None]:
    """Turn what the quantizer raises into a `ModelError` that says which variant it was."""
    what = f"{source.path}: quantizing to {settings.bits} bits, group size {settings.group_size}"
    try:
        yield
    except QprofError:
        raise
    except Exception as error:  # whatever a quantizer of 100,000 lines comes up with, other variants go on
        if is_out_of_memory(error):
            raise ModelError(f"{what}: out of memory; free memory or quantize on a larger machine") from error
        raise ModelError(f"{what} failed: {first_line(error)}; other variants go on") from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch ran out of memory; on a CPU it says so in a `RuntimeError` like any other."""
    text = str(error).lower()
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "out of memory" in text
        or "can't allocate memory" in text
    )


def worth_threads(source: Checkpoint) -> int:
    """All cores, or one where every layer is small: handing out its work would then take longer than doing it."""
    largest = max((rows * columns for rows, columns in source.linears.values()), default=0)
    return available_cores() if largest > _SMALL_LAYER else 1


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """While inside, torch computes on that many threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
