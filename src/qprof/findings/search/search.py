"""The search: a trial after the other for as long as there is time, then the best of them measured side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from qprof.errors import DataError, StoreError
from qprof.findings.latency import request_ratio
from qprof.findings.search.halves import change, score, score_name
from qprof.findings.search.propose import Seen, goal, propose
from qprof.findings.search.space import Space, space_of
from qprof.findings.search.trials import SearchFolder, Trial
from qprof.measure.progress import ProgressDisplay
from qprof.store.run import Run

#: Members of the front that are measured side by side and told of; more would each be told with less certainty.
MOST_TOLD = 6
#: Trials that measuring these side by side takes as long as.
_FRONT_TRIALS = 2.5


@dataclass(frozen=True, slots=True)
class Point:
    """A trial by its selection half. `cost`: latency as a ratio to the variant as it is, or bytes."""

    trial: Trial
    score: float | None
    cost: float | None


@dataclass
class Search:
    """A search under way. `now`: seconds of a clock; `tell`: is given every point as it ends, and the best so far."""

    kept: SearchFolder
    progress: ProgressDisplay
    now: Callable[[], float]
    tell: Callable[[Search, Point], None]
    _points: dict[frozenset[str], Point] = field(default_factory=dict)
    begun: Run = field(init=False)

    def go(self, budget_s: float) -> None:
        """Begin, or go on, until the budget is spent or nothing is left to try; one trial is made in any case. Raises
        what `qprof run` raises, `DataError` where scores cannot be had."""
        started = self.now()
        self.begun = self.kept.start(self.progress)
        self._check()
        for trial in self.kept.trials():
            if trial.run is not None or trial.reason is not None:
                self._add(trial)
        longest, spent = 0.0, False
        while not spent:
            seen = {names: Seen(point.score) for names, point in self._points.items()}
            proposal = propose(self.space, {**seen, frozenset(): Seen(self.start_score)}, self.enough)
            if proposal is None:
                self.progress.note("nothing is left to try")
                return
            before = self.now()
            trial = self.kept.carry_out(self.begun, proposal.names, proposal.why, self.progress)
            self.tell(self, self._add(trial))
            longest = max(longest, self.now() - before)
            reserve = longest * (_FRONT_TRIALS if self.kept.asked.figure == "latency" else 0.0)
            spent = self.now() - started + longest + reserve > budget_s

    def _check(self) -> None:
        if not self.begun.metric and not self.kept.asked.metric:
            raise DataError(f"{self.begun.folder}: nothing was scored, so no trial can be told from another")
        for name in (self.begun.baseline, self.kept.asked.variant):
            if self._score(self.begun, name) is None:
                raise DataError(f"{self.begun.folder}: {name} has no {self.metric}; the run scores {self._scored()}")

    def _scored(self) -> str:
        return ", ".join(self.begun.manifest.score_columns) or "nothing"

    # -- what is known ------------------------------------------------------------------------------------------------

    @cached_property
    def space(self) -> Space:
        """What can be left in float."""
        return space_of(self.begun, self.kept.asked.variant, self.kept.asked.figure)

    @property
    def metric(self) -> str:
        """The score that the search goes by."""
        return score_name(self.kept.asked.metric or self.begun.metric or "")

    @cached_property
    def start_score(self) -> float:
        """Of the variant as it is, on the selection half."""
        return self._score(self.begun, self.kept.asked.variant) or 0.0

    @cached_property
    def baseline_score(self) -> float:
        """Of the baseline, on the selection half."""
        return self._score(self.begun, self.begun.baseline) or 0.0

    @property
    def enough(self) -> float:
        """The score that is good enough."""
        return goal(self.start_score, self.baseline_score, self.kept.asked.tolerance)

    @property
    def points(self) -> list[Point]:
        """All trials that ended, in their order."""
        return sorted(self._points.values(), key=lambda point: point.trial.number)

    def as_it_is(self) -> Point:
        """The variant with no layer in float."""
        trial = Trial(0, frozenset(), "as it is", self.begun, self.kept.asked.variant)
        entry = self.begun.variant(self.kept.asked.variant)
        cost = 1.0 if self.kept.asked.figure == "latency" else entry.bytes
        return Point(trial, self.start_score, None if cost is None else float(cost))

    def front(self) -> list[Point]:
        """The Pareto front by the selection half, the cheapest first."""
        return front([self.as_it_is(), *self.points])

    def chosen(self) -> Point:
        """The cheapest of the front that is good enough, else the one with the best score."""
        return choose(self.front(), self.enough)

    def _add(self, trial: Trial) -> Point:
        point = Point(trial, None, None)
        if trial.run is not None:
            start, own = (self.begun, self.kept.asked.variant), (trial.run, trial.name)
            gained = change(start, own, self.metric, "selection", self.kept.asked.seed)
            score_now = None if gained is None else self.start_score + gained
            point = Point(trial, score_now, self._cost(trial.run, trial.name))
        self._points[trial.names] = point
        return point

    def _score(self, run: Run, variant: str) -> float | None:
        return score((run, variant), self.metric, "selection", self.kept.asked.seed)

    def _cost(self, run: Run, variant: str) -> float | None:
        if self.kept.asked.figure == "size":
            size = run.variant(variant).bytes
            return None if size is None else float(size)
        ratio = request_ratio(run, self.kept.asked.variant, variant)
        return None if ratio is None else math.exp(ratio.value)


def front(points: Sequence[Point]) -> list[Point]:
    """Those that none is at least as good as in score and cost, and better in one; the cheapest first."""
    known = [point for point in points if point.score is not None and point.cost is not None]
    found: list[Point] = []
    for point in sorted(known, key=lambda one: (one.cost or 0.0, -(one.score or 0.0), one.trial.number)):
        if not found or (point.score or 0.0) > (found[-1].score or 0.0):
            found.append(point)
    return found


def choose(members: Sequence[Point], enough: float) -> Point:
    """The cheapest of a front that is good enough, else the best. Raises `StoreError` where there is none."""
    if not members:
        raise StoreError("no trial has both a score and a cost, so there is nothing to choose from")
    return next((point for point in members if (point.score or 0.0) >= enough), members[-1])


def told(members: Sequence[Point], chosen: Point) -> list[Point]:
    """At most so many members of a front that each can be told of with some certainty: those go first that gain the
    least over the one before them, never the one that was chosen."""
    left = list(members)
    while len(left) > MOST_TOLD:
        gains = {
            i: (left[i].score or 0.0) - (left[i - 1].score or 0.0) for i in range(1, len(left)) if left[i] is not chosen
        }
        left.pop(min(gains, key=lambda i: gains[i]))
    return left
