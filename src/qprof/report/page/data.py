"""The data of a report: what `report.json` holds, and all that the page is drawn from.

The JSON Schema `report.schema.json` beside this file is derived from these types. Texts are those that the commands
print; numbers have their unit in their name and are `None` where they are not known, never 0.
"""

from __future__ import annotations

from typing import Literal

from msgspec import field

from qprof.report.page.data_drawn import (
    Curve,
    Distribution,
    Example,
    FlameTree,
    LayerCosts,
    PowerBlock,
    Roofline,
)
from qprof.report.page.data_tables import Amount, Data, Fact, Grid

#: Raised where a reader of an older report would misread a newer one; new fields have defaults and do not raise it.
REPORT_VERSION = 1

Figure = Literal["latency", "accuracy", "size", "memory", "energy"]
CauseStatus = Literal["confirmed", "partial", "consistent", "refuted", "inconclusive", "hypothesis", "counted"]


class Alarm(Data, frozen=True, kw_only=True):
    """What is to be known before any figure is believed. `level`: "stop" breaks the comparison, "doubt" weakens it,
    "note" limits it."""

    level: Literal["stop", "doubt", "note"]
    title: str
    lines: list[str] = field(default_factory=list)


class Answer(Data, frozen=True, kw_only=True):
    """`deploy`: the variant to use, `None` where none is recommended. `sentences`: what to deploy, what that gains and
    costs, and why. `trades`: the same of every variant."""

    deploy: str | None
    sentences: list[str]
    doubts: list[str] = field(default_factory=list)
    trades: list[Fact] = field(default_factory=list)
    command: str = ""


class Variant(Data, frozen=True, kw_only=True):
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


class MechanismRow(Data, frozen=True, kw_only=True):
    """One bar of a waterfall."""

    mechanism: str
    delta_us: Amount
    sentence: str = ""
    ops: int = 0


class EvidenceItem(Data, frozen=True, kw_only=True):
    what: str
    value: str
    source: str


class Cause(Data, frozen=True, kw_only=True):
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
    more_ops: int = 0
    command: str = ""


class OpRow(Data, frozen=True, kw_only=True):
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


class Pair(Data, frozen=True, kw_only=True):
    """A variant against the baseline in one phase. The `rows` add up to `difference_us`, and so do the `ops`. `sides`:
    across runs, the letters of the two."""

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
    command: str = ""
    ops_command: str = ""
    sides: list[str] = field(default_factory=list)


class Lost(Data, frozen=True, kw_only=True):
    """Where a variant lost accuracy, size or memory: lines as `qprof explain` prints them."""

    variant: str
    title: str
    lines: list[str]


class Audit(Data, frozen=True, kw_only=True):
    name: str
    passed: bool
    says: str


class RunReport(Data, frozen=True, kw_only=True):
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


class Across(Data, frozen=True, kw_only=True):
    """Several runs side by side. `letters`: what each is called, in the order of the runs; `differs`: what of machine,
    versions, settings and models is not the same; `variants`: their figures, those that belong together in turn;
    `pairs`: each later run's variants against the first's, op by op and unpaired, without waterfall and causes."""

    letters: list[str]
    differs: Grid
    variants: Grid
    pairs: list[Pair] = field(default_factory=list)


class Report(Data, frozen=True, kw_only=True):
    """One run, or several side by side: then `across` says what they have in common and what not."""

    report_version: int
    qprof: str
    title: str
    runs: list[RunReport]
    across: Across | None = None
