"""What a cause is: the evidence it needs, what it predicts, and the intervention that could refute it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import hypot, sqrt
from statistics import NormalDist
from typing import Any, Literal, Protocol

from qprof.findings.comparison import Comparison
from qprof.findings.control import Control
from qprof.findings.decomposition import Mechanism, OpPart
from qprof.findings.difference_table import DifferenceRow
from qprof.stats.intervals import Interval

#: What happens to a figure: "latency" in microseconds (p50 of the phase), or the name of a score.
Figure = str
#: A part of a predicted effect that is told from none.
_NEAREST_ZERO = 0.1

Status = Literal["confirmed", "partial", "consistent", "refuted", "hypothesis", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """One measurement that a cause rests on. `source` is where its level below is found: a table, a command, a file."""

    what: str
    value: float
    unit: str
    source: str
    interval: Interval | None = None


@dataclass(frozen=True, slots=True)
class Prediction:
    """The figure of variant `b` minus that of variant `a` will lie in [low, high], zero outside.

    `a` and `b` are names of variants in the run that the intervention makes. `relative`: the effect is ln(b / a), not
    a difference in the figure's unit. `value`: what is expected, where the range is that of a point and its error.
    `versus`: two other variants of that run; of a relative effect, theirs is taken off, so that it tells what became of
    a difference.
    """

    figure: Figure
    a: str
    b: str
    low: float
    high: float
    relative: bool = False
    value: float | None = None
    versus: tuple[str, str] | None = None

    @classmethod
    def point(
        cls,
        figure: Figure,
        a: str,
        b: str,
        value: float,
        error: float,
        relative: bool = False,
        versus: tuple[str, str] | None = None,
    ) -> Prediction:
        """A point with its standard error: in [low, high] with 95 %. Where that range would hold zero, nothing that is
        measured could refute the claim; it is cut off just before.
        """
        half = NormalDist().inv_cdf(0.975) * error
        low, high, least = value - half, value + half, _NEAREST_ZERO * value
        low, high = (low, min(high, least)) if value < 0.0 else (max(low, least), high)
        return cls(figure, a, b, low, high, relative, value, versus)

    @classmethod
    def between(
        cls, figure: Figure, a: str, b: str, low: float, high: float, error: float = 0.0, relative: bool = False
    ) -> Prediction:
        """A point where nothing but bounds is known: their middle. Its standard error is that of a figure that may lie
        anywhere between them alike, half their distance / sqrt(3) (rectangular distribution: JCGM 100:2008, "Guide to
        the expression of uncertainty in measurement", 4.3.7), and `error` beside it.
        """
        return cls.point(figure, a, b, (low + high) / 2.0, hypot(rectangular_error(low, high), error), relative)

    @property
    def expected(self) -> float:
        """The point, or the middle of the range."""
        return (self.low + self.high) / 2.0 if self.value is None else self.value

    def __post_init__(self) -> None:
        if not self.low <= self.high or self.low <= 0.0 <= self.high:
            raise ValueError(f"a prediction must be a range without zero, got {self.low} to {self.high}")


def rectangular_error(low: float, high: float) -> float:
    """Standard error of what lies anywhere between two bounds alike (JCGM 100:2008, 4.3.7)."""
    return (high - low) / 2.0 / sqrt(3.0)


@dataclass(frozen=True, slots=True)
class Intervention:
    """What is changed, and what must then happen.

    `variants`: sections of a profile ("name" and what differs) that are run beside the variants that are compared,
    in one run for all interventions with equal `protocol` and `task` overrides. `rescored`: the effect is computed from
    what was recorded (another metric on the same predictions) and is given here; nothing is run then. `replaces`: how
    many layers get another's weights, numbers or ranges; 0 where all of them are read or run otherwise.
    """

    does: str
    prediction: Prediction
    variants: Sequence[Mapping[str, Any]] = ()
    protocol: Mapping[str, Any] = field(default_factory=dict)
    task: Mapping[str, Any] = field(default_factory=dict)
    rescored: Interval | None = None
    replaces: int = 0


@dataclass(frozen=True, slots=True)
class OpRef:
    """An op that a hypothesis is about: the label of its row and its type."""

    name: str
    type: str


def row_refs(rows: Iterable[DifferenceRow]) -> tuple[OpRef, ...]:
    """The ops of some rows of a difference table."""
    return tuple(OpRef(row.label, op.type) for row in rows if (op := row.a or row.b) is not None)


def part_refs(parts: Iterable[OpPart]) -> tuple[OpRef, ...]:
    """The ops of some parts of a decomposition."""
    return tuple(OpRef(part.name, part.type) for part in parts)


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A claim of one cause about one comparison, before its test.

    `claim` is a plain sentence. `effect`: how much of the figure's difference it accounts for, in the figure's unit.
    `intervention` is `None` where none can be made here; `untestable` then says why. `mechanism`, `ops`: the part of
    the decomposition that it accounts for, by the labels of the rows; two hypotheses about the same part compete, and
    one at most counts. `remark`: it explains no difference of these variants, but one to figures that were measured
    otherwise; it is told to who asks.
    """

    cause: str
    claim: str
    figure: Figure
    effect: Interval | None
    evidence: tuple[Evidence, ...]
    intervention: Intervention | None = None
    untestable: str | None = None
    mechanism: Mechanism | None = None
    ops: tuple[OpRef, ...] = ()
    remark: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """A hypothesis and what became of it. `measured`: the effect of the intervention; `p_value` after the correction
    for the number of tests; `because`: why the status is what it is, in a sentence; `control`: whether the run of the
    intervention reproduced the difference, `None` where nothing was run."""

    hypothesis: Hypothesis
    status: Status
    because: str
    measured: Interval | None = None
    p_value: float | None = None
    control: Control | None = None


class Cause(Protocol):
    """One module of `qprof.explain.causes`: its object `CAUSE`."""

    #: Short and stable: it stands in findings.json and on the command line.
    name: str
    #: As a reader calls it.
    title: str

    def hypotheses(self, comparison: Comparison) -> Iterator[Hypothesis]:
        """What the recorded run speaks for; nothing where its evidence is not there."""
