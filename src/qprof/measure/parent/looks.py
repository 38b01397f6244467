"""A run that goes on until its verdicts are decided: which blocks are still wanted, and when it is looked at.

What is measured comes in, round by round; after some rounds (`qprof.stats.sequential.look_rounds`) each pair that is
not decided yet is judged, by an interval that holds at all looks together. A pair that is decided is measured no more;
the others go on, each in the same rounds as the baseline. The looks stand in the manifest, and a resumed run takes from
there what was decided, so that it goes on with the rounds that the one before would have had.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qprof.measure.plan import PlannedBlock
from qprof.measure.progress import Standing
from qprof.record.looks import Ended, Look, Looks, PairSeen, Stopping
from qprof.record.manifest import Manifest, VariantEntry
from qprof.record.sections import ProtocolSection
from qprof.stats.multiplicity import simultaneous_level
from qprof.stats.rounds import RoundEffect
from qprof.stats.sequential import RULE, look_level, look_rounds
from qprof.stats.verdict import word
from qprof.store.writer import RunWriter

#: What counts as no difference of two latencies, unless the profile says otherwise.
DEFAULT_MARGIN = 0.02
_LEVEL = 0.95


#: Whether what a run is made for is decided by what lies in its folder so far.
Decided = Callable[[Path], bool]


def new_looks(protocol: ProtocolSection, variants: int) -> Looks:
    """How a run of so many variants is to be stopped."""
    return Looks(
        rule=RULE,
        margin=protocol.margin or DEFAULT_MARGIN,
        budget_s=protocol.budget_s,
        rounds=protocol.rounds,
        comparisons=max(1, variants - 1),
    )


class RoundsWatch:
    """The rounds of one run as they come; what it decides goes into the manifest's `looks`."""

    def __init__(self, manifest: Manifest, looks: Looks, phases: Sequence[str]) -> None:
        self._manifest = manifest
        self._looks = looks
        self._phases = phases
        self._due = set(look_rounds(looks.rounds))
        self._medians_us: dict[tuple[str, str], dict[int, float]] = {}
        self._seconds: dict[tuple[int, str, str], list[float]] = {}

    # -- what comes in ------------------------------------------------------------------------------------------------

    def add(self, variant: str, phase: str, round_: int, duration_ns: NDArray[np.int64]) -> None:
        """A clean block was measured, or is kept from before."""
        self._medians_us.setdefault((variant, phase), {})[round_] = float(np.median(duration_ns)) / 1e3

    def spend(self, block: PlannedBlock, seconds: float) -> None:
        """So long a block took."""
        self._looks.spent_s += seconds
        self._seconds.setdefault(_alike(block), []).append(seconds)

    def drop(self, round_: int) -> None:
        """A round that could not be finished does not count: its pairs are not whole."""
        for found in self._medians_us.values():
            found.pop(round_, None)

    def whole(self, round_: int) -> bool:
        """Whether a look has counted that round already."""
        return round_ < max((look.rounds for look in self._looks.looks), default=0)

    # -- what is wanted -----------------------------------------------------------------------------------------------

    def wanted(self, block: PlannedBlock) -> PlannedBlock | None:
        """The block as it is to be run now; `None` where it is not wanted any more.

        A variant that is decided runs samples that it has not predicted yet once, outside of its latency, the windows
        of its energy, and what it lacks of the rounds that it was measured in: its ops may be timed only now, since the
        worker died of it when the run was begun.
        """
        entry = self._manifest.variants[block.variant]
        if block.kind in ("scored", "energy") or self._measured(entry):
            return block
        if block.kind in ("profiled", "reset") and block.round < self._rounds_of(entry):
            return block
        return replace(block, kind="predicted") if block.keep else None

    def _rounds_of(self, entry: VariantEntry) -> int:
        """Of a decided variant, and of the baseline: how many it was measured in until then."""
        if entry is self._manifest.baseline:
            return max((look.rounds for look in self._looks.looks), default=0)
        return self._looks.decided.get(entry.name, 0)

    def _measured(self, entry: VariantEntry) -> bool:
        pairs = self.pairs()
        if not pairs:
            return True  # nothing to decide: what is measured is latencies by themselves
        open_ = self.undecided()
        return bool(open_) if entry is self._manifest.baseline else entry in open_

    def pairs(self) -> list[VariantEntry]:
        """The variants that can be compared with the baseline."""
        manifest = self._manifest
        return [] if manifest.baseline.failed else [entry for entry in manifest.variants[1:] if not entry.failed]

    def undecided(self) -> list[VariantEntry]:
        return [entry for entry in self.pairs() if entry.name not in self._looks.decided]

    def affords(self, blocks: Sequence[PlannedBlock] = ()) -> bool:
        """Whether the budget is not spent, nor would be by these blocks, if they take as long as others did."""
        budget = self._looks.budget_s
        if budget is None:
            return True
        known = [self._seconds.get(_alike(block)) for block in blocks]
        expected = sum(float(np.mean(times)) for times in known if times)
        return self._looks.spent_s < budget and self._looks.spent_s + expected <= budget

    # -- looks --------------------------------------------------------------------------------------------------------

    def look(self, rounds: int, *, forced: bool = False) -> Look | None:
        """The look that is due after so many rounds, unless it was had before; `forced`: as the budget is over."""
        had = [look.rounds for look in self._looks.looks]
        if not self.undecided() or rounds <= max(had, default=0) or not (forced or rounds in self._due):
            return None
        family = simultaneous_level(_LEVEL, self._looks.comparisons)
        level = look_level([*had, rounds], self._looks.rounds, family)
        seen: list[PairSeen] = []
        for entry in self.undecided():
            of_phases = [self._seen(entry.name, phase, rounds, level) for phase in self._phases]
            seen += [one for one in of_phases if one is not None]
            if all(one is not None and one.verdict != "inconclusive" for one in of_phases):
                self._looks.decided[entry.name] = rounds
        look = Look(rounds=rounds, spent_s=self._looks.spent_s, level=level, pairs=seen)
        self._looks.looks.append(look)
        return look

    def _seen(self, variant: str, phase: str, rounds: int, level: float) -> PairSeen | None:
        sides = [self._medians_us.get((name, phase), {}) for name in (self._manifest.baseline.name, variant)]
        common = [round_ for round_ in range(rounds) if all(round_ in side for side in sides)]
        if not common:
            return None
        logs = [[math.log(side[round_]) for round_ in common] for side in sides]
        found = RoundEffect(np.subtract(logs[1], logs[0])).interval(level)
        kind = word(found, math.log1p(self._looks.margin))
        return PairSeen(
            variant=variant, phase=phase, log_ratio=found.value, low=found.low, high=found.high, verdict=kind
        )

    def end(self, ended: Ended) -> None:
        """Why the rounds are over."""
        self._looks.ended = ended

    # -- what it looks like now ---------------------------------------------------------------------------------------

    def standing(self) -> list[Standing]:
        """The present figures of every variant and phase; intervals and words are those of the last look."""
        last: dict[tuple[str, str], PairSeen] = {}
        for look in self._looks.looks:
            last |= {(one.variant, one.phase): one for one in look.pairs}
        rows = []
        for entry in self._manifest.living():
            for phase in self._phases:
                found = self._medians_us.get((entry.name, phase), {})
                seen = last.get((entry.name, phase))
                rows.append(
                    Standing(
                        variant=entry.name,
                        phase=phase if len(self._phases) > 1 else "",
                        p50_us=float(np.median(list(found.values()))) if found else None,
                        rounds=len(found),
                        log_ratio=None if seen is None else (seen.log_ratio, seen.low, seen.high),
                        verdict=self._word(entry, seen),
                    )
                )
        return rows

    def _word(self, entry: VariantEntry, seen: PairSeen | None) -> str:
        if entry is self._manifest.baseline or not self.pairs():
            return ""
        if seen is None or entry.name not in self._looks.decided:
            return "undecided yet"
        return seen.verdict


class EarlyEnd:
    """The end of a run that was made to decide something else: who wants to know is asked after some rounds, and finds
    in the manifest how often that was."""

    def __init__(self, writer: RunWriter, most: int, until: Decided) -> None:
        """`most`: rounds that there are at most."""
        self._writer, self._most, self._until = writer, most, until

    def reached(self, rounds: int) -> bool:
        """Whether nobody needs more rounds than so many."""
        manifest = self._writer.manifest
        if rounds not in look_rounds(self._most):
            return False
        stopping = manifest.stopping = manifest.stopping or Stopping(rule=RULE, rounds=self._most)
        if rounds <= max(stopping.looks, default=0):
            return False
        stopping.looks.append(rounds)
        self._writer.save_manifest()
        return rounds < self._most and self._until(self._writer.folder)


def _alike(block: PlannedBlock) -> tuple[int, str, str]:
    return block.variant, block.kind, block.phase
