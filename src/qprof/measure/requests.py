"""What the parent asks a worker, and what it is answered: one type for each request, one for each answer.

A worker decodes a request by its tag, the parent an answer by the type that the request names; nothing else crosses the
channel (`qprof.measure.channel`).
"""

from __future__ import annotations

from typing import Any, ClassVar, Generic, TypeVar

from msgspec import Struct, field

from qprof.measure.plan import MeasuredKind
from qprof.record.blocks import BlockEntry, BlockFacts, Samples
from qprof.record.ceilings import Ceiling
from qprof.record.decoding import DecodeCheck, Kept
from qprof.record.manifest import Memory, PlausibilityFacts, PreparedTask, Timing, Warmup
from qprof.record.model import Structure
from qprof.record.ops import OpEvents, OpMeta
from qprof.record.phases import Phase
from qprof.record.readings import Reading
from qprof.record.sensors import CodeCarbonFacts, Missing
from qprof.record.stored import StoredFiles
from qprof.record.tensors import TensorSpec

Answer = TypeVar("Answer")


class Request(Struct, Generic[Answer], frozen=True, kw_only=True, tag_field="do"):
    """A request; `answer` is the type of what it is answered with."""

    answer: ClassVar[type]


class Done(Struct, frozen=True):
    """The answer of requests that have nothing to tell."""


# -- making ready -----------------------------------------------------------------------------------------------------


class PreparedAnswer(Struct, frozen=True, kw_only=True):
    """See `qprof.tasks.base.Prepared`."""

    task: PreparedTask
    samples: int
    calibration_digest: str
    notes: list[str]


class PrepareTask(Request[PreparedAnswer], frozen=True, kw_only=True, tag="prepare"):
    """Make the data of a task ready. `section`: the profile's; `files`: of each variant, "" for one that is made."""

    answer = PreparedAnswer
    section: dict[str, Any]
    files: list[str] = []


class MadeAnswer(Struct, frozen=True, kw_only=True):
    """A variant that is made (`qprof.runtimes.base.Made`), and the runtime that runs it; `content_sha256`: of what
    loading it reads."""

    runtime: str
    path: str
    sha256: str
    bytes: int
    method: str
    tool: str | None
    tool_version: str | None
    make_seconds: float | None
    run: dict[str, Any]
    facts: dict[str, Any]
    notes: list[str]
    calibrated: bool = False
    stored: StoredFiles | None = None
    content_sha256: str = ""


class MakeVariant(Request[MadeAnswer], frozen=True, kw_only=True, tag="make"):
    """Make a variant, or take it from the cache. `model`, `section`: the profile's, of the model and the variant."""

    answer = MadeAnswer
    model: dict[str, Any]
    section: dict[str, Any]
    task: PreparedTask
    device: str
    calibration_digest: str


class Preload(Request[Done], frozen=True, kw_only=True, tag="preload"):
    """Import a runtime, while something else is made."""

    answer = Done
    runtime: str
    run: dict[str, Any]


# -- one variant ------------------------------------------------------------------------------------------------------


class LoadedVariant(Struct, frozen=True, kw_only=True):
    """A variant as it is loaded, by its runtime's name, path and options; `sha256`: of what loading reads, "" where it
    is not known."""

    runtime: str
    path: str
    options: dict[str, Any]
    sha256: str = ""


class LoadedAnswer(Struct, frozen=True, kw_only=True):
    """What the manifest keeps of a loaded variant, and remarks."""

    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    phases: list[Phase]
    structure: Structure
    facts: dict[str, Any]
    memory: Memory
    scored: int
    notes: list[str]


class OfVariant(Request[Answer], frozen=True, kw_only=True):
    """A request about one of the variants that a worker holds; `name`: of which."""

    name: str = ""


class LoadVariant(OfVariant[LoadedAnswer], frozen=True, kw_only=True, tag="load"):
    """Load a variant, and bind the task to it. `alone`: whether it has a process of its own, whose memory is its."""

    answer = LoadedAnswer
    variant: LoadedVariant
    task: PreparedTask
    alone: bool = True


class InstrumentedAnswer(Struct, frozen=True, kw_only=True):
    """The ops that are timed from now on; `None`, with a note, where they cannot be. `resets`: what of the processor's
    state can be reset before each of them, in words."""

    ops: list[OpMeta] | None
    arena_bytes: int | None = None
    outputs_identical: bool | None = None
    resets: str = ""
    notes: list[str] = field(default_factory=list)


class Instrument(OfVariant[InstrumentedAnswer], frozen=True, kw_only=True, tag="instrument"):
    """Time the ops of the loaded variant in profiled blocks."""

    answer = InstrumentedAnswer


class WarmedUpAnswer(Struct, frozen=True, kw_only=True):
    """Whether the variant is steady, and its inferences until then."""

    warmup: Warmup
    samples: Samples


class WarmUp(OfVariant[WarmedUpAnswer], frozen=True, kw_only=True, tag="warmup"):
    """Run a phase until it is steady, or until `max_s` is spent."""

    answer = WarmedUpAnswer
    phase: str
    max_s: float


class BlockAnswer(Struct, frozen=True, kw_only=True):
    """What was measured in a block (`qprof.record.blocks.Block`)."""

    samples: Samples
    facts: BlockFacts
    ops: OpEvents | None = None
    predictions: dict[int, Any] = field(default_factory=dict)
    readings: list[Reading] = field(default_factory=list)


class MeasureBlock(OfVariant[BlockAnswer], frozen=True, kw_only=True, tag="block"):
    """Run `samples` over and over until the block lasted `min_ms` and had `min_repetitions` inferences. `keep`: what
    the first pass predicts is scored. `chosen`: the samples of a scored block are the task's own numbers, in any order,
    and not places in the order in which the task runs all of them."""

    answer = BlockAnswer
    kind: MeasuredKind
    phase: str
    samples: list[int]
    min_ms: float
    min_repetitions: int = 1
    keep: bool = False
    chosen: bool = False


class NotesAnswer(Struct, frozen=True, kw_only=True):
    """What the task has noticed, and what the instrumentation tells of itself and of the measurement."""

    notes: list[str]
    timing: Timing | None
    kept: Kept | None = None
    decoding: DecodeCheck | None = None


class CollectNotes(OfVariant[NotesAnswer], frozen=True, kw_only=True, tag="notes"):
    """Asked once, when all blocks are done. `decoding`: whether a text task's targets are decoded once more."""

    decoding: bool = True

    answer = NotesAnswer


class Forget(Request[Done], frozen=True, kw_only=True, tag="forget"):
    """Let go of every variant that is loaded, and of the memory that they took."""

    answer = Done


# -- after the blocks -------------------------------------------------------------------------------------------------


class ScoredAnswer(Struct, frozen=True, kw_only=True):
    """The task's leading metrics, none where there is nothing to score."""

    columns: list[str]
    notes: list[str]


class ScoreVariant(Request[ScoredAnswer], frozen=True, kw_only=True, tag="score"):
    """Score what a variant predicted in the blocks of an unfinished run, and keep its scores there."""

    answer = ScoredAnswer
    folder: str
    variant: str
    task: PreparedTask


class TabulatedAnswer(Struct, frozen=True, kw_only=True):
    """What the manifest keeps of each block."""

    blocks: list[BlockEntry]


class Tabulate(Request[TabulatedAnswer], frozen=True, kw_only=True, tag="tabulate"):
    """Write the tables of a finished run from its parts. `sources` names the codes of op event sources."""

    answer = TabulatedAnswer
    folder: str
    variants: list[str]
    sources: list[str]


class ComparedAnswer(Struct, frozen=True, kw_only=True):
    """How far each layer is from the baseline's (rows of `LayerErrorRow`), over which samples."""

    rows: list[dict[str, Any]]
    samples: list[int]
    seconds: float
    notes: list[str]


class CompareLayers(Request[ComparedAnswer], frozen=True, kw_only=True, tag="layer_errors"):
    """Compare every op of a variant with the baseline's over `samples` samples, spread over the task's. `pairs`: (op of
    the baseline, op of the variant)."""

    answer = ComparedAnswer
    name: str
    baseline: LoadedVariant
    variant: LoadedVariant
    task: PreparedTask
    pairs: list[tuple[str, str]]
    samples: int


class OutputsAnswer(Struct, frozen=True, kw_only=True):
    """How far each output is from the baseline's on each input (rows of `OutputDistanceRow`); `random`: whether the
    inputs were made."""

    rows: list[dict[str, Any]]
    samples: int
    random: bool
    seconds: float
    notes: list[str]


class CompareOutputs(Request[OutputsAnswer], frozen=True, kw_only=True, tag="output_distances"):
    """Compare the outputs of a variant with the baseline's on the first `samples` inputs of a task, on fewer where that
    takes longer than `max_s`."""

    answer = OutputsAnswer
    name: str
    baseline: LoadedVariant
    variant: LoadedVariant
    task: PreparedTask
    samples: int
    max_s: float


class PlausibilityAnswer(Struct, frozen=True, kw_only=True):
    """What the baseline scores under other settings (rows of `PlausibilityRow`); no facts where there are none."""

    rows: list[dict[str, Any]]
    facts: PlausibilityFacts | None
    notes: list[str]


class TryAlternatives(Request[PlausibilityAnswer], frozen=True, kw_only=True, tag="plausibility"):
    """Score the baseline on `samples` samples, spread over those that are scored, as the task is configured and with
    each of its settings changed; what is not done after `max_s` is left out."""

    answer = PlausibilityAnswer
    name: str
    baseline: LoadedVariant
    task: PreparedTask
    samples: int
    max_s: float


class CeilingsAnswer(Struct, frozen=True, kw_only=True):
    ceilings: list[Ceiling]


class MeasureCeilings(Request[CeilingsAnswer], frozen=True, kw_only=True, tag="ceilings"):
    """Measure what the machine does at most through a runtime."""

    answer = CeilingsAnswer
    runtime: str
    options: dict[str, Any]


# -- CodeCarbon -------------------------------------------------------------------------------------------------------


class EstimatorAnswer(Struct, frozen=True, kw_only=True):
    """What CodeCarbon models and what it cannot; at the end of a window its readings."""

    missing: list[Missing]
    facts: CodeCarbonFacts | None = None
    readings: list[Reading] = field(default_factory=list)


class PreloadEstimator(Request[Done], frozen=True, kw_only=True, tag="preload_estimator"):
    answer = Done


class OpenEstimator(Request[EstimatorAnswer], frozen=True, kw_only=True, tag="open_estimator"):
    """`country`: ISO 3166 alpha-3 code of the grid, "" for none."""

    answer = EstimatorAnswer
    country: str


class BeginEstimate(Request[Done], frozen=True, kw_only=True, tag="begin_estimate"):
    answer = Done


class EndEstimate(Request[EstimatorAnswer], frozen=True, kw_only=True, tag="end_estimate"):
    answer = EstimatorAnswer


#: All that a worker can be asked.
AnyRequest = (
    PrepareTask
    | MakeVariant
    | Preload
    | LoadVariant
    | Instrument
    | WarmUp
    | MeasureBlock
    | CollectNotes
    | Forget
    | ScoreVariant
    | Tabulate
    | CompareLayers
    | CompareOutputs
    | TryAlternatives
    | MeasureCeilings
    | PreloadEstimator
    | OpenEstimator
    | BeginEstimate
    | EndEstimate
)


class Failure(Struct, frozen=True, kw_only=True):
    """Why a request failed: the error's type and its text."""

    type: str
    text: str
