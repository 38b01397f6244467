"""The manifest of a run: everything about it that is not a table."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field

from qprof.record.blocks import BlockEntry
from qprof.record.ceilings import Ceiling
from qprof.record.decoding import DecodeCheck, Kept
from qprof.record.looks import Looks, Sampling, Stopping
from qprof.record.machine import ClockFacts, Machine
from qprof.record.model import Structure
from qprof.record.phases import Phase
from qprof.record.sections import Name, ProtocolSection
from qprof.record.sensors import SensorFacts
from qprof.record.stored import StoredFiles
from qprof.record.tensors import TensorSpec

SCHEMA_VERSION = 5

Status = Literal["running", "interrupted", "complete"]


class Memory(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Bytes of a variant: what its process grew by above the bare runtime (imported, no model), resident,
    proportional and at the peak; what its runtime itself counts. `missing`: figure -> why it is not known."""

    rss_above_runtime_bytes: int | None = None
    pss_above_runtime_bytes: int | None = None
    peak_rss_above_runtime_bytes: int | None = None
    runtime_rss_bytes: int | None = None
    footprint_bytes: int | None = None
    device_peak_bytes: int | None = None
    missing: dict[str, str] = field(default_factory=dict)


class Making(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a variant came to be: by which method and tool, in how many seconds when it was made. `run`: the options
    that it is to be loaded with; `facts`: what its method has to say beyond that; `calibrated`: whether its numbers
    depend on the task's calibration samples."""

    method: str = ""
    tool: str | None = None
    tool_version: str | None = None
    make_seconds: float | None = None
    run: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    calibrated: bool = False


class Warmup(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Whether a variant was steady before it was measured, by which test, after how many inferences."""

    steady: bool
    reason: str
    inferences: int


class SplitFacts(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the time of quantized linears was divided in one phase.

    `how`: "in situ", op by op inside the running model; "replayed", its parts run alone; `None` where they cannot be
    taken apart, for the `reason`. `shares`: part ("dequantize", "matmul", "other") -> share; `dequantize_ops`: kernel
    -> its share of the dequantization. Where integers are multiplied, "quantize" (of activations) and `quantize_ops`
    stand in their place. `in_situ_ms`, `replayed_ms`: all dequantization of one inference, by either way.
    `products_us`: other kernel ("dequantized": none, on weights that were unpacked before) -> all products of one
    inference, run alone in it.
    """

    how: str | None = None
    reason: str | None = None
    linears: int | None = None
    passes: int | None = None
    shares: dict[str, float] | None = None
    dequantize_ops: dict[str, float] | None = None
    quantize_ops: dict[str, float] | None = None
    in_situ_ms: float | None = None
    replayed_ms: float | None = None
    products_us: dict[str, float] | None = None


class ClockAudit(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One region by three clocks: the host's without waiting for the device, the host's with a synchronization, and
    between two events on the device; `asynchronous_error`: the part of the second that the first lacks."""

    unsynchronized_us: float
    synchronized_us: float
    events_us: float
    asynchronous_error: float


class KernelFacts(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Kernels of an inference on the device, the mean over a profiler pass: how many were launched, how long one or
    more of them ran (`busy_us`) from the first's start to the last's end (`span_us`); `layers`: layer -> kernel ->
    (launches, microseconds)."""

    launches: float
    busy_us: float | None = None
    span_us: float | None = None
    idle_share: float | None = None
    layers: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)


class Timing(Struct, forbid_unknown_fields=True, kw_only=True):
    """What the instrumentation of a variant tells of itself and of the measurement, by phase; `facts`: what it counts
    beyond that."""

    split: dict[str, SplitFacts] = field(default_factory=dict)
    clocks: dict[str, ClockAudit] = field(default_factory=dict)
    kernels: dict[str, KernelFacts] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


class LayersCompared(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The samples over which a variant's layers were compared with the baseline's."""

    samples: list[int]
    seconds: float


class OutputsCompared(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The inputs, `samples` of them, on which a variant's outputs were compared with the baseline's. `inputs`: whether
    they were given, or made at random. `same`: the file and the options are the baseline's own."""

    samples: int
    inputs: Literal["given", "random"]
    seconds: float
    same: bool = False


class PlausibilityFacts(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The score by which other settings were tried on the baseline; `unit`: "share" (0 to 1) or "nats"."""

    score: str
    unit: Literal["share", "nats"]
    seconds: float


class VariantEntry(Struct, forbid_unknown_fields=True, kw_only=True):
    """What is known of one variant. What comes later than the step at which it failed is empty or `None`.

    `section`: as the profile resolves it. Made: `runtime` to `stored`. Loaded: `inputs` to `options`; `facts`: what its
    runtime tells; `scored`: samples that are predicted in passes of their own. Instrumented: the rest; `untimed`: what
    its worker died of when it was instrumented; `unscored`: why its predictions could not be scored.
    """

    name: Name
    section: dict[str, Any] = field(default_factory=dict)
    status: Literal["ok", "failed"] = "ok"
    reason: str | None = None
    notes: list[str] = field(default_factory=list)

    runtime: str | None = None
    path: str | None = None
    sha256: str | None = None
    content_sha256: str | None = None
    bytes: int | None = None
    making: Making = field(default_factory=Making)
    stored: StoredFiles | None = None

    inputs: list[TensorSpec] = field(default_factory=list)
    outputs: list[TensorSpec] = field(default_factory=list)
    phases: list[Phase] = field(default_factory=list)
    structure: Structure = "graph"
    facts: dict[str, Any] = field(default_factory=dict)
    memory: Memory = field(default_factory=Memory)
    scored: int = 0
    options: dict[str, Any] = field(default_factory=dict)

    instrumented: bool = False
    untimed: str | None = None
    resets: str = ""
    arena_bytes: int | None = None
    outputs_identical: bool | None = None
    warmup: dict[str, Warmup] = field(default_factory=dict)
    timing: Timing | None = None
    layer_errors: LayersCompared | None = None
    plausibility: PlausibilityFacts | None = None
    outputs_compared: OutputsCompared | None = None
    unscored: str | None = None
    kept: Kept | None = None
    decoding: DecodeCheck | None = None

    @property
    def failed(self) -> bool:
        return self.status == "failed"

    @property
    def threads(self) -> int | None:
        """Threads that it ran with, `None` before it was loaded."""
        threads = self.options.get("threads")
        return None if threads is None else int(threads)

    @property
    def device(self) -> str:
        """What it ran on, "" before it was loaded."""
        return str(self.options.get("device") or "")


class EnergyPlan(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Whether the run has blocks as long as power sensors need, and if not, why."""

    blocks: bool
    reason: str | None = None


class PreparedTask(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A task whose data are ready. `section`: the profile's with every path filled in; `skip`: samples, by the number
    that the data give them, that turned out broken and are left out. `calibration`: on what variants are calibrated,
    where that is worth saying, and `calibration_invented`: whether that is no data at all."""

    section: dict[str, Any]
    skip: list[int] = field(default_factory=list)
    calibration: str = ""
    calibration_invented: bool = False

    @property
    def kind(self) -> str:
        return str(self.section["kind"])


class RecordedProfile(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The profile as resolved: `extends` followed, overrides applied, paths absolute, every default spelled out.

    `model`, `variants` and `task` are plain data: which keys they have, their runtime, method and task decide.
    """

    name: str
    description: str = ""
    model: dict[str, Any] = field(default_factory=dict)
    variants: list[dict[str, Any]] = field(default_factory=list)
    task: dict[str, Any] = field(default_factory=dict)
    protocol: ProtocolSection = ProtocolSection()


class Manifest(Struct, forbid_unknown_fields=True, kw_only=True):
    """What `manifest.json` holds. Written anew at every step; a reader finds it whole or as it was before.

    `task`, `samples`: once the data are ready. `op_sources`: names of the codes of op events. `ceilings`: runtime ->
    what this machine can do through it. `resets`: whether there are blocks before whose ops the processor's state is
    reset; of a variant, what of it. `score_columns`: the leading metrics of the task, most important first.
    `blocks`: of a finished run. `changed`: what of the machine or its packages was another when it was resumed.
    `looks`: of a run that goes on until its verdicts are decided; `stopping`: of one that goes on until what it was
    made for is; `sampling`: of one that may predict a part of its samples only.
    """

    schema_version: int = SCHEMA_VERSION
    status: Status = "running"
    name: str = ""
    description: str = ""
    created: str
    qprof: str = ""
    profile: RecordedProfile
    machine: Machine = Machine()
    packages: dict[str, str | None] = field(default_factory=dict)
    clock: ClockFacts = ClockFacts()
    op_sources: list[str] = field(default_factory=list)
    samples: int | None = None
    notes: list[str] = field(default_factory=list)
    variants: list[VariantEntry]
    task: PreparedTask | None = None
    sensors: SensorFacts = SensorFacts()
    energy: EnergyPlan | None = None
    resets: bool = False
    ceilings: dict[str, list[Ceiling]] = field(default_factory=dict)
    score_columns: list[str] = field(default_factory=list)
    blocks: list[BlockEntry] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    looks: Looks | None = None
    stopping: Stopping | None = None
    sampling: Sampling | None = None

    @property
    def complete(self) -> bool:
        return self.status == "complete"

    @property
    def baseline(self) -> VariantEntry:
        """The first variant, which the others are compared with."""
        return self.variants[0]

    @property
    def metric(self) -> str | None:
        """The score that leads, `None` where nothing was scored."""
        return self.score_columns[0] if self.score_columns else None

    def left(self) -> list[str]:
        """The variants that a resumed run would try again: those that failed, or were not scored."""
        return [entry.name for entry in self.variants if entry.failed or entry.unscored]

    def untimed(self) -> list[str]:
        """The variants that ran without per-op timing, since their worker died of it, or while it was set up: a resumed
        run tries that again, too."""
        return [entry.name for entry in self.variants if entry.untimed and not entry.failed]

    def undecided(self) -> list[str]:
        """The variants whose verdict on latency was not decided when the budget was over: more of it may."""
        looks = self.looks
        if looks is None or looks.ended == "decided" or self.baseline.failed:
            return []
        return [entry.name for entry in self.variants[1:] if not entry.failed and entry.name not in looks.decided]

    def can_be_sharpened(self) -> bool:
        """Whether more time or more samples would be more of the same run, so that its parts are to be kept."""
        more_time = self.looks is not None and self.looks.ended == "budget"
        return more_time or (self.sampling is not None and self.sampling.asked[-1] < self.sampling.total)

    def living(self) -> list[VariantEntry]:
        """The variants that have not failed."""
        return [entry for entry in self.variants if not entry.failed]
