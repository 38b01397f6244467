"""How far the outputs of a variant are from its baseline's, measured inside a worker that holds both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import msgspec
from numpy.typing import NDArray

from qprof.errors import DataError
from qprof.measure.channel import json_safe
from qprof.measure.requests import CompareOutputs, LoadedVariant, OutputsAnswer
from qprof.record.model import Model
from qprof.record.quantization import FLOAT_DTYPES, dequantize, is_quantized, quantize
from qprof.record.rows import OutputDistanceRow
from qprof.record.tensors import TensorSpec
from qprof.runtimes import registry
from qprof.stats.output_distance import Meaning, output_distance, output_meanings
from qprof.tasks import registry as tasks
from qprof.tasks.base import Task

Arrays = list[NDArray[Any]]

#: Inputs on which both are run, whatever they take.
_LEAST_SAMPLES = 8
#: Inputs by which it is decided what the outputs stand for.
_DECIDING_SAMPLES = 4
#: Rows that a comparison makes at most, over all outputs.
_MOST_ROWS = 50_000


def measure_output_distances(request: CompareOutputs) -> OutputsAnswer:
    """Run both on the same inputs, one after the other, and compare what comes out.

    Raises `QprofError` where the two cannot be given the same inputs, or where no outputs go together.
    """
    started_ns = perf_counter_ns()
    sides = [_Side(one, request) for one in (request.baseline, request.variant)]
    pairs, notes = matched_outputs(sides[0].model.loaded.outputs, sides[1].model.loaded.outputs, request.name)
    random = sides[0].task.random_inputs
    available = min(request.samples, *(side.task.sample_count() for side in sides))
    wanted = min(available, max(_LEAST_SAMPLES, _MOST_ROWS // len(pairs)))
    first = [_run(sides, sample, random, pairs) for sample in range(min(_DECIDING_SAMPLES, wanted))]
    meanings = _meanings(sides[0], [pair[0] for pair in pairs], [outputs[0] for outputs in first])
    rows: list[OutputDistanceRow] = []
    samples = 0
    deadline_ns = started_ns + int(request.max_s * 1e9)
    while samples < wanted and (samples < _LEAST_SAMPLES or perf_counter_ns() < deadline_ns):
        both = first[samples] if samples < len(first) else _run(sides, samples, random, pairs)
        rows += _rows(request.name, samples, pairs, meanings, both)
        samples += 1
    return OutputsAnswer(
        rows=[json_safe(asdict(row)) for row in rows],
        samples=samples,
        random=random,
        seconds=(perf_counter_ns() - started_ns) / 1e9,
        notes=[*notes, *_nonfinite(rows)],
    )


class _Side:
    """One of the two, loaded, with a task that is bound to it."""

    def __init__(self, loaded: LoadedVariant, request: CompareOutputs) -> None:
        runtime = registry.get(loaded.runtime)
        self.model: Model = runtime.load(Path(loaded.path), msgspec.convert(loaded.options, runtime.options_type))
        self.task: Task = tasks.build(request.task, at_least=request.samples)
        self.task.bind(self.model)

    def outputs(self, inputs: Sequence[NDArray[Any]]) -> Arrays:
        """Of an inference with no history: the first phase is entered anew."""
        self.model.enter(self.model.loaded.phases[0].name)
        self.model.set_inputs(inputs)
        self.model.invoke()
        return self.model.outputs()


Pair = tuple[int, int, TensorSpec, TensorSpec]


def _run(sides: Sequence[_Side], sample: int, random: bool, pairs: Sequence[Pair]) -> tuple[Arrays, Arrays]:
    """The outputs that go together, of both on one input: real values where they are real."""
    given = [side.task.inputs(sample) for side in sides]
    if random:
        given = list(same_inputs(sides[0].model.loaded.inputs, sides[1].model.loaded.inputs, *given))
    first, second = (side.outputs(arrays) for side, arrays in zip(sides, given, strict=True))
    return [_real(first[i], a) for i, _, a, _ in pairs], [_real(second[j], b) for _, j, _, b in pairs]


def _real(array: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    return dequantize(array, spec) if is_quantized(spec) else array


def same_inputs(
    a_specs: Sequence[TensorSpec], b_specs: Sequence[TensorSpec], a: Sequence[NDArray[Any]], b: Sequence[NDArray[Any]]
) -> tuple[Arrays, Arrays]:
    """Random inputs of two variants, made the same real numbers: those of the side that stores them quantized, which
    can hold no others; of the first where both or neither do. Raises `DataError` where there are no such."""
    partner = _inputs_of(a_specs, b_specs)
    mine, its = list(a), list(b)
    for i, j in enumerate(partner):
        spec, other = a_specs[i], b_specs[j]
        if is_quantized(other) and not is_quantized(spec):
            mine[i] = quantize(dequantize(b[j], other), spec)
        elif is_quantized(spec) or (spec.dtype in FLOAT_DTYPES and other.dtype in FLOAT_DTYPES):
            its[j] = quantize(dequantize(a[i], spec), other)
        elif spec.dtype == other.dtype:
            its[j] = a[i]
        else:
            raise DataError(
                f"input {spec.name!r} is {spec.dtype} in the baseline, {other.name!r} is {other.dtype}: no random "
                "number is the same in both; give inputs by files"
            )
    return mine, its


def _inputs_of(a_specs: Sequence[TensorSpec], b_specs: Sequence[TensorSpec]) -> list[int]:
    """Which input of the second is each of the first: by name, else by order."""
    shapes = [[list(spec.shape) for spec in specs] for specs in (a_specs, b_specs)]
    names = [[spec.name for spec in specs] for specs in (a_specs, b_specs)]
    if sorted(names[0]) == sorted(names[1]) and len(set(names[0])) == len(names[0]):
        partner = [names[1].index(name) for name in names[0]]
    else:
        partner = list(range(len(a_specs)))
    if len(a_specs) != len(b_specs) or any(shapes[0][i] != shapes[1][j] for i, j in enumerate(partner)):
        raise DataError(f"the inputs are of shapes {shapes[0]} in the baseline, and {shapes[1]} here: not the same")
    return partner


def matched_outputs(
    a_specs: Sequence[TensorSpec], b_specs: Sequence[TensorSpec], variant: str
) -> tuple[list[Pair], list[str]]:
    """Outputs of the baseline and of a variant that go together: those of one name and shape, the others of one shape
    in their order; and what is left over, in words. Raises `DataError` where none do."""
    free = list(range(len(b_specs)))
    found: dict[int, int] = {}
    for by_name in (True, False):
        for i, spec in enumerate(a_specs):
            if i in found:
                continue
            fits = (
                j
                for j in free
                if _sizes(b_specs[j]) == _sizes(spec)
                and (b_specs[j].name == spec.name or not by_name)
                and _is_real(b_specs[j]) == _is_real(spec)
            )
            j = next(fits, None)
            if j is not None:
                found[i] = j
                free.remove(j)
    alone = [spec for i, spec in enumerate(a_specs) if i not in found]
    if not found:
        theirs = ", ".join(f"{spec.name} {list(spec.shape)}" for spec in b_specs) or "none"
        raise DataError(f"none of its outputs ({theirs}) has the shape and kind of one of the baseline's")
    notes = []
    if alone or free:
        named = [f"{spec.name} {list(spec.shape)} of the baseline" for spec in alone]
        named += [f"{b_specs[j].name} {list(b_specs[j].shape)} of {variant}" for j in free]
        notes.append(f"outputs without a counterpart were not compared: {', '.join(named)}")
    return [(i, j, a_specs[i], b_specs[j]) for i, j in sorted(found.items())], notes


def _sizes(spec: TensorSpec) -> list[int]:
    """Axes of size 1 are no difference."""
    return [size for size in spec.shape if size != 1]


def _is_real(spec: TensorSpec) -> bool:
    return spec.dtype in FLOAT_DTYPES or is_quantized(spec)


def _meanings(side: _Side, indices: Sequence[int], samples: Sequence[Arrays]) -> list[Meaning]:
    """Of the outputs that are compared; a model's other outputs say nothing here."""
    loaded = side.model.loaded
    steps = [loaded.outputs[i].scale or 0.0 for i in indices]
    lengths = {spec.shape[1] for spec in loaded.inputs if spec.dtype in ("int32", "int64") and len(spec.shape) == 2}
    looks = output_meanings(samples, steps, lengths)
    told = side.task.outputs_are
    if told == "auto":
        return looks
    return [look if look == "exact" else told for look in looks]


def _rows(
    variant: str, sample: int, pairs: Sequence[Pair], meanings: Sequence[Meaning], both: tuple[Arrays, Arrays]
) -> list[OutputDistanceRow]:
    rows = []
    for (i, j, a_spec, b_spec), meaning, reference, value in zip(pairs, meanings, *both, strict=True):
        if reference.size != value.size:
            raise DataError(
                f"output {b_spec.name!r} is {list(value.shape)} on input {sample}, the baseline's "
                f"{list(reference.shape)}: outputs whose shape depends on the numbers cannot be compared"
            )
        found = output_distance(reference, value, meaning, (b_spec.scale or 0.0) if is_quantized(b_spec) else 0.0)
        names = (f"{b_spec.name} ({j})", f"{a_spec.name} ({i})") if len(pairs) > 1 else (b_spec.name, a_spec.name)
        rows.append(OutputDistanceRow(variant, *names, meaning, sample, **asdict(found)))
    return rows


def _nonfinite(rows: Sequence[OutputDistanceRow]) -> list[str]:
    """What is not a number, in words: each output once."""
    found: dict[str, list[OutputDistanceRow]] = {}
    for row in rows:
        if row.nonfinite:
            found.setdefault(row.output, []).append(row)
    return [
        f"output {name} holds numbers that are not finite on {len(those)} inputs, in it or in the baseline; where the "
        "baseline's is finite it counts as if it were 0"
        for name, those in found.items()
    ]
