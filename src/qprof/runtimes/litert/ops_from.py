"""A .tflite some of whose ops are its baseline's: the same op in the baseline's number format, with its constants, and
conversions around it. It tells what a finished file's kernels take, though nothing can be quantized anew.

What the conversions take is in no file. The control has about as many of them, in pairs that undo each other, and the
file's own ops.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qprof.errors import ModelError
from qprof.runtimes.litert import cache
from qprof.runtimes.litert.constants import constant
from qprof.runtimes.litert.edit import ModelFile, activations, edited, named, open_file
from qprof.runtimes.litert.model_facts import OpFacts

_FLOAT, _INTEGERS = "float32", ("int8", "uint8", "int16")
#: The versions of the two ops that know all of `_INTEGERS`.
_CONVERSIONS = {"DEQUANTIZE": 3, "QUANTIZE": 2}


def ops_from(path: Path, baseline: Path, pairs: Sequence[tuple[str, str]]) -> Path:
    """The model with ops of the baseline in place of its own, made once and taken from the cache ever after.

    `pairs`: (op of the model, op of the baseline), of the main subgraphs, by name. What such an op reads is converted
    to float32 and what it gives is converted back, except between two of them.

    Raises:
        ModelError: a file cannot be read, has no such op, or the two ops do not fit into each other's place.
        StoreError: the cache cannot be written.
    """
    wanted = sorted(set(pairs))

    def edit(file: ModelFile) -> None:
        source = open_file(baseline)
        ops = {named(path, file.graph, own).index: named(baseline, source.graph, other) for own, other in wanted}
        _Replacement(file, source, ops).edit()

    settings = {"baseline": cache.content_sha256(baseline), "pairs": wanted}
    return edited(path, "ops from", settings, edit, f"with {len(wanted)} ops of {baseline.name}")


def converted_alike(path: Path, baseline: Path, pairs: Sequence[tuple[str, str]]) -> Path:
    """The model with its own ops and as many numbers converted as by `ops_from`: about half of the tensors between the
    named ops and the others are turned into float32 and back. Kept and raised like it; `ModelError` also where nothing
    is converted."""
    wanted = sorted(set(pairs))

    def edit(file: ModelFile) -> None:
        _Control(file, {named(path, file.graph, own).index for own, _ in wanted}).edit()

    settings = {"baseline": cache.content_sha256(baseline), "pairs": wanted}
    return edited(path, "converted alike", settings, edit, f"with the conversions of {len(wanted)} ops")


class Edit:
    """What edits of a whole graph have in common: a new list of operators."""

    def __init__(self, file: ModelFile) -> None:
        self.file = file
        self.operators: list[Any] = []

    def convert(self, name: str, read: int, written: int) -> None:
        code = getattr(self.schema.BuiltinOperator, name)
        kind = self.schema.OperatorCodeT(builtinCode=code, deprecatedBuiltinCode=code, version=_CONVERSIONS[name])
        self.operators.append(
            self.schema.OperatorT(
                opcodeIndex=self.code(kind),
                inputs=np.asarray([read], np.int32),
                outputs=np.asarray([written], np.int32),
            )
        )

    def code(self, wanted: Any) -> int:
        """The number of an op's kind in the file."""

        def key(code: Any) -> tuple[Any, ...]:
            return code.builtinCode, code.deprecatedBuiltinCode, code.version, code.customCode

        codes = self.file.objects.operatorCodes
        for number, code in enumerate(codes):
            if key(code) == key(wanted):
                return number
        codes.append(copy.deepcopy(wanted))
        return len(codes) - 1

    def added(self, tensor: Any, in_float: bool) -> int:
        """A tensor of the file like another one, its contents computed."""
        made, tensors = copy.deepcopy(tensor), self.file.main.tensors
        made.name, made.buffer = b"qprof/%d" % len(tensors), 0
        if in_float:
            made.type, made.quantization = self.schema.TensorType.FLOAT32, None
        tensors.append(made)
        return len(tensors) - 1

    @property
    def schema(self) -> Any:
        from ai_edge_litert import schema_py_generated

        return schema_py_generated


class Transplant(Edit):
    """An edit that takes ops from another file, the source."""

    def __init__(self, file: ModelFile, source: ModelFile) -> None:
        super().__init__(file)
        self.source = source

    def constant_of(self, index: int) -> int:
        """A constant of the baseline, as a tensor of the file; one that its ops unpack is stored unpacked."""
        graph, main, objects = self.source.graph, self.source.main, self.file.objects
        tensor = copy.deepcopy(main.tensors[index])
        if index in graph.constant_behind:
            real = constant(self.source.objects, graph, graph.constant_behind[index])
            if real is None:
                raise ModelError(
                    f"{self.source.path}: {graph.tensors[index].name} is stored in a form that is not read"
                )
            data = np.ascontiguousarray(real, np.float32).reshape(-1).view(np.uint8)
        else:
            data = self.source.objects.buffers[tensor.buffer].data
        objects.buffers.append(self.schema.BufferT(data=data))
        tensor.buffer = len(objects.buffers) - 1
        self.file.main.tensors.append(tensor)
        return len(self.file.main.tensors) - 1

    def operator_of(self, of: Any, inputs: list[int], outputs: list[int]) -> Any:
        operator = copy.deepcopy(of)
        operator.opcodeIndex = self.code(self.source.objects.operatorCodes[of.opcodeIndex])
        operator.inputs, operator.outputs = np.asarray(inputs, np.int32), np.asarray(outputs, np.int32)
        return operator


class _Replacement(Transplant):
    """`ops`: index of an op of the file -> the op of the source that takes its place. `in_float`: tensor of the file ->
    the tensor that holds the same in float32."""

    def __init__(self, file: ModelFile, source: ModelFile, ops: dict[int, OpFacts]) -> None:
        super().__init__(file, source)
        self.ops = ops
        self.in_float: dict[int, int] = {}

    def edit(self) -> None:
        main, graph = self.file.main, self.file.graph
        stay = [op for op in graph.ops if op.index not in self.ops]
        read = {index for op in stay for index in op.inputs} | set(graph.outputs)
        for op in graph.ops:
            operator = main.operators[op.index]
            if op.index not in self.ops:
                self.operators.append(operator)
                continue
            other = self.ops[op.index]
            self._refuse_misfit(op, other)
            inputs = self._inputs(op, other)
            outputs = [self._given(index, of) for index, of in zip(op.outputs, other.outputs, strict=True)]
            self.operators.append(self.operator_of(self.source.main.operators[other.index], inputs, outputs))
            for index in op.outputs:
                if index in read and self.in_float[index] != index:
                    self.convert("QUANTIZE", self.in_float[index], index)
        main.operators = self.operators

    def _refuse_misfit(self, op: OpFacts, other: OpFacts) -> None:
        if op.subgraphs or other.subgraphs:
            raise ModelError(f"{self._what(op, other)}: an op that runs other ops is not replaced")
        own, its = (
            [[file.graph.tensors[i] for i in group] for group in (activations(one, file.graph), one.outputs)]
            for one, file in ((op, self.file), (other, self.source))
        )
        for mine, theirs in zip(own, its, strict=True):
            if [tensor.shape for tensor in mine] != [tensor.shape for tensor in theirs]:
                raise ModelError(f"{self._what(op, other)}: they read or give tensors of other shapes")
            if any(tensor.dtype != _FLOAT for tensor in theirs):
                raise ModelError(f"{self._what(op, other)}: the baseline's does not compute in float32")
            for tensor in mine:
                if tensor.dtype not in (_FLOAT, *_INTEGERS) or tensor.variable:
                    raise ModelError(f"{self._what(op, other)}: {tensor.label} is not converted to float32")

    def _inputs(self, op: OpFacts, other: OpFacts) -> list[int]:
        its = activations(other, self.source.graph)
        places = dict(zip(its, activations(op, self.file.graph), strict=True))
        return [
            index if index < 0 else self._float(places[index]) if index in places else self.constant_of(index)
            for index in other.inputs
        ]

    def _float(self, index: int) -> int:
        """The tensor that holds in float32 what another one holds, converted where it does not exist yet."""
        if self.file.graph.tensors[index].dtype == _FLOAT:
            return index
        if index not in self.in_float:
            self.in_float[index] = self.added(self.file.main.tensors[index], in_float=True)
            self.convert("DEQUANTIZE", index, self.in_float[index])
        return self.in_float[index]

    def _given(self, index: int, of: int) -> int:
        """The tensor that an op of the baseline writes in place of one of the file's."""
        if self.file.graph.tensors[index].dtype == _FLOAT:
            self.in_float[index] = index
        else:
            self.in_float[index] = self.added(self.source.main.tensors[of], in_float=True)
        return self.in_float[index]

    def _what(self, op: OpFacts, other: OpFacts) -> str:
        return f"{self.file.path}: {op.name!r} ({op.type}) by {other.name!r} ({other.type}) of {self.source.path.name}"


class _Control(Edit):
    """`named`: the ops in question, by index."""

    def __init__(self, file: ModelFile, named: set[int]) -> None:
        super().__init__(file)
        self.named = named

    def edit(self) -> None:
        main, graph = self.file.main, self.file.graph
        chosen = self._half()
        for op in graph.ops:
            operator = main.operators[op.index]
            for index in op.inputs:
                # A tensor that comes from outside goes through a pair where the first of the named ops reads it.
                if op.index in self.named and index in chosen and chosen[index] is None:
                    chosen[index] = self.added(main.tensors[index], in_float=False)
                    self._pair(index, chosen[index])
            if op.index in self.named:
                operator.inputs = np.asarray([chosen.get(i) or i for i in op.inputs], np.int32)
            self.operators.append(operator)
            for place, index in enumerate(op.outputs):
                if op.index in self.named and index in chosen:
                    before = self.added(main.tensors[index], in_float=False)
                    operator.outputs[place] = before
                    self._pair(before, index)
                    del chosen[index]  # its readers read what comes out of the pair, as it was called before
        main.operators = self.operators

    def _half(self) -> dict[int, int | None]:
        """Tensors between the named ops and the others with half of the numbers there: two conversions of each are as
        many as one of all. -> the tensor in its place, `None` so far."""
        graph = self.file.graph
        inside = [op for op in graph.ops if op.index in self.named]
        given = {index for op in inside for index in op.outputs}
        read = {i for op in graph.ops if op.index not in self.named for i in op.inputs} | set(graph.outputs)
        border = {i for op in inside for i in activations(op, graph) if i not in given} | (given & read)
        sizes = {i: math.prod(graph.tensors[i].shape) for i in border if graph.tensors[i].dtype in _INTEGERS}
        if not sizes:
            raise ModelError(f"{self.file.path}: nothing is converted around these ops")
        chosen: dict[int, int | None] = {}
        left = sum(sizes.values()) / 2
        for index in sorted(sizes, key=lambda i: (-sizes[i], i)):
            if sizes[index] <= left or not chosen:
                chosen[index] = None
                left -= sizes[index]
        return chosen

    def _pair(self, read: int, written: int | None) -> None:
        assert written is not None
        between = self.added(self.file.main.tensors[read], in_float=True)
        self.convert("DEQUANTIZE", read, between)
        self.convert("QUANTIZE", between, written)
