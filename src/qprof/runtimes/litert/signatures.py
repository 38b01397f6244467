"""Which of a file's signatures is run: LiteRT's main subgraph is its first, so another one is put in its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qprof.errors import ModelError
from qprof.record.nearest import nearest
from qprof.record.tensors import TensorSpec
from qprof.runtimes.litert.edit import ModelFile, edited
from qprof.runtimes.litert.flatbuffer import read_model
from qprof.runtimes.litert.model_facts import ModelFacts
from qprof.store.cache import cache_root


def selected(path: Path, signature: str) -> Path:
    """The file with that signature's subgraph as its main one: the file itself where it is, a copy from the cache
    otherwise. Files that qprof has cut out of others are what they are to be already.

    Raises:
        ModelError: the file cannot be read, or has no such signature.
        StoreError: the cache cannot be written.
    """
    if not signature or path.resolve().is_relative_to(cache_root().resolve()):
        return path
    facts = read_model(path)
    known = {one.key: one.subgraph for one in facts.signatures}
    if signature not in known:
        advice = nearest(signature, known) if known else "it has none; leave out the signature"
        raise ModelError(f"{path}: has no signature {signature!r}; {advice}")
    place = known[signature]
    if place == 0:
        return path

    def exchange(file: ModelFile) -> None:
        _exchange(file.objects, place)

    return edited(
        path, "signature", {"signature": signature}, exchange, f"with its signature {signature!r} as the main"
    )


def _exchange(objects: Any, place: int) -> None:
    """Let the first subgraph and another change places, and all that names them follow."""
    places = {0: place, place: 0}
    graphs = objects.subgraphs
    graphs[0], graphs[place] = graphs[place], graphs[0]
    for definition in objects.signatureDefs or ():
        definition.subgraphIndex = places.get(definition.subgraphIndex, definition.subgraphIndex)
    for graph in graphs:
        for op in graph.operators or ():
            for options in (op.builtinOptions, op.builtinOptions2):
                _rename(options, places)


def _rename(options: Any, places: Mapping[int, int]) -> None:
    """Fields of an op's options that number subgraphs: all are called so in the schema, but for CallOptions' one."""
    for field, value in list(vars(options).items()) if options is not None else ():
        if field.endswith("SubgraphIndex") or field == "subgraph":
            setattr(options, field, places.get(int(value), value))
        elif field.endswith("SubgraphIndices") and value is not None:
            setattr(options, field, [places.get(int(one), int(one)) for one in value])


def arguments(facts: ModelFacts) -> dict[int, str]:
    """Input tensor of the main subgraph -> what its first signature calls it."""
    own = next((one for one in facts.signatures if one.subgraph == 0), None)
    return {} if own is None else {tensor: name for name, tensor in own.inputs.items()}


def notes_on_inputs(facts: ModelFacts, inputs: Sequence[TensorSpec], given: Sequence[int]) -> list[str]:
    """What is run of a file that could be run otherwise: one signature of several, and the least extent of dimensions
    that it leaves open. `given`: inputs whose shape was asked for. A batch that is open runs as one; nobody expects
    more."""
    notes = []
    own = next((one.key for one in facts.signatures if one.subgraph == 0), "")
    others = [one.key for one in facts.signatures if one.key != own]
    if others:
        runs = f"its signature {own!r}" if own else "its first subgraph, which has no signature"
        named = ", ".join(repr(key) for key in others[:4]) + (f" and {len(others) - 4} more" if len(others) > 4 else "")
        notes.append(f"{runs} is run; it also has {named} (--signature, or model.signature)")
    for position, spec in enumerate(inputs):
        signature = spec.shape_signature or spec.shape
        batch_alone = len(signature) > 1 and -1 not in signature[1:]
        if position not in given and -1 in signature and not batch_alone:
            name = spec.argument or spec.name
            example = "x".join(str(128 if n < 0 and i else max(n, 1)) for i, n in enumerate(signature))
            notes.append(
                f"input {name!r} leaves its shape open {list(signature)} and is run at {list(spec.shape)}: give the "
                f"shape that it is used with (--shape {name}={example}, or model.input_shapes)"
            )
    return notes
