"""A float .tflite whose numbers are cut off where those of a quantized file are: it tells what the ranges cost, and not
the steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qprof.errors import ModelError
from qprof.runtimes.litert import cache
from qprof.runtimes.litert.edit import ModelFile, edited, named, open_file
from qprof.runtimes.litert.model_facts import OpFacts
from qprof.runtimes.litert.ops_from import Edit

_FLOAT = "float32"
_INTEGERS = ("int8", "uint8", "int16")


def within_ranges(path: Path, variant: Path, pairs: Sequence[tuple[str, str]]) -> Path:
    """The model with its inputs, and what some ops give, cut off at the ends of the variant's ranges, made once and
    taken from the cache ever after.

    `pairs`: (op of the model, op of the variant), of the main subgraphs, by name. What the variant has in float has no
    range, and stays as it is.

    Raises:
        ModelError: a file cannot be read, has no such op, the two take or give other tensors, the model's are not
            float32, or nothing of the variant has a range.
        StoreError: the cache cannot be written.
    """
    wanted = sorted(set(pairs))

    def edit(file: ModelFile) -> None:
        source = open_file(variant)
        ops = {named(path, file.graph, own).index: named(variant, source.graph, other) for own, other in wanted}
        _Within(file, source, ops).edit()

    settings = {"variant": cache.content_sha256(variant), "pairs": wanted}
    return edited(path, "within ranges", settings, edit, f"with {len(wanted)} ops cut off as in {variant.name}")


class _Within(Edit):
    """`ops`: index of an op of the file -> the op of the source whose ranges it gets."""

    def __init__(self, file: ModelFile, source: ModelFile, ops: dict[int, OpFacts]) -> None:
        super().__init__(file)
        self.source, self.ops = source, ops

    def edit(self) -> None:
        cut = self._cut_inputs()
        for op in self.file.graph.ops:
            operator = self.file.main.operators[op.index]
            self.operators.append(operator)
            if op.index not in self.ops:
                continue
            other = self.ops[op.index]
            if len(op.outputs) != len(other.outputs):
                raise ModelError(f"{self.file.path}: {op.name!r} does not give as many tensors as {other.name!r}")
            for place, (index, its) in enumerate(zip(op.outputs, other.outputs, strict=True)):
                ends = self._range(index, its)
                if ends is not None:
                    # Written from a new tensor, so that all that reads it stays as it is.
                    operator.outputs[place] = self.added(self.file.main.tensors[index], in_float=True)
                    self._cut_off(int(operator.outputs[place]), *ends, index)
                    cut += 1
        if not cut:
            raise ModelError(f"{self.source.path}: none of these ops gives numbers within a range")
        self.file.main.operators = self.operators

    def _cut_inputs(self) -> int:
        """Cut the inputs off as the variant stores them, itself or by the op that reads them; how many."""
        graph, source, main = self.file.graph, self.source.graph, self.file.main
        if len(graph.inputs) != len(source.inputs):
            raise ModelError(f"{self.file.path}: does not take as many tensors as {self.source.path}")
        instead: dict[int, int] = {}
        for index, its in zip(graph.inputs, source.inputs, strict=True):
            stored = [op.outputs[0] for op in source.ops if op.type == "QUANTIZE" and its in op.inputs]
            ends = self._range(index, stored[0] if len(stored) == 1 else its)
            if ends is not None:
                instead[index] = self.added(main.tensors[index], in_float=True)
                self._cut_off(index, *ends, instead[index])
        for operator in main.operators:
            operator.inputs = np.asarray([instead.get(int(index), int(index)) for index in operator.inputs], np.int32)
        return len(instead)

    def _range(self, index: int, its: int) -> tuple[float, float] | None:
        """The real numbers at the ends of the variant's range; `None` where it has none."""
        own, other = self.file.graph.tensors[index], self.source.graph.tensors[its]
        if other.dtype not in _INTEGERS or other.quantization.kind != "per-tensor":
            return None
        if own.dtype != _FLOAT or own.shape != other.shape:
            raise ModelError(f"{self.file.path}: {own.label} cannot be cut off as {other.label} of {self.source.path}")
        quantization = self.source.main.tensors[its].quantization
        limits = np.iinfo(other.dtype)
        scale, zero = float(quantization.scale[0]), int(quantization.zeroPoint[0])
        return (limits.min - zero) * scale, (limits.max - zero) * scale

    def _cut_off(self, read: int, low: float, high: float, written: int) -> None:
        """Add the ops that write what `read` holds between two numbers."""
        above = self.added(self.file.main.tensors[read], in_float=True)
        for name, given, limit, gives in (("MAXIMUM", read, low, above), ("MINIMUM", above, high, written)):
            code = getattr(self.schema.BuiltinOperator, name)
            kind = self.schema.OperatorCodeT(builtinCode=code, deprecatedBuiltinCode=code, version=1)
            made: Any = self.schema.OperatorT(
                opcodeIndex=self.code(kind),
                inputs=np.asarray([given, self._number(limit)], np.int32),
                outputs=np.asarray([gives], np.int32),
            )
            made.builtinOptionsType = self.schema.BuiltinOptions.MaximumMinimumOptions
            made.builtinOptions = self.schema.MaximumMinimumOptionsT()
            self.operators.append(made)

    def _number(self, value: float) -> int:
        """A constant of one float."""
        buffers, tensors = self.file.objects.buffers, self.file.main.tensors
        buffers.append(self.schema.BufferT(data=np.asarray([value], np.float32).view(np.uint8)))
        made = self.schema.TensorT(
            name=b"qprof/limit%d" % len(tensors),
            shape=np.asarray([], np.int32),
            type=self.schema.TensorType.FLOAT32,
            buffer=len(buffers) - 1,
        )
        tensors.append(made)
        return len(tensors) - 1
