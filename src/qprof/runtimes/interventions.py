"""What a runtime can change about a variant, so that what a cause predicts can be tested.

Each change gives the section of another variant, under a name that tells it, or says why it cannot be made. A runtime
overrides those that it can carry out; all others are impossible.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qprof.record.manifest import VariantEntry
from qprof.record.ops import OpMeta

#: A variant's section of a profile, as plain data.
Section = Mapping[str, Any]

#: Why a variant that names its own file has no other form.
READY_MADE = "it is a ready-made file, which cannot be quantized anew; give qprof the float model instead"
#: The same, where qprof itself makes such files.
NOT_ANEW = "it is a ready-made file, which cannot be quantized anew; let qprof make it of the float model (--variants)"

#: The longest name that a profile takes (`qprof.record.sections.Name`).
_LONGEST_NAME = 80


@dataclass(frozen=True, slots=True)
class Impossible:
    """A change that cannot be made, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class OtherBytes:
    """A variant with the same numbers in `factor` times the bytes, kept as `dtype`."""

    section: Section
    dtype: str
    factor: float


@dataclass(frozen=True, slots=True)
class OtherWidth:
    """A variant quantized to `bits` bits, `before` of them in the one that was changed."""

    section: Section
    before: int
    bits: int


@dataclass(frozen=True, slots=True)
class OtherKernel:
    """A variant on the kernel `kernel`, which does not unpack its weights; `section` is `Impossible` where it cannot be
    made. `refuses`: why that kernel does not take the variant as it is, "" where it does; `change`: the form that it
    takes, in words."""

    section: Section | Impossible
    kernel: str
    refuses: str = ""
    change: str = ""


@dataclass(frozen=True, slots=True)
class OtherReading:
    """A finished file read as `after`, where it is read as `before` now. `told`: what in the file itself speaks for it,
    "" where nothing does."""

    section: Section
    before: str
    after: str
    told: str = ""


@dataclass(frozen=True, slots=True)
class OtherSettings:
    """A model's own weights with what stands beside the baseline's, of one kind (`what`, in words); `section` is
    `Impossible` where it cannot be made. `differs`: (setting, the baseline's, the variant's), in printable texts."""

    what: str
    section: Section | Impossible
    differs: tuple[tuple[str, str, str], ...]


class Interventions:
    """The changes that causes ask for; `entry` is what a run's manifest has of the variant to be changed."""

    def more_rows(self, entry: VariantEntry, factor: int) -> Section | Impossible:
        """Compute `factor` times as many rows at once, with as many ops."""
        return Impossible("its batch is part of the model; convert the model with a larger one and compare the two")

    def other_bytes(self, entry: VariantEntry) -> OtherBytes | Impossible:
        """Keep weights and activations in twice or half the bytes, the kernels alike."""
        return Impossible("this runtime has no form of a model that differs in its bytes and not in its kernels")

    def next_width(self, entry: VariantEntry) -> OtherWidth | Impossible:
        """Quantize by the same method to the next higher number of bits."""
        return Impossible("names no width, so there is no next one")

    def widest_ranges(self, entry: VariantEntry) -> Section | Impossible:
        """Quantize with ranges (the key `ranges`) that hold the extremes of all calibration samples, where those of the
        variant leave some out."""
        return Impossible("this runtime does not choose how calibration samples become ranges")

    def computing_in(self, entry: VariantEntry, dtype: str) -> Section | Impossible:
        """Compute in another float type, the stored numbers alike."""
        return Impossible("this runtime does not choose the type that a model computes in")

    def wide_from(self, entry: VariantEntry, name: str) -> Section | Impossible:
        """Compute in a type of float32's range, from the op of this name on where the runtime can."""
        return Impossible("this runtime does not choose the type that an op computes in")

    def faster_kernel(self, entry: VariantEntry) -> OtherKernel | Impossible:
        """Multiply by a kernel that does not unpack all weights in every inference, where the variant does that."""
        return Impossible("this runtime has no other kernel for it")

    def read_otherwise(self, entry: VariantEntry) -> OtherReading | Impossible:
        """Read a finished file's quantized weights by the other rule that there is for such files."""
        return Impossible("this runtime knows one way alone to read a file")

    def settings_of(self, entry: VariantEntry, baseline: VariantEntry) -> Sequence[OtherSettings] | Impossible:
        """Keep a finished model's weights and take the baseline's settings that are not in them, kind by kind, as far
        as these differ in what is computed."""
        return Impossible("this runtime's models have their settings in the file of their weights")

    def unpacked_once(self, entry: VariantEntry) -> Section | Impossible:
        """Unpack the weights when they are loaded, not in every inference."""
        return Impossible("this runtime has no kernel whose weights are unpacked when they are loaded")

    def without_delegate(self, section: Section) -> Section | Impossible:
        """Hand no op to a delegate."""
        return Impossible("this runtime hands its ops to no delegate")

    def with_delegate(self, section: Section) -> Section | Impossible:
        """Hand ops to the delegate that the runtime has, for a variant that runs without."""
        return Impossible("this runtime hands its ops to no delegate")

    def in_float(self, section: Section, ops: Sequence[OpMeta], every: Sequence[OpMeta]) -> Section | Impossible:
        """Leave some ops of the float model in float; `every`: all of the model's ops. The section itself where there
        are none to leave."""
        return Impossible("this runtime leaves no op of a variant in float")

    def integer_weights_in_float(self, section: Section) -> Section | Impossible:
        """Keep the integer weights and compute with them in float."""
        return Impossible("this runtime has no form of a variant that computes with integer weights in float")

    def integer_io(self, section: Section) -> Section | Impossible:
        """Give the model integer inputs and outputs."""
        return Impossible("this runtime does not change what a model takes and gives")

    def deselected(self, section: Section, op_type: str) -> bool:
        """Whether it is the section that leaves ops of this type in float."""
        return False

    def quantized_as_well(self, section: Section, op_types: Sequence[str]) -> Section | Impossible:
        """Quantize ops of these types, which the section left in float."""
        return Impossible("this runtime does not choose which ops to quantize")

    def following(self, entry: VariantEntry, names: set[str]) -> set[str] | Impossible:
        """The named ops of a variant's model and all that follow from them."""
        return Impossible("this runtime cuts no model")

    def cut_off(self, entry: VariantEntry, names: set[str]) -> Section | Impossible:
        """Cut the named ops off a variant's model, with all that follow from them."""
        return Impossible("this runtime cuts no model")

    def state_reset(self, section: Section) -> tuple[Section, Section] | Impossible:
        """Reset what an op's predecessor may have left in the processor, before every op; the control, before whose ops
        nothing is done at the same expense, comes first."""
        return Impossible("this runtime does nothing before an op")

    def halves(self, entry: VariantEntry, name: str) -> tuple[Section, Section] | Impossible:
        """A variant's model without an op and all that follows from it, and these by themselves. The second takes what
        lies between them, so that both are for a task that takes any inputs."""
        return Impossible("this runtime cuts no model")

    def bypassed(self, entry: VariantEntry, names: Collection[str]) -> Section | Impossible:
        """Cut the named ops out of the middle of a variant's model: what read their outputs reads their inputs."""
        return Impossible("this runtime cuts no model")

    def constants_from(
        self, entry: VariantEntry, baseline: VariantEntry, pairs: Sequence[tuple[str, str]]
    ) -> Section | Impossible:
        """Give ops the weights, biases and scales of the baseline's, quantized anew where it has them in float;
        `pairs`: (op of the variant, op of the baseline), by name."""
        return Impossible("this runtime does not change the constants of a finished model")

    def ops_from(
        self, entry: VariantEntry, baseline: VariantEntry, pairs: Sequence[tuple[str, str]]
    ) -> Section | Impossible:
        """Compute ops of a finished model as the baseline does, in its number format and with its constants, converting
        before and behind them; `pairs` as in `constants_from`."""
        return Impossible("this runtime does not put the ops of one finished model into another")

    def part_from(
        self,
        entry: VariantEntry,
        baseline: VariantEntry,
        out: Sequence[str],
        into: Sequence[str],
        pairs: Sequence[tuple[str, str]],
    ) -> Section | Impossible:
        """The finished model without its ops `out` and with the baseline's ops `into` in their place, by name; `pairs`,
        as in `constants_from`, are the others that correspond."""
        return Impossible("what an op does is part of its model; give qprof the two models that differ in this alone")

    def converted_alike(
        self, entry: VariantEntry, baseline: VariantEntry, pairs: Sequence[tuple[str, str]]
    ) -> Section | Impossible:
        """The finished model with its own ops, and as many numbers converted as by `ops_from`: its control."""
        return Impossible("this runtime does not put the ops of one finished model into another")

    def patched(
        self, entry: VariantEntry, baseline: VariantEntry, pairs: Sequence[tuple[str, str]]
    ) -> Section | Impossible:
        """Put the baseline's outputs of some ops in place of the variant's own, in every inference; `pairs` as in
        `constants_from`. For scores: such a variant is not timed fairly."""
        return Impossible("this runtime does not put one model's activations into another")

    def within_ranges(
        self, entry: VariantEntry, quantized: VariantEntry, pairs: Sequence[tuple[str, str]]
    ) -> Section | Impossible:
        """Compute in float, and cut off the inputs and what ops give where a quantized variant's ranges end; `pairs`:
        (op of this variant, op of the quantized one), by name."""
        return Impossible("this runtime does not cut a model's numbers off at another's ranges")

    def begun_as(
        self, entry: VariantEntry, baseline: VariantEntry, pairs: Sequence[tuple[str, str]]
    ) -> Section | Impossible:
        """Let the variant begin as the baseline: `pairs`, as in `constants_from`, are its first ops in the model's
        order, and what stands behind them is given the baseline's activations. For scores alone."""
        return self.patched(entry, baseline, pairs)

    def not_made_anew(self, entry: VariantEntry) -> str | None:
        """Why a variant cannot be made again with layers left in float; `None` where it can."""
        return "this runtime leaves no layer of a variant in float"

    def layers_in_float(self, section: Section, names: Sequence[str], what: str) -> Section | Impossible:
        """Leave layers of the float model in float, by name, in a variant called "NAME+WHAT"."""
        return Impossible("this runtime leaves no layer of a variant in float")

    def by_side(self, entry: VariantEntry) -> Mapping[str, tuple[Sequence[str], Sequence[str]]]:
        """op -> the ops that it takes tensors from, and those that it hands tensors to; empty where not known."""
        return {}

    def settings_of_ops(self, entry: VariantEntry) -> Mapping[str, Mapping[str, str]]:
        """op -> what its model says of how it is set (a stride, an activation) -> the value; empty where not known."""
        return {}

    def beside(self, entry: VariantEntry) -> Mapping[str, Sequence[str]]:
        """op -> the ops that must be in float for it to be so: those it hands tensors to and takes them from. Empty
        where an op stands by itself, and where the model's file is gone."""
        return {}


def changed(section: Section, what: str, **changes: Any) -> dict[str, Any]:
    """The section of a variant, called "NAME+WHAT". Its method is spelled out: the name no longer tells it."""
    own = {} if section.get("file") else {"method": method(section)}
    return {**section, **own, "name": changed_name(section, what), **changes}


def changed_name(section: Section, what: str) -> str:
    """ "NAME+WHAT", shortened where a profile would not take it."""
    name = f"{section['name']}+{what}"
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 9]}-{short_digest(name)}"


def model_of(entry: VariantEntry) -> Path:
    """The file or folder that a variant runs: what its section names, where that is a path, or what was made of it."""
    said = entry.section.get("file")
    named = said if isinstance(said, str) else ""  # of a damaged manifest it may be a number
    return Path(named if named and os.path.exists(named) else entry.path or named)


def more_threads(section: Section, threads: int) -> dict[str, Any]:
    """The variant with another number of threads, which every runtime takes."""
    return changed(section, f"{threads}-threads", threads=threads)


def more_in_float(section: Section, names: Sequence[str], what: str) -> dict[str, Any]:
    """The variant called "NAME+WHAT", whose `skip_layers` name these layers of the float model as well."""
    return changed(section, what, skip_layers=sorted({*section.get("skip_layers", ()), *names}))


def ops_in_float(section: Section, ops: Sequence[OpMeta], every: Sequence[OpMeta]) -> dict[str, Any]:
    """The variant whose `skip_ops` and `skip_layers` name these ops of the float model as well: by their type where all
    ops of it, among `every`, are meant, the others by their own names."""
    names = {op.name for op in ops}
    partly = {op.type for op in every if op.name not in names}
    types = sorted({op.type for op in ops} - partly)
    layers = sorted({op.name for op in ops if op.type in partly})
    what = [*types, *([f"{len(layers)}-layers-{short_digest(*layers)}"] if layers else [])]
    return changed(
        section,
        f"float:{'.'.join(what)}",
        skip_ops=sorted({*section.get("skip_ops", ()), *types}),
        skip_layers=sorted({*section.get("skip_layers", ()), *layers}),
    )


def leaves_in_float(section: Section, op_type: str, listed: Collection[str]) -> bool:
    """Whether a section leaves ops of a type in float: by `skip_ops`, or because it lists others alone."""
    return op_type in section.get("skip_ops", ()) or (bool(listed) and op_type not in listed)


def ops_quantized(section: Section, op_types: Sequence[str], listed: Collection[str], **changes: Any) -> dict[str, Any]:
    """The variant that quantizes ops of these types, too; `listed`: those that it is limited to now."""
    return changed(
        section,
        f"int8:{'.'.join(op_types)}",
        ops=sorted({*listed, *op_types}) if listed else [],
        skip_ops=[op_type for op_type in section.get("skip_ops", ()) if op_type not in op_types],
        **changes,
    )


def method(section: Section) -> str:
    """How a variant is made."""
    return str(section.get("method") or section["name"])


def short_digest(*texts: str) -> str:
    """Tells longer texts apart in a name."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:8]
