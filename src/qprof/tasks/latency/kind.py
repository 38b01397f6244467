"""Latency alone, as a kind of task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, field

from qprof.errors import ProfileError
from qprof.record.layouts import transposition
from qprof.record.manifest import PreparedTask
from qprof.record.quantization import is_quantized, real_range
from qprof.record.sections import FilePath, Positive, TaskSection
from qprof.record.tensors import TensorSpec
from qprof.tasks import digests
from qprof.tasks.base import Prepared, TaskKind
from qprof.tasks.latency.given_inputs import Division, divided
from qprof.tasks.latency.random_inputs import RandomInputs, parse
from qprof.tasks.latency.task import LatencyTask


class LatencySection(TaskSection, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Random inputs, `samples` of them, or `inputs` (.npy / .npz files).

    `random`: input (by name, signature argument or position; "*" for all others) -> recipe, as "tokens:30522"; see
    `qprof.tasks.latency.random_inputs.KINDS`. `calibration_inputs`: files to calibrate static variants on; without them
    every second of `inputs` does, where these are 4 .npz files or more, or the same ones that are run, where they are
    fewer, or random numbers, where there are none. `calibration_samples`: how many at most. `outputs_are`: what the
    outputs hold, for the comparison with the baseline's; "auto": what they look like. `made_like`: inputs of the model
    that random numbers are made for, with their shapes: one that keeps channels at the other end is given them
    transposed; settled by itself.
    """

    kind: Literal["latency"] = "latency"
    inputs: list[FilePath] = field(default_factory=list)
    samples: Positive = 8
    random: dict[str, str] = field(default_factory=dict)
    calibration_inputs: list[FilePath] = field(default_factory=list)
    calibration_samples: Annotated[int, Meta(ge=0)] = 100
    outputs_are: Literal["auto", "probabilities", "logits", "values"] = "auto"
    made_like: dict[str, list[Positive]] = field(default_factory=dict)


class LatencyKind(TaskKind[LatencySection]):
    """Samples for timing alone."""

    name = "latency"
    section = LatencySection
    labelled = False

    def check(self, section: LatencySection) -> None:
        if section.random and section.inputs:
            raise ProfileError("task.random and task.inputs: inputs are random or given by files; leave out one")
        for key, text in section.random.items():
            try:
                parse(text)
            except ProfileError as error:
                raise ProfileError(f"task.random.{key}: {error}") from error

    def settled(
        self, section: LatencySection, inputs: Sequence[Sequence[TensorSpec]]
    ) -> tuple[LatencySection, list[str]]:
        """Random numbers within what quantized inputs hold: a float variant would else be given others."""
        section = msgspec.structs.replace(section, made_like=_made_like(section, inputs))
        if section.inputs or "*" in section.random:
            return section, []
        recipes, notes = dict(section.random), []
        for position, specs in enumerate(zip(*(known for known in inputs if known), strict=False)):
            ranges = {real_range(spec) for spec in specs if is_quantized(spec)}
            names = {str(position), *(name for spec in specs for name in spec.names)}
            low, high = (max(low for low, _ in ranges), min(high for _, high in ranges)) if ranges else (0.0, 0.0)
            if (
                low < high
                and len(ranges) + any(not is_quantized(spec) for spec in specs) > 1
                and not names & set(recipes)
            ):
                recipes[str(position)] = f"uniform:{low:.6g}:{high:.6g}"
                notes.append(
                    f"random numbers for input {specs[0].name!r} lie in {low:.4g}..{high:.4g}, which all quantized "
                    "variants hold: all are given the same"
                )
        return msgspec.structs.replace(section, random=recipes), notes

    def prepare(self, section: LatencySection) -> Prepared:
        task = self.build(section, ())
        division = _division(section)
        # Calibration inputs do not depend on how many samples there are, and are none of them.
        settings = [section.kind, section.calibration_samples, "apart", sorted(section.random.items())]
        digest = digests.of_parts([*settings, [digests.of_file(str(path)) for path in division.calibrate]])
        says, invented = _calibration(section, division)
        ready = PreparedTask(section=msgspec.to_builtins(section), calibration=says, calibration_invented=invented)
        notes = [f"calibrated on {says}"] if says and section.inputs and not section.calibration_inputs else []
        return Prepared(ready, task.sample_count(), digest, [*notes, *task.notes()])

    def build(self, section: LatencySection, skip: Sequence[int]) -> LatencyTask:
        division = _division(section)
        task = LatencyTask(
            division.run or None,
            samples=section.samples,
            recipes=section.random,
            calibration_files=division.calibrate or None,
            made_like=section.made_like,
        )
        task.outputs_are = section.outputs_are
        return task

    def with_samples(self, section: LatencySection, count: int) -> LatencySection:
        return msgspec.structs.replace(section, samples=max(section.samples, count))

    def without_calibration(self, section: LatencySection) -> LatencySection:
        return msgspec.structs.replace(section, calibration_samples=0, calibration_inputs=[])


def _made_like(section: LatencySection, inputs: Sequence[Sequence[TensorSpec]]) -> dict[str, list[int]]:
    """The first model's inputs, where another has one of the same extents with its channels at the other end."""
    known = [specs for specs in inputs if specs]
    if section.inputs or section.made_like or not known:
        return section.made_like
    first = known[0]
    moved = any(transposition(a.shape, b.shape) for specs in known[1:] for a, b in zip(first, specs, strict=False))
    return {spec.name: list(spec.shape) for spec in first} if moved else {}


def _division(section: LatencySection) -> Division:
    files = [Path(name) for name in section.inputs]
    if section.calibration_inputs:
        return Division(files, [Path(name) for name in section.calibration_inputs], False)
    return divided(files, section.calibration_samples)


def _calibration(section: LatencySection, division: Division) -> tuple[str, bool]:
    """On what static variants are calibrated, in words, and whether that is invented."""
    if not section.calibration_samples:
        return "", False
    if section.calibration_inputs:
        return f"{len(division.calibrate)} input files of their own (calibration_inputs)", False
    if not section.inputs:
        return RandomInputs(section.random, 0).says(), True
    if division.reused:
        return (
            "the very inputs that are run, so that its ranges fit these better than others: give others to calibrate "
            "on (--calibration-inputs)"
        ), False
    return (
        f"{len(division.calibrate)} of the {len(section.inputs)} input files, every second one, which are not run; the "
        f"other {len(division.run)} are"
    ), False


KIND = LatencyKind()
