"""The layers of a variant beside its baseline's, tensor by tensor.

Quantizers keep the names of the float model's tensors, so a layer's output is found in both files by its name. It is
compared twice: as the whole variant gives it ("cumulative"), and as the layer alone gives it when all that it reads is
the baseline's ("own"). For the second the variant's graph is taken apart: whatever reads a tensor that both have reads
an input instead, quantized as that tensor is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import ModelError
from qprof.record.ops import FUSED
from qprof.runtimes.base import RecordError
from qprof.runtimes.onnx import model_file
from qprof.runtimes.onnx.names import SourceGraph, forms
from qprof.runtimes.onnx.profiled import ProfiledOnnxModel
from qprof.runtimes.onnx.sections import OnnxOptions
from qprof.runtimes.onnx.session import OnnxModel, runtime_errors

if TYPE_CHECKING:
    from onnx import ModelProto

_GIVEN = "qprof_given_"
_QUANTIZE, _DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"


@dataclass(frozen=True, slots=True)
class _Layer:
    """An op of the variant and its counterpart. `tensor`: what both write, by the baseline's name; `reads`: under which
    name the variant gives it in real numbers; `weights`: (baseline's constant, variant's)."""

    op: str
    baseline_op: str
    name: str
    type: str
    tensor: str
    reads: str
    weights: tuple[str, str] | None


class OnnxLayers:
    """Satisfies `qprof.runtimes.base.LayerComparison`. Raises `ModelError` where no layer can be compared."""

    def __init__(self, baseline: OnnxModel, variant: OnnxModel, pairs: Sequence[tuple[str, str]]) -> None:
        self._sides = _Described(baseline), _Described(variant)
        self.notes: list[str] = []
        self._layers = list(self._compared(pairs))
        if not self._layers:
            raise ModelError(f"{variant.path}: no tensor of it has the name of one of the baseline's; compare outputs")
        first, second = self._sides
        tensors = list(dict.fromkeys(layer.tensor for layer in self._layers))
        shown = list(dict.fromkeys(layer.reads for layer in self._layers))
        self._float = _Session(first.with_outputs(tensors), baseline, tensors)
        self._whole = _Session(second.with_outputs(shown), variant, shown)
        apart, self._given = second.taken_apart(set(first.source.producer), shown)
        # What is given to the layers is taken from the baseline, whichever of them is compared.
        self._extra = [name for name in self._given if name not in tensors]
        if self._extra:
            self._float = _Session(first.with_outputs([*tensors, *self._extra]), baseline, [*tensors, *self._extra])
        self._apart = _Session(apart, variant, shown)

    @property
    def ops(self) -> Sequence[Mapping[str, str | None]]:
        return [
            {"op": layer.op, "baseline_op": layer.baseline_op, "name": layer.name, "type": layer.type}
            for layer in self._layers
        ]

    def weights(self, record: RecordError) -> None:
        first, second = self._sides
        for layer in self._layers:
            if layer.weights is None:
                continue
            reference, value = first.constant(layer.weights[0]), second.constant(layer.weights[1])
            if reference is not None and value is not None and reference.shape == value.shape:
                record("weights", layer.op, reference, value, None)

    def sample(self, inputs: Sequence[NDArray[Any]], record: RecordError) -> None:
        truth = self._float.run(inputs)
        variant_inputs = [
            np.asarray(array, spec.dtype) for array, spec in zip(inputs, self._whole.model.loaded.inputs, strict=True)
        ]
        whole = self._whole.run(variant_inputs)
        own = self._apart.run(variant_inputs, {_GIVEN + name: truth[name] for name in self._given})
        for layer in self._layers:
            reference = truth[layer.tensor].astype(np.float32)
            for kind, found in (("cumulative", whole), ("own", own)):
                value = found[layer.reads].astype(np.float32)
                if value.shape == reference.shape:
                    record(kind, layer.op, reference, value, None)

    def _compared(self, pairs: Sequence[tuple[str, str]]) -> Iterator[_Layer]:
        first, second = self._sides
        for a, b in pairs:
            place = second.positions.get(b)
            if place is None or a not in first.names:
                continue
            name, kind, position = place
            node = second.source.nodes[position]
            # A Gemm may be several nodes in the variant, of which the last writes what the Gemm wrote.
            names = [*forms(node.output[0]), *first.written_by(a)]
            tensor = next((form for form in names if form in first.source.producer), None)
            reads = second.real(tensor) if tensor is not None else None
            if tensor is None or reads is None or not first.is_float(tensor):
                continue
            own, theirs = second.source.weight(position), first.weight_of(a)
            yield _Layer(b, a, name, kind, tensor, reads, (theirs, own) if own and theirs else None)


class _Described:
    """A loaded model with its graph, and where its ops stand in it."""

    def __init__(self, model: OnnxModel) -> None:
        import onnx

        self.model = model
        self.proto = model_file.read(model.path)
        self.source = SourceGraph(self.proto)
        self.readers: dict[str, list[int]] = {}
        for position, node in enumerate(self.source.nodes):
            for tensor in node.input:
                self.readers.setdefault(tensor, []).append(position)
        timed = ProfiledOnnxModel(model.path, model.options)
        timed.set_inputs([np.zeros(spec.shape, spec.dtype) for spec in model.loaded.inputs])
        timed.discover()
        self.names = {op.op: op.name for op in timed.ops}
        self._of_op = timed.positions
        #: Op -> its name, its type and its node, of those that a kernel runs for in the main graph.
        self.positions = {
            op.op: (op.name, op.type, self._of_op[op.op])
            for op in timed.ops
            if op.op in self._of_op and op.kernel != FUSED and op.parent is None
        }
        inferred = onnx.shape_inference.infer_shapes(self.proto)
        self.types = {
            one.name: one.type.tensor_type.elem_type for one in (*inferred.graph.value_info, *inferred.graph.output)
        }

    def is_float(self, tensor: str) -> bool:
        import onnx

        kinds = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
        return self.types.get(tensor, onnx.TensorProto.FLOAT) in kinds

    def weight_of(self, op: str) -> str:
        position = self._of_op.get(op)
        return self.source.weight(position) if position is not None else ""

    def written_by(self, op: str) -> list[str]:
        position = self._of_op.get(op)
        return [] if position is None else list(self.source.nodes[position].output[:1])

    def real(self, tensor: str) -> str | None:
        """Under which name a tensor of the float model is here in real numbers: behind its QuantizeLinear and
        DequantizeLinear where it has these, since reading it before would keep them from being fused."""
        for position in self.readers.get(tensor, []):
            node = self.source.nodes[position]
            if node.op_type == _QUANTIZE and node.input[0] == tensor:
                for behind in self.readers.get(node.output[0], []):
                    if self.source.nodes[behind].op_type == _DEQUANTIZE:
                        return str(self.source.nodes[behind].output[0])
        return tensor if tensor in self.source.producer and self.is_float(tensor) else None

    def constant(self, name: str) -> NDArray[np.float32] | None:
        """What a constant stands for in real numbers, `None` where its scale is not found."""
        import onnx

        tensor = self.source.constants.get(name)
        if tensor is None or tensor.data_location:
            return None
        values: NDArray[Any] = onnx.numpy_helper.to_array(tensor)
        if values.dtype.kind == "f":
            return values.astype(np.float32)
        for position in self.readers.get(name, []):
            node = self.source.nodes[position]
            if node.op_type == _DEQUANTIZE:
                axis = next((int(one.i) for one in node.attribute if one.name == "axis"), 1)
                return self._dequantized(values, list(node.input[1:3]), axis)
        stem = name.removesuffix("_quantized")
        return self._dequantized(values, [f"{stem}_scale", f"{stem}_zero_point"], values.ndim - 1)

    def _dequantized(self, values: NDArray[Any], names: Sequence[str], axis: int) -> NDArray[np.float32] | None:
        import onnx

        found = [self.source.constants.get(name) for name in names]
        if not found or found[0] is None:
            return None
        scale = np.asarray(onnx.numpy_helper.to_array(found[0]), np.float32)
        zero = np.asarray(onnx.numpy_helper.to_array(found[1])) if len(found) > 1 and found[1] is not None else None
        shape = [1] * values.ndim
        if scale.size > 1:
            shape[axis] = scale.size
        real = values.astype(np.float32)
        if zero is not None:
            real = real - (zero.reshape(shape) if zero.size > 1 else zero.reshape(-1)[0]).astype(np.float32)
        return np.asarray(real * (scale.reshape(shape) if scale.size > 1 else scale.reshape(-1)[0]), np.float32)

    def with_outputs(self, names: Sequence[str]) -> ModelProto:
        """The model, giving these tensors as well."""
        copied = _copied(self.proto)
        _add_outputs(copied, names)
        return copied

    def taken_apart(self, known: set[str], shown: Sequence[str]) -> tuple[ModelProto, list[str]]:
        """The model in which everything that reads a tensor of `known` reads an input called `_GIVEN` and its name,
        quantized and made real again where the tensor is; and these tensors."""
        import onnx

        copied = _copied(self.proto)
        given: list[str] = []
        renamed: dict[str, str] = {}
        added = []
        for tensor in self.source.producer:
            if tensor not in known or not self.is_float(tensor) or tensor not in self.types:
                continue
            given.append(tensor)
            copied.graph.input.append(onnx.helper.make_tensor_value_info(_GIVEN + tensor, self.types[tensor], None))
            renamed[tensor] = _GIVEN + tensor
            for position in self.readers.get(tensor, []):
                quantizer = self.source.nodes[position]
                if quantizer.op_type != _QUANTIZE or quantizer.input[0] != tensor:
                    continue
                for end in [quantizer, *(self.source.nodes[p] for p in self.readers.get(quantizer.output[0], []))]:
                    if end is not quantizer and end.op_type != _DEQUANTIZE:
                        continue
                    twin = onnx.NodeProto()
                    twin.CopyFrom(end)
                    twin.name = _GIVEN + end.name if end.name else ""
                    twin.input[0], twin.output[0] = _GIVEN + end.input[0], _GIVEN + end.output[0]
                    renamed[end.output[0]] = twin.output[0]
                    added.append(twin)
        for node in copied.graph.node:
            chained = node.op_type in (_QUANTIZE, _DEQUANTIZE)
            for slot, tensor in enumerate(node.input):
                if tensor in renamed and not (chained and slot == 0):
                    node.input[slot] = renamed[tensor]
        nodes = [*added, *copied.graph.node]
        del copied.graph.node[:]
        copied.graph.node.extend(nodes)
        _add_outputs(copied, shown)
        return copied, given


class _Session:
    """A changed model in a session of its own."""

    def __init__(self, proto: ModelProto, like: OnnxModel, shown: Sequence[str]) -> None:
        self.model = like
        self._shown = list(shown)
        self._path: Path = like.path
        options: OnnxOptions = like.options
        self._session = _Opened(like.path, options).open(proto.SerializeToString())

    def run(self, inputs: Sequence[NDArray[Any]], more: Mapping[str, NDArray[Any]] | None = None) -> dict[str, Any]:
        """The shown tensors by name."""
        wanted = {one.name: one.type for one in self._session.get_inputs()}
        feed = {spec.name: array for spec, array in zip(self.model.loaded.inputs, inputs, strict=True)}
        for name, array in (more or {}).items():
            if name in wanted:
                feed[name] = array.astype(np.float16 if wanted[name] == "tensor(float16)" else np.float32)
        with runtime_errors(self._path, "compare the layers of"):
            return dict(zip(self._shown, self._session.run(self._shown, feed), strict=True))


class _Opened(OnnxModel):
    """The way that a model's sessions are opened, for other bytes in its place."""

    def __init__(self, path: Path, options: OnnxOptions) -> None:
        self.path, self.options = path, options

    def open(self, content: bytes) -> Any:
        return self._open(content)


def _copied(proto: ModelProto) -> ModelProto:
    import onnx

    copied = onnx.ModelProto()
    copied.CopyFrom(proto)
    return copied


def _add_outputs(proto: ModelProto, names: Sequence[str]) -> None:
    import onnx

    there = {one.name for one in proto.graph.output}
    for name in names:
        if name not in there:
            there.add(name)
            proto.graph.output.append(onnx.ValueInfoProto(name=name))
