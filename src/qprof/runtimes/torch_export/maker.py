"""Variants of an exported network on request: made once and taken from the cache ever after."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qprof.errors import ModelError
from qprof.record.model import Model
from qprof.record.sections import ModelSection, VariantSection
from qprof.runtimes.base import Calibration, Made
from qprof.runtimes.torch_export import huggingface, methods, program
from qprof.runtimes.torch_export.archive import read_archive
from qprof.runtimes.torch_export.folder import TOKENIZER, is_of_text
from qprof.runtimes.torch_export.huggingface import copy_tokenizer
from qprof.runtimes.torch_export.library import import_torch, versions
from qprof.runtimes.torch_export.program import Network
from qprof.runtimes.torch_export.sections import (
    CALIBRATED,
    FILE,
    METHODS,
    MadeTorchVariant,
    TorchExportFile,
    TorchExportModelSection,
    TorchExportOptions,
)
from qprof.store.cache import Cache, content_sha256, file_sha256, json_sha256

#: Part of every key: raise it where a change of this package changes the bytes that are made.
_REVISION = 1

_MODEL, _FACTS = "model.pt2", "variant.json"


@dataclass(frozen=True, slots=True)
class Entry:
    """A variant as it stands in the cache."""

    path: Path
    sha256: str
    facts: dict[str, Any]


class TorchExportMaker:
    """Makes the variants of one model; satisfies `base.VariantMaker`."""

    def __init__(self, model: ModelSection) -> None:
        self._model = model
        self._float: Path | None = None

    def float_model(self) -> Model:
        """The float network, run op by op. Raises `ModelError`."""
        from qprof.runtimes.torch_export.model import ExportedModel

        return ExportedModel(self._float_file(), TorchExportOptions(engine="eager"))

    def make(self, section: VariantSection, calibration: Calibration) -> Made:
        """Make one variant. Raises `QprofError`."""
        if isinstance(section, TorchExportFile):
            path = Path(section.file)
            if path.is_dir():
                raise ModelError(f"{path}: a folder is exported first; give it as the model, and variants of it")
            read_archive(path)
            return _made(path, file_sha256(path), FILE, section.engine, {})
        if not isinstance(section, MadeTorchVariant):
            raise ModelError(f"variant {section.name}: {type(section).__name__} is no section of an exported network")
        method = section.method or section.name
        source = self._float_file()
        kind = method if method == "int8-eager" else method.removesuffix("-eager")
        if kind == "float32":
            if section.skip_layers:
                raise ModelError(
                    f"variant {section.name}: skip_layers names what is not quantized; float32 has all in float"
                )
            network = program.load(source)
            methods.refuse_quantized(network)
            return _made(source, file_sha256(source), method, METHODS[method], {})
        entry = self._cached(
            {
                "source": file_sha256(source),
                "method": kind,
                "skip_layers": sorted(section.skip_layers),
                "calibration": calibration.digest if kind in CALIBRATED else None,
                "versions": versions(("torch", "torchao")),
            },
            lambda: self._program(program.load(source), kind, section, calibration),
            source.parent / TOKENIZER,
        )
        tool = "torchao" if kind in ("int8", "int8-dynamic") else "torch"
        return _made(entry.path, entry.sha256, method, METHODS[method], entry.facts, tool)

    def _program(
        self, network: Network, kind: str, section: MadeTorchVariant, calibration: Calibration
    ) -> tuple[Any, Network, dict[str, Any]]:
        methods.refuse_quantized(network)
        if kind == "bfloat16":
            if section.skip_layers:
                raise ModelError(f"variant {section.name}: bfloat16 leaves no layer in float32; leave skip_layers out")
            return methods.bfloat16(network), network, {}
        if kind == "int8-dynamic":
            return methods.int8_dynamic(network, section.skip_layers), network, {}
        if kind == "int8-eager":
            return methods.int8_eager(network, section.skip_layers), network, {}
        made, count = methods.int8_static(network, calibration.samples(), section.skip_layers)
        kept = [name for name in methods.left_in_float(made) if name not in section.skip_layers]
        return made, network, {"calibration_samples": count, "left_in_float": kept}

    def _float_file(self) -> Path:
        """The float network's file: the model's own, or what its folder was exported to."""
        if self._float is None:
            path = Path(self._model.path)
            if not self._model.path:
                raise ModelError("model.path is missing: only a variant with a file of its own can do without it")
            self._float = self._exported(path) if path.is_dir() else path
        return self._float

    def _exported(self, folder: Path) -> Path:
        tokens = self._model.tokens if isinstance(self._model, TorchExportModelSection) else None
        shape = {
            "source": content_sha256(folder),
            "method": "export",
            "tokens": tokens,
            "versions": versions(("torch", "transformers")),
        }
        tokenizer = folder if is_of_text(folder) else None
        return self._cached(shape, lambda: huggingface.exported(folder, tokens or 128), tokenizer).path

    @staticmethod
    def _cached(
        shape: Mapping[str, Any],
        make: Callable[[], tuple[Any, Network, dict[str, Any]]],
        tokenizer: Path | None = None,
    ) -> Entry:
        key = json_sha256({"revision": _REVISION, **shape})
        import_torch()

        def fill(folder: Path) -> None:
            started = time.perf_counter()
            made, network, facts = make()
            program.save(made, folder / _MODEL, network.about)
            if tokenizer is not None:
                copy_tokenizer(tokenizer, folder / TOKENIZER)
            seconds = time.perf_counter() - started
            stored = {"sha256": file_sha256(folder / _MODEL), "facts": {**facts, "make_seconds": seconds}}
            (folder / _FACTS).write_text(json.dumps(stored, indent=1, sort_keys=True), encoding="utf-8")

        return _variants.lookup(key) or _variants.store(key, fill)


def _made(path: Path, sha256: str, method: str, engine: str, facts: Mapping[str, Any], tool: str | None = None) -> Made:
    about = dict(facts)
    seconds = about.pop("make_seconds", None)
    kept = about.get("left_in_float") or []
    notes = [f"left in float, as the quantizer has no pattern for them: {len(kept)} layers ({', '.join(kept[:3])})"]
    return Made(
        path,
        sha256,
        path.stat().st_size,
        method=method,
        tool=tool,
        tool_version=versions((tool,)).get(tool) if tool else None,
        make_seconds=seconds,
        run={"engine": engine},
        facts={"engine": engine, **about},
        notes=notes if kept else [],
    )


def _read(entry: Path) -> Entry | None:
    model = entry / _MODEL
    try:
        stored = json.loads((entry / _FACTS).read_text(encoding="utf-8"))
        intact = file_sha256(model) == stored["sha256"]
        return Entry(model, str(stored["sha256"]), dict(stored["facts"])) if intact else None
    except (OSError, ValueError, KeyError, TypeError, ModelError):
        return None


_variants: Cache[Entry] = Cache("exported-networks", _read)
