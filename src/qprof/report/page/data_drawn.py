"""The data of what a report draws: distributions, rooflines, layers, power, flames, samples, curves."""

from __future__ import annotations

from typing import Literal

from msgspec import field

from qprof.report.page.data_tables import Amount, Data, Fact, Grid


class LatencyPoint(Data, frozen=True, kw_only=True):
    round: int
    at_s: float
    us: float


class RoundMedian(Data, frozen=True, kw_only=True):
    round: int
    us: float


class Distribution(Data, frozen=True, kw_only=True):
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


class CeilingLine(Data, frozen=True, kw_only=True):
    kind: Literal["compute", "memory"]
    name: str
    value: float
    unit: str
    disturbed: bool = False


class RooflinePoint(Data, frozen=True, kw_only=True):
    label: str
    op: str
    type: str
    intensity_mac_per_byte: float
    gmac_per_s: float
    time_us: float
    bound: str


class Roofline(Data, frozen=True, kw_only=True):
    variant: str
    phase: str
    ceilings: list[CeilingLine]
    points: list[RooflinePoint]
    shares: dict[str, float] = field(default_factory=dict)
    command: str = ""


class LayerPoint(Data, frozen=True, kw_only=True):
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


class LayerCosts(Data, frozen=True, kw_only=True):
    variant: str
    points: list[LayerPoint]
    table: Grid


class PowerPoint(Data, frozen=True, kw_only=True):
    t_s: float
    watts: float


class PowerBlock(Data, frozen=True, kw_only=True):
    """What one block drew; `window_s`: its length, from 0."""

    variant: str
    phase: str
    round: int
    channel: str
    provenance: str
    window_s: float
    points: list[PowerPoint]


class FlameTree(Data, frozen=True, kw_only=True):
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


class Box(Data, frozen=True, kw_only=True):
    """In parts of the picture's width and height. `matched`: whether an object of the truth and a box found are each
    other's, `None` where that is not known."""

    label: str
    x: float
    y: float
    width: float
    height: float
    score: float | None = None
    matched: bool | None = None


class Picture(Data, frozen=True, kw_only=True):
    """`image`: a data URL of a small PNG or JPEG."""

    image: str
    width_px: int
    height_px: int
    truth: list[Box] = field(default_factory=list)


class Said(Data, frozen=True, kw_only=True):
    """What a variant made of a sample: `answers`, the best first; `boxes` that it found, objects that it `missed`."""

    variant: str
    right: bool | None = None
    outcome: str = ""
    answers: list[str] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    missed: list[Box] = field(default_factory=list)


class Example(Data, frozen=True, kw_only=True):
    """A sample beside what the variants made of it; `flipped`: the variants that do better or worse than the baseline
    on it, with the words for it."""

    title: str
    truth: str = ""
    text: str | None = None
    picture: Picture | None = None
    said: list[Said] = field(default_factory=list)
    flipped: dict[str, str] = field(default_factory=dict)


class CurvePoint(Data, frozen=True, kw_only=True):
    variant: str
    x: str
    y: float
    low: float | None = None
    high: float | None = None


class Curve(Data, frozen=True, kw_only=True):
    """A score by what it depends on: AP by IoU threshold, AR by area. `ordered`: x is a number."""

    name: str
    title: str
    x: str
    y: str
    ordered: bool
    points: list[CurvePoint]
