"""What a cause is: the evidence it needs, what it predicts, and the intervention that could refute it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from qprof.findings.comparison import Comparison
from qprof.stats.intervals import Interval

#: What happens to a figure: "latency" in microseconds (p50 of the phase), or the name of a score.
Figure = str
Status = Literal["confirmed", "refuted", "hypothesis", "inconclusive"]


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
    a difference in the figure's unit.
    """

    figure: Figure
    a: str
    b: str
    low: float
    high: float
    relative: bool = False

    def __post_init__(self) -> None:
        if not self.low <= self.high or self.low <= 0.0 <= self.high:
            raise ValueError(f"a prediction must be a range without zero, got {self.low} to {self.high}")


@dataclass(frozen=True, slots=True)
class Intervention:
    """What is changed, and what must then happen.

    `variants`: sections of a profile ("name" and what differs) that are run beside the variants that are compared,
    in one run for all interventions with equal `protocol` and `task` overrides. `rescored`: the effect is computed from
    what was recorded (another metric on the same predictions) and is given here; nothing is run then.
    """

    does: str
    prediction: Prediction
    variants: Sequence[Mapping[str, Any]] = ()
    protocol: Mapping[str, Any] = field(default_factory=dict)
    task: Mapping[str, Any] = field(default_factory=dict)
    rescored: Interval | None = None


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A claim of one cause about one comparison, before its test.

    `claim` is a plain sentence. `effect`: how much of the figure's difference it accounts for, in the figure's unit.
    `intervention` is `None` where none can be made here; `untestable` then says why.
    """

    cause: str
    claim: str
    figure: Figure
    effect: Interval | None
    evidence: tuple[Evidence, ...]
    intervention: Intervention | None = None
    untestable: str | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """A hypothesis and what became of it. `measured`: the effect of the intervention; `p_value` after the correction
    for the number of tests; `because`: why the status is what it is, in a sentence."""

    hypothesis: Hypothesis
    status: Status
    because: str
    measured: Interval | None = None
    p_value: float | None = None


class Cause(Protocol):
    """One module of `qprof.explain.causes`: its object `CAUSE`."""

    #: Short and stable: it stands in findings.json and on the command line.
    name: str
    #: As a reader calls it.
    title: str

    def hypotheses(self, comparison: Comparison) -> Iterator[Hypothesis]:
        """What the recorded run speaks for; nothing where its evidence is not there."""
