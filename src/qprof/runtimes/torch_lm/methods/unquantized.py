"""A checkpoint saved in another float type, tensor by tensor: its files are then as large as that type makes them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qprof.errors import ModelError
from qprof.runtimes.base import Calibration, Made
from qprof.runtimes.torch_lm import library, safetensors_header
from qprof.runtimes.torch_lm.checkpoint import CONFIG, Checkpoint
from qprof.runtimes.torch_lm.load import DTYPES
from qprof.runtimes.torch_lm.methods.base import Method, Source, made, refuse_quantized
from qprof.runtimes.torch_lm.sections import UnquantizedVariant


def convert(source: Checkpoint, destination: Path, dtype: str) -> None:
    """Write `source` with its float tensors in `dtype` into the new folder `destination`, one weight file at a time.

    Raises:
        ModelError: a file cannot be read, or a value does not fit into `dtype`.
    """
    import torch

    wanted = getattr(torch, dtype)
    destination.mkdir()
    for file in source.content_files():
        if file in source.weight_files:
            _convert_file(file, destination / file.name, wanted)
        elif file.name == CONFIG:
            _write_config(file, destination / CONFIG, dtype)
        else:
            shutil.copyfile(file, destination / file.name)
    _correct_total(destination)


def _convert_file(source: Path, destination: Path, dtype: Any) -> None:
    from safetensors.torch import save_file

    tensors = {}
    with safetensors_header.opened(source, "pt") as stored:
        for name in stored.keys():  # noqa: SIM118 (no mapping)
            tensors[name] = _cast(source, name, stored.get_tensor(name), dtype)
    save_file(tensors, str(destination), metadata={"format": "pt"})


def _cast(source: Path, name: str, tensor: Any, dtype: Any) -> Any:
    if not tensor.is_floating_point():
        return tensor
    cast = tensor.to(dtype)
    if not bool(cast.isfinite().all()) and bool(tensor.isfinite().all()):
        largest = float(tensor.abs().max())
        raise ModelError(
            f"{source}: {name} holds {largest:g}, beyond what {str(dtype).removeprefix('torch.')} can hold; make the "
            "variant in bfloat16"
        )
    return cast


def _write_config(source: Path, destination: Path, dtype: str) -> None:
    config = json.loads(source.read_text(encoding="utf-8"))
    config.pop("torch_dtype", None)  # the older name of the same key
    config["dtype"] = dtype
    destination.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")


def _correct_total(folder: Path) -> None:
    for index in folder.glob("*.safetensors.index.json"):
        content = json.loads(index.read_text(encoding="utf-8"))
        total = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        content.setdefault("metadata", {})["total_size"] = total
        index.write_text(json.dumps(content, indent=2, sort_keys=True), encoding="utf-8")


class UnquantizedMethod(Method[UnquantizedVariant]):
    """The model as it is, or with its numbers in another float type."""

    section = UnquantizedVariant
    spelled = DTYPES

    def claims(self, method: str, keys: Mapping[str, Any]) -> bool:
        return method in DTYPES

    def make(self, source: Source, section: UnquantizedVariant, calibration: Calibration) -> Made:
        checkpoint = source.checkpoint()
        refuse_quantized(checkpoint)
        dtype = section.method or section.name
        if section.dtype not in ("", dtype):
            raise ModelError(f"variant {section.name}: method {dtype} and dtype {section.dtype} disagree")
        if checkpoint.dtype == dtype:
            return made(checkpoint, source.sha256, dtype, {}, dtype=dtype)
        library.require(("torch", "safetensors"))
        entry = source.cached(
            {"method": dtype, "versions": library.versions(("torch", "safetensors"))},
            lambda folder: convert(checkpoint, folder, dtype),
        )
        return made(entry.checkpoint, entry.sha256, dtype, entry.facts, dtype=dtype)


METHOD = UnquantizedMethod()
