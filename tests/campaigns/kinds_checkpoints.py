"""Kinds of files of language models: what tells of a checkpoint before anything of it is loaded."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import structured
from mutations import Kind


def llama(name: str) -> Callable[[Path], Path]:
    """A Llama in float, of whose folder one file is changed."""

    def make(folder: Path) -> Path:
        from checkpoints import save_llama

        save_llama(folder)
        return folder / name

    return make


def sharded(folder: Path) -> Path:
    """The index of a checkpoint in two files."""
    from checkpoints import float_tensors, write_checkpoint, write_json, write_safetensors

    write_checkpoint(folder)
    (folder / "model.safetensors").unlink()
    tensors, shards = float_tensors(), {}
    for number, name in enumerate(tensors):
        shards[name] = f"model-{number % 2}.safetensors"
    for shard in set(shards.values()):
        write_safetensors(folder / shard, {name: tensors[name] for name in tensors if shards[name] == shard})
    write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": 1}, "weight_map": shards})
    return folder / "model.safetensors.index.json"


def gptq(name: str) -> Callable[[Path], Path]:
    """A GPTQ checkpoint of four bits, its settings in the one place that is changed, or in config.json."""

    def make(folder: Path) -> Path:
        from gptq_folders import AUTOGPTQ, float_llama, write_gptq

        source, target = folder.parent / "source", folder.parent / "packed"
        settings = {"quant_method": "gptq", **AUTOGPTQ}
        where = {"beside": settings} if name == "quantize_config.json" else {"inside": settings}
        write_gptq(float_llama(source), target, **where)
        folder.rmdir()
        target.rename(folder)
        return folder / name

    return make


def made(method: str, name: str) -> Callable[[Path], Path]:
    """A checkpoint that is made by a method without calibration: of bitsandbytes, torchao, HQQ or gptqmodel."""

    def make(folder: Path) -> Path:
        from checkpoints import save_llama
        from made_variants import KeysMaker
        from qprof.runtimes.base import Calibration

        os.environ["QPROF_CACHE"] = str(folder.parent / "cache")
        source = save_llama(folder.parent / "source")
        found = KeysMaker(source).make({"name": method, "method": method}, Calibration(lambda: [], ""))
        folder.rmdir()
        found.path.rename(folder)
        return folder / name

    return make


def compressed(name: str) -> Callable[[Path], Path]:
    """A checkpoint as llm-compressor writes it."""

    def make(folder: Path) -> Path:
        from checkpoints import write_json
        from unpacked_folders import COMPRESSED, quantized_llama

        quantized_llama(folder, "compressed-tensors")
        config = json.loads((folder / "config.json").read_text())
        settings = {"quant_method": "compressed-tensors", **COMPRESSED}
        write_json(folder / "config.json", {**config, "quantization_config": settings})
        return folder / name

    return make


def gguf(folder: Path) -> Path:
    from gguf_files import write_gguf
    from lastword_models import byte_tokenizer

    write_gguf(folder / "m.gguf", "Q8_0", tokenizer=byte_tokenizer(["\u0120dog"]))
    return folder / "m.gguf"


def adapter(name: str) -> Callable[[Path], Path]:
    """A LoRA adapter beside its base."""

    def make(folder: Path) -> Path:
        from checkpoints import save_llama
        from unpacked_folders import write_adapter

        base = save_llama(folder.parent / "base")
        folder.rmdir()
        write_adapter(folder, str(base))
        return folder / name

    return make


def read_file(path: Path) -> object:
    """What the parent and the preparing worker ask of a model's file before it is loaded."""
    from qprof.measure.models import runtime_of

    runtime = runtime_of(str(path), "text")
    return runtime.accepts(path), runtime.is_finished(path), runtime.stored(path), list(runtime.content_files(path))


def read_folder(path: Path) -> object:
    """The same of a model's folder."""
    from qprof.measure.models import runtime_of
    from qprof.runtimes.torch_lm.checkpoint import inspect
    from qprof.runtimes.torch_lm.formats import format_of

    asked = read_file(path.parent)
    if runtime_of(str(path.parent), "text").name == "torch_lm" and format_of(path.parent) is None:
        found = inspect(path.parent)
        return asked, found, found.sha256()
    return asked


def read_adapter(path: Path) -> object:
    """An adapter is read when it is merged."""
    from qprof.runtimes.torch_lm.formats import lora

    config = lora._read(path.parent)
    return lora._base_of(path.parent, config), lora._weights(path.parent)


_SAFETENSORS = structured.of_safetensors

CHECKPOINT_KINDS = [
    Kind("safetensors", llama("model.safetensors"), read_folder, _SAFETENSORS),
    Kind("config", llama("config.json"), read_folder, structured.of_json),
    Kind("index", sharded, read_folder, structured.of_json),
    Kind("gguf", gguf, read_file, structured.of_gguf),
    Kind("gptq", gptq("model.safetensors"), read_folder, _SAFETENSORS),
    Kind("gptq-config", gptq("config.json"), read_folder, structured.of_json),
    Kind("gptq-settings", gptq("quantize_config.json"), read_folder, structured.of_json),
    Kind("bnb-4bit", made("bnb-nf4", "model.safetensors"), read_folder, _SAFETENSORS),
    Kind("bnb-4bit-config", made("bnb-nf4", "config.json"), read_folder, structured.of_json),
    Kind("bnb-8bit", made("bnb-int8", "model.safetensors"), read_folder, _SAFETENSORS),
    Kind("compressed", compressed("model.safetensors"), read_folder, _SAFETENSORS),
    Kind("compressed-config", compressed("config.json"), read_folder, structured.of_json),
    Kind("adapter", adapter("adapter_config.json"), read_adapter, structured.of_json),
]
