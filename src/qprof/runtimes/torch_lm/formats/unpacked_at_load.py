"""Quantized checkpoints that transformers turns into float numbers when it loads them, since on a CPU it has no kernel
for them, or unpacks them before the first inference anyway: their size and scores are real, their speed is float's."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qprof.errors import MissingExtraError, ModelError, QprofError
from qprof.record.stored import StoredFiles, StoredPart
from qprof.runtimes.base import Made
from qprof.runtimes.tool_output import first_line, tool_output_to_log
from qprof.runtimes.torch_lm import foreign, library, safetensors_header
from qprof.runtimes.torch_lm.build_bound import built_within, refuse_endless_counts
from qprof.runtimes.torch_lm.checkpoint import CONFIG, TOKENIZER_FILES, quantization_settings
from qprof.runtimes.torch_lm.formats.base import Format, refuse_kernel
from qprof.runtimes.torch_lm.kernels import default_dtype
from qprof.runtimes.torch_lm.load import (
    DTYPES,
    LoadedModule,
    is_out_of_memory,
    load_tokenizer,
    module_facts,
    refuse_missing_device,
)
from qprof.runtimes.torch_lm.sections import CheckpointVariant
from qprof.runtimes.torch_lm.weight_files import weight_files
from qprof.store.cache import files_sha256


@dataclass(frozen=True, slots=True)
class _Kind:
    """`title`: for sentences; `config`: the class of transformers that takes `dequantize`; `package`, `extra`: what it
    needs beside transformers; `tensors`: endings of what stands for weights -> the numbers, "" for scales and the
    like."""

    title: str
    config: str
    package: str = ""
    extra: str = ""
    tensors: Mapping[str, str] | None = None


_KINDS = {
    "compressed-tensors": _Kind(
        "compressed-tensors",
        "CompressedTensorsConfig",
        "compressed-tensors",
        "compressed-tensors",
        {".weight_packed": "packed", ".weight_scale": "", ".weight_zero_point": "", ".weight_shape": ""},
    ),
    "fp8": _Kind("float8 in blocks", "FineGrainedFP8Config", tensors={".weight_scale_inv": ""}),
    "mxfp4": _Kind("MXFP4", "Mxfp4Config", tensors={"_blocks": "mxfp4", "_scales": ""}),
}


class UnpackedAtLoadFormat(Format):
    """A folder whose settings name one of these methods, in transformers' own layout of it."""

    def has(self, path: Path) -> bool:
        return _kind_of(path) is not None

    def make(self, path: Path, section: CheckpointVariant, device: str) -> Made:
        refuse_kernel(path, section.kernel)
        kind, settings = _read(path)
        _require(kind)
        files, _ = weight_files(path)
        dtype = section.dtype or default_dtype(device)
        note = (
            f"quantized as {kind.title}, which transformers turns into float numbers when it loads it: its size and "
            "its scores are the file's, its speed, memory and energy are a float model's"
        )
        facts = {
            "library": "transformers",
            "format": kind.title,
            "settings": json.loads(json.dumps(settings)),
            "dtype": dtype,
            "kernel": None,
        }
        size = sum(file.stat().st_size for file in files)
        sha256 = files_sha256(path, _content(path))
        return Made(path, sha256, size, method="file", run={"dtype": dtype, "kernel": ""}, facts=facts, notes=[note])

    def load(self, path: Path, device: str, dtype: str, kernel: str) -> LoadedModule:
        refuse_kernel(path, kernel)
        kind, settings = _read(path)
        _require(kind)
        refuse_missing_device(device)
        dtype = dtype or default_dtype(device)
        if dtype not in DTYPES:
            raise ModelError(f"dtype {dtype!r}: models are computed in {', '.join(DTYPES)}")
        started = time.perf_counter()
        module = _load(path, kind, settings, dtype)
        module.to(device).eval().requires_grad_(False)
        facts = {"dtype": dtype, "kernel": None, "load_seconds": time.perf_counter() - started}
        return LoadedModule(module, load_tokenizer(path), dtype, None, facts | module_facts(module, device))

    def stored(self, path: Path) -> StoredFiles:
        kind, _ = _read(path)
        weights, _ = weight_files(path)
        parts, total = list[StoredPart](), 0
        for file in _content(path):
            size = file.stat().st_size
            total += size
            if file not in weights:
                parts.append(StoredPart(name=file.name, kind="file", bytes=size))
                continue
            tensors = safetensors_header.read(file)
            for name, tensor in tensors.items():
                numbers = next((n for end, n in (kind.tensors or {}).items() if name.endswith(end)), tensor.dtype)
                parts.append(
                    StoredPart(
                        name=name,
                        kind="tensor" if numbers else "scales",
                        bytes=tensor.bytes,
                        dtype=numbers or tensor.dtype,
                        elements=tensor.elements,
                        op=name.rpartition(".")[0].rpartition(".")[2],
                        at=name,
                    )
                )
            rest = size - sum(tensor.bytes for tensor in tensors.values())
            parts.append(StoredPart(name=f"header of {file.name}", kind="structure", bytes=rest))
        return StoredFiles(bytes=total, parts=parts)


def _content(path: Path) -> list[Path]:
    files, index = weight_files(path)
    names = (CONFIG, *((index.name,) if index else ()), *TOKENIZER_FILES)
    return [*files, *(path / name for name in names if (path / name).is_file())]


def _kind_of(path: Path) -> _Kind | None:
    """By its settings; `None` for other folders, and for settings that cannot be read."""
    try:
        config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
        settings = quantization_settings(path, config) if isinstance(config, dict) else None
    except (OSError, ValueError, RecursionError, ModelError):
        return None
    if settings is None:
        return None
    method = foreign.method_of(settings)
    if method == "fp8" and str(settings.get("format") or "").startswith("float8"):
        return None  # gptqmodel's, a scale per row
    return _KINDS.get(str(method))


def _read(path: Path) -> tuple[_Kind, dict[str, Any]]:
    kind = _kind_of(path)
    if kind is None:
        raise ModelError(f"{path}: its {CONFIG} is not as it was when the run began; bring it back")
    config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    refuse_endless_counts(path / CONFIG, config)
    return kind, foreign.as_said_now(quantization_settings(path, config) or {})


def _require(kind: _Kind) -> None:
    library.require(("torch", "transformers", "safetensors"))
    if kind.package and kind.package not in library.versions((kind.package,)):
        raise MissingExtraError(f"{kind.title} needs the package {kind.package}: pip install 'qprof[{kind.extra}]'")


def _load(path: Path, kind: _Kind, settings: Mapping[str, Any], dtype: str) -> Any:
    try:
        with tool_output_to_log(), built_within(path):
            import torch
            import transformers

            config = transformers.AutoConfig.from_pretrained(str(path), local_files_only=True, trust_remote_code=False)
            config.quantization_config = dict(settings)
            module, found = transformers.AutoModelForCausalLM.from_pretrained(
                str(path),
                config=config,
                dtype=getattr(torch, dtype),
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                quantization_config=getattr(transformers, kind.config)(dequantize=True),
            )
    except QprofError:
        raise
    except Exception as error:  # from three libraries, for files of whatever make; all of them are told
        if is_out_of_memory(error):
            raise ModelError(f"{path}: out of memory while it was loaded; use a smaller dtype") from error
        raise ModelError(
            f"{path}: quantized as {kind.title}, and transformers cannot load it: {first_line(error)}; check the files"
        ) from error
    if missing := sorted(found["missing_keys"]):
        # transformers only warns, and fills them with random numbers.
        raise ModelError(f"{path}: lacks {len(missing)} weights ({missing[0]}); copy or download it again")
    return module


FORMAT = UnpackedAtLoadFormat()
