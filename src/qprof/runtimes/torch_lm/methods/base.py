"""What a way to make a variant of a language model is, and what all of them share: the source, the cache."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError, ModelError
from qprof.record.model import Model
from qprof.record.sections import VariantSection
from qprof.runtimes import hub
from qprof.runtimes.base import Calibration, Made
from qprof.runtimes.recipe import Recipe
from qprof.runtimes.torch_lm.checkpoint import Checkpoint, inspect
from qprof.runtimes.torch_lm.sections import TorchLMOptions
from qprof.store.cache import Cache, json_sha256

#: The method of a checkpoint that is run as it is.
FILE = "file"

#: Part of every key: raise it where a change of this package changes the bytes that are made.
_REVISION = 1

_MODEL, _FACTS = "model", "variant.json"

Section = TypeVar("Section", bound=VariantSection)


class Method(ABC, Generic[Section]):
    """One way to make a variant, the object `METHOD` of its module.

    `section`: the keys that a profile may give such a variant; `spelled`: how its methods are written, for messages;
    `calibrated`: whether making one takes calibration samples; `widths`: the bits there are, ascending, where its names
    have them.
    """

    section: type[Section]
    spelled: Sequence[str] = ()
    calibrated: bool = False
    widths: Sequence[int] = ()

    @abstractmethod
    def claims(self, method: str, keys: Mapping[str, Any]) -> bool:
        """Whether it makes a variant of this method ("file" for a ready-made one) and with these keys."""

    @abstractmethod
    def make(self, source: Source, section: Section, calibration: Calibration) -> Made:
        """Make one variant, or take it from the cache.

        Raises:
            ModelError: a key does not fit, the model cannot be read, or the quantizer failed. DataError: calibration
            samples are missing. MissingExtraError: a package is missing. StoreError: the cache cannot be written.
        """

    def recipe(self, source: Source, section: Section) -> Recipe | None:
        """How such a variant is made, in its library's own format; `None` where that has none. Raises `ModelError`."""
        return None


@dataclass(frozen=True, slots=True)
class Entry:
    """A variant as it stands in the cache."""

    checkpoint: Checkpoint
    sha256: str
    facts: dict[str, Any]


class Source:
    """The model that variants are made from. `path`: a folder or "hf://ORG/NAME[@REVISION]", "" where every variant is
    ready-made; `device`: what quantizes."""

    def __init__(self, path: str, device: str = "cpu") -> None:
        self._path = path
        self.device = device
        self.sha256 = ""
        self._checkpoint: Checkpoint | None = None
        self._float: Model | None = None
        self._rows: tuple[str, list[NDArray[np.int64]]] | None = None

    def checkpoint(self) -> Checkpoint:
        """What lies in its folder. Raises `ModelError`."""
        if self._checkpoint is None:
            if not self._path:
                raise ModelError("model.path is missing: only a variant with a file of its own can do without it")
            self._checkpoint = inspect(folder_of(self._path))
            self.sha256 = self._checkpoint.sha256()
        return self._checkpoint

    def float_model(self) -> Model:
        """The unquantized model with its tokenizer, on the CPU. Raises `ModelError`."""
        from qprof.runtimes.torch_lm.model import CausalLM

        if self._float is None:
            checkpoint = self.checkpoint()
            refuse_quantized(checkpoint)
            self._float = CausalLM.load(checkpoint.path, TorchLMOptions(prompt_tokens=1, generated_tokens=1))
        return self._float

    def rows(self, calibration: Calibration) -> list[NDArray[np.int64]]:
        """Calibration tokens, drawn once for all widths; the model that they were fitted to need not stay in memory."""
        if self._rows is None or self._rows[0] != calibration.digest:
            self._rows = (calibration.digest, token_rows(list(calibration.samples())))
            self._float = None
        return self._rows[1]

    def cached(self, shape: Mapping[str, Any], write: Callable[[Path], Mapping[str, Any] | None]) -> Entry:
        """The entry that `shape` and the source address; `write` makes its folder, and returns facts about it."""

        def fill(folder: Path) -> None:
            started = time.perf_counter()
            facts = dict(write(folder / _MODEL) or {})
            facts["make_seconds"] = facts.pop("seconds", time.perf_counter() - started)
            stored = {"sha256": inspect(folder / _MODEL).sha256(), "facts": facts}
            (folder / _FACTS).write_text(json.dumps(stored, indent=1, sort_keys=True), encoding="utf-8")

        self.checkpoint()
        key = json_sha256({"source": self.sha256, "revision": _REVISION, **shape})
        return _variants.lookup(key) or _variants.store(key, fill)


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


def refuse_quantized(source: Checkpoint) -> None:
    """Raise `ModelError` for a model that is quantized already."""
    if source.quantization is not None:
        raise ModelError(
            f"{source.path}: already quantized ({source.quantization.bits} bits), so nothing can be made of it; name "
            "the original as model.path, and this one as a variant's file"
        )


def folder_of(path: str) -> Path:
    """The folder of a path or of a model of the hub, which is fetched. Raises `ModelError`."""
    return hub.local_folder(path) if hub.is_reference(path) else Path(path)


def keys_say(keys: Mapping[str, Any], key: str, value: str) -> bool:
    """Whether a key has this value, which it also has where it is left out."""
    return keys.get(key) in (None, "", value)


def made(
    checkpoint: Checkpoint,
    sha256: str,
    method: str,
    facts: Mapping[str, Any],
    *,
    tool: tuple[str | None, str | None] = (None, None),
    dtype: str,
    kernel: str = "",
    by: str = "",
    notes: Sequence[str] = (),
) -> Made:
    """A variant that is ready. `tool`: what made it, and its version; `dtype`, `kernel`, `by`: how it is to be run."""
    form = checkpoint.quantization
    about: dict[str, Any] = {"library": "transformers" if form is None else "gptqmodel"}
    if form is not None:
        about |= {"bits": form.bits, "group_size": form.group_size, "desc_act": form.desc_act, "sym": form.sym}
    about |= {**facts, "dtype": dtype, "stored_dtype": checkpoint.dtype, "kernel": kernel or None}
    seconds = about.pop("make_seconds", None)
    return Made(
        checkpoint.path,
        sha256,
        checkpoint.weight_bytes,
        method=method,
        tool=tool[0],
        tool_version=tool[1],
        make_seconds=seconds,
        run={"dtype": dtype, "kernel": kernel, **({"library": by} if by else {})},
        facts=about,
        notes=notes,
    )


def _read(entry: Path) -> Entry | None:
    try:
        stored = json.loads((entry / _FACTS).read_text(encoding="utf-8"))
        checkpoint = inspect(entry / _MODEL)
        intact = checkpoint.sha256() == stored["sha256"]
        return Entry(checkpoint, str(stored["sha256"]), dict(stored["facts"])) if intact else None
    except (OSError, ValueError, KeyError, TypeError, ModelError):
        return None


_variants: Cache[Entry] = Cache("language-models", _read)
