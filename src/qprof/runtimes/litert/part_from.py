"""A .tflite a part of which is its baseline's: some ops out, the baseline's ops in, between the same tensors.

A layer that was made wider, or is computed on a larger image and scaled back, differs inside; what goes into it and
what comes out of it is the same in both models. There the baseline's part fits into its place.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qprof.errors import ModelError
from qprof.runtimes.litert import cache
from qprof.runtimes.litert.edit import ModelFile, activations, edited, named, open_file
from qprof.runtimes.litert.model_facts import OpFacts, TensorFacts
from qprof.runtimes.litert.ops_from import Transplant


def part_from(
    path: Path, baseline: Path, out: Sequence[str], into: Sequence[str], pairs: Sequence[tuple[str, str]]
) -> Path:
    """The model without the ops `out` and with the baseline's ops `into` in their place, of the main subgraphs, by
    name; made once and taken from the cache ever after.

    `pairs`: (op of the model, op of the baseline), those around the part that correspond. They tell which tensors of
    the two are the same.

    Raises:
        ModelError: a file cannot be read or has no such op, or the part does not fit: what it reads or gives is of
            another shape or number format, or is nothing that the other model has.
        StoreError: the cache cannot be written.
    """
    gone, come, around = sorted(set(out)), sorted(set(into)), sorted(set(pairs))

    def edit(file: ModelFile) -> None:
        source = open_file(baseline)
        goes = {named(path, file.graph, name).index for name in gone}
        if not any(op.macs for op in file.graph.ops if op.index not in goes):
            raise ModelError(f"{path}: these ops are the whole model; without them it would be {baseline.name}")
        comes = sorted((named(baseline, source.graph, name) for name in come), key=lambda op: op.index)
        like = {named(path, file.graph, own).index: named(baseline, source.graph, other) for own, other in around}
        _Part(file, source, goes, comes, like).edit()

    settings = {"baseline": cache.content_sha256(baseline), "out": gone, "into": come, "pairs": around}
    return edited(path, "part from", settings, edit, f"with {len(come)} ops of {baseline.name}")


class _Part(Transplant):
    """`goes`: ops of the file, by index; `comes`: ops of the source; `around`: op of the file -> its counterpart.
    `place`: tensor of the source -> the tensor of the file that holds the same."""

    def __init__(
        self,
        file: ModelFile,
        source: ModelFile,
        goes: set[int],
        comes: Sequence[OpFacts],
        around: Mapping[int, OpFacts],
    ) -> None:
        super().__init__(file, source)
        self.goes, self.comes, self.around = goes, comes, around
        self.place = dict(zip(source.graph.inputs, file.graph.inputs, strict=False))
        for index, other in around.items():
            if index not in goes:
                self.place.update(zip(other.outputs, file.graph.ops[index].outputs, strict=False))

    def edit(self) -> None:
        graph, main = self.file.graph, self.file.main
        own = {output for op in graph.ops if op.index in self.goes for output in op.outputs}
        before = dict(self.place)
        for op in self.comes:
            if op.subgraphs:
                raise ModelError(f"{self.source.path}: {op.name!r} runs other ops; a part with it is not put elsewhere")
            for index in op.outputs:
                self.place[index] = self._new(index)
        stay = [op for op in graph.ops if op.index not in self.goes]
        for op in stay:
            for at, index in enumerate(op.inputs):
                if index in own:
                    main.operators[op.index].inputs[at] = self._instead(op, at, index)
        outputs = [self._given_out(at, index, own) for at, index in enumerate(graph.outputs)]
        made = [self._brought(op, before) for op in self.comes]
        main.outputs = np.asarray(outputs, np.int32)
        main.operators = list(_in_order([*(main.operators[op.index] for op in stay), *made]))

    def _new(self, index: int) -> int:
        tensor = copy.deepcopy(self.source.main.tensors[index])
        if self.source.graph.tensors[index].variable:
            raise ModelError(f"{self.source.path}: {tensor.name!r} keeps a state; a part with it is not put elsewhere")
        tensor.buffer = 0
        self.file.main.tensors.append(tensor)
        return len(self.file.main.tensors) - 1

    def _brought(self, op: OpFacts, before: Mapping[int, int]) -> Any:
        inner = {index for other in self.comes for index in other.outputs}
        inputs, read = [], activations(op, self.source.graph)
        for index in op.inputs:
            if index in read and index not in inner:
                tensor = self.source.graph.tensors[index]
                if index not in before:
                    raise ModelError(
                        f"{self.source.path}: {op.name!r} reads {tensor.name!r}, which has no counterpart in "
                        f"{self.file.path.name}"
                    )
                self._refuse_other(op.name, tensor, self.file.graph.tensors[before[index]])
            inputs.append(index if index < 0 else self.place[index] if index in read else self.constant_of(index))
        return self.operator_of(
            self.source.main.operators[op.index], inputs, [self.place[index] for index in op.outputs]
        )

    def _instead(self, reader: OpFacts, at: int, index: int) -> int:
        """The tensor that a reader is given in place of one that goes."""
        other = self.around.get(reader.index)
        if other is None or at >= len(other.inputs) or other.inputs[at] not in self.place:
            raise ModelError(
                f"{self.file.path}: {reader.name!r} reads {self.file.graph.tensors[index].name!r}, for which "
                f"{self.source.path.name} has nothing there; name that op as well"
            )
        found = other.inputs[at]
        self._refuse_other(reader.name, self.source.graph.tensors[found], self.file.graph.tensors[index])
        return self.place[found]

    def _given_out(self, at: int, index: int, own: set[int]) -> int:
        if index not in own:
            return index
        outputs = self.source.graph.outputs
        if len(outputs) != len(self.file.graph.outputs) or outputs[at] not in self.place:
            raise ModelError(f"{self.file.path}: its output {at} is made by these ops, and has no counterpart")
        found, tensors = self.place[outputs[at]], self.file.main.tensors
        self._refuse_other("the model", self.source.graph.tensors[outputs[at]], self.file.graph.tensors[index])
        # Tasks know outputs by their names.
        tensors[found].name, tensors[index].name = tensors[index].name, tensors[found].name
        return found

    def _refuse_other(self, reader: str, theirs: TensorFacts, ours: TensorFacts) -> None:
        scales = [(one.quantization.first_scale, one.quantization.first_zero_point or 0) for one in (theirs, ours)]
        if (theirs.shape, theirs.dtype) != (ours.shape, ours.dtype) or scales[0] != scales[1]:
            how = "" if theirs.label != ours.label else " with another scale"
            raise ModelError(
                f"{self.file.path}: {reader!r} reads {ours.label}, and {theirs.label}{how} in {self.source.path.name}: "
                "the part does not fit"
            )


def _in_order(operators: Sequence[Any]) -> Iterator[Any]:
    """Each op behind those whose outputs it reads, as early as it stands in the sequence."""
    written = {int(index) for op in operators for index in op.outputs}
    done: set[int] = set()
    left = list(operators)
    while left:
        ready = next((op for op in left if all(int(i) not in written or int(i) in done for i in op.inputs)), None)
        if ready is None:
            raise ModelError("these ops read one another's outputs in a circle: the part does not fit")
        left.remove(ready)
        done.update(int(index) for index in ready.outputs)
        yield ready
