"""Finished .tflite files, changed: read once, edited as objects, refused where LiteRT would not run them, and kept.

The kinds of change stand in modules of their own (`cut`, `bypass`, `constants_from`, `halves`, `patch`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qprof.errors import ModelError, QprofError
from qprof.runtimes.litert import cache
from qprof.runtimes.litert.flatbuffer import read_model
from qprof.runtimes.litert.loadable import refuse_unloadable_file
from qprof.runtimes.litert.model_facts import OpFacts, SubgraphFacts
from qprof.runtimes.litert.objects import packed, read_content, unpack
from qprof.runtimes.litert.variant import MadeVariant, file_sha256, write_atomically
from qprof.runtimes.tool_output import first_line
from qprof.store.own import OwnFolder

#: Part of every key: raise it where a change of an edit changes the bytes that are made.
_REVISION = "3"


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file that is read: what it holds, checked (`graph`, of its main subgraph), and the objects to be changed."""

    path: Path
    graph: SubgraphFacts
    objects: Any

    @property
    def main(self) -> Any:
        """The main subgraph's objects; its tensors and operators have the places that `graph` gives them."""
        return self.objects.subgraphs[0]


def open_file(path: Path) -> ModelFile:
    """A file, read and checked. Raises `ModelError` where it is missing, damaged, or no .tflite with its weights."""
    facts = read_model(path)  # first: it checks every offset
    objects = unpack(path, read_content(path))
    if getattr(objects, "externalBuffers", None):
        raise ModelError(f"{path}: keeps weights in files of their own, which are not edited; convert it to one file")
    return ModelFile(path, facts.subgraphs[0], objects)


def edited(path: Path, method: str, settings: Mapping[str, Any], edit: Callable[[ModelFile], None], what: str) -> Path:
    """The file with a change, made once and taken from the cache ever after.

    `method` and `settings` name the change, in the cache's key; `edit` makes it; `what` says in messages what is made.

    Raises:
        ModelError: the file cannot be read, the change does not fit it, or LiteRT does not run what comes out.
        StoreError: the cache cannot be written.
    """
    key = cache.key(path, method, settings, None, {"qprof edit": _REVISION})
    if stored := cache.lookup(key):
        return stored.path
    started = time.perf_counter()
    content = _changed(path, edit, what)
    with OwnFolder() as folder:
        destination = folder / "model.tflite"
        write_atomically(destination, content)
        refuse_unloadable_file(destination, f"{path} {what}", "nothing can be tested with it")
        made = MadeVariant(
            path=destination,
            sha256=file_sha256(destination),
            bytes=len(content),
            method=method,
            seconds=time.perf_counter() - started,
            tool="none",
            tool_version="",
            settings=dict(settings),
        )
        return cache.store(key, made).path


def _changed(path: Path, edit: Callable[[ModelFile], None], what: str) -> bytes:
    file = open_file(path)
    try:
        edit(file)
        _drop_unread(file.objects)
        return packed(file.objects)
    except QprofError:
        raise
    except Exception as error:  # a file that is damaged where nothing checks it can raise nearly anything
        raise ModelError(f"{path}: cannot be made {what} ({first_line(error)}); check the file") from error


def _drop_unread(objects: Any) -> None:
    """Take the contents of constants that nothing reads any more out of the file."""
    kept = {metadata.buffer for metadata in objects.metadata or ()}
    for graph in objects.subgraphs:
        read = {int(i) for op in graph.operators for i in op.inputs} | {int(i) for i in [*graph.inputs, *graph.outputs]}
        # Scales of blocks lie in a tensor of their own.
        read |= {_scales_tensor(graph.tensors[i]) for i in read if i >= 0}
        kept |= {graph.tensors[i].buffer for i in read if i >= 0}
    for number, buffer in enumerate(objects.buffers):
        if number not in kept:
            buffer.data = None


def _scales_tensor(tensor: Any) -> int:
    return int(getattr(getattr(tensor.quantization, "details", None), "scales", -1))


def named(path: Path, graph: SubgraphFacts, name: str) -> OpFacts:
    """The one op of a file's main subgraph with this name. Raises `ModelError` where there is none, or more."""
    found = [op for op in graph.ops if op.name == name]
    if len(found) != 1:
        count = "no op" if not found else f"{len(found)} ops"
        raise ModelError(f"{path}: has {count} named {name!r}; `qprof layers` lists the names")
    return found[0]


def activations(op: OpFacts, graph: SubgraphFacts) -> list[int]:
    """The distinct tensors that an op reads and that other ops or the model's inputs write."""
    return [
        index
        for index in dict.fromkeys(op.inputs)
        if index >= 0 and not graph.tensors[index].constant and index not in graph.constant_behind
    ]


def readers(graph: SubgraphFacts, tensor: int) -> list[OpFacts]:
    """The ops that read a tensor."""
    return [op for op in graph.ops if tensor in op.inputs]


def keep_ops(file: ModelFile, kept: Collection[int], inputs: Sequence[int], outputs: Sequence[int]) -> None:
    """Leave these ops alone in the main subgraph, by index, between these tensors. Ops that only unpack a constant are
    kept where an op reads it, whether they are named or not."""
    graph = file.graph
    read = {index for op in graph.ops if op.index in kept for index in op.inputs} | set(outputs)
    stays = []
    for op in reversed(graph.ops):  # an unpacked constant may be unpacked in two steps
        if read.intersection(op.outputs) if _unpacks(op, graph) else op.index in kept:
            stays.append(op.index)
            read.update(op.inputs)
    file.main.operators = [file.main.operators[index] for index in sorted(stays)]
    file.main.inputs, file.main.outputs = list(inputs), list(outputs)
    file.objects.signatureDefs = []  # they name inputs and outputs that may be gone


def needed(file: ModelFile, inputs: Collection[int], outputs: Collection[int]) -> set[int]:
    """The ops that compute `outputs` from `inputs`, by index.

    Raises `ModelError` for a model that keeps a state in variables, whose ops do not follow from what they read alone.
    """
    wanted = set(outputs) - set(inputs)
    found = set()
    for op in reversed(file.graph.ops):
        if not op.outputs:
            raise ModelError(f"{file.path}: its {op.type} keeps a state between ops; such a model is not taken apart")
        if wanted.intersection(op.outputs):
            found.add(op.index)
            wanted.update(index for index in op.inputs if index >= 0 and index not in inputs)
    return found


def _unpacks(op: OpFacts, graph: SubgraphFacts) -> bool:
    return any(output in graph.constant_behind for output in op.outputs)
