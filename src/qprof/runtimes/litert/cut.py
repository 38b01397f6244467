"""A .tflite without some of its ops and all that follows from them: what remains can be timed by itself."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from qprof.errors import ModelError
from qprof.runtimes.litert import cache
from qprof.runtimes.litert.flatbuffer import read_model
from qprof.runtimes.litert.float_model import read_content
from qprof.runtimes.litert.variant import MadeVariant, file_sha256, refuse_unloadable, write_atomically
from qprof.runtimes.tool_output import first_line

#: Part of every key: raise it where a change here changes the bytes that are made.
_REVISION = "1"
_METHOD = "cut"


def following(path: Path, names: Collection[str]) -> set[str]:
    """The named ops of the main subgraph and all that read, directly or not, what they write; by name (their first
    output tensor). Raises `ModelError` where the file cannot be read."""
    main = read_model(path).subgraphs[0]
    tainted: set[int] = set()
    found: set[str] = set()
    for op in main.ops:
        if op.name in names or not tainted.isdisjoint(op.inputs):
            tainted |= set(op.outputs)
            found.add(op.name)
    return found


def cut(path: Path, names: Collection[str]) -> Path:
    """The model without the named ops and what follows from them, made once and taken from the cache ever after.

    What the dropped ops read from the others becomes the output, beside those outputs that remain.

    Raises:
        ModelError: the file cannot be read, or nothing that runs would remain.
        StoreError: the cache cannot be written.
    """
    dropped = sorted(following(path, names))
    key = cache.key(path, _METHOD, {"dropped": dropped}, None, {"qprof cut": _REVISION})
    if stored := cache.lookup(key):
        return stored.path
    with tempfile.TemporaryDirectory(prefix="qprof-") as folder:
        return cache.store(key, _made(path, set(dropped), Path(folder) / "model.tflite")).path


def _made(path: Path, dropped: set[str], destination: Path) -> MadeVariant:
    started = time.perf_counter()
    content = _without(path, dropped)
    refuse_unloadable(content, f"{path} without {len(dropped)} of its ops", "time the whole model instead")
    write_atomically(destination, content)
    return MadeVariant(
        path=destination,
        sha256=file_sha256(destination),
        bytes=len(content),
        method=_METHOD,
        seconds=time.perf_counter() - started,
        tool="none",
        tool_version="",
        settings={"dropped": sorted(dropped)},
    )


def _without(path: Path, dropped: set[str]) -> bytes:
    from ai_edge_litert.tools import flatbuffer_utils  # type: ignore[import-untyped,unused-ignore]

    try:
        model = flatbuffer_utils.read_model_from_bytearray(read_content(path))
        _cut_main(model, dropped)
        return bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    except ModelError:
        raise
    except Exception as error:  # the Python reader checks no offset: a damaged file can raise nearly anything
        raise ModelError(f"{path}: cannot be cut ({first_line(error)}); time the whole model instead") from error


def _cut_main(model: Any, dropped: set[str]) -> None:
    main = model.subgraphs[0]
    names = [main.tensors[op.outputs[0]].name.decode("utf-8", "replace") for op in main.operators]
    kept = [op for op, name in zip(main.operators, names, strict=True) if name not in dropped]
    gone = [op for op, name in zip(main.operators, names, strict=True) if name in dropped]
    made = {int(index) for op in kept for index in op.outputs}
    wanted = [int(index) for op in gone for index in op.inputs] + [int(index) for index in main.outputs]
    outputs = [index for index in dict.fromkeys(wanted) if index in made]
    if not outputs:
        raise ModelError("nothing that computes would remain of the model; time it whole")
    main.operators = kept
    main.outputs = outputs
    model.signatureDefs = []  # they name outputs that are gone
