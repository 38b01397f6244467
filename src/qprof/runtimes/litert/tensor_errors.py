"""The numbers of every op of a LiteRT variant beside those of its baseline, for the same inputs.

LiteRT reuses the memory of tensors and keeps nothing of what is inside a delegate, unless it is told to keep all
tensors, which shuts XNNPACK out. Here the op outputs that are looked at become outputs of the model instead: the
variant then runs with the kernels that it is used with, and what these kernels compute is read. Kernels that XNNPACK
fuses over several ops are the exception, since it has to give out what lies between; `sample` notes where that changes
the model's outputs.

Three comparisons:
- "cumulative": the variant runs from its inputs to its outputs, and so does the baseline; an op's difference holds what
  came in with its inputs.
- "own": a second copy of each model, in which no op is linked to another, runs each op on the baseline's numbers, as
  the variant stores them. The baseline's op is given these same stored numbers, so that the difference is made by the
  op alone: its weights, its arithmetic, and the scale of its output. An inserted QUANTIZE or DEQUANTIZE is compared
  with its own input.
- "weights" and "bias": what an op's constants stand for, against the baseline's. A bias overflows where a channel's
  weights are next to nothing, since its scale is the product of theirs and the input's.

Memory: one copy of each model as it is (the caller's) and two edited ones, XNNPACK's packed weights with each; the
outputs and the inputs of all ops four times; nothing more for more samples. Only the main subgraph is looked at.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import ModelError
from qprof.record.phases import INFERENCE
from qprof.record.quantization import dequantize, is_quantized
from qprof.record.rows import INPUT, input_id
from qprof.record.tensors import TensorSpec
from qprof.runtimes.base import RecordError
from qprof.runtimes.litert.constants import bias_of, constant, weights_of
from qprof.runtimes.litert.edit import activations, open_file
from qprof.runtimes.litert.interpreter import LiteRTModel
from qprof.runtimes.litert.model_facts import OpFacts, SubgraphFacts
from qprof.runtimes.litert.objects import packed
from qprof.runtimes.litert.sections import LiteRTOptions
from qprof.runtimes.litert.state import RESOURCE
from qprof.runtimes.litert.stored import as_stored, is_real, refuse_other_inputs
from qprof.store.own import OwnFolder

_CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")


class TensorErrors:
    """Two loaded models, the baseline and a variant of it, and which op of one is which of the other.

    `pairs`: (op of the baseline, op of the variant), ids as in the op lists; those of other subgraphs and of delegates
    are passed over. `ops`: what is compared of the variant, as {"op", "baseline_op", "name", "type"}: its quantized
    inputs first, then its ops, an inserted conversion without a baseline op. Raises `ModelError` where the two take
    different inputs, or LiteRT does not take the edited files.
    """

    def __init__(
        self,
        baseline: LiteRTModel,
        variant: LiteRTModel,
        pairs: Sequence[tuple[str, str]],
        baseline_options: LiteRTOptions,
        options: LiteRTOptions,
    ) -> None:
        self._models = (baseline, variant)
        refuse_other_inputs(variant.path, baseline.loaded.inputs, variant.loaded.inputs)
        self._graphs = (baseline.facts.subgraphs[0], variant.facts.subgraphs[0])
        self._partners = _partners(pairs, *self._graphs)
        self._origins = _origins(*self._graphs, self._partners)
        self._notes: list[str] = []
        self._unlike: set[str] = set()
        self._checked = False
        compared = [op for op in self._graphs[1].ops if self._is_compared(op)]
        self._rounded = [n for n, spec in enumerate(variant.loaded.inputs) if is_quantized(spec)]
        self.ops: list[dict[str, str | None]] = [
            {"op": input_id(n), "baseline_op": None, "name": variant.loaded.inputs[n].name, "type": INPUT}
            for n in self._rounded
        ]
        self.ops += [self._described(op) for op in compared]
        wanted = [list(dict.fromkeys(self._origins.values())), list(self._origins)]
        self._linked = [
            _outputs_added(model, indices, used)
            for model, indices, used in zip(self._models, wanted, (baseline_options, options), strict=True)
        ]
        self._compared = compared
        self._options = (baseline_options, options)
        self._unlinked: _Unlinked | None = None

    def _is_compared(self, op: OpFacts) -> bool:
        return (
            bool(op.outputs)
            and op.outputs[0] not in self._graphs[1].constant_behind
            and all(output in self._origins for output in op.outputs)
        )

    def _described(self, op: OpFacts) -> dict[str, str | None]:
        partner = self._partners.get(op.index)
        baseline_op = None if partner is None else str(partner)
        return {"op": str(op.index), "baseline_op": baseline_op, "name": op.name, "type": op.type}

    # -- one sample ---------------------------------------------------------------------------------------------------

    def sample(self, inputs: Sequence[NDArray[Any]], record: RecordError) -> None:
        """Run one sample, inputs as the baseline takes them, and hand all pairs of arrays to `record`. The variant gets
        the same real numbers as it stores them."""
        baseline_specs, specs = (model.loaded.inputs for model in self._models)
        given = (
            inputs,
            [as_stored(one, origin, spec) for one, origin, spec in zip(inputs, baseline_specs, specs, strict=True)],
        )
        for n in self._rounded:
            stored, real = _Numbers(given[1][n], specs[n]), dequantize(inputs[n], baseline_specs[n]).reshape(-1)
            for kind in ("cumulative", "own"):
                record(kind, input_id(n), real, dequantize(stored.array, stored.spec), _cut_off(real, stored))
        for model, arrays in zip(self._linked, given, strict=True):
            model.enter(INFERENCE)  # a state that can be reset is; one that cannot is of equal histories
            model.set_inputs(arrays)
            model.invoke()
        if not self._checked:
            self._check_outputs(given)
            # Only now: a shape that ops compute while they run is not known before.
            self._unlinked = self._unlink(self._compared, *self._options)
        baseline, variant = self._linked
        for op in self._compared:
            for output in op.outputs:
                self._compare("cumulative", op, baseline.read(self._origins[output]), variant.read(output), record)
        if self._unlinked is not None:
            self._sample_own(self._unlinked, record)

    def _sample_own(self, unlinked: _Unlinked, record: RecordError) -> None:
        stored = {
            (op, tensor): _stored(self._linked[0].read(self._origins[tensor]), spec)
            for (op, tensor), spec in unlinked.variant.feeds.items()
        }
        unlinked.variant.run(stored)
        same = {(op, self._origins[tensor]): (op, tensor) for op, tensor in stored}
        given = {}
        for (partner, source), spec in unlinked.baseline.feeds.items():
            fed = same.get((unlinked.variant_op[partner], source))
            numbers = self._linked[0].read(source) if fed is None else unlinked.variant.fed(fed, stored)
            given[partner, source] = _stored(numbers, spec)
        unlinked.baseline.run(given)
        for facts in unlinked.ops:
            for output in facts.outputs:
                if facts.index in self._partners:
                    reference = unlinked.baseline.model.read(self._origins[output])
                else:
                    reference = unlinked.variant.fed((facts.index, facts.inputs[0]), stored)
                self._compare("own", facts, reference, unlinked.variant.model.read(output), record)

    def _compare(self, kind: str, op: OpFacts, reference: _Numbers, value: _Numbers, record: RecordError) -> None:
        if not (is_real(reference.spec) and is_real(value.spec)):
            return
        if reference.array.size != value.array.size:
            self._unlike.add(op.name)
            return
        real = dequantize(reference.array, reference.spec).reshape(-1)
        record(kind, str(op.index), real, dequantize(value.array, value.spec), _cut_off(real, value))

    def _check_outputs(self, inputs: Sequence[Sequence[NDArray[Any]]]) -> None:
        self._checked = True
        for plain, kept, arrays in zip(self._models, self._linked, inputs, strict=True):
            plain.enter(INFERENCE)
            plain.set_inputs(arrays)
            plain.invoke()
            indices = plain.facts.subgraphs[0].outputs
            if not all(
                np.array_equal(output, kept.read(index).array, equal_nan=output.dtype.kind == "f")
                for index, output in zip(indices, plain.outputs(), strict=True)
            ):
                self._notes.append(
                    f"{plain.path.name}: its outputs are other ones where the outputs of all ops are kept, since "
                    "kernels that span several ops are not used then; errors per layer are those of the single ops"
                )

    @property
    def notes(self) -> list[str]:
        """What could not be compared, and what is not as it is in use."""
        if not self._unlike:
            return self._notes
        named = ", ".join(sorted(self._unlike)[:3])
        return [*self._notes, f"{len(self._unlike)} ops have outputs of another size than the baseline's: {named}"]

    # -- weights ------------------------------------------------------------------------------------------------------

    def weights(self, record: RecordError) -> None:
        """Compare the weights and biases of every op that has them in both models, of one shape."""
        files = [open_file(model.path).objects for model in self._models]
        for index, partner in self._partners.items():
            ops = (self._graphs[0].ops[partner], self._graphs[1].ops[index])
            for kind, find in (("weights", weights_of), ("bias", bias_of)):
                reference, value = (
                    None if (tensor := find(op, graph)) is None else constant(file, graph, tensor)
                    for op, graph, file in zip(ops, self._graphs, files, strict=True)
                )
                if reference is not None and value is not None and reference.shape == value.shape:
                    record(kind, str(index), reference, value, None)

    # -- ops by themselves --------------------------------------------------------------------------------------------

    def _unlink(
        self, compared: Sequence[OpFacts], baseline_options: LiteRTOptions, options: LiteRTOptions
    ) -> _Unlinked | None:
        graphs = self._graphs
        stateful = [_stateful(model.path) for model in self._models]
        known = (set(self._origins.values()), set(self._origins))
        ops = []
        for op in compared:
            partner = self._partners.get(op.index)
            alone = [(op, 1)] if partner is None else [(op, 1), (graphs[0].ops[partner], 0)]
            fed = all(known[side].issuperset(activations(one, graphs[side])) for one, side in alone)
            if fed and not any(one.subgraphs or stateful[side] & set(one.inputs) for one, side in alone):
                ops.append(op)
        partners = {self._partners[op.index]: op.index for op in ops if op.index in self._partners}
        if not partners:
            self._notes.append("no op can be run by itself: own errors are not known")
            return None
        chosen = [[graphs[0].ops[partner] for partner in sorted(partners)], ops]
        try:
            baseline, variant = (
                _UnlinkedModel(model.path, linked, picked, used)
                for model, linked, picked, used in zip(
                    self._models, self._linked, chosen, (baseline_options, options), strict=True
                )
            )
        except ModelError as error:
            self._notes.append(f"ops cannot be run by themselves, so that own errors are not known: {error}")
            return None
        return _Unlinked(baseline, variant, ops, partners)


@dataclass(frozen=True, slots=True)
class _Numbers:
    """An array as a model stores it, and what its numbers stand for."""

    array: NDArray[Any]
    spec: TensorSpec


class _ReadableModel(LiteRTModel):
    """A model whose outputs can be read one at a time, by the index of the tensor in the file."""

    def _read_details(self) -> None:
        super()._read_details()
        self._specs = dict(zip(self._output_indices, self.loaded.outputs, strict=True))
        self._specs |= zip(self._input_indices, self.loaded.inputs, strict=True)

    def read(self, index: int) -> _Numbers:
        """A tensor that is an input or an output of the model."""
        return _Numbers(np.asarray(self.interpreter.get_tensor(index)), self._specs[index])


class _UnlinkedModel:
    """A copy of a model with some of its ops, each of which reads inputs of the model alone.

    `feeds`: (op, tensor that it reads in the original) -> what the input in its place takes.
    """

    def __init__(self, path: Path, linked: _ReadableModel, ops: Sequence[OpFacts], options: LiteRTOptions) -> None:
        graph = linked.facts.subgraphs[0]
        shapes = linked.tensor_shapes()
        keys: list[tuple[int, int]] = []

        def edit(file: Any) -> None:
            main = file.subgraphs[0]
            folded = [op for op in graph.ops if any(output in graph.constant_behind for output in op.outputs)]
            for op in ops:
                for tensor in activations(op, graph):
                    keys.append((op.index, tensor))
                    fed = copy.copy(main.tensors[tensor])
                    fed.name, fed.shape, fed.shapeSignature = f"{op.index}/{tensor}", list(shapes[tensor]), None
                    main.tensors.append(fed)
                    inputs = main.operators[op.index].inputs
                    main.operators[op.index].inputs = [len(main.tensors) - 1 if i == tensor else i for i in inputs]
            main.inputs = list(range(len(main.tensors) - len(keys), len(main.tensors)))
            main.outputs = [output for op in ops for output in op.outputs]
            main.operators = [main.operators[op.index] for op in [*folded, *ops]]

        self.model = _edited(path, edit, options, {})
        self.feeds = dict(zip(keys, self.model.loaded.inputs, strict=True))

    def run(self, arrays: Mapping[tuple[int, int], NDArray[Any]]) -> None:
        self.model.set_inputs([arrays[key] for key in self.feeds])
        self.model.invoke()

    def fed(self, key: tuple[int, int], arrays: Mapping[tuple[int, int], NDArray[Any]]) -> _Numbers:
        return _Numbers(arrays[key], self.feeds[key])


@dataclass(frozen=True, slots=True)
class _Unlinked:
    """Both models with their ops apart; `variant_op`: op of the baseline -> op of the variant."""

    baseline: _UnlinkedModel
    variant: _UnlinkedModel
    ops: Sequence[OpFacts]
    variant_op: Mapping[int, int]


def _partners(pairs: Sequence[tuple[str, str]], baseline: SubgraphFacts, variant: SubgraphFacts) -> dict[int, int]:
    """Op of the variant's main subgraph -> op of the baseline's, in the variant's order."""
    found = {}
    for a, b in pairs:
        if a.isdigit() and b.isdigit() and int(a) < len(baseline.ops) and int(b) < len(variant.ops):
            found[int(b)] = int(a)
    return dict(sorted(found.items()))


def _origins(baseline: SubgraphFacts, variant: SubgraphFacts, partners: Mapping[int, int]) -> dict[int, int]:
    """Tensor of the variant -> tensor of the baseline that holds the same numbers but for the error."""
    origins = dict(zip(variant.inputs, baseline.inputs, strict=True))
    for op in variant.ops:
        if op.index in partners:
            outputs = baseline.ops[partners[op.index]].outputs
            # A resource names a variable and holds no numbers.
            named = any(variant.tensors[output].dtype == RESOURCE for output in op.outputs)
            if len(outputs) == len(op.outputs) and not named:
                origins.update(zip(op.outputs, outputs, strict=True))
        elif op.type in _CONVERSIONS and op.inputs[0] in origins:
            origins[op.outputs[0]] = origins[op.inputs[0]]
    return origins


def _stored(numbers: _Numbers, spec: TensorSpec) -> NDArray[Any]:
    return as_stored(numbers.array, numbers.spec, spec)


def _cut_off(reference: NDArray[Any], value: _Numbers) -> int | None:
    """Elements at an end of the type whose reference lies beyond that end by more than half a step: an end that is
    reached by right, as by the zeros of a ReLU, is no saturation."""
    spec = value.spec
    if spec.scale is None or not is_quantized(spec):
        return None
    limits = np.iinfo(spec.dtype)
    ends = dequantize(np.array([limits.min, limits.max]), spec)
    stored = value.array.reshape(-1)
    below = (stored == limits.min) & (reference < ends[0] - spec.scale / 2)
    above = (stored == limits.max) & (reference > ends[1] + spec.scale / 2)
    return int(np.count_nonzero(below) + np.count_nonzero(above))


# -- files that are edited --------------------------------------------------------------------------------------------


def _edited(
    path: Path, edit: Callable[[Any], None], options: LiteRTOptions, input_shapes: Mapping[str, Sequence[int]]
) -> _ReadableModel:
    file = open_file(path).objects
    edit(file)
    file.signatureDefs, file.metadata = [], []  # they name inputs and outputs that are others now
    with OwnFolder() as folder:
        edited = folder / path.name
        edited.write_bytes(packed(file))
        model = _ReadableModel(edited, threads=options.threads, delegate=options.delegate, input_shapes=input_shapes)
    return model


def _outputs_added(model: LiteRTModel, tensors: Sequence[int], options: LiteRTOptions) -> _ReadableModel:
    """The model with these tensors among its outputs."""
    graph = model.facts.subgraphs[0]
    written = {output for op in graph.ops for output in op.outputs}

    def edit(file: Any) -> None:
        kept = [*graph.outputs, *(index for index in tensors if index in written)]
        file.subgraphs[0].outputs = list(dict.fromkeys(kept))

    return _edited(model.path, edit, options, options.input_shapes)


def _stateful(path: Path) -> set[int]:
    """Tensors that keep what an inference wrote for the next: an op that reads one is not the same run twice."""
    return {index for index, tensor in enumerate(open_file(path).objects.subgraphs[0].tensors) if tensor.isVariable}
