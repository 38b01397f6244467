"""Activation patching: a variant in which some ops' outputs are the baseline's, in every inference.

Two edited files run one after the other. The baseline's is cut down to what computes the activations that are wanted;
the variant's takes these as further inputs, in place of the ops that would write them, and loses what only these ops
read. Whatever else it reads, past the patched ops too, it computes itself.

The input is given as the baseline takes it; the variant gets the same real numbers as it stores them. Nothing here is
timed fairly: an inference is that of two models, and numbers are handed over in between.

Source of the method: J. Vig et al., "Investigating Gender Bias in Language Models Using Causal Mediation Analysis",
NeurIPS 2020; K. Meng et al., "Locating and Editing Factual Associations in GPT", NeurIPS 2022.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import ModelError
from qprof.record.model import Loaded
from qprof.record.tensors import TensorSpec
from qprof.runtimes.litert import cache
from qprof.runtimes.litert.edit import ModelFile, edited, keep_ops, named, needed
from qprof.runtimes.litert.flatbuffer import read_model
from qprof.runtimes.litert.interpreter import LiteRTModel
from qprof.runtimes.litert.model_facts import SubgraphFacts
from qprof.runtimes.litert.stored import as_stored, is_real, refuse_other_inputs


@dataclass(frozen=True, slots=True)
class PatchFiles:
    """`baseline`: gives out the activations alone. `variant`: takes them behind its `inputs` own inputs. `origins`: for
    each of them, the baseline's output that it is taken from."""

    baseline: Path
    variant: Path
    inputs: int
    origins: tuple[int, ...]


def patch_files(variant: Path, baseline: Path, ops: Mapping[str, str]) -> PatchFiles:
    """The two files that a patched variant runs, made once and taken from the cache ever after.

    `ops`: op of the variant -> op of the baseline whose outputs take the place of its own, both by name.

    Raises:
        ModelError: a file cannot be read, has no such op, or its outputs do not fit.
        StoreError: the cache cannot be written.
    """
    if not ops:
        raise ModelError(f"{variant}: no op is to be patched; name at least one")
    graphs = {path: read_model(path).subgraphs[0] for path in (variant, baseline)}
    graph = graphs[variant]
    pairs = [pair for name, other in ops.items() for pair in _pairs(graphs, (variant, name), (baseline, other))]
    given, outputs = [pair[0] for pair in pairs], list(dict.fromkeys(pair[1] for pair in pairs))

    def without_ops(file: ModelFile) -> None:
        inputs = [*graph.inputs, *given]
        keep_ops(file, needed(file, inputs, graph.outputs), inputs, graph.outputs)

    def down_to_ops(file: ModelFile) -> None:
        keep_ops(file, needed(file, file.graph.inputs, outputs), file.graph.inputs, outputs)

    return PatchFiles(
        edited(baseline, "activations", {"of": outputs}, down_to_ops, f"down to {len(ops)} of its ops"),
        edited(variant, "patched", {"given": given}, without_ops, f"with {len(ops)} of its ops patched"),
        len(graph.inputs),
        tuple(outputs.index(pair[1]) for pair in pairs),
    )


def handed_on(path: Path, names: Collection[str]) -> set[str]:
    """Of some ops of a file, by name, those whose outputs other ops read, or the model gives out. Raises `ModelError`
    where the file cannot be read."""
    graph = read_model(path).subgraphs[0]
    wanted = set(graph.outputs) | {index for op in graph.ops if op.name not in names for index in op.inputs}
    return {op.name for op in graph.ops if op.name in names and wanted.intersection(op.outputs)}


def patch_settings(baseline: Path, ops: Mapping[str, str]) -> dict[str, Any]:
    """What a manifest keeps of a patch: by content, since a path may hold another file later."""
    return {"patched": dict(ops), "baseline_sha256": cache.content_sha256(baseline)}


def _pairs(graphs: Mapping[Path, SubgraphFacts], own: tuple[Path, str], its: tuple[Path, str]) -> list[tuple[int, int]]:
    """Outputs of the variant's op beside those of the baseline's."""
    outputs = [named(path, graphs[path], name).outputs for path, name in (own, its)]
    tensors = [[graphs[path].tensors[i] for i in found] for (path, _), found in zip((own, its), outputs, strict=True)]
    # A batch that a file leaves open is 1 in its shapes; what it becomes is seen when the models are loaded.
    sizes = [[prod(tensor.shape) for tensor in side] for side in tensors]
    if sizes[0] != sizes[1]:
        told = ["; ".join(tensor.label for tensor in side) for side in tensors]
        raise ModelError(
            f"{own[1]!r} gives {told[0]}, the baseline's {its[1]!r} {told[1]}; name ops whose outputs have one size"
        )
    if graphs[own[0]].constant_behind.keys() & set(outputs[0]):
        raise ModelError(f"{own[1]!r} unpacks a constant, which is no activation; name an op that computes")
    return list(zip(*outputs, strict=True))


class PatchedModel:
    """A patched variant, loaded; satisfies `qprof.record.model.Model`, its inputs those of the baseline.

    Args:
        path, baseline, ops: see `patch_files`.
        threads, delegate, input_shapes: as `LiteRTModel`, of both models; an input goes by its name in either.

    Raises:
        ModelError: as `patch_files` and `LiteRTModel`, and where the two take different inputs.
    """

    def __init__(
        self,
        path: Path,
        baseline: Path,
        ops: Mapping[str, str],
        *,
        threads: int = 1,
        delegate: str = "xnnpack",
        input_shapes: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        files = patch_files(path, baseline, ops)
        self.path = path
        shapes = _by_position(input_shapes or {}, baseline, path)
        self._baseline = LiteRTModel(files.baseline, threads=threads, delegate=delegate, input_shapes=shapes)
        self._origins = files.origins
        origins = [self._baseline.loaded.outputs[origin] for origin in files.origins]
        graph = read_model(files.variant).subgraphs[0]
        for place, spec in enumerate(origins, files.inputs):
            tensor = graph.tensors[graph.inputs[place]]
            if prod(spec.shape) != prod(tensor.shape):
                shapes[str(place)] = list(spec.shape)
        self._variant = LiteRTModel(files.variant, threads=threads, delegate=delegate, input_shapes=shapes)
        specs = self._variant.loaded.inputs
        self._specs, self._given = specs[: files.inputs], specs[files.inputs :]
        _refuse_other_activations(path, origins, self._given)
        refuse_other_inputs(path, self._baseline.loaded.inputs, self._specs)
        self._inputs: list[NDArray[Any]] = [np.zeros(spec.shape, spec.dtype) for spec in self._specs]
        self.run_once: Callable[[], None] = self._run
        self.loaded = Loaded(
            inputs=self._baseline.loaded.inputs,
            outputs=self._variant.loaded.outputs,
            op_types=self._variant.loaded.op_types,
            notes=[
                f"the outputs of {len(ops)} of its ops are the baseline's, computed in every inference beside its own: "
                "its scores are to be compared, not its latency, energy or memory",
                *self._variant.loaded.notes,
            ],
            keeps_state=self._baseline.loaded.keeps_state or self._variant.loaded.keeps_state,
            resets_state=self._baseline.loaded.resets_state and self._variant.loaded.resets_state,
        )

    def _run(self) -> None:
        self._baseline.run_once()
        found = list(zip(self._baseline.outputs(), self._baseline.loaded.outputs, strict=True))
        given = zip(self._origins, self._given, strict=True)
        self._variant.set_inputs([*self._inputs, *(as_stored(*found[origin], spec) for origin, spec in given)])
        self._variant.run_once()

    def set_inputs(self, arrays: Sequence[NDArray[Any]]) -> None:
        """Copy one array per input, as the baseline takes them."""
        self._baseline.set_inputs(arrays)
        origins = self._baseline.loaded.inputs
        self._inputs = [
            as_stored(array, origin, spec) for array, origin, spec in zip(arrays, origins, self._specs, strict=True)
        ]

    def invoke(self) -> None:
        """Run one inference."""
        try:
            self.run_once()
        except (ValueError, RuntimeError) as error:  # of LiteRT, whose call underneath is bare
            reason = " ".join(str(error).split())[:300]
            raise ModelError(f"LiteRT cannot run {self.path}, patched: {reason}") from error

    def outputs(self) -> list[NDArray[Any]]:
        """Copies of the variant's outputs, as stored (still quantized)."""
        return self._variant.outputs()

    def enter(self, phase: str) -> None:
        """LiteRT models have one phase."""
        self._baseline.enter(phase)
        self._variant.enter(phase)

    def memory_bytes(self) -> dict[str, int]:
        """Nothing: LiteRT keeps no account of its own."""
        return {}


def _by_position(shapes: Mapping[str, Sequence[int]], *paths: Path) -> dict[str, Sequence[int]]:
    """Shapes of inputs by their place, which both models share, whatever they call them."""
    graphs = [read_model(path).subgraphs[0] for path in paths]
    names = [[graph.tensors[index].name for index in graph.inputs] for graph in graphs]
    return {
        next((str(known.index(key)) for known in names if key in known), key): shape for key, shape in shapes.items()
    }


def _refuse_other_activations(path: Path, baseline: Sequence[TensorSpec], given: Sequence[TensorSpec]) -> None:
    for origin, spec in zip(baseline, given, strict=True):
        if not (is_real(origin) and is_real(spec)) and origin.dtype != spec.dtype:
            raise ModelError(
                f"{path}: {spec.name!r} is {spec.dtype} and the baseline's {origin.name!r} {origin.dtype}, which do "
                "not stand for the same numbers; patch another op"
            )
