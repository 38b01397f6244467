"""Kinds of models that are loaded and run once, as a worker does it after they were read: what passes the readers meets
the libraries here. A worker's death is told by its parent; an exception of whatever kind is, too, in one line."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kinds_checkpoints as of
import structured
import structured_binary as binary
from mutations import Kind

from qprof.errors import QprofError


def _made_and_loaded(path: Path) -> object:
    """Made as a ready variant, loaded and run once."""
    import msgspec

    from qprof.measure.worker.loading import content_sha256
    from qprof.record.model import PromptShape
    from qprof.record.sections import ModelSection, ProtocolSection
    from qprof.runtimes import registry
    from qprof.runtimes.base import Asked, Calibration

    runtime = registry.for_model(path)
    keys = {"name": "v", "file": str(path)}
    section = msgspec.convert(keys, runtime.variant_section(keys))
    model = msgspec.convert({"path": str(path)}, runtime.model_section)
    made = runtime.maker(model, "cpu").make(section, Calibration(lambda: [], ""))
    content_sha256(runtime, made.path)
    with contextlib.suppress(QprofError):
        runtime.stored(made.path)
    shape = PromptShape(batch=1, prompt_tokens=4, generated_tokens=2)
    options = runtime.options(section, Asked(ProtocolSection(), ModelSection(), shape, made.run))
    loaded = runtime.load(made.path, options)
    for phase in runtime.phases:
        loaded.enter(phase)
        loaded.invoke()
    return loaded


def _file(path: Path) -> object:
    return _made_and_loaded(path)


def _folder(path: Path) -> object:
    return _made_and_loaded(path.parent)


def _tflite(folder: Path) -> Path:
    import tflite_builder

    (folder / "m.tflite").write_bytes(tflite_builder.tiny_int8_net(size=16, channels=4))
    return folder / "m.tflite"


def _onnx(folder: Path) -> Path:
    from onnx_models import residual_net

    (folder / "m.onnx").write_bytes(residual_net().SerializeToString())
    return folder / "m.onnx"


def _kind(name: str, make: Callable[[Path], Path], read: Callable[[Path], Any], change: structured.Change) -> Kind:
    return Kind(f"load-{name}", make, read, change, in_worker=True, limit_s=60, limit_bytes=12 << 30)


LOADED_KINDS = [
    _kind("tflite", _tflite, _file, binary.of_flatbuffer),
    _kind("onnx", _onnx, _file, binary.of_protobuf),
    _kind("gguf", of.gguf, _file, structured.of_gguf),
    _kind("safetensors", of.llama("model.safetensors"), _folder, structured.of_safetensors),
    _kind("config", of.llama("config.json"), _folder, structured.of_json),
    _kind("tokenizer", of.llama("tokenizer.json"), _folder, structured.of_json),
    _kind("tokenizer-config", of.llama("tokenizer_config.json"), _folder, structured.of_json),
    _kind("gptq", of.gptq("model.safetensors"), _folder, structured.of_safetensors),
    _kind("gptq-config", of.gptq("config.json"), _folder, structured.of_json),
    _kind("bnb-4bit", of.made("bnb-nf4", "model.safetensors"), _folder, structured.of_safetensors),
    _kind("bnb-4bit-config", of.made("bnb-nf4", "config.json"), _folder, structured.of_json),
    *(
        kind
        for name, method in (
            ("bnb-8bit", "bnb-int8"),
            ("hqq", "hqq-4bit"),
            ("torchao-int8", "torchao-int8-dynamic"),
            ("torchao-int4", "torchao-int4-weight-only"),
            ("fp8", "fp8"),
        )
        for kind in (
            _kind(name, of.made(method, "model.safetensors"), _folder, structured.of_safetensors),
            _kind(f"{name}-config", of.made(method, "config.json"), _folder, structured.of_json),
        )
    ),
    _kind("compressed", of.compressed("model.safetensors"), _folder, structured.of_safetensors),
    _kind("compressed-config", of.compressed("config.json"), _folder, structured.of_json),
    _kind("adapter", of.adapter("adapter_model.safetensors"), _folder, structured.of_safetensors),
]
