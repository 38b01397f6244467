"""A .tflite in two files, to time its two parts alone."""

from __future__ import annotations

from pathlib import Path

from qprof.errors import ModelError
from qprof.runtimes.litert.cut import cut, ops_following
from qprof.runtimes.litert.edit import ModelFile, activations, edited, keep_ops, named, needed


def halves(path: Path, name: str) -> tuple[Path, Path]:
    """The model without an op of its main subgraph and all that follows from it, and these ops as a model; both made
    once and taken from the cache ever after.

    What the second reads of the first's tensors, or of the model's inputs, are its inputs, in the order in which its
    ops read them. Its outputs are those of the model's that it writes; the first's are described in `cut`.

    Raises:
        ModelError: the file cannot be read, has no such op, or one part would be empty.
        StoreError: the cache cannot be written.
    """
    return cut(path, {name}), edited(
        path, "second half", {"from": name}, lambda file: _second(file, name), "from it on"
    )


def _second(file: ModelFile, name: str) -> None:
    graph = file.graph
    parts = ops_following(graph, {named(file.path, graph, name).name})
    made = {index for part in parts for index in graph.ops[part].outputs}
    read = [index for part in sorted(parts) for index in activations(graph.ops[part], graph)]
    inputs = [index for index in dict.fromkeys(read) if index not in made]
    outputs = [index for index in graph.outputs if index in made]
    if not inputs or not outputs:
        raise ModelError(f"{file.path}: nothing flows through {name!r} to an output; divide it at another op")
    keep_ops(file, needed(file, inputs, outputs), inputs, outputs)
