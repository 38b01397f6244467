"""Which run tested each claim: the interventions carried out, and, where the machine was another then, once more."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from qprof.errors import QprofError
from qprof.findings.judgement import checked, decided, disturbed
from qprof.findings.verify import Claim, Verification, carry_out, holds, narrowed, recorded
from qprof.measure.parent.spare import SpareWorkers
from qprof.measure.progress import ProgressDisplay
from qprof.store.run import Run

#: A claim is tested this often at most, where the machine is never as it was.
_MOST_RUNS = 2


def runs_that_test(
    run: Run,
    plan: Verification,
    verify: bool,
    progress: ProgressDisplay,
    spare: SpareWorkers | None = None,
    family: int = 1,
) -> dict[Claim, Run] | QprofError:
    """The run that tests each claim of a verification, of those that are kept and, with `verify`, made now.

    One claim may have found the machine as it was and another not: only what belongs to these is run once more. Claims
    that no run tests are left out. An error where the first run fails. `spare`: workers of earlier runs;
    `family`: how many claims are tested in all.
    """
    # Read once: what is computed of a run is kept with it, and claims that it tests alike share that.
    known = recorded(run)
    runs: dict[Claim, list[Run]] = {}
    for claim in plan.claims:
        wanted = narrowed(run, plan, [claim]).profile
        runs[claim] = [one for profile, one in known if holds(profile, wanted)]
    try:
        while verify and (left := [claim for claim in plan.claims if _once_more(claim, runs[claim])]):
            test = narrowed(run, plan, left)
            until = partial(_decided, left, max(family, len(plan.claims))) if plan.timed else None
            again = carry_out(run, test, progress, again=True, spare=spare, until=until)
            for claim in left:
                runs[claim].append(again)
    except QprofError as error:
        if not any(runs.values()):
            return error
    return {claim: _best(claim, tests) for claim, tests in runs.items() if tests}


def _decided(claims: Sequence[Claim], family: int, folder: Path) -> bool:
    """Whether what a verification holds so far tells of each claim what all of it would tell."""
    again = Run(folder)
    return all(decided(claim, again, family) for claim in claims)


def _once_more(claim: Claim, tests: Sequence[Run]) -> bool:
    """Whether another run could say more of a claim: none if the machine was not left alone in the run in question."""
    if len(tests) >= _MOST_RUNS:
        return False
    if all(_failed(claim, one) for one in tests):  # or there is none
        return True
    return not disturbed(claim) and not any(_tells(claim, one) for one in tests)


def _tells(claim: Claim, again: Run) -> bool:
    """Whether a run measured what a claim's intervention predicts, on the machine as it was."""
    return not _failed(claim, again) and _as_it_was(claim, again)


def _failed(claim: Claim, again: Run) -> bool:
    """Whether a run did not measure, or not score, what a claim's intervention predicts. That may be no fault of the
    intervention: its worker was killed, or there was no memory."""
    intervention = claim.hypothesis.intervention
    predicted = () if intervention is None else (intervention.prediction.a, intervention.prediction.b)
    entries = [again.variant(name) for name in predicted]
    return any(entry.failed or entry.unscored for entry in entries)


def _as_it_was(claim: Claim, again: Run) -> bool:
    found = checked(claim, again)
    return found is None or found.outcome == "reproduced"


def _best(claim: Claim, tests: Sequence[Run]) -> Run:
    """The last of those that measured it on the machine as it was, else the last that measured it, where one did: it is
    more likely to be as it is now."""
    measured = [one for one in tests if not _failed(claim, one)]
    return ([one for one in measured if _as_it_was(claim, one)] or measured or list(tests))[-1]
