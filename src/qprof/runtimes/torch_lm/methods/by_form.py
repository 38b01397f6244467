"""What the methods share that quantize by rounding alone, each by a library with a form of its own (see `..forms`)."""

from __future__ import annotations

import contextlib
import difflib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from qprof.errors import ModelError, QprofError
from qprof.runtimes.base import Made
from qprof.runtimes.tool_output import first_line, tool_output_to_log
from qprof.runtimes.torch_lm import library
from qprof.runtimes.torch_lm.build_bound import built_within
from qprof.runtimes.torch_lm.checkpoint import Checkpoint
from qprof.runtimes.torch_lm.forms.base import Form
from qprof.runtimes.torch_lm.forms.stored import copy_tokenizer
from qprof.runtimes.torch_lm.gptq import DEFAULT_GROUP_SIZES, default_group_size, torch_threads, worth_threads
from qprof.runtimes.torch_lm.kernels import DEQUANTIZED, default_dtype
from qprof.runtimes.torch_lm.load import is_out_of_memory
from qprof.runtimes.torch_lm.methods.base import Source, made, refuse_quantized

_NAMED = 3


def linears_to_quantize(source: Checkpoint, skip_layers: Sequence[str]) -> dict[str, tuple[int, int]]:
    """The linears of the decoder that are not to be skipped: name -> (in_features, out_features).

    Raises `ModelError` where the source is quantized, where a layer to skip is none of its, or where none is left.
    """
    refuse_quantized(source)
    for name in skip_layers:
        if name not in source.linears:
            nearest = difflib.get_close_matches(name, source.linears, n=1, cutoff=0.0)
            hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
            raise ModelError(f"{source.path}: skip_layers names {name!r}, which is no linear layer of it{hint}")
    left = {name: features for name, features in source.linears.items() if name not in skip_layers}
    if not left:
        raise ModelError(f"{source.path}: has no linear layer left to quantize; name fewer in skip_layers")
    return left


def refuse_undivided(
    source: Checkpoint, linears: Mapping[str, tuple[int, int]], size: int, sizes: Sequence[int]
) -> None:
    """Raise `ModelError` where a group size is none of `sizes` (-1: one group per row), or divides not all linears."""
    if size == -1 and -1 in sizes:
        return
    for name, (into, _) in linears.items():
        if size not in sizes or size <= 0 or into % size:
            fits = [other for other in sizes if other > 0 and all(wide % other == 0 for wide, _ in linears.values())]
            nearest = sorted(sorted(fits, key=lambda other: abs(math.log(other / max(size, 1))))[:2])
            choice = [*map(str, nearest), *(["-1 (one group per row)"] if -1 in sizes else [])]
            raise ModelError(
                f"{source.path}: group_size {size} does not fit the {into} in_features of {name}; "
                + (f"choose {' or '.join(choice)}" if choice else "no group size fits; choose another method")
            )


def left_in_float(names: Sequence[str], why: str) -> list[str]:
    """The note on layers that a method must leave as they are; none where there are none."""
    if not names:
        return []
    listed = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    return [f"left in float: {listed} ({why})"]


def agreed(variant: str, key: str, stated: int | None, named: int | None, default: int) -> int:
    """What a method's name and a key say together. Raises `ModelError` where they disagree."""
    if stated is not None and named is not None and stated != named:
        raise ModelError(f"variant {variant}: its method says {named} and its key {key} says {stated}")
    return next((value for value in (stated, named) if value is not None), default)


def group_size(
    section: Any, named: int | None, source: Checkpoint, sizes: Sequence[int] = DEFAULT_GROUP_SIZES
) -> tuple[int, list[str]]:
    """What a method's name and the section's key say, or the default for this model among the `sizes` of the method,
    with a note where that is not the usual one. Raises `ModelError` where name and key disagree."""
    if named is None and section.group_size is None:
        return default_group_size(source, sizes)
    return agreed(section.name, "group_size", section.group_size, named, 0), []


def storage_dtype(source: Checkpoint) -> str:
    """What is not quantized is stored in 16 bits: in the source's own where it has such."""
    return "float16" if source.dtype == "float16" else "bfloat16"


def made_by(
    form: Form,
    source: Source,
    shape: Mapping[str, Any],
    write: Callable[[Path], Mapping[str, Any] | None],
    *,
    method: str,
    section: Any,
    facts: Mapping[str, Any],
    notes: Sequence[str] = (),
    kernel: str | None = None,
) -> Made:
    """The variant that `write` makes in a folder, or the cache has; `shape`: all that it depends on beside the source;
    `write` may tell facts. `kernel`: the section's, unless it is chosen already.

    Raises:
        ModelError: the library failed, or has no such kernel. MissingExtraError: it is not installed.
    """
    kernel = str(section.kernel) if kernel is None else kernel
    if kernel not in ("", DEQUANTIZED, *form.kernels):
        raise ModelError(
            f"variant {section.name}: {form.title} has no kernel {kernel!r}; it has "
            f"{', '.join([*form.kernels, DEQUANTIZED])}, or leave it out"
        )
    form.require()
    checkpoint = source.checkpoint()
    versions = library.versions(["torch", "transformers", "safetensors", *form.packages])

    def fill(folder: Path) -> Mapping[str, Any]:
        started = time.perf_counter()
        with failures_named(checkpoint, method), tool_output_to_log(), torch_threads(worth_threads(checkpoint)):
            form.preload()
            told = dict(write(folder) or {})
        unquantized = [file for file in checkpoint.content_files() if file not in checkpoint.weight_files]
        copy_tokenizer(unquantized, folder)
        return {"seconds": time.perf_counter() - started, **told}

    entry = source.cached({"by": form.library, "versions": versions, **shape}, fill)
    return made(
        *(entry.checkpoint, entry.sha256, method),
        {**facts, **entry.facts, "library": form.library},
        tool=(form.packages[0], versions.get(form.packages[0])),
        dtype=section.dtype or default_dtype(source.device),
        kernel=kernel,
        by=form.library,
        notes=notes,
    )


@contextlib.contextmanager
def failures_named(source: Checkpoint, method: str) -> Iterator[None]:
    """Turn what a quantizer raises into a `ModelError` that says which variant it was."""
    try:
        yield
    except QprofError:
        raise
    except Exception as error:  # whatever a quantizer comes up with, other variants go on
        if is_out_of_memory(error):
            raise ModelError(f"{source.path}: {method}: out of memory; quantize on a larger machine") from error
        raise ModelError(f"{source.path}: {method} failed: {first_line(error)}; other variants go on") from error


def float_model(source: Checkpoint, dtype: str, device: str = "cpu", **more: Any) -> Any:
    """The source as torch module, in that type; `more`: of `from_pretrained`."""
    import torch
    from transformers import AutoModelForCausalLM

    with built_within(source.path):
        return AutoModelForCausalLM.from_pretrained(
            str(source.path),
            dtype=getattr(torch, dtype),
            device_map={"": device},
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            **more,
        ).eval()


def names_beside(model: Any, quantized: Mapping[str, Any]) -> list[str]:
    """All linears of a model but these, by name, as expressions that match nothing else: what a quantizer that goes by
    the names is to leave out."""
    import re

    import torch

    found = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    return [rf"{re.escape(name)}\Z" for name in found if name not in quantized]
