"""GGUF files, llama.cpp's format (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).

transformers reads them and turns every tensor into float numbers when it loads them. So the size is the file's, and the
scores are what its numbers give, but the speed and the memory are those of a float model.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

from qprof.errors import MissingExtraError, ModelError, QprofError
from qprof.record.stored import StoredFiles, StoredPart
from qprof.runtimes.base import Made
from qprof.runtimes.tool_output import first_line, tool_output_to_log
from qprof.runtimes.torch_lm import library
from qprof.runtimes.torch_lm.build_bound import built_within, most_parameters
from qprof.runtimes.torch_lm.formats.base import Format, refuse_kernel
from qprof.runtimes.torch_lm.formats.gguf_header import refuse_damaged
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
from qprof.store.cache import file_sha256

_SUFFIX, _MAGIC = ".gguf", b"GGUF"
_PACKAGES = ("torch", "transformers", "gguf")
#: How llama.cpp names the parts of a model that it has split.
_SPLIT = re.compile(r"-\d{5}-of-(\d{5})\.gguf\Z")
_NOTE = (
    "a GGUF file, which transformers turns into float numbers when it loads it: its size and its scores are the "
    "file's, its speed, memory and energy are a float model's and say nothing of llama.cpp"
)


class GGUFFormat(Format):
    """A .gguf file, or a folder with one and no other weights."""

    def has(self, path: Path) -> bool:
        return path.suffix == _SUFFIX or bool(_files(path))

    def make(self, path: Path, section: CheckpointVariant, device: str) -> Made:
        file = file_of(path)
        refuse_kernel(file, section.kernel)
        reader, types = _read(file)
        dtype = section.dtype or default_dtype(device)
        facts = {
            "library": "transformers",
            "format": "gguf",
            "file_type": _file_type(reader),
            "tensor_types": dict(types),
            "dtype": dtype,
            "stored_dtype": types.most_common(1)[0][0],
            "kernel": None,
        }
        size, sha256 = file.stat().st_size, file_sha256(file)
        return Made(file, sha256, size, method="file", run={"dtype": dtype, "kernel": ""}, facts=facts, notes=[_NOTE])

    def load(self, path: Path, device: str, dtype: str, kernel: str) -> LoadedModule:
        file = file_of(path)
        refuse_kernel(file, kernel)
        _require()
        refuse_missing_device(device)
        dtype = dtype or default_dtype(device)
        if dtype not in DTYPES:
            raise ModelError(f"dtype {dtype!r}: models are computed in {', '.join(DTYPES)}")
        started = time.perf_counter()
        module = _load(file, dtype)
        module.to(device).eval().requires_grad_(False)
        facts = {"dtype": dtype, "kernel": None, "load_seconds": time.perf_counter() - started}
        return LoadedModule(module, _tokenizer(file), dtype, None, facts | module_facts(module, device))

    def stored(self, path: Path) -> StoredFiles:
        file = file_of(path)
        reader, _ = _read(file)
        parts = [
            StoredPart(
                name=str(tensor.name),
                bytes=int(tensor.n_bytes),
                dtype=_TYPES.get(tensor.tensor_type.name, tensor.tensor_type.name.lower()),
                elements=int(tensor.n_elements),
                op=str(tensor.name).removesuffix(".weight").rpartition(".")[2],
                at=str(tensor.name),
            )
            for tensor in reader.tensors
        ]
        size = file.stat().st_size
        rest = size - sum(part.bytes for part in parts)
        header = StoredPart(name=f"header of {file.name}, with its tokenizer", kind="structure", bytes=rest)
        return StoredFiles(bytes=size, parts=[*parts, header])


#: A tensor of a block: "blk.0.attn_q.weight".
_BLOCK = re.compile(r"blk\.(\d+)\.")

#: By the names that the rest of qprof has for them; others go by the format's own.
_TYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}


def _files(path: Path) -> list[Path]:
    """The GGUF files of a folder that has no other weights."""
    if not path.is_dir() or any(path.glob("*.safetensors")):
        return []
    return sorted(path.glob(f"*{_SUFFIX}"))


def file_of(path: Path) -> Path:
    """The one file that is meant. Raises `ModelError` where there is none, or more than one, or a part of one."""
    found = _files(path) if path.is_dir() else [path]
    if len(found) > 1 and not _SPLIT.search(found[0].name):
        names = ", ".join(file.name for file in found[:4])
        raise ModelError(f"{path}: has {len(found)} GGUF files ({names}); name one of them")
    if not found or not found[0].is_file():
        raise ModelError(f"{path}: no such GGUF file; check the path")
    if split := _SPLIT.search(found[0].name):
        raise ModelError(
            f"{found[0]}: one of {int(split[1])} parts of a model, which transformers does not join; join them: "
            "llama-gguf-split --merge FIRST OUT"
        )
    return found[0]


def _require() -> None:
    library.require(_PACKAGES[:2])
    if "gguf" not in library.versions(_PACKAGES):
        raise MissingExtraError("GGUF files need the package gguf: pip install 'qprof[gguf]'")


def _read(file: Path) -> tuple[Any, Counter[str]]:
    """What the file says of itself, and how many of its tensors are of each type. Raises `ModelError`."""
    _require()
    import gguf

    try:
        with file.open("rb") as stream:
            magic = stream.read(len(_MAGIC))
        if magic != _MAGIC:
            raise ModelError(f"{file}: no GGUF file (it begins with {magic!r}); check what it is")
        refuse_damaged(file)
        reader = gguf.GGUFReader(str(file))
    except OSError as error:
        raise ModelError(f"{file}: cannot be read ({error.strerror}); check the path") from error
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise ModelError(f"{file}: damaged or cut off: {first_line(error)}; copy or download it again") from error
    types = Counter(str(tensor.tensor_type.name) for tensor in reader.tensors)
    if not types:
        raise ModelError(f"{file}: holds no tensor; copy or download it again")
    _refuse_empty_blocks(file, reader)
    return reader, types


def _refuse_empty_blocks(file: Path, reader: Any) -> None:
    """transformers builds as many blocks as a file claims to have, before it looks for their tensors: of a damaged one
    that takes hours. Raises `ModelError`."""
    found = {match[1] for tensor in reader.tensors if (match := _BLOCK.search(str(tensor.name)))}
    for key, field in reader.fields.items():
        claimed = _said(field) if key.endswith(".block_count") else 0
        if isinstance(claimed, int) and claimed > len(found):
            raise ModelError(
                f"{file}: says {key} = {claimed}, and has tensors of {len(found)} blocks; copy or download it again"
            )


def _said(field: Any) -> Any:
    """What a field holds; of a damaged file a text, a list, or bytes that are no text, which are `None`."""
    try:
        return field.contents()
    except UnicodeDecodeError:
        return None


def _file_type(reader: Any) -> str | None:
    """As llama.cpp calls the mixture of types, e.g. "MOSTLY_Q4_K_M"; `None` where the file does not say."""
    import gguf

    field = reader.get_field("general.file_type")
    said = None if field is None else _said(field)
    return next((str(kind.name) for kind in gguf.LlamaFileType if kind.value == said), None)


def _load(file: Path, dtype: str) -> Any:
    reader, _ = _read(file)
    import torch
    import transformers
    from transformers import AutoModelForCausalLM

    # Where the package `kernels` is installed, it would fetch compiled code for blocks from the hub, and run it.
    config = getattr(transformers, "GgufConfig", None)
    plain = {} if config is None else {"quantization_config": config(dequantize=True)}
    try:
        # Of a file's tensors the sizes stand the other way round.
        stored = most_parameters(tuple(map(int, reversed(tensor.shape))) for tensor in reader.tensors)
        with tool_output_to_log(), built_within(file, stored):
            module, found = AutoModelForCausalLM.from_pretrained(
                str(file.parent),
                gguf_file=file.name,
                dtype=getattr(torch, dtype),
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                **plain,
            )
    except QprofError:
        raise
    except Exception as error:  # from three libraries, for files of whatever make; all of them are told
        if is_out_of_memory(error):
            raise ModelError(
                f"{file}: out of memory while it was loaded; free memory or use a smaller dtype"
            ) from error
        raise ModelError(
            f"{file}: transformers cannot load it: {first_line(error)}; it does not know every architecture and type "
            "that llama.cpp has"
        ) from error
    if missing := sorted(found["missing_keys"]):
        # transformers only warns, and fills them with random numbers.
        raise ModelError(f"{file}: lacks {len(missing)} weights ({missing[0]}); copy or download it again")
    module.tie_weights()
    return module


def _tokenizer(file: Path) -> Any:
    """That of the folder where it has one, else the file's own."""
    from transformers import AutoTokenizer

    if any((file.parent / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
        return load_tokenizer(file.parent)
    try:
        with tool_output_to_log():
            return AutoTokenizer.from_pretrained(
                str(file.parent), gguf_file=file.name, local_files_only=True, trust_remote_code=False
            )
    except Exception as error:  # the tokenizers package raises bare Exception
        raise ModelError(
            f"{file}: its tokenizer cannot be loaded: {first_line(error)}; put the original's tokenizer.json beside it"
        ) from error


FORMAT = GGUFFormat()
