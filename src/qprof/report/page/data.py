"""The data of a report: what `report.json` holds, and all that the page is drawn from.

The JSON Schema `report.schema.json` beside this file is derived from these types. Texts are those that the commands
print; numbers have their unit in their name and are `None` where they are not known, never 0.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

#: Raised where a reader of an older report would misread a newer one; new fields have defaults and do not raise it.
REPORT_VERSION = 1

Figure = Literal["latency", "accuracy", "size", "memory", "energy"]
CauseStatus = Literal["confirmed", "partial", "consistent", "refuted", "inconclusive", "hypothesis", "counted"]


class _Data(Struct, frozen=True, omit_defaults=True):
    pass


class Amount(_Data, kw_only=True):
    """A figure with the bounds of its interval; `text`: as the commands print it."""

    value: float
    low: float | None = None
    high: float | None = None
    text: str = ""


class Fact(_Data, kw_only=True):
    """Something that is told by name: of the machine, of the protocol."""

    name: str
    value: str


class GridColumn(_Data, kw_only=True):
    """`minor`: shown to who asks for all columns."""

    title: str
    key: str
    unit: str = ""
    numeric: bool = True
    minor: bool = False


class Grid(_Data, kw_only=True):
    """A table as a command prints it; a row lacks what is not known. `command` prints it."""

    title: str
    columns: list[GridColumn]
    rows: list[dict[str, str]]
    notes: list[str] = field(default_factory=list)
    command: str = ""


class Alarm(_Data, kw_only=True):
    """What is to be known before any figure is believed. `level`: "stop" breaks the comparison, "doubt" weakens it,
    "note" limits it."""

    level: Literal["stop", "doubt", "note"]
    title: str
    lines: list[str] = field(default_factory=list)


class Answer(_Data, kw_only=True):
    """`deploy`: the variant to use, `None` where none is recommended. `sentences`: what to deploy, what that gains and
    costs, and why. `trades`: the same of every variant."""

    deploy: str | None
    sentences: list[str]
    doubts: list[str] = field(default_factory=list)
    trades: list[Fact] = field(default_factory=list)
    command: str = ""


class Variant(_Data, kw_only=True):
    """The figures of a variant. `score_change`: against the baseline, in the score's own unit; `on_front`: not beaten
    by another; `beaten`: by which, in words."""

    name: str
    failed: str | None = None
    score: float | None = None
    score_change: Amount | None = None
    latency_us: Amount | None = None
    phases_us: dict[str, Amount] = field(default_factory=dict)
    size_bytes: float | None = None
    memory_bytes: float | None = None
    energy_j: Amount | None = None
    energy_source: str | None = None
    on_front: bool = False
    beaten: str | None = None
    scores: dict[str, float] = field(default_factory=dict)


class MechanismRow(_Data, kw_only=True):
    """One bar of a waterfall."""

    mechanism: str
    delta_us: Amount
    sentence: str = ""
    ops: int = 0


class EvidenceItem(_Data, kw_only=True):
    what: str
    value: str
    source: str


class Cause(_Data, kw_only=True):
    """A claim and what became of its test. `costs`: by figure, in µs, score points (0.01: one), bytes and joules, as
    much as is known; `predicted` and `measured` are in one unit, told by `scale` ("us", "relative", "points", "1")."""

    name: str
    title: str
    status: CauseStatus
    claim: str
    costs: dict[Figure, float] = field(default_factory=dict)
    effect: str | None = None
    because: str = ""
    evidence: list[EvidenceItem] = field(default_factory=list)
    intervention: str | None = None
    scale: str = ""
    predicted: Amount | None = None
    measured: Amount | None = None
    p_value: float | None = None
    mechanism: str | None = None
    ops: list[str] = field(default_factory=list)
    command: str = ""


class OpRow(_Data, kw_only=True):
    """A line of the table that closes; `a_us`, `b_us` are `None` where one has no such op. `own_sqnr_db`: the error of
    the variant's op on the baseline's own numbers; `bound`: what binds it; `op`: its whole name."""

    label: str
    op: str = ""
    kind: str
    delta_us: Amount
    type: str = ""
    a_us: float | None = None
    b_us: float | None = None
    flags: list[str] = field(default_factory=list)
    mechanism: str | None = None
    a_kernel: str | None = None
    b_kernel: str | None = None
    own_sqnr_db: float | None = None
    bound: str | None = None


class Pair(_Data, kw_only=True):
    """A variant against the baseline in one phase. The `rows` add up to `difference_us`, and so do the `ops`."""

    baseline: str
    variant: str
    phase: str
    title: str
    verdict: str | None = None
    stop: str | None = None
    baseline_us: float | None = None
    variant_us: float | None = None
    difference_us: Amount | None = None
    rows: list[MechanismRow] = field(default_factory=list)
    share_explained: float | None = None
    unexplained: list[str] = field(default_factory=list)
    causes: list[Cause] = field(default_factory=list)
    not_applicable: list[str] = field(default_factory=list)
    ops: list[OpRow] = field(default_factory=list)
    ops_note: str = ""
    command: str = ""
    ops_command: str = ""


class Lost(_Data, kw_only=True):
    """Where a variant lost accuracy, size or memory: lines as `qprof explain` prints them."""

    variant: str
    title: str
    lines: list[str]


class LatencyPoint(_Data, kw_only=True):
    round: int
    at_s: float
    us: float


class RoundMedian(_Data, kw_only=True):
    round: int
    us: float


class Distribution(_Data, kw_only=True):
    """Clean inferences of a variant in a phase. `points`: all of them, or so many, spread evenly over the run."""

    variant: str
    phase: str
    count: int
    p50_us: Amount
    least_us: float
    p5_us: float
    p25_us: float
    p75_us: float
    p95_us: float
    most_us: float
    points: list[LatencyPoint]
    rounds: list[RoundMedian]


class CeilingLine(_Data, kw_only=True):
    kind: Literal["compute", "memory"]
    name: str
    value: float
    unit: str
    disturbed: bool = False


class RooflinePoint(_Data, kw_only=True):
    label: str
    op: str
    type: str
    intensity_mac_per_byte: float
    gmac_per_s: float
    time_us: float
    bound: str


class Roofline(_Data, kw_only=True):
    variant: str
    phase: str
    ceilings: list[CeilingLine]
    points: list[RooflinePoint]
    shares: dict[str, float] = field(default_factory=dict)
    command: str = ""


class LayerPoint(_Data, kw_only=True):
    """What a layer loses (dB; the smaller the worse) and what it takes (part of the time)."""

    label: str
    op: str
    type: str
    own_sqnr_db: float | None = None
    sqnr_db: float | None = None
    share: float | None = None
    p50_us: float | None = None
    weight_bytes: float | None = None
    energy_j: float | None = None


class LayerCosts(_Data, kw_only=True):
    variant: str
    points: list[LayerPoint]
    table: Grid


class PowerPoint(_Data, kw_only=True):
    t_s: float
    watts: float


class PowerBlock(_Data, kw_only=True):
    """What one block drew; `window_s`: its length, from 0."""

    variant: str
    phase: str
    round: int
    channel: str
    provenance: str
    window_s: float
    points: list[PowerPoint]


class FlameTree(_Data, kw_only=True):
    """Frames, parents first: `parent[i]` is the position of frame i's parent (-1 for the root), `name[i]` one in
    `names`. `before`: of a difference, the value in A. Frames too narrow to see are left out and told in `notes`."""

    title: str
    kind: Literal["model", "host"]
    phase: str
    variant: str
    unit: str
    source: str
    names: list[str]
    parent: list[int]
    name: list[int]
    value: list[float]
    before: list[float] = field(default_factory=list)
    against: str | None = None
    gone: list[Fact] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    command: str = ""


class Box(_Data, kw_only=True):
    """In parts of the picture's width and height. `matched`: whether an object of the truth and a box found are each
    other's, `None` where that is not known."""

    label: str
    x: float
    y: float
    width: float
    height: float
    score: float | None = None
    matched: bool | None = None


class Picture(_Data, kw_only=True):
    """`image`: a data URL of a small PNG or JPEG."""

    image: str
    width_px: int
    height_px: int
    truth: list[Box] = field(default_factory=list)


class Said(_Data, kw_only=True):
    """What a variant made of a sample: `answers`, the best first; `boxes` that it found, objects that it `missed`."""

    variant: str
    right: bool | None = None
    outcome: str = ""
    answers: list[str] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    missed: list[Box] = field(default_factory=list)


class Example(_Data, kw_only=True):
    """A sample beside what the variants made of it; `flipped`: the variants that do better or worse than the baseline
    on it, with the words for it."""

    title: str
    truth: str = ""
    text: str | None = None
    picture: Picture | None = None
    said: list[Said] = field(default_factory=list)
    flipped: dict[str, str] = field(default_factory=dict)


class CurvePoint(_Data, kw_only=True):
    variant: str
    x: str
    y: float
    low: float | None = None
    high: float | None = None


class Curve(_Data, kw_only=True):
    """A score by what it depends on: AP by IoU threshold, AR by area. `ordered`: x is a number."""

    name: str
    title: str
    x: str
    y: str
    ordered: bool
    points: list[CurvePoint]


class Audit(_Data, kw_only=True):
    name: str
    passed: bool
    says: str


class RunReport(_Data, kw_only=True):
    """All that is shown of one run."""

    name: str
    created: str
    status: str
    baseline: str
    metric: str | None
    description: str = ""
    score_name: str = ""
    phases: list[str] = field(default_factory=list)
    reference: str = ""
    answer: Answer
    alarms: list[Alarm] = field(default_factory=list)
    variants: list[Variant] = field(default_factory=list)
    tables: dict[str, Grid] = field(default_factory=dict)
    pairs: list[Pair] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    remarks: list[Cause] = field(default_factory=list)
    distributions: list[Distribution] = field(default_factory=list)
    rooflines: list[Roofline] = field(default_factory=list)
    layers: list[LayerCosts] = field(default_factory=list)
    power: list[PowerBlock] = field(default_factory=list)
    flames: list[FlameTree] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)
    examples_note: str = ""
    audits: list[Audit] = field(default_factory=list)
    machine: list[Fact] = field(default_factory=list)
    versions: list[Fact] = field(default_factory=list)
    protocol: list[Fact] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)


class Report(_Data, kw_only=True):
    """One run, or several side by side."""

    report_version: int
    qprof: str
    title: str
    runs: list[RunReport]
