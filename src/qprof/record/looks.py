"""What a run tells of how long it went on: the looks that were had at its verdicts, and which samples it predicted."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

#: Why a run ended: every pair was decided, its budget or its rounds were over.
Ended = Literal["decided", "budget", "rounds"]


class PairSeen(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one look saw of a variant against the baseline in one phase: ln of the ratio of their latencies, with the
    interval at the level of the look (no bounds where there were too few rounds), and its word."""

    variant: str
    phase: str
    log_ratio: float
    low: float | None
    high: float | None
    verdict: Literal["better", "worse", "equivalent", "inconclusive"]


class Look(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One look: after how many rounds and seconds of measuring, at which level its intervals are. A look at pairs that
    were decided before is none at them: `pairs` holds those that it was had for."""

    rounds: int
    spent_s: float
    level: float
    pairs: list[PairSeen] = field(default_factory=list)


class Looks(Struct, forbid_unknown_fields=True, kw_only=True):
    """How a run that goes on until its verdicts are decided was stopped.

    `rule`: by which its intervals hold at all looks together; `margin`: the relative difference of latencies that
    counts as none; `budget_s`: of measuring, `None` for any; `rounds`: at most so many, over which the rule spreads
    what it may spend; `comparisons`: pairs whose intervals hold together. `decided`: variant -> rounds after which it
    was decided. `spent_s`: seconds of measuring so far, over all resumptions.
    """

    rule: str
    margin: float
    budget_s: float | None
    rounds: int
    comparisons: int
    looks: list[Look] = field(default_factory=list)
    decided: dict[str, int] = field(default_factory=dict)
    spent_s: float = 0.0
    ended: Ended | None = None


class Stopping(Struct, forbid_unknown_fields=True, kw_only=True):
    """How a run that was made to decide something else was stopped: `rounds` at most, `looks` after so many. `rule`: by
    which what is said after any of them holds."""

    rule: str
    rounds: int
    looks: list[int] = field(default_factory=list)


class Sampling(Struct, forbid_unknown_fields=True, kw_only=True):
    """Which of the data set's `total` samples are predicted, in an order drawn from the protocol's seed, in which fewer
    are a prefix of more.

    `asked`: how many, first when the rounds were planned, then each time that the run was to go on with more, which
    appends blocks. `predicted`: how many every variant has predicted by now. `scored`: how many the scores were
    computed of each time that the run was finished: the looks at its scores.
    """

    total: int
    asked: list[int]
    predicted: int = 0
    scored: list[int] = field(default_factory=list)
