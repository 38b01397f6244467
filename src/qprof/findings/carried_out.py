"""Which run tested each claim: the interventions carried out, and, where the machine was another then, once more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qprof.errors import QprofError
from qprof.findings.judgement import checked, disturbed
from qprof.findings.verify import Claim, Verification, carry_out, kept, narrowed
from qprof.measure.progress import ProgressDisplay
from qprof.store.run import Run

#: A claim is tested this often at most, where the machine is never as it was.
_MOST_RUNS = 2


def runs_that_test(
    run: Run, plan: Verification, verify: bool, progress: ProgressDisplay
) -> dict[Claim, Run] | QprofError:
    """The run that tests each claim of a verification, of those that are kept and, with `verify`, made now.

    One claim may have found the machine as it was and another not: only what belongs to these is run once more. Claims
    that no run tests are left out. An error where the first run fails.
    """
    made = [(plan, one) for one in kept(run, plan)]
    try:
        while len(made) < _MOST_RUNS:
            left = [claim for claim in plan.claims if _once_more(claim, list(_with(made, claim)))]
            if not left:
                break
            part = plan if len(left) == len(plan.claims) else narrowed(run, plan, left)
            known = kept(run, part) if part is not plan else []
            if not known and not verify:
                break
            made += [(part, one) for one in known or [carry_out(run, part, progress, again=True)]]
    except QprofError as error:
        if not made:
            return error
    found = ((claim, _best(claim, list(_with(made, claim)))) for claim in plan.claims)
    return {claim: one for claim, one in found if one is not None}


def _with(made: Sequence[tuple[Verification, Run]], claim: Claim) -> Iterator[Run]:
    return (one for part, one in made if claim in part.claims)


def _once_more(claim: Claim, runs: Sequence[Run]) -> bool:
    """Whether another run could say more of a claim: none if the machine was not left alone in the run in question."""
    if not runs:
        return True
    return not disturbed(claim) and not any(_as_it_was(claim, one) for one in runs)


def _as_it_was(claim: Claim, again: Run) -> bool:
    found = checked(claim, again)
    return found is None or found.outcome == "reproduced"


def _best(claim: Claim, runs: Sequence[Run]) -> Run | None:
    """The last of those that found the machine as it was, else the last: it is more likely to be as it is now."""
    fitting = [one for one in runs if _as_it_was(claim, one)] or runs
    return fitting[-1] if fitting else None
