"""What a checkpoint folder in Hugging Face layout holds, from its JSON files and tensor headers; no tensor is read."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qprof.errors import ModelError
from qprof.runtimes.torch_lm import foreign, forms, packed, safetensors_header
from qprof.runtimes.torch_lm.architecture import causal_class, refuse_foreign_code
from qprof.runtimes.torch_lm.build_bound import refuse_endless_counts
from qprof.runtimes.torch_lm.safetensors_header import StoredTensor
from qprof.runtimes.torch_lm.weight_files import INDEX, WEIGHTS, read_json, weight_files
from qprof.store.cache import Cache, cache_root, files_sha256, json_sha256

CONFIG = "config.json"
QUANTIZE_CONFIG = "quantize_config.json"
#: Where AutoAWQ before 0.1.8 put its settings.
OLD_AWQ_CONFIG = "quant_config.json"

#: Endings of the class names of causal language models in transformers.
_CAUSAL = ("ForCausalLM", "LMHeadModel")

#: One of these sets of files makes a tokenizer.
_TOKENIZERS = (
    ("tokenizer.json",),
    ("tokenizer.model",),
    ("vocab.json", "merges.txt"),
    ("vocab.txt",),
    ("spiece.model",),
)

TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "merges.txt", "vocab.txt", "spiece.model", "chat_template.jinja", "generation_config.json"),
)

#: Of the layouts that GPTQ checkpoints come in; others are made for one kernel.
FORMATS = ("gptq", "gptq_v2")

_GPTQ, _GPTQMODEL = "gptq", "gptqmodel"

#: Keys that AutoGPTQ alone writes.
_AUTOGPTQ_KEYS = frozenset({"is_marlin_format", "model_name_or_path", "model_file_base_name"})

#: A tensor of a decoder layer: "model.layers.0.mlp.up_proj.weight", "transformer.h.0.attn.c_attn.weight".
_IN_LAYER = re.compile(r"^(?P<module>.*\.\d+\..+)\.(?P<kind>weight|qweight)$")

_OLD_EXPERT = re.compile(r"(?P<layer>.+)\.block_sparse_moe\.experts\.(?P<number>\d+)\.(?P<part>w[123])")
_EXPERT_PARTS = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}


@dataclass(frozen=True, slots=True)
class QuantizedFormat:
    """How a checkpoint's linear layers are quantized. `group_size` -1: one group per row. `writer`: "gptqmodel",
    "autogptq", what else the checkpoint says of itself, or "unknown"."""

    bits: int
    group_size: int
    desc_act: bool
    sym: bool
    writer: str
    checkpoint_format: str | None
    quant_method: str = "gptq"
    scheme: str = ""  # its numbers, where the bits do not tell: "nf4"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder that was found in order.

    `dtype`: of the unquantized weights as stored (the one most bytes are in). `linears`: the linear layers of the
    decoder as name -> (in_features, out_features), where the headers tell. `index`: the file that joins its shards,
    `None` where it has one weight file alone.
    """

    path: Path
    architecture: str
    model_type: str
    dtype: str
    weight_files: tuple[Path, ...]
    weight_bytes: int
    parameters: int | None  # `None` for a quantized checkpoint, whose tensors are packed
    quantization: QuantizedFormat | None
    tied_embeddings: bool
    linears: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    index: Path | None = None

    def content_files(self) -> list[Path]:
        """The files that make the model what it is: weights, configurations, tokenizer."""
        names = (CONFIG, QUANTIZE_CONFIG, OLD_AWQ_CONFIG, *((self.index.name,) if self.index else ()), *TOKENIZER_FILES)
        return [*self.weight_files, *(self.path / name for name in names if (self.path / name).is_file())]

    def sha256(self) -> str:
        """SHA-256 over the names and contents of `content_files`. Raises `ModelError`."""
        return files_sha256(self.path, self.content_files())


def inspect(path: Path) -> Checkpoint:
    """Read what a checkpoint folder holds.

    Raises:
        ModelError: it is no checkpoint of a causal language model that can be loaded without running its code.
    """
    config = _config(path)
    architecture = _architecture(path, config)
    quantization = _quantization(path, config)
    files, index = weight_files(path)
    _refuse_missing_tokenizer(path)
    tensors: dict[str, StoredTensor] = {}
    for file in files:
        tensors |= safetensors_header.read(file)
    if not tensors:
        raise ModelError(f"{files[0]}: holds no tensor; save the model again")
    if quantization is None:
        packed.refuse_without_settings(path, tensors)
    elif quantization.quant_method == "gptq":
        dynamic = (quantization_settings(path, config) or {}).get("dynamic")
        packed.refuse_unfit(path, tensors, quantization.bits, quantization.group_size, dynamic)
    return Checkpoint(
        path=path,
        architecture=architecture,
        model_type=str(config.get("model_type") or ""),
        dtype=_main_dtype(tensors),
        weight_files=tuple(files),
        weight_bytes=sum(file.stat().st_size for file in files),
        parameters=None if quantization else sum(tensor.elements for tensor in tensors.values()),
        quantization=quantization,
        tied_embeddings=_is_tied(config, tensors),
        linears=_linears(tensors, transposed=config.get("model_type") in ("gpt2", "openai-gpt"))
        | _linears_of_form(path, quantization, files, tensors),
        index=index,
    )


def normalised(checkpoint: Checkpoint, layout: str = "", columns_moved: bool = False) -> Path:
    """A folder with this checkpoint that the libraries load: its own, or one in the cache with links to the weights
    under the names that they look for, and for GPTQ with JSON files rewritten. The original is left as it is.

    `layout`: "gptq" or "gptq_v2" to read its zero points so, whatever its settings say; "" for what they say.
    `columns_moved`: its columns are not in the order of their groups, though its settings say so.

    Raises:
        ModelError: the checkpoint cannot be read. StoreError: the cache cannot be written.
    """
    found, changes = checkpoint.quantization, dict[str, Any]()
    if found is not None and found.quant_method != _GPTQ:
        config = read_json(checkpoint.path / CONFIG)
        settings = foreign.as_said_now(quantization_settings(checkpoint.path, config) or {})
        changes = {} if config.get("quantization_config") == settings else settings
    elif found is not None:
        layout = layout or found.checkpoint_format or FORMATS[0]
        changes = {"checkpoint_format": layout, **({"desc_act": True} if columns_moved else {})}
        said = found.checkpoint_format == layout and found.desc_act >= columns_moved
        changes = {} if said and not _has_autogptq_keys(checkpoint.path) else changes
    if _well_named(checkpoint) and not changes:
        return checkpoint.path
    known = {"content": checkpoint.sha256(), "path": str(checkpoint.path.absolute()), "revision": 2}
    key = json_sha256({**known, "changes": changes})
    stored = _links.lookup(key)
    return stored or _links.store(key, lambda folder: _link(checkpoint, folder, changes))


def origin(path: Path) -> Path:
    """The folder that `normalised` made this one of; any other is its own."""
    if cache_root() in path.parents:
        for file in sorted(path.glob("*.safetensors")):
            if file.is_symlink():
                return Path(os.readlink(file)).parent
    return path


def _well_named(checkpoint: Checkpoint) -> bool:
    """Whether transformers and gptqmodel find its weights."""
    return (checkpoint.index or checkpoint.weight_files[0]).name in (INDEX, WEIGHTS)


def _link(checkpoint: Checkpoint, folder: Path, changes: Mapping[str, Any]) -> None:
    for file in checkpoint.content_files():
        name = INDEX if file == checkpoint.index else file.name
        if checkpoint.index is None and file in checkpoint.weight_files:
            name = WEIGHTS
        if name not in (CONFIG, QUANTIZE_CONFIG, OLD_AWQ_CONFIG):
            (folder / name).symlink_to(file.absolute())
    config = read_json(checkpoint.path / CONFIG)
    if checkpoint.quantization is None:
        (folder / CONFIG).symlink_to((checkpoint.path / CONFIG).absolute())
        return
    settings = foreign.as_said_now(quantization_settings(checkpoint.path, config) or {})
    settings = {name: value for name, value in settings.items() if name not in _AUTOGPTQ_KEYS}
    settings |= changes
    is_gptq = checkpoint.quantization.quant_method == _GPTQ
    if is_gptq and not checkpoint.quantization.sym and checkpoint.quantization.writer != _GPTQMODEL:
        # It reads zero points of "gptq" as all others do, but refuses to where another has written them.
        settings["meta"] = {"quantizer": [f"{_GPTQMODEL}:0.9.0"]}
    for name, content in ((CONFIG, {**config, "quantization_config": settings}), (QUANTIZE_CONFIG, settings)):
        (folder / name).write_text(json.dumps(content, indent=1), encoding="utf-8")


def _intact(entry: Path) -> Path | None:
    """The entry, unless a link in it leads nowhere any more."""
    files = [path for path in entry.iterdir()]
    whole = (entry / CONFIG).is_file() and all(path.is_file() for path in files)
    return entry if whole and any(path.suffix == ".safetensors" for path in files) else None


_links: Cache[Path] = Cache("checkpoints", _intact, "rewritten checkpoint")


def _config(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        raise ModelError(f"{path}: no such folder; a language model is a folder in Hugging Face layout")
    if not (path / CONFIG).is_file():
        raise ModelError(f"{path}: has no {CONFIG}; name a folder in Hugging Face layout")
    config = read_json(path / CONFIG)
    if not isinstance(config.get("model_type", ""), str | None):
        raise ModelError(f"{path / CONFIG}: its model_type is no text; write the original's, e.g. 'llama'")
    refuse_endless_counts(path / CONFIG, config)
    for name in (CONFIG, "tokenizer_config.json"):
        if (path / name).is_file() and read_json(path / name).get("auto_map"):
            refuse_foreign_code(path / name, config if name == CONFIG else {})
    return config


def _architecture(path: Path, config: Mapping[str, Any]) -> str:
    names = config.get("architectures")
    if not isinstance(names, list) or not names or not isinstance(names[0], str):
        raise ModelError(f"{path / CONFIG}: names no architecture; add architectures, e.g. ['LlamaForCausalLM']")
    if not names[0].endswith(_CAUSAL) and names[0] != causal_class(str(config.get("model_type") or "")):
        raise ModelError(
            f"{path}: {names[0]} is no causal language model; qprof runs architectures whose names end in "
            f"{' or '.join(_CAUSAL)}, and those that transformers runs as one"
        )
    return names[0]


def _refuse_missing_tokenizer(path: Path) -> None:
    if not any(all((path / name).is_file() for name in names) for names in _TOKENIZERS):
        raise ModelError(f"{path}: has no tokenizer (tokenizer.json); copy it from the original model")


def quantization_settings(path: Path, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """The quantizer's settings as stored, from whichever of the places holds them."""
    for key in ("quantization_config", "compression_config"):  # the second of compressed-tensors before 0.6
        inside = config.get(key)
        if isinstance(inside, dict) and inside:
            return dict(inside)
    for name in (QUANTIZE_CONFIG, OLD_AWQ_CONFIG):
        if (path / name).is_file():
            return read_json(path / name)
    return None


def _has_autogptq_keys(path: Path) -> bool:
    settings = quantization_settings(path, read_json(path / CONFIG)) or {}
    beside = read_json(path / QUANTIZE_CONFIG) if (path / QUANTIZE_CONFIG).is_file() else {}
    return bool(_AUTOGPTQ_KEYS & (set(settings) | set(beside)))


def _quantization(path: Path, config: Mapping[str, Any]) -> QuantizedFormat | None:
    settings = quantization_settings(path, config)
    if settings is None:
        return None
    method = foreign.method_of(settings)
    if method is not None and (form := forms.form_named(method)) is not None:
        return _of_form(path, form, method, settings)
    if method != "gptq":
        raise foreign.refusal(path, method)
    layout = settings.get("checkpoint_format") or settings.get("format")
    if settings.get("is_marlin_format") or (layout is not None and layout not in FORMATS):
        raise ModelError(
            f"{path}: stored in the layout {layout or 'marlin'!r}, which one kernel alone reads; qprof runs the "
            f"layouts {' and '.join(FORMATS)}"
        )
    try:
        return QuantizedFormat(
            bits=int(settings["bits"]),
            group_size=int(settings["group_size"]),
            desc_act=bool(settings.get("desc_act", False)),
            sym=bool(settings.get("sym", True)),
            writer=_writer(settings),
            checkpoint_format=layout,
        )
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise ModelError(f"{path}: its quantization settings lack {error}; restore {QUANTIZE_CONFIG}") from error


def _of_form(path: Path, form: forms.Form, method: str, settings: Mapping[str, Any]) -> QuantizedFormat:
    try:
        found = form.settings(settings)
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise ModelError(
            f"{path}: quantized with {method}, and its quantization_config lacks {error}; make it again by {form.title}"
        ) from error
    return QuantizedFormat(
        bits=found.bits,
        group_size=found.group_size,
        desc_act=False,
        sym=found.sym,
        writer=_writer(settings),
        checkpoint_format=method,
        quant_method=method,
        scheme=found.scheme,
    )


def _linears_of_form(
    path: Path, quantization: QuantizedFormat | None, files: Sequence[Path], tensors: Mapping[str, StoredTensor]
) -> dict[str, tuple[int, int]]:
    form = None if quantization is None else forms.form_named(quantization.quant_method)
    if form is None:
        return {}
    try:
        found = form.linears(files, tensors)
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path}: the shapes of its packed weights cannot be read ({error}); make it again") from error
    if not found:
        raise ModelError(
            f"{path}: its settings say that it is quantized with {form.title}, and none of its tensors is; take the "
            "settings out, or make it again"
        )
    return found


def _writer(settings: Mapping[str, Any]) -> str:
    meta = settings.get("meta")
    names = meta.get("quantizer") if isinstance(meta, dict) else None
    if isinstance(names, list) and names:
        return str(names[0]).split(":")[0]
    if isinstance(names, str) and names:
        return names.split(":")[0]
    return "autogptq" if _AUTOGPTQ_KEYS & set(settings) else "unknown"


def _main_dtype(tensors: Mapping[str, StoredTensor]) -> str:
    sizes: dict[str, int] = {}
    for tensor in tensors.values():
        if tensor.is_float:
            sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.bytes
    return max(sizes, key=lambda dtype: sizes[dtype]) if sizes else "unknown"


def _is_tied(config: Mapping[str, Any], tensors: Mapping[str, StoredTensor]) -> bool:
    stored = config.get("tie_word_embeddings")
    return stored if isinstance(stored, bool) else not any("lm_head" in name for name in tensors)


def _linears(tensors: Mapping[str, StoredTensor], transposed: bool) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for name, tensor in tensors.items():
        match = _IN_LAYER.match(name)
        if match is None or len(tensor.shape) != 2:
            continue
        module = match["module"]
        if match["kind"] == "qweight":
            indices = tensors.get(f"{module}.g_idx")
            if indices is not None:
                found[module] = (indices.shape[0], tensor.shape[1])
        else:
            rows, columns = tensor.shape
            found[module] = (rows, columns) if transposed else (columns, rows)
    return {running_name(module): features for module, features in found.items()}


def running_name(stored: str) -> str:
    """The name by which a linear runs: checkpoints like Mixtral's keep the names that transformers had for experts at
    first ("block_sparse_moe.experts.0.w1"), and it calls them otherwise by now, as gptqmodel does."""
    found = _OLD_EXPERT.fullmatch(stored)
    if found is None:
        return stored
    return f"{found['layer']}.mlp.experts.{found['number']}.{_EXPERT_PARTS[found['part']]}"


def widths(linears: Mapping[str, tuple[int, int]]) -> Sequence[int]:
    """The different in_features of linear layers, ascending."""
    return sorted({in_features for in_features, _ in linears.values()})
