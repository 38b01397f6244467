"""Variants on request: the file as it is, or what ONNX Runtime's quantizer makes of it, made once and kept."""

from __future__ import annotations

import importlib.metadata
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from qprof.errors import ModelError
from qprof.runtimes.base import Calibration, Made
from qprof.runtimes.onnx import model_file, quantize
from qprof.runtimes.onnx.facts import run_facts
from qprof.runtimes.onnx.kept import KeptModel, keep, kept
from qprof.runtimes.onnx.names import SourceGraph
from qprof.runtimes.onnx.op_types import CONVERSIONS, op_type
from qprof.runtimes.onnx.sections import OnnxFloat, OnnxQuantized, OnnxStatic
from qprof.runtimes.onnx.stored import stored_files
from qprof.store.cache import Cache, json_sha256
from qprof.store.own import OwnFolder

if TYPE_CHECKING:
    from onnx import ModelProto

#: Part of every key: raise it where a change of this package changes the bytes that are made.
_REVISION = "1"
#: Keys of a section that say how a variant is run, not how it is made.
_RUN = ("name", "threads", "method", "optimization", "provider", "input_shapes")
#: Quantizes the float weights of a Conv between DequantizeLinear and QuantizeLinear when a session is made.
_REQUANTIZER = "WeightBiasQuantization"
#: Float tables from here on are worth a remark in a quantized model.
_LARGE_TABLE_BYTES = 16_384


def as_it_is(path: Path) -> Made:
    """A ready-made file. Raises `ModelError`."""
    model = model_file.read(path)
    return _made(path, model, method="file")


def make(path: Path, section: OnnxFloat, calibration: Calibration) -> Made:
    """Make a variant of a float model, or take it from the cache.

    Raises:
        ModelError: the file is none, is quantized already, or ONNX Runtime's quantizer failed.
        DataError: there are no samples to calibrate on, or they do not fit.
    """
    model = model_file.read(path)
    method = section.method or section.name
    _refuse_quantized(path, model)
    if method == "float32":
        return _made(path, model, method=method)
    settings = {key: value for key, value in msgspec.to_builtins(section).items() if key not in _RUN}
    versions = {name: importlib.metadata.version(name) for name in ("onnxruntime", "onnx", "numpy")}
    key = json_sha256(
        {
            "source": model_file.digest(path, model),
            "method": method,
            "settings": settings,
            "calibration": calibration.digest if isinstance(section, OnnxStatic) else None,
            "versions": versions | {"qprof onnx variants": _REVISION},
        }
    )
    entry = _CACHE.lookup(key)
    if entry is None:
        started = time.perf_counter()
        with OwnFolder() as folder:
            content = _content(method, path, model, section, calibration, folder)
        seconds = time.perf_counter() - started

        entry = _CACHE.store(key, lambda into: keep(into, content, seconds=seconds))
    made = _made(entry.path, model_file.read(entry.path), method=method)
    notes = [*made.notes, *_notes(entry.path, section), *quantize.warnings(section)]
    run = dict(made.run)
    if isinstance(section, OnnxStatic) and (section.ops or section.skip_ops or section.skip_layers):
        run["disabled"] = [_REQUANTIZER]
        notes.append(
            f"ONNX Runtime's optimizer {_REQUANTIZER} would quantize the weights of ops that are left in float between "
            "quantized ones when it loads the model: it is disabled here, and is to be where this variant is deployed "
            f"(InferenceSession(..., disabled_optimizers=['{_REQUANTIZER}']))"
        )
    return replace(
        made,
        run=run,
        tool="onnxruntime",
        tool_version=versions["onnxruntime"],
        make_seconds=float(entry.facts["seconds"]),
        facts={"settings": settings},
        notes=notes,
    )


def _content(
    method: str, path: Path, model: ModelProto, section: OnnxFloat, calibration: Calibration, folder: Path
) -> bytes:
    if method == "float16":
        return quantize.float16(path)
    if isinstance(section, OnnxStatic):
        return quantize.static(path, section, calibration, folder)
    if isinstance(section, OnnxQuantized):
        return quantize.dynamic(path, section, folder)
    raise ModelError(f"{path}: there is no method {method!r} for an ONNX model")


def _made(path: Path, model: ModelProto, method: str) -> Made:
    files = model_file.external_files(path, model)
    return Made(
        path,
        model_file.digest(path, model),
        path.stat().st_size + sum(file.stat().st_size for file in files),
        method=method,
        run=run_facts(model),
        facts={"op_types": dict(Counter(node.op_type for node in model_file.nodes_of(model.graph)))},
    )


def _refuse_quantized(path: Path, model: ModelProto) -> None:
    """A baseline that is quantized would make every comparison with it wrong."""
    for node in model_file.nodes_of(model.graph):
        if node.op_type in CONVERSIONS or (op_type(node.op_type) != node.op_type and "Q" in node.op_type):
            raise ModelError(
                f"{path}: is quantized already (node {node.name!r}, {node.op_type}); give qprof the float model, or "
                "the file without --variants, to run it as it is"
            )


def _notes(path: Path, section: OnnxFloat) -> list[str]:
    """Constants that stay in float32 in a quantized model, without being asked to."""
    if not isinstance(section, OnnxQuantized) or section.ops or section.skip_ops or section.skip_layers:
        return []
    left = [
        part
        for part in stored_files(path).parts
        if part.kind == "tensor" and part.dtype == "float32" and part.bytes >= _LARGE_TABLE_BYTES
    ]
    if not left:
        return []
    largest = sorted(left, key=lambda part: -part.bytes)[:3]
    named = ", ".join(f"{part.name} of {part.op or 'no op'} ({part.bytes} bytes)" for part in largest)
    more = f" and {len(left) - len(largest)} more" if len(left) > len(largest) else ""
    return [f"constants left in float32 by onnxruntime, which has no integer form of their ops: {named}{more}"]


def layer_nodes(model: ModelProto, names: list[str]) -> list[str]:
    """The nodes that layers are, by the names that are shown for them. Raises `ModelError` where one is not there."""
    source = SourceGraph(model)
    by_name: dict[str, list[str]] = {}
    for position, node in enumerate(source.nodes):
        by_name.setdefault(source.name(position), []).append(node.name)
    absent = [name for name in names if name not in by_name]
    if absent:
        raise ModelError(f"skip_layers: the model has no layer {absent[0]!r}; `qprof layers` lists them")
    return [node for name in names for node in by_name[name]]


_CACHE: Cache[KeptModel] = Cache("onnx-variants", kept)
