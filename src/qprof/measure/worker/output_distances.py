"""How far the outputs of a variant are from its baseline's, measured inside a worker that holds both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from time import perf_counter_ns
from typing import Any, cast

from numpy.typing import NDArray

from qprof.errors import DataError
from qprof.measure.channel import json_safe
from qprof.measure.requests import CompareOutputs, LoadedVariant, OutputsAnswer
from qprof.measure.worker.loading import load
from qprof.measure.worker.shared_inputs import SharedInputs
from qprof.record.layouts import transposition
from qprof.record.model import Loaded, Model
from qprof.record.quantization import FLOAT_DTYPES, dequantize, is_quantized
from qprof.record.rows import OutputDistanceRow
from qprof.record.tensors import TensorSpec
from qprof.stats.output_distance import Meaning, output_distance, output_meanings

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
    sides = [_Side(one) for one in (request.baseline, request.variant)]
    inputs = SharedInputs(request.task, request.samples, sides[0].model, sides[1].model)
    pairs, notes = matched_outputs(sides[0].model.loaded.outputs, sides[1].model.loaded.outputs, request.name)
    wanted = min(request.samples, inputs.count, max(_LEAST_SAMPLES, _MOST_ROWS // len(pairs)))
    first = [_run(sides, inputs.both(sample), pairs) for sample in range(min(_DECIDING_SAMPLES, wanted))]
    meanings = _meanings(
        sides[0].model.loaded, [pair[0] for pair in pairs], [outputs[0] for outputs in first], inputs.outputs_are
    )
    rows: list[OutputDistanceRow] = []
    samples = 0
    deadline_ns = started_ns + int(request.max_s * 1e9)
    while samples < wanted and (samples < _LEAST_SAMPLES or perf_counter_ns() < deadline_ns):
        both = first[samples] if samples < len(first) else _run(sides, inputs.both(samples), pairs)
        rows += _rows(request.name, samples, pairs, meanings, both)
        samples += 1
    return OutputsAnswer(
        rows=[json_safe(asdict(row)) for row in rows],
        samples=samples,
        random=inputs.random,
        seconds=(perf_counter_ns() - started_ns) / 1e9,
        notes=[*notes, *_nonfinite(rows)],
    )


class _Side:
    """One of the two, loaded."""

    def __init__(self, loaded: LoadedVariant) -> None:
        self.model: Model = load(loaded).model

    def outputs(self, inputs: Sequence[NDArray[Any]]) -> Arrays:
        """Of an inference with no history: the first phase is entered anew."""
        self.model.enter(self.model.loaded.phases[0].name)
        self.model.set_inputs(inputs)
        self.model.invoke()
        return self.model.outputs()


Pair = tuple[int, int, TensorSpec, TensorSpec]


def _run(sides: Sequence[_Side], inputs: Sequence[Arrays], pairs: Sequence[Pair]) -> tuple[Arrays, Arrays]:
    """The outputs that go together, of both on one input: real values where they are real."""
    first, second = (side.outputs(arrays) for side, arrays in zip(sides, inputs, strict=True))
    return (
        [_real(first[i], a) for i, _, a, _ in pairs],
        [_laid_out(_real(second[j], b), a) for _, j, a, b in pairs],
    )


def _laid_out(array: NDArray[Any], baseline: TensorSpec) -> NDArray[Any]:
    """An output with its channels where the baseline's are."""
    alike = _extents(array.shape) == _sizes(baseline)
    axes = None if alike else transposition(array.shape, baseline.shape)
    return array if axes is None else array.transpose(axes)


def _real(array: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    return dequantize(array, spec) if is_quantized(spec) else array


def matched_outputs(
    a_specs: Sequence[TensorSpec], b_specs: Sequence[TensorSpec], variant: str
) -> tuple[list[Pair], list[str]]:
    """Outputs of the baseline and of a variant that go together: those of one name and shape, the others of one shape
    in their order, or of one with the channels at the other end; and what is left over, in words. Raises `DataError`
    where none do."""
    free = list(range(len(b_specs)))
    found: dict[int, int] = {}
    for by_name, moved in ((True, False), (False, False), (False, True)):
        for i, spec in enumerate(a_specs):
            if i in found:
                continue
            fits = (
                j
                for j in free
                if (transposition(b_specs[j].shape, spec.shape) if moved else _sizes(b_specs[j]) == _sizes(spec))
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
    return _extents(spec.shape)


def _extents(shape: Sequence[int]) -> list[int]:
    return [size for size in shape if size != 1]


def _is_real(spec: TensorSpec) -> bool:
    return spec.dtype in FLOAT_DTYPES or is_quantized(spec)


def _meanings(loaded: Loaded, indices: Sequence[int], samples: Sequence[Arrays], told: str) -> list[Meaning]:
    """Of the outputs that are compared; a model's other outputs say nothing here."""
    steps = [loaded.outputs[i].scale or 0.0 for i in indices]
    lengths = {spec.shape[1] for spec in loaded.inputs if spec.dtype in ("int32", "int64") and len(spec.shape) == 2}
    looks = output_meanings(samples, steps, lengths)
    if told == "auto":
        return looks
    return [look if look == "exact" else cast(Meaning, told) for look in looks]


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
