"""Files of LiteRT models that tests spoil and add ops to, and what they then compute."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from qprof.record.manifest import VariantEntry
from qprof.record.model import Model
from qprof.record.quantization import dequantize
from qprof.runtimes.litert.edit import ModelFile, open_file
from qprof.runtimes.litert.flatbuffer import read_model
from qprof.runtimes.litert.model_facts import OpFacts
from qprof.runtimes.litert.objects import packed


def ops_of(path: Path) -> tuple[OpFacts, ...]:
    return read_model(path).subgraphs[0].ops


def names(path: Path) -> list[str]:
    return [op.name for op in ops_of(path)]


def written(path: Path, destination: Path, edit: Callable[[ModelFile], None]) -> Path:
    """A file, edited by a test."""
    file = open_file(path)
    edit(file)
    destination.write_bytes(packed(file.objects))
    return destination


def with_weight_scale(path: Path, destination: Path, op: int, factor: float) -> Path:
    """A model one of whose ops takes its weights for `factor` times what they were."""

    def edit(file: ModelFile) -> None:
        tensor = file.main.tensors[file.graph.ops[op].inputs[1]]
        tensor.quantization.scale = np.asarray(tensor.quantization.scale, np.float32) * np.float32(factor)

    return written(path, destination, edit)


def add_op(file: ModelFile, code: str, inputs: Sequence[int], like: int, version: int = 1, **changes: Any) -> int:
    """Append an op that writes a new tensor like another but for some fields; the new tensor. It is to be put where it
    belongs: see `behind`."""
    tensor = copy.deepcopy(file.main.tensors[like])
    tensor.name, tensor.buffer = f"{code}/{len(file.main.tensors)}".encode(), 0
    for field, value in changes.items():
        setattr(tensor, field, value)
    file.main.tensors.append(tensor)
    known = schema.OperatorCodeT()
    known.builtinCode = getattr(schema.BuiltinOperator, code)
    known.deprecatedBuiltinCode, known.version = min(known.builtinCode, 127), version
    file.objects.operatorCodes.append(known)
    op = schema.OperatorT()
    op.opcodeIndex = len(file.objects.operatorCodes) - 1
    op.inputs, op.outputs = list(inputs), [len(file.main.tensors) - 1]
    file.main.operators.append(op)
    return len(file.main.tensors) - 1


def behind(file: ModelFile, tensor: int, add: Callable[[int], int]) -> None:
    """Let what reads a tensor, and the model's outputs, read what `add` makes of it with ops that it appends."""
    old = list(file.main.operators)
    new = add(tensor)
    added = file.main.operators[len(old) :]
    for op in old:
        op.inputs = [new if index == tensor else index for index in op.inputs]
    file.main.outputs = [new if index == tensor else index for index in file.main.outputs]
    writer = next((i for i, op in enumerate(old) if tensor in op.outputs), -1)
    file.main.operators = [*old[: writer + 1], *added, *old[writer + 1 :]]


def run(model: Model, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """The outputs as stored."""
    model.set_inputs(inputs)
    model.invoke()
    return model.outputs()


def real(model: Model, inputs: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    """What the first output stands for."""
    return dequantize(run(model, inputs)[0], model.loaded.outputs[0])


def sqnr_db(reference: NDArray[Any], value: NDArray[Any]) -> float:
    """Signal to quantization noise ratio: infinite where nothing differs."""
    noise = float(np.square(np.float64(reference) - value).sum())
    return float("inf") if noise == 0 else 10 * float(np.log10(np.square(np.float64(reference)).sum() / noise))


def entry(path: Path, name: str = "variant", **section: Any) -> VariantEntry:
    """What a manifest has of a finished file."""
    return VariantEntry(name=name, path=str(path), section={"name": name, "file": str(path), **section})


def made_entry(path: Path, method: str) -> VariantEntry:
    """What a manifest has of a variant that was made of a float model."""
    return VariantEntry(name=method, path=str(path), section={"name": method, "method": method, "delegate": None})
