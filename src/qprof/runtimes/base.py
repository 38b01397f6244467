"""What a runtime is to the rest of qprof: it makes variants, loads them, times their ops, and says what it can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from qprof.errors import ModelError
from qprof.record.ceilings import Ceiling
from qprof.record.model import Model, PromptShape, RunOptions, Stepwise
from qprof.record.ops import OpEvents, OpMeta
from qprof.record.phases import INFERENCE
from qprof.record.sections import FileVariantSection, ModelSection, ProtocolSection, VariantSection
from qprof.record.stored import StoredFiles
from qprof.record.tensors import TensorSpec
from qprof.runtimes.interventions import Interventions
from qprof.runtimes.recipe import Recipe


class ProfiledModel(Model, Protocol):
    """A loaded variant with its instrumentation; latency is never taken from it."""

    ops: list[OpMeta]

    def discover(self) -> list[OpMeta]:
        """Run one inference of every phase on the present inputs; the op list of all phases, in their order."""

    def reserve(self, inferences: int) -> None:
        """Make room for the records of that many inferences."""

    def begin(self, inference: int) -> None:
        """Time every op from now on, under that number; the caller then times `run_once` alone."""

    def end(self) -> None:
        """Stop timing ops."""

    def drain(self) -> OpEvents:
        """Op events since the last call; `OpEvents.op` indexes `ops`."""

    def arena_bytes(self) -> int | None:
        """Bytes of the runtime's tensor arena, `None` where it cannot be seen."""

    def lost_events(self) -> int:
        """How many op events could not be kept for want of memory."""

    def timing_facts(self) -> dict[str, Any]:
        """What the manifest keeps of the instrumentation, as JSON can hold it (see `qprof.record.manifest.Timing`)."""

    def audit(self) -> dict[str, Any]:
        """What passes of their own tell of the measurement, once all blocks are done; as JSON can hold it."""


@dataclass(frozen=True, slots=True)
class Made:
    """A variant as a file or folder, and where it came from.

    `bytes`: of the weights' file or files. `method`, `tool`, `tool_version`, `make_seconds`: how it was made. `run`:
    the options that it is to be loaded with. `facts`: what its method has to say beyond that, as JSON can hold it.
    """

    path: Path
    sha256: str
    bytes: int
    method: str = ""
    tool: str | None = None
    tool_version: str | None = None
    make_seconds: float | None = None
    run: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Calibration:
    """Calibration samples that are produced only where they are needed.

    `samples()` starts a new pass; each sample is one array per input of the float model, in the order of the inputs.
    `digest` stands for their content: the same digest must mean the same samples in the same order.
    """

    samples: Callable[[], Iterable[Sequence[NDArray[Any]]]]
    digest: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What decides how a variant is run, beside its own section: the run's protocol, the model's section, what a task
    on text times (`None` for others), and what was found when it was made (`Made.run`)."""

    protocol: ProtocolSection
    model: ModelSection
    prompts: PromptShape | None
    run: Mapping[str, Any]


class VariantMaker(Protocol):
    """Makes variants of one model, one after the other, sharing what they share (calibration, imports)."""

    def float_model(self) -> Model:
        """The unquantized model, loaded, to fit a task's calibration samples to."""

    def make(self, section: VariantSection, calibration: Calibration) -> Made:
        """Make one variant. Raises `QprofError`."""


#: Takes what is compared ("cumulative", "own", "weights", "bias"), the variant's op, its reference and its numbers,
#: both real, and how many of them were cut off at an end of the quantized type (`None`: not quantized).
RecordError = Callable[[str, str, NDArray[Any], NDArray[Any], int | None], None]


class LayerComparison(Protocol):
    """The layers of a variant beside its baseline's, both loaded.

    `ops`: the variant's ops that are compared, as {"op", "baseline_op", "name", "type"}; `notes`: what could not be.
    """

    @property
    def ops(self) -> Sequence[Mapping[str, str | None]]: ...
    @property
    def notes(self) -> Sequence[str]: ...

    def weights(self, record: RecordError) -> None:
        """Hand what the ops' constants stand for, and the baseline's, to `record`."""

    def sample(self, inputs: Sequence[NDArray[Any]], record: RecordError) -> None:
        """Run one sample, inputs as the baseline takes them, and hand all pairs of arrays to `record`."""


class CeilingBench(Protocol):
    """Measures what a machine does at most through a runtime."""

    name: str  # of what is measured: runtimes that run on the same thing share it
    options: Sequence[str]  # fields of the run options that a ceiling depends on
    packages: Sequence[str]  # distributions that it depends on

    def measure(self, options: RunOptions) -> list[Ceiling]:
        """All ceilings, in this process, which should do nothing else. Raises `ModelError`."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of two variants that are compared: loaded, and how."""

    model: Model
    options: RunOptions


class Runtime(ABC):
    """What a package of `qprof.runtimes` offers through its module `runtime` as `RUNTIME`, and another distribution
    through an entry point of the group "qprof.runtimes".

    What a runtime leaves as it stands here it cannot do; everything else asks these attributes and methods, never for
    its name.
    """

    name: str
    packages: Sequence[str] = ()  # distributions whose versions belong to the record
    takes: Literal["tensors", "text"] = "tensors"  # what its models are run on
    phases: Sequence[str] = (INFERENCE,)  # that inferences come in
    devices: Sequence[str] = ("cpu",)  # kinds of device that it runs on
    delegates: Sequence[str] = ()  # what it can hand its ops to
    native_stacks: bool = False  # whether native frames of its threads can be had without stopping it
    resets: str = ""  # what `reset_before_ops` resets, in words
    default_variants: Sequence[str] = ()  # of a profile that names none
    expects: str = ""  # what `accepts` takes, for messages
    model_section: type[ModelSection] = ModelSection
    options_type: type[RunOptions] = RunOptions
    interventions: Interventions = Interventions()
    ceilings: CeilingBench | None = None

    @abstractmethod
    def accepts(self, path: Path) -> bool:
        """Whether `path` looks like a model that this runtime runs or makes variants of."""

    def runs(self, path: Path) -> bool:
        """Whether it runs what it accepts as it is, without making a variant of it first."""
        return True

    def is_finished(self, path: Path) -> bool:
        """Whether what it accepts is a variant already, of which no others can be made."""
        return False

    def names(self, text: str) -> bool:
        """Whether a text that is no path names a model that this runtime would fetch."""
        return False

    def variant_section(self, keys: Mapping[str, Any]) -> type[VariantSection]:
        """The section of a variant that a profile gives these keys: which keys it may have follows from its method.

        Raises `ProfileError` for a method that the runtime does not know, naming the nearest.
        """
        return FileVariantSection

    def options(self, section: VariantSection, asked: Asked) -> RunOptions:
        """How a variant is to be run: by its own section, and by what is asked of all."""
        return RunOptions(threads=section.threads or asked.protocol.threads, device=asked.protocol.device)

    def calibrates(self, section: VariantSection) -> bool:
        """Whether making a variant may take samples to calibrate on."""
        return True

    def require(self) -> None:  # noqa: B027  (most need nothing)
        """Raise `MissingExtraError` where a package is not installed that the runtime cannot do without."""

    def inputs_of(self, path: Path) -> list[TensorSpec]:
        """The inputs of a model by its file alone, which is not loaded; none where that does not tell. Raises
        `ModelError`."""
        return []

    def stored(self, path: Path) -> StoredFiles | None:
        """The parts that a variant's files are made of, `None` for a runtime that cannot tell. Raises `ModelError`."""
        return None

    def viewer_graphs(self, path: Path) -> list[str] | None:
        """What graph viewers (AI Edge Model Explorer) call the graphs of a model file, in its order; `None` where they
        do not know such files. Raises `ModelError` for a file that cannot be read."""
        return None

    def viewer_node(self, op: OpMeta) -> tuple[int, str] | None:
        """The graph (its place in `viewer_graphs`) and the node that an op is in a viewer; `None` for what is none."""
        return None

    def content_files(self, path: Path) -> Sequence[Path]:
        """The files of a variant's folder that loading it reads. Raises `ModelError`."""
        return [found for found in path.rglob("*") if found.is_file()]

    def preload(self, run: Mapping[str, Any]) -> None:  # noqa: B027  (most import nothing heavy)
        """Import everything that a variant with these `Made.run` needs, so that its memory is counted above it."""

    @abstractmethod
    def load(self, path: Path, options: RunOptions) -> Model:
        """Load a variant without any instrumentation. Raises `ModelError`."""

    def load_again(self, model: Model, path: Path, options: RunOptions) -> Model | None:
        """`model`, which `load` has given, once more: loaded from the same file or, where that is a folder, copied. It
        lies elsewhere in memory and computes the same. `None` where that is never quick. Raises `ModelError`."""
        return None

    def files_beside(self, path: Path) -> Sequence[Path]:
        """Files that loading this file reads as well. Raises `ModelError`."""
        return ()

    def instrument(self, model: Model, path: Path, options: RunOptions) -> ProfiledModel:
        """The loaded variant with every op timed: a second copy, or the same weights with timers that are only in
        place between `begin` and `end`. Raises `ModelError`, also where ops cannot be timed."""
        raise ModelError(f"{path}: {self.name} does not time ops; latency is measured end to end")

    def stepwise(self, model: Model) -> Stepwise | None:
        """The loaded variant run one token at a time, `None` of what is no language model."""
        return None

    def reset_before_ops(self, model: ProfiledModel, on: bool) -> bool:
        """From now on, reset before every op of an instrumented model what its predecessor may have left behind in the
        processor (`resets`), outside of the op's time; or no longer. `False` where there is nothing to reset."""
        return False

    def timing_ns(self, model: ProfiledModel) -> NDArray[np.int64] | None:
        """What timing the ops of an instrumented model took of each inference whose events were drained last, as far as
        it is known exactly and is no longer in the events: int64[inferences]; `None` where nothing is known."""
        return None

    @abstractmethod
    def maker(self, model: ModelSection, device: str) -> VariantMaker:
        """A maker of variants of a model. `device`: what may be computed on while they are made."""

    def recipe(self, model: Path, section: VariantSection) -> Recipe | None:
        """How a variant is made of a model, in its tool's own format; `None` for a method without one. Raises
        `ModelError`."""
        return None

    def compare_layers(self, baseline: Side, variant: Side, pairs: Sequence[tuple[str, str]]) -> LayerComparison:
        """The layers of a variant beside its baseline's. `pairs`: (op of the baseline, op of the variant), as aligned
        by whoever asks, for runtimes whose ops are not told by their names. Raises `ModelError`."""
        raise ModelError(f"{self.name} does not compare layers")
