"""A `.pt2` archive before torch opens it, and the bytes it is made of.

`torch.export.load` of torch 2.13 is no safe reader. It unpickles weights and constants that the archive marks
(`use_pickle`, loaded with weights_only=False), pickled custom objects, and example inputs wherever a safe load of them
fails; it looks targets of nodes up as attributes of `torch`, whatever they are; it evaluates size expressions (sympy's
sympify) and guards as Python; and it imports modules that a tree's description names. An archive that was compiled
ahead of time holds machine code. What needs any of these is refused here, by what the archive says of itself; and torch
is given a copy of what was checked, not the file: readers of zip differ in which of two records of one name they take.

Layout: torch/export/pt2_archive/constants.py; schema: torch/_export/serde/schema.py.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qprof.errors import ModelError
from qprof.record.stored import PartKind, StoredFiles, StoredPart

_MODEL = "models/model.json"
_WEIGHTS, _CONSTANTS = "data/weights/", "data/constants/"
_CONFIGS = (_WEIGHTS + "model_weights_config.json", _CONSTANTS + "model_constants_config.json")
_EXAMPLES = "data/sample_inputs/model.pt"

#: What qprof writes beside a graph that it exports: a JSON object.
ABOUT = "qprof.json"
_ABOUT = "extra/" + ABOUT

#: Ops that a graph may call: those of torch that compute on tensors, and sums and comparisons of sizes.
_TARGET = re.compile(
    r"torch\.ops\.(aten|prims|quantized_decomposed|torchvision)\.\w+(\.\w+)?"
    r"|_operator\.(getitem|add|sub|mul|floordiv|mod|neg|eq|ne|lt|le|gt|ge|truediv|pow|and_|or_|not_)"
    r"|math\.(ceil|floor|trunc|sqrt)|torch\.sym_(int|float|not|max|min|sum|ite|sqrt)"
)
#: Ops of aten that reach beyond tensors: files.
_FORBIDDEN = re.compile(r"torch\.ops\.aten\.(from_file|save|load|_?print|_assert_async|_fw_primal)\b.*")

#: A size: symbols ("s0", or as sympy writes them in full), numbers, arithmetic, and torch's functions of sizes.
_SIZE = re.compile(
    r"(\s|[su]\d+|Symbol\('[a-z]{1,3}\d+'(, (positive|nonnegative|integer|real)=(True|False))*\)"
    r"|Integer|Rational|Add|Mul|Pow|\d+(\.\d+)?|[-+*/()%,<>=&|~]|Mod|FloorDiv|CleanDiv|CeilDiv|ModularIndexing|Max|Min|Eq|Ne|Lt|Le|Gt|Ge"
    r"|IntTrueDiv|FloatTrueDiv|ToFloat|PythonMod|TruncToInt|Identity|floor|ceiling|oo|int_oo|True|False)*"
)

#: Keys in a tree of inputs or outputs that name a module to import.
_IMPORTING = ("__enum__", "default_factory", "fqn")

#: What zipfile and json raise for damaged records, and what is not of the types that it should be.
_DAMAGE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError, EOFError, zlib.error)

#: torch's numbers for dtypes in an archive (torch/_export/serde/schema.py, `ScalarType`) -> (name, bits).
_SCALARS = {
    1: ("uint8", 8),
    2: ("int8", 8),
    3: ("int16", 16),
    4: ("int32", 32),
    5: ("int64", 64),
    6: ("float16", 16),
    7: ("float32", 32),
    8: ("float64", 64),
    12: ("bool", 8),
    13: ("bfloat16", 16),
}

#: What torch reads beside a program and its tensors.
_FORMAT = ("archive_format", "archive_version", "byteorder", "version", ".data/version", ".data/serialization_id")

#: JSON of a graph beyond this is no classifier's: parsed, it takes twenty times as much.
_MOST_JSON_BYTES = 64_000_000

HOW_TO_EXPORT = "torch.export.save(torch.export.export(model.eval(), (example,)), 'model.pt2') writes one"


@dataclass(frozen=True, slots=True)
class Archive:
    """What a `.pt2` says of itself. `payloads`: weight or constant -> {"path_name", "tensor_meta", ...}; `sizes`:
    record -> its bytes in the file; `bytes`: of the file; `about`: what qprof wrote beside the graph, if it did."""

    path: Path
    graph: Mapping[str, Any]
    payloads: Mapping[str, Mapping[str, Any]]
    sizes: Mapping[str, int]
    bytes: int
    about: Mapping[str, Any]

    def record(self, name: str) -> str:
        """The record that a weight or constant lies in."""
        path_name = str(self.payloads[name]["path_name"])
        return (_WEIGHTS if path_name.startswith("weight_") else _CONSTANTS) + path_name


def read_archive(path: Path) -> Archive:
    """Read and check an archive; nothing of it is executed or unpickled. Raises `ModelError` where it is none, is
    damaged, or holds what could only be loaded by running it."""
    with _opened(path) as file:
        return _checked(path, file)


def checked_copy(path: Path) -> tuple[Archive, io.BytesIO]:
    """An archive, and one with those records of it that were checked, and no other. Raises as `read_archive`."""
    with _opened(path) as file:
        archive, entries = _checked(path, file), _entries(path, file)
        wanted = {_MODEL, _EXAMPLES, *_CONFIGS, *_FORMAT, *map(archive.record, archive.payloads)}
        copy = io.BytesIO()
        with zipfile.ZipFile(copy, "w") as target:
            for name, info in entries.items():
                if name in wanted or name.startswith("extra/"):
                    target.writestr(f"model/{name}", file.read(info))
    copy.seek(0)
    return archive, copy


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """An archive as a zip file; what reading it raises becomes a `ModelError`."""
    try:
        with zipfile.ZipFile(path) as file:
            yield file
    except zipfile.BadZipFile as error:
        raise ModelError(f"{path}: no .pt2 archive, or cut off ({error}); {HOW_TO_EXPORT}") from error
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or error}); check the file") from error
    except _DAMAGE as error:
        raise ModelError(f"{path}: its archive is damaged ({type(error).__name__}); export it again") from error


def _entries(path: Path, file: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The records by their names inside the one folder of an archive. Raises `ModelError` for what torch does not
    write, and readers of zip take differently."""
    infos = file.infolist()
    if len({info.filename.casefold() for info in infos}) != len(infos):
        raise ModelError(f"{path}: holds two records of one name, which torch does not write; {HOW_TO_EXPORT}")
    if len({info.filename.partition("/")[0] for info in infos}) > 1:
        raise ModelError(f"{path}: holds more than one archive; {HOW_TO_EXPORT}")
    packed = any(info.compress_type != zipfile.ZIP_STORED for info in infos)
    if packed or sum(info.file_size for info in infos) > path.stat().st_size:
        raise ModelError(f"{path}: its records are compressed, or overlap, which torch does not write; {HOW_TO_EXPORT}")
    return {info.filename.partition("/")[2]: info for info in infos}


def _checked(path: Path, file: zipfile.ZipFile) -> Archive:
    plain = {info.filename for info in file.infolist()}
    if any("aotinductor/" in name or name.endswith((".so", ".o", ".cubin")) for name in plain):
        raise ModelError(
            f"{path}: was compiled ahead of time: it holds machine code, and no graph that can be quantized or timed "
            f"by op; give the exported program instead: {HOW_TO_EXPORT}"
        )
    if "serialized_exported_program.json" in plain:
        raise ModelError(f"{path}: is of torch 2.7 or older, whose weights are pickled; export it again with torch 2.8")
    inside = {name.partition("/")[2] for name in plain}
    if any(name.endswith(("data.pkl", "constants.pkl")) for name in plain) and _MODEL not in inside:
        raise ModelError(
            f"{path}: is TorchScript or a pickled module, which is not loaded: it may run anything; {HOW_TO_EXPORT}"
        )
    entries = _entries(path, file)
    if _MODEL not in entries:
        raise ModelError(f"{path}: holds no exported program named 'model'; {HOW_TO_EXPORT}")
    others = [name for name in entries if name.startswith("models/") and name != _MODEL]
    if others:
        raise ModelError(f"{path}: holds several programs ({len(others) + 1}); save each into a file of its own")
    graph = json.loads(_text(path, file, entries[_MODEL]))
    _check_graph(path, graph)
    payloads: dict[str, Mapping[str, Any]] = {}
    for name in _CONFIGS:
        if name not in entries:
            raise ModelError(f"{path}: its weights are pickled, which is not loaded; export it again with torch 2.13")
        found = json.loads(_text(path, file, entries[name]))["config"]
        _check_payloads(path, found)
        payloads |= found
    if _EXAMPLES in entries:
        _check_examples(path, file.read(entries[_EXAMPLES]))
    sizes = {name: info.compress_size for name, info in entries.items()}
    about = json.loads(_text(path, file, entries[_ABOUT])) if _ABOUT in entries else {}
    return Archive(path, graph, payloads, sizes, path.stat().st_size, about if isinstance(about, dict) else {})


def _text(path: Path, file: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    if entry.file_size > _MOST_JSON_BYTES:
        raise ModelError(f"{path}: its {entry.filename[:80]!r} takes {entry.file_size} bytes; that is no network's")
    return file.read(entry)


def _check_payloads(path: Path, payloads: Mapping[str, Any]) -> None:
    for name, payload in payloads.items():
        if payload.get("use_pickle") or not str(payload["path_name"]).startswith(("weight_", "tensor_")):
            raise ModelError(
                f"{path}: {name} is a pickled object, which is not loaded: it may run anything; export a network whose "
                "weights are plain tensors"
            )
        meta = payload.get("tensor_meta")
        if not isinstance(meta, Mapping) or not isinstance(meta.get("dtype"), int):
            raise ModelError(f"{path}: does not say of what type {name} is; export it again")


def _check_graph(path: Path, graph: Mapping[str, Any]) -> None:
    for kind, value in _evaluated(graph):
        if not isinstance(value, str):  # a list of texts is evaluated as they are
            raise ModelError(f"{path}: a {kind} of its graph is no text; export it again")
        if kind == "tree" and ("\\u" in value or any(name in value for name in _IMPORTING)):
            raise ModelError(f"{path}: its inputs or outputs are of types that would have to be imported; take tensors")
        if kind == "target" and (not _TARGET.fullmatch(value) or _FORBIDDEN.fullmatch(value)):
            raise ModelError(
                f"{path}: its graph calls {value[:80]!r}, which is no op of torch's that qprof runs; export it without"
            )
        if kind == "size" and not _SIZE.fullmatch(value):
            raise ModelError(f"{path}: {value[:80]!r} is no size; export it again")


def _evaluated(node: Any) -> Iterator[tuple[str, Any]]:
    """What would be looked up, imported or evaluated, wherever it stands: targets of nodes and operators, sizes, and
    the trees of inputs and outputs. No key is passed over: those of some objects are names that the file chose."""
    pending = [node]
    while pending:
        found = pending.pop()
        if isinstance(found, Mapping):
            for key, value in found.items():
                if _is_called(key, found):
                    yield "target", value
                elif key == "expr_str":
                    yield "size", value
                elif key in ("in_spec", "out_spec"):
                    yield "tree", value
                pending.append(value)
        elif isinstance(found, list):
            pending += found


def _is_called(key: str, holder: Mapping[str, Any]) -> bool:
    """Nodes have a target that is called; signatures have targets that name weights."""
    return key == "as_operator" or (key == "target" and "inputs" in holder)


def _check_examples(path: Path, content: bytes) -> None:
    """Example inputs are a pickle of torch's; where the safe reader does not take it, torch.export would unpickle it
    all the same."""
    import torch

    if not content:
        return
    try:
        torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
    except Exception as error:  # whatever a hostile pickle makes of it, it was not executed
        raise ModelError(
            f"{path}: its example inputs are not plain tensors, and are not unpickled; export it with tensors alone"
        ) from error


def stored_files(path: Path) -> StoredFiles:
    """Every byte of an archive in one part. Raises `ModelError`."""
    archive = read_archive(path)
    parts: list[StoredPart] = []
    counted: set[str] = set()
    for name, payload in archive.payloads.items():
        record = archive.record(name)
        if record in counted:
            continue  # shared with a weight of another name
        counted.add(record)
        dtype, bits = _SCALARS.get(int(payload["tensor_meta"]["dtype"]), ("", 0))
        size = archive.sizes.get(record, 0)
        module, _, operand = name.rpartition(".")
        parts.append(
            StoredPart(
                name=name,
                kind=_kind(name),
                bytes=size,
                dtype=dtype,
                elements=size * 8 // bits if bits else 0,
                op=module.rpartition(".")[2],
                at=f"{module}.{operand}" if module else operand,
            )
        )
    described = {"graph": [_MODEL, *_CONFIGS], "example inputs": [_EXAMPLES]}
    for label, records in described.items():
        kind: PartKind = "structure" if label == "graph" else "metadata"
        parts.append(StoredPart(name=label, kind=kind, bytes=sum(archive.sizes.get(record, 0) for record in records)))
    rest = archive.bytes - sum(part.bytes for part in parts)
    parts.append(StoredPart(name="zip directory and padding", kind="structure", bytes=rest))
    return StoredFiles(bytes=archive.bytes, parts=parts)


def _kind(name: str) -> PartKind:
    own = name.rpartition(".")[2]
    return (
        "scales" if own.startswith(("_scale", "_zero_point")) or own.endswith(("_scale", "_zero_point")) else "tensor"
    )
