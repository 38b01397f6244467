"""LoRA adapters (Hu et al., "LoRA", arXiv 2106.09685) as peft saves them: merged with the model that they belong to,
once, and from then on run as any checkpoint."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from qprof.errors import MissingExtraError, ModelError, QprofError
from qprof.runtimes import hub
from qprof.runtimes.base import Made
from qprof.runtimes.tool_output import first_line, tool_output_to_log
from qprof.runtimes.torch_lm import library
from qprof.runtimes.torch_lm.build_bound import built_within
from qprof.runtimes.torch_lm.checkpoint import CONFIG, TOKENIZER_FILES, Checkpoint, inspect
from qprof.runtimes.torch_lm.formats.base import Format, refuse_kernel
from qprof.runtimes.torch_lm.sections import CheckpointVariant
from qprof.store.cache import Cache, file_sha256, json_sha256

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PACKAGES = ("torch", "transformers", "safetensors", "peft")
_REVISION = 1
#: What peft writes into every adapter, and does not import without a megatron_config.
_MEGATRON = "megatron.core"
#: Of a number of turns that layers begin with: PiSSA's authors try 1 to 16 (arXiv 2404.02948).
_MOST_DIGITS, _MOST_TOLD = 3, 20


class LoRAFormat(Format):
    """A folder with an adapter's configuration and without a model's own."""

    def has(self, path: Path) -> bool:
        return (path / _CONFIG).is_file() and not (path / CONFIG).is_file()

    def make(self, path: Path, section: CheckpointVariant, device: str) -> Made:
        refuse_kernel(path, section.kernel)
        config = _read(path)
        weights, base = _weights(path), inspect(_base_of(path, config))
        if base.quantization is not None:
            raise ModelError(
                f"{path}: its base {base.path} is quantized, and what is merged into it would have to be quantized "
                "again; name the unquantized original as base_model_name_or_path"
            )
        library.require(_PACKAGES[:3])
        versions = library.versions(_PACKAGES)
        if "peft" not in versions:
            raise MissingExtraError("LoRA adapters need the package peft: pip install 'qprof[lora]'")
        known = {"adapter": file_sha256(weights), "config": file_sha256(path / _CONFIG), "base": base.sha256()}
        key = json_sha256({**known, "tokenizer": _own_tokenizer(path), "versions": versions, "revision": _REVISION})
        merged = _merged.lookup(key) or _merged.store(key, lambda folder: _merge(path, base, folder))
        adapter_bytes = weights.stat().st_size
        facts = {
            "library": "transformers",
            "format": "lora",
            "base": str(config["base_model_name_or_path"]),
            "rank": config.get("r"),
            "alpha": config.get("lora_alpha"),
            "adapter_bytes": adapter_bytes,
            "dtype": section.dtype or merged.dtype,
            "stored_dtype": merged.dtype,
            "kernel": None,
        }
        note = (
            f"a LoRA adapter of {adapter_bytes} bytes, merged into its base {base.path.name}: its size is that of the "
            "merged model, and nothing of the adapter is computed apart"
        )
        return Made(
            merged.path,
            merged.sha256(),
            merged.weight_bytes,
            method="file",
            tool="peft",
            tool_version=versions["peft"],
            run={"dtype": section.dtype or merged.dtype, "kernel": ""},
            facts=facts,
            notes=[note],
        )


def _read(path: Path) -> dict[str, Any]:
    file = path / _CONFIG
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{file}: cannot be read: {first_line(error)}; copy or download it again") from error
    if not isinstance(config, dict) or not isinstance(config.get("base_model_name_or_path"), str):
        raise ModelError(f"{file}: names no base_model_name_or_path; write the path of the model that it belongs to")
    if str(config.get("peft_type")).upper() != "LORA":
        raise ModelError(
            f"{path}: an adapter of the kind {config.get('peft_type')}; qprof merges LoRA adapters alone, so merge it "
            "yourself and name the result"
        )
    if config.get("megatron_config") or config.get("megatron_core") not in (None, _MEGATRON):
        # peft imports the module that the file names.
        raise ModelError(
            f"{file}: names a Python module to be imported (megatron_core), which qprof does not do; merge the adapter "
            "yourself and name the result"
        )
    if not isinstance(config.get("revision"), str | None):
        raise ModelError(f"{file}: its revision is no text; write the branch, tag or commit of the base, or null")
    _refuse_endless_start(file, config)
    return config


def _refuse_endless_start(file: Path, config: Mapping[str, Any]) -> None:
    """peft gives new layers their first weights before it reads the adapter's, in as many turns as its configuration
    says. Raises `ModelError`."""
    settings = config.get("loftq_config")
    told = {
        "init_lora_weights": str(config.get("init_lora_weights")).partition("_niter_")[2],
        "loftq_iter": str(settings.get("loftq_iter", "")) if isinstance(settings, dict) else "",
    }
    for key, turns in told.items():
        if len(turns) > _MOST_DIGITS:
            raise ModelError(
                f"{file}: {key} asks for {turns[:_MOST_TOLD]} turns to begin with, where some ten do; write fewer, or "
                "merge the adapter yourself and name the result"
            )


def _weights(path: Path) -> Path:
    if not (path / _WEIGHTS).is_file():
        pickled = (path / "adapter_model.bin").is_file()
        has = (
            "adapter_model.bin, which is pickled: unpickling runs code that a file brings along" if pickled else "none"
        )
        raise ModelError(f"{path}: needs {_WEIGHTS}, and has {has}; save it again with safe_serialization=True")
    return path / _WEIGHTS


def _base_of(path: Path, config: Mapping[str, Any]) -> Path:
    """The folder of the model that an adapter belongs to, where that is on this machine. Raises `ModelError`."""
    name = str(config["base_model_name_or_path"])
    for folder in (Path(name), path / name, path.parent / name):
        if os.path.isfile(folder / CONFIG):  # unlike Path.is_file it takes any text for a name, however long
            return folder
    found = hub.cached_folder(name, config.get("revision"))
    if found is None:
        raise ModelError(
            f"{path}: a LoRA adapter of {name!r}, which is not on this machine; download that, or write the path of "
            f"its folder as base_model_name_or_path in {_CONFIG}"
        )
    return found


def _own_tokenizer(path: Path) -> dict[str, str]:
    return {name: file_sha256(path / name) for name in TOKENIZER_FILES if (path / name).is_file()}


def _merge(path: Path, base: Checkpoint, folder: Path) -> None:
    """Write the merged model, in the base's type, into `folder`; the sum is taken in float32."""
    try:
        with tool_output_to_log():
            import torch
            from peft import PeftModel
            from transformers import AutoModelForCausalLM

            with built_within(base.path):
                module = AutoModelForCausalLM.from_pretrained(
                    str(base.path),
                    dtype=torch.float32,
                    use_safetensors=True,
                    local_files_only=True,
                    trust_remote_code=False,
                )
            with _no_gptq_layers():
                adapted = PeftModel.from_pretrained(module, str(path), local_files_only=True, use_safetensors=True)
                merged = adapted.merge_and_unload(safe_merge=True)
            merged.to(getattr(torch, base.dtype, torch.float32)).save_pretrained(str(folder))
    except QprofError:
        raise
    except Exception as error:  # from three libraries, for adapters of whatever make; all of them are told
        raise ModelError(
            f"{path}: cannot be merged into {base.path}: {first_line(error)}; check that it belongs to it"
        ) from error
    own = bool(_own_tokenizer(path))
    for name in TOKENIZER_FILES:
        source = (path if own else base.path) / name
        if source.is_file() and not (folder / name).exists():
            shutil.copyfile(source, folder / name)


@contextlib.contextmanager
def _no_gptq_layers() -> Iterator[None]:
    """Have peft not look for GPTQ layers, which an unquantized base has none of: where gptqmodel is installed without
    optimum, looking raises ImportError (peft 0.21)."""
    name = "is_gptqmodel_available"
    modules = [module for key, module in list(sys.modules.items()) if key.partition(".")[0] == "peft"]
    saved = [(module, vars(module)[name]) for module in modules if name in vars(module)]
    for module, _ in saved:
        setattr(module, name, lambda *_, **__: False)
    try:
        yield
    finally:
        for module, function in saved:
            setattr(module, name, function)


def _intact(entry: Path) -> Checkpoint | None:
    try:
        return inspect(entry)
    except ModelError:
        return None


_merged: Cache[Checkpoint] = Cache("merged-adapters", _intact, "merged adapter")
FORMAT = LoRAFormat()
