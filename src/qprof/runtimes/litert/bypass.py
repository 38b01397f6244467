"""A .tflite without some ops in its middle: what read their output reads their input instead.

It is the same computation where what is cut out is an identity (a DEQUANTIZE with the QUANTIZE that undoes it), and
another of the same shapes where it is not: for latency the op is then gone, whatever the scores.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qprof.errors import ModelError
from qprof.runtimes.litert.constants import bias_of
from qprof.runtimes.litert.edit import ModelFile, activations, edited, keep_ops, readers
from qprof.runtimes.litert.flatbuffer import read_model
from qprof.runtimes.litert.model_facts import OpFacts, TensorFacts

_CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")

#: Ops that read a tensor's scale from the tensor; all others expect the scale of their output.
_RESCALING = frozenset(
    {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "ADD", "SUB", "MUL", "QUANTIZE", "DEQUANTIZE", "MEAN", "SUM"}
) | {"LOGISTIC", "TANH", "SOFTMAX", "LEAKY_RELU", "PRELU", "HARD_SWISH", "RELU", "RELU6"}


def bypassed(path: Path, names: Collection[str]) -> Path:
    """The model without the named ops of its main subgraph, made once and taken from the cache ever after.

    An op's output is replaced by the first of its inputs that is no constant and has the output's shape and type, or
    else by the first that is no constant; where that is the output of another named op, by its replacement. Shape and
    type have to fit where the chain of named ops ends. A scale may differ where the reader goes by its input's; a bias
    is then scaled anew.

    At the model's border a chain of QUANTIZE and DEQUANTIZE may be cut off though the types differ: the model then
    takes or gives what they converted to or from, under the name that the input or output had.

    Raises:
        ModelError: the file cannot be read, has no such op, or its ops do not fit; with the reason.
        StoreError: the cache cannot be written.
    """
    wanted = sorted(set(names))
    return edited(
        path,
        "bypassed",
        {"ops": wanted},
        lambda file: _Bypass(file, wanted).edit(),
        f"without {len(wanted)} of its ops",
    )


def float_conversions(path: Path) -> list[str]:
    """The ops that turn float inputs of a model into integers, and integers into its float outputs; by name. Raises
    `ModelError` where the file cannot be read."""
    graph = read_model(path).subgraphs[0]
    return [
        op.name
        for op in graph.ops
        if op.type == "QUANTIZE" and op.inputs[0] in graph.inputs and graph.tensors[op.inputs[0]].dtype == "float32"
        if op.outputs[0] not in graph.outputs
    ] + [
        op.name
        for op in graph.ops
        if op.type == "DEQUANTIZE" and op.outputs[0] in graph.outputs and op.outputs[0] not in graph.constant_behind
    ]


class _Bypass:
    """`instead`: tensor that a named op writes -> tensor that takes its place."""

    def __init__(self, file: ModelFile, names: Collection[str]) -> None:
        self.file, self.graph = file, file.graph
        self.gone = [op for op in self.graph.ops if op.name in names]
        missing = set(names) - {op.name for op in self.gone}
        if missing or not self.gone:
            raise ModelError(f"{file.path}: has no op named {min(missing, default='')!r}; `qprof layers` lists them")
        self.instead: dict[int, int] = {}
        self.converts: set[int] = set()  # tensors that conversions alone lie before
        written: set[int] = set()
        for op in self.gone:
            source = self._source(op)
            if source is not None and (source not in written or source in self.instead):
                self.instead[op.outputs[0]] = self.instead.get(source, source)
                if op.type in _CONVERSIONS and (source not in self.instead or source in self.converts):
                    self.converts.add(op.outputs[0])
            written.update(op.outputs)
        self.inputs, self.outputs = list(self.graph.inputs), list(self.graph.outputs)

    def _source(self, op: OpFacts) -> int | None:
        if not op.outputs or op.outputs[0] in self.graph.constant_behind:
            return None
        output = self._tensor(op.outputs[0])
        found = activations(op, self.graph)
        alike = (i for i in found if (self._tensor(i).shape, self._tensor(i).dtype) == (output.shape, output.dtype))
        return next(alike, found[0] if found else None)

    def edit(self) -> None:
        indices = {op.index for op in self.gone}
        written = {output for op in self.gone for output in op.outputs}
        stay = [op for op in self.graph.ops if op.index not in indices]
        for op in stay:
            for place, tensor in enumerate(op.inputs):
                if tensor in written:
                    self._reconnect(op, place, tensor)
        for place, tensor in enumerate(self.graph.outputs):
            if tensor in written:
                self._give_out(place, tensor)
        self._refuse_idle(stay)
        keep_ops(self.file, {op.index for op in stay}, self.inputs, self.outputs)

    def _refuse_idle(self, stay: Sequence[OpFacts]) -> None:
        """An op with two activations takes what computes the other with it: another model, not one without that op."""
        read = {int(i) for op in stay for i in self.file.main.operators[op.index].inputs} | set(self.outputs)
        for op in stay:
            was_read = any(readers(self.graph, output) for output in op.outputs)
            if was_read and read.isdisjoint(op.outputs):
                raise ModelError(
                    f"{self.file.path}: nothing would read {op.name!r} any more; name it as well if it is to go"
                )

    def _reconnect(self, reader: OpFacts, place: int, tensor: int) -> None:
        if tensor in self.inputs:
            return  # it has become one, for another reader
        source = self._instead_of(tensor)
        was, now = self._tensor(tensor), self._tensor(source)
        if _fits(was, now):
            if not _same_scale(was, now):
                self._rescale(reader, was, now)
            self.file.main.operators[reader.index].inputs[place] = source
        elif was.shape == now.shape and tensor in self.converts and self._is_only_for(source):
            self.inputs[self.inputs.index(source)] = tensor
            self._rename(tensor, source)
        else:
            raise ModelError(
                f"{self.file.path}: {reader.name!r} reads {was.label}, and without the ops before it would be given "
                f"{now.label}, which does not fit"
            )

    def _is_only_for(self, source: int) -> bool:
        """Whether a tensor is an input of the model that the named ops alone read."""
        return source in self.inputs and {op.index for op in readers(self.graph, source)} <= {
            op.index for op in self.gone
        }

    def _give_out(self, place: int, tensor: int) -> None:
        source = self._instead_of(tensor)
        was, now = self._tensor(tensor), self._tensor(source)
        if source in self.graph.inputs or source in self.outputs:
            what = "takes" if source in self.graph.inputs else "gives as another output"
            raise ModelError(f"{self.file.path}: would give {was.name!r} as what it {what}; leave the op before it in")
        if not (_fits(was, now) or (was.shape == now.shape and tensor in self.converts)):
            raise ModelError(
                f"{self.file.path}: its output {was.name!r} is {was.label}, and would be {now.label}; name a chain of "
                "ops whose ends fit"
            )
        self.outputs[place] = source
        self._rename(source, tensor)

    def _instead_of(self, tensor: int) -> int:
        if tensor not in self.instead:
            raise ModelError(
                f"{self.file.path}: nothing that is computed could take the place of {self._tensor(tensor).name!r}, "
                "which other ops read; leave its op in"
            )
        return self.instead[tensor]

    def _rename(self, tensor: int, like: int) -> None:
        """Tasks know inputs and outputs by their names."""
        tensors = self.file.main.tensors
        tensors[tensor].name, tensors[like].name = tensors[like].name, tensors[tensor].name

    def _rescale(self, reader: OpFacts, was: TensorFacts, now: TensorFacts) -> None:
        """Let an op go by another scale of its input."""
        if reader.type not in _RESCALING:
            raise ModelError(
                f"{self.file.path}: {reader.name!r} ({reader.type}) takes the scale of its output, which its input "
                "would not have; leave the op before it in"
            )
        bias = bias_of(reader, self.graph)
        if bias is None or not was.quantization.first_scale or not now.quantization.first_scale:
            return
        ratio = was.quantization.first_scale / now.quantization.first_scale
        main = self.file.main
        scaled = _scaled_bias(self.file, bias, ratio)
        inputs = main.operators[reader.index].inputs
        main.operators[reader.index].inputs = [len(main.tensors) if index == bias else index for index in inputs]
        main.tensors.append(scaled)

    def _tensor(self, index: int) -> TensorFacts:
        return self.graph.tensors[index]


def _scaled_bias(file: ModelFile, bias: int, ratio: float) -> Any:
    """A copy of a bias tensor: the same real numbers in steps `1 / ratio` times as large."""
    tensor = copy.deepcopy(file.main.tensors[bias])
    facts = file.graph.tensors[bias]
    stored = np.frombuffer(file.objects.buffers[tensor.buffer].data, np.uint8).view(facts.dtype)
    limits = np.iinfo(facts.dtype)
    values = np.clip(np.rint(stored.astype(np.float64) * ratio), limits.min, limits.max).astype(facts.dtype)
    buffer = copy.copy(file.objects.buffers[tensor.buffer])
    buffer.data = values.view(np.uint8)
    file.objects.buffers.append(buffer)
    tensor.buffer = len(file.objects.buffers) - 1
    if tensor.quantization is not None and tensor.quantization.scale is not None:
        tensor.quantization.scale = np.asarray(tensor.quantization.scale, np.float32) / np.float32(ratio)
    return tensor


def _fits(was: TensorFacts, now: TensorFacts) -> bool:
    return (was.shape, was.dtype) == (now.shape, now.dtype)


def _same_scale(was: TensorFacts, now: TensorFacts) -> bool:
    a, b = was.quantization, now.quantization
    return (a.first_scale, a.first_zero_point or 0) == (b.first_scale, b.first_zero_point or 0)
