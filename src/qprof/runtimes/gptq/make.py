"""Variants of a language model on request: made once and taken from the cache ever after."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import ModelError
from qprof.runtimes import base, hub
from qprof.runtimes.gptq import library
from qprof.runtimes.gptq.checkpoint import Checkpoint, inspect, normalised
from qprof.runtimes.gptq.convert import convert
from qprof.runtimes.gptq.kernels import choose, default_dtype
from qprof.runtimes.gptq.load import DTYPES
from qprof.runtimes.gptq.quantize import (
    Settings,
    check,
    is_act_group_aware,
    quantize,
    quantized_linears,
    token_rows,
)
from qprof.store.cache import Cache, json_sha256

GPTQMODEL = "gptqmodel"
AUTOGPTQ = "autogptq"

#: Group size unless the method or the variant names one: it divides the layers of small models too.
DEFAULT_GROUP_SIZE = 64

_METHOD = re.compile(r"^gptq(?:-(?P<bits>\d+)bit)?(?:-g(?P<group>\d+))?\Z")

#: Part of every key: raise it where a change of this package changes the bytes that are made.
_REVISION = 1

_MODEL, _FACTS = "model", "variant.json"


@dataclass(frozen=True, slots=True)
class _Entry:
    """A variant as it stands in the cache."""

    checkpoint: Checkpoint
    sha256: str
    facts: dict[str, Any]


class GPTQMaker:
    """Makes the variants of one model; satisfies `base.VariantMaker`.

    `model`: a profile's model section; "path" is a folder or "hf://ORG/NAME[@REVISION]", "device" what quantizes.
    """

    def __init__(self, model: Mapping[str, Any]) -> None:
        self._model = model
        self._device = str(model.get("device") or "cpu")
        self._source: Checkpoint | None = None
        self._source_sha256 = ""
        self._float: base.Model | None = None
        self._rows: tuple[str, list[NDArray[np.int64]]] | None = None

    def float_model(self) -> base.Model:
        """The unquantized model with its tokenizer, on the CPU. Raises `ModelError`."""
        from qprof.runtimes.gptq.model import CausalLM

        if self._float is None:
            source = self.source()
            _refuse_quantized(source)
            self._float = CausalLM.load(source.path, base.RunOptions(prompt_tokens=1, generated_tokens=1))
        return self._float

    def source(self) -> Checkpoint:
        """The model that variants are made from. Raises `ModelError`."""
        if self._source is None:
            path = str(self._model.get("path") or "")
            if not path:
                raise ModelError("model.path is missing: only a variant with a file of its own can do without it")
            self._source = inspect(_folder(path))
            self._source_sha256 = self._source.sha256()
        return self._source

    def make(self, variant: Mapping[str, Any], calibration: base.Calibration) -> base.Made:
        """Make one variant, or take it from the cache.

        Raises:
            ModelError: a key does not fit, the model cannot be read, or the quantizer failed. DataError: calibration
            samples are missing. MissingExtraError: a package is missing. StoreError: the cache cannot be written.
        """
        _refuse_foreign_keys(variant)
        if variant.get("file"):
            return self._ready_made(variant)
        method = str(variant.get("method") or variant["name"])
        if method in DTYPES:
            return self._unquantized(method, variant)
        settings = parse_settings(method, variant)
        if variant.get("library") == AUTOGPTQ:
            return self._by_autogptq(method, settings, variant, calibration)
        return self._by_gptqmodel(method, settings, variant, calibration)

    # -- what is taken as it is ---------------------------------------------------------------------------------------

    def _ready_made(self, variant: Mapping[str, Any]) -> base.Made:
        for key in ("bits", "group_size", "skip_layers"):
            if variant.get(key) not in (None, []):
                raise ModelError(f"variant {variant['name']}: {key} is that of the file; leave it out")
        checkpoint = inspect(_folder(str(variant["file"])))
        if checkpoint.quantization is None:
            dtype = str(variant.get("dtype") or checkpoint.dtype)
            _refuse_kernel(variant)
            return _made(checkpoint, checkpoint.sha256(), {"method": "file"}, dtype=dtype, kernel="")
        if variant.get("library") == AUTOGPTQ:
            return self._for_autogptq(checkpoint, checkpoint.sha256(), {"method": "file"}, variant)
        dtype, kernel = self._quantized_run(checkpoint.quantization, checkpoint.linears, variant)
        found = inspect(normalised(checkpoint))
        return _made(found, checkpoint.sha256(), {"method": "file"}, dtype=dtype, kernel=kernel)

    # -- unquantized --------------------------------------------------------------------------------------------------

    def _unquantized(self, dtype: str, variant: Mapping[str, Any]) -> base.Made:
        source = self.source()
        _refuse_quantized(source)
        _refuse_kernel(variant)
        for key in ("bits", "group_size", "skip_layers"):
            if variant.get(key) not in (None, []):
                raise ModelError(f"variant {variant['name']}: {key} means nothing to method {dtype}; leave it out")
        if variant.get("dtype") not in (None, "", dtype):
            raise ModelError(f"variant {variant['name']}: method {dtype} and dtype {variant['dtype']} disagree")
        if source.dtype == dtype:
            return _made(source, self._source_sha256, {"method": dtype}, dtype=dtype, kernel="")
        library.require(("torch", "safetensors"))
        entry = self._cached(
            {"method": dtype, "versions": library.versions(("torch", "safetensors"))},
            lambda folder: convert(source, folder, dtype),
        )
        return _made(entry.checkpoint, entry.sha256, {"method": dtype, **entry.facts}, dtype=dtype, kernel="")

    # -- GPTQ ---------------------------------------------------------------------------------------------------------

    def _by_gptqmodel(
        self, method: str, settings: Settings, variant: Mapping[str, Any], calibration: base.Calibration
    ) -> base.Made:
        source = self.source()
        check(source, settings)
        dtype, kernel = self._quantized_run(settings, quantized_linears(source, settings), variant)
        library.require()
        versions = library.versions()
        entry = self._cached(
            {"settings": asdict(settings), "calibration": calibration.digest, "versions": versions},
            lambda folder: quantize(source, folder, settings, self._calibration_rows(calibration), device=self._device),
        )
        facts = {
            "method": method,
            "library": GPTQMODEL,
            "tool": GPTQMODEL,
            "tool_version": versions.get(GPTQMODEL),
            "act_group_aware": is_act_group_aware(settings),
            **entry.facts,
        }
        return _made(entry.checkpoint, entry.sha256, facts, dtype=dtype, kernel=kernel)

    def _by_autogptq(
        self, method: str, settings: Settings, variant: Mapping[str, Any], calibration: base.Calibration
    ) -> base.Made:
        from qprof.runtimes.autogptq import library as autogptq
        from qprof.runtimes.autogptq.quantize import quantize_in_process

        source = self.source()
        if settings.skip_layers:
            raise ModelError(f"variant {variant['name']}: AutoGPTQ skips no layers; leave library or skip_layers out")
        check(source, settings)
        autogptq.check(source, settings.bits, settings.group_size)
        versions = autogptq.versions()
        entry = self._cached(
            {"settings": asdict(settings), "calibration": calibration.digest, "versions": versions, "by": AUTOGPTQ},
            lambda folder: quantize_in_process(source, folder, settings, self._calibration_rows(calibration)),
        )
        facts = {
            "method": method,
            "tool": AUTOGPTQ,
            "tool_version": versions.get("auto_gptq"),
            "act_group_aware": False,
            **entry.facts,
        }
        return self._for_autogptq(entry.checkpoint, entry.sha256, facts, variant)

    def _for_autogptq(
        self, checkpoint: Checkpoint, sha256: str, facts: Mapping[str, Any], variant: Mapping[str, Any]
    ) -> base.Made:
        from qprof.runtimes.autogptq import library as autogptq

        autogptq.require()
        dtype = autogptq.choose_dtype(str(variant.get("dtype") or ""), self._device)
        autogptq.refuse_kernel(str(variant.get("kernel") or ""))
        facts = {**facts, "library": AUTOGPTQ}
        return _made(checkpoint, sha256, facts, dtype=dtype, kernel="", runtime=AUTOGPTQ)

    def _quantized_run(
        self, form: Any, linears: Mapping[str, tuple[int, int]], variant: Mapping[str, Any]
    ) -> tuple[str, str]:
        """The dtype and the kernel that a GPTQ variant will be run with, refused before minutes are spent on it."""
        dtype = str(variant.get("dtype") or default_dtype(self._device))
        kernel = choose(
            str(variant.get("kernel") or ""),
            bits=form.bits,
            group_size=form.group_size,
            device=self._device,
            dtype=dtype,
            sym=form.sym,
            desc_act=form.desc_act,
            linears=linears,
        )
        return dtype, kernel.name

    def _calibration_rows(self, calibration: base.Calibration) -> list[NDArray[np.int64]]:
        """Samples are drawn once for all widths; the model that they were fitted to need not stay in memory."""
        if self._rows is None or self._rows[0] != calibration.digest:
            self._rows = (calibration.digest, token_rows(list(calibration.samples())))
            self._float = None
        return self._rows[1]

    def _cached(self, shape: Mapping[str, Any], write: Callable[[Path], Mapping[str, Any] | None]) -> _Entry:
        """The entry that `shape` and the source address; `write` makes its folder, and returns facts about it."""

        def fill(folder: Path) -> None:
            started = time.perf_counter()
            facts = dict(write(folder / _MODEL) or {})
            facts["make_seconds"] = facts.pop("seconds", time.perf_counter() - started)
            stored = {"sha256": inspect(folder / _MODEL).sha256(), "facts": facts}
            (folder / _FACTS).write_text(json.dumps(stored, indent=1, sort_keys=True), encoding="utf-8")

        key = json_sha256({"source": self._source_sha256, "revision": _REVISION, **shape})
        return _variants.lookup(key) or _variants.store(key, fill)


def parse_settings(method: str, variant: Mapping[str, Any]) -> Settings:
    """What "gptq-<bits>bit[-g<size>]" and the keys of a variant say together.

    Raises:
        ModelError: the method is unknown, or the name and a key disagree.
    """
    match = _METHOD.match(method)
    if match is None:
        raise ModelError(
            f"unknown method {method!r} for a language model; there are {', '.join(DTYPES)} and "
            "gptq-<bits>bit[-g<group size>], e.g. gptq-4bit or gptq-4bit-g128"
        )
    bits = _agreed(variant, "bits", match["bits"])
    if bits is None:
        raise ModelError(f"variant {variant['name']}: method {method} names no bits; write gptq-4bit, or bits = 4")
    group_size = _agreed(variant, "group_size", match["group"])
    sym = variant.get("sym")
    return Settings(
        bits=bits,
        group_size=DEFAULT_GROUP_SIZE if group_size is None else group_size,
        desc_act=bool(variant.get("desc_act")),
        sym=True if sym is None else bool(sym),
        skip_layers=tuple(sorted(set(variant.get("skip_layers") or ()))),
    )


def _agreed(variant: Mapping[str, Any], key: str, named: str | None) -> int | None:
    stated = variant.get(key)
    if stated is not None and named is not None and int(stated) != int(named):
        raise ModelError(f"variant {variant['name']}: its method says {named} and its key {key} says {stated}")
    return int(named) if named is not None else None if stated is None else int(stated)


def _folder(path: str) -> Path:
    return hub.local_folder(path) if hub.is_reference(path) else Path(path)


def _refuse_foreign_keys(variant: Mapping[str, Any]) -> None:
    for key, plain in (("ops", ()), ("skip_ops", ()), ("io", "float"), ("delegate", None)):
        if variant.get(key) not in (None, plain, [], ""):
            raise ModelError(f"variant {variant['name']}: {key} means nothing to a language model; leave it out")


def _refuse_kernel(variant: Mapping[str, Any]) -> None:
    if variant.get("kernel"):
        raise ModelError(
            f"variant {variant['name']}: kernel = {variant['kernel']!r} computes quantized layers, and this variant "
            "has none; leave it out"
        )


def _refuse_quantized(source: Checkpoint) -> None:
    if source.quantization is not None:
        raise ModelError(
            f"{source.path}: already quantized ({source.quantization.bits} bits), so nothing can be made of it; name "
            "the original as model.path, and this one as a variant's file"
        )


def _made(
    checkpoint: Checkpoint,
    sha256: str,
    facts: Mapping[str, Any],
    *,
    dtype: str,
    kernel: str,
    runtime: str | None = None,
) -> base.Made:
    form = checkpoint.quantization
    if form is not None:
        facts = {"bits": form.bits, "group_size": form.group_size, "desc_act": form.desc_act, "sym": form.sym, **facts}
    facts = {
        "library": GPTQMODEL if form is not None else "transformers",
        **facts,
        "dtype": dtype,
        "stored_dtype": checkpoint.dtype,
        "kernel": kernel or None,
        "run": {"dtype": dtype, "kernel": kernel},
    }
    return base.Made(checkpoint.path, sha256, checkpoint.weight_bytes, facts=facts, runtime=runtime)


def _read(entry: Path) -> _Entry | None:
    try:
        stored = json.loads((entry / _FACTS).read_text(encoding="utf-8"))
        checkpoint = inspect(entry / _MODEL)
        intact = checkpoint.sha256() == stored["sha256"]
        return _Entry(checkpoint, str(stored["sha256"]), dict(stored["facts"])) if intact else None
    except (OSError, ValueError, KeyError, TypeError, ModelError):
        return None


_variants: Cache[_Entry] = Cache("language-models", _read)
