"""A .tflite without some of its ops and all that follows from them: what remains can be timed by itself."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from qprof.errors import ModelError
from qprof.runtimes.litert.edit import ModelFile, edited, keep_ops
from qprof.runtimes.litert.flatbuffer import read_model
from qprof.runtimes.litert.model_facts import SubgraphFacts


def following(path: Path, names: Collection[str]) -> set[str]:
    """The named ops of the main subgraph and all that read, directly or not, what they write; by name (their first
    output tensor). Raises `ModelError` where the file cannot be read."""
    graph = read_model(path).subgraphs[0]
    return {graph.ops[index].name for index in ops_following(graph, names)}


def ops_following(graph: SubgraphFacts, names: Collection[str]) -> set[int]:
    """As `following`, by index."""
    tainted: set[int] = set()
    found: set[int] = set()
    for op in graph.ops:
        if op.name in names or not tainted.isdisjoint(op.inputs):
            tainted |= set(op.outputs)
            found.add(op.index)
    return found


def cut(path: Path, names: Collection[str]) -> Path:
    """The model without the named ops and what follows from them, made once and taken from the cache ever after.

    What the dropped ops read from the others becomes the output, beside those outputs that remain.

    Raises:
        ModelError: the file cannot be read, or nothing that runs would remain.
        StoreError: the cache cannot be written.
    """
    dropped = sorted(following(path, names))
    what = f"without {len(dropped)} of its ops"
    return edited(path, "cut", {"dropped": dropped}, lambda file: _cut_main(file, names), what)


def _cut_main(file: ModelFile, names: Collection[str]) -> None:
    graph = file.graph
    gone = ops_following(graph, names)
    kept = [op for op in graph.ops if op.index not in gone]
    made = {index for op in kept for index in op.outputs} - set(graph.constant_behind)
    wanted = [index for op in graph.ops if op.index in gone for index in op.inputs] + list(graph.outputs)
    outputs = [index for index in dict.fromkeys(wanted) if index in made]
    if not outputs:
        raise ModelError(f"{file.path}: nothing that computes would remain of the model; time it whole")
    keep_ops(file, {op.index for op in kept}, graph.inputs, outputs)
