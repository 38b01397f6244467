"""What to try next, from what was tried: the same trials in the same order give the same proposal, so that a search
that was interrupted goes on where it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from qprof.findings.search.space import Space

#: What of the loss may stay lost in a set of layers that counts as good enough.
LEFT_OF_LOSS = 0.1


@dataclass(frozen=True, slots=True)
class Seen:
    """What a trial came to on the selection half: `None`: it could not be made or scored."""

    score: float | None


@dataclass(frozen=True, slots=True)
class Proposal:
    """Layers to leave in float, and why these."""

    names: frozenset[str]
    why: str


def goal(start: float, baseline: float, tolerance: float | None = None) -> float:
    """The score that is good enough: the baseline's less a `tolerance`, by default a tenth of what was lost."""
    lost = max(0.0, baseline - start)
    return baseline - (LEFT_OF_LOSS * lost if tolerance is None else tolerance)


def propose(space: Space, seen: Mapping[frozenset[str], Seen], enough: float) -> Proposal | None:
    """The next trial, `None` where there is none left. `seen`: with the empty set, the variant as it is.

    First 1, 2, 4, ... of the groups in their order, until the score is good enough; then by halves the fewest that are;
    then these without one layer after the other, the costliest first; then every group alone.
    """
    for proposal in _proposals(space, seen, enough):
        if proposal.names not in seen:
            return proposal
    return None


def _good(seen: Mapping[frozenset[str], Seen], names: frozenset[str], enough: float) -> bool:
    found = seen.get(names)
    return found is not None and found.score is not None and found.score >= enough


def _proposals(space: Space, seen: Mapping[frozenset[str], Seen], enough: float) -> Iterator[Proposal]:
    """All proposals in order; each is made knowing the results of those before it, which are in `seen`, or it is the
    first that is not, and what follows is not asked for."""
    if _good(seen, frozenset(), enough):
        yield from _alone(space)
        return
    below, count, last = 0, 1, len(space.groups)
    while True:
        names = space.prefix(count)
        yield Proposal(names, f"the {count} worst layers for their cost")
        if _good(seen, names, enough) or count == last:
            break
        below, count = count, min(2 * count, last)
    if _good(seen, space.prefix(count), enough):
        while count - below > 1:
            middle = (below + count) // 2
            yield Proposal(space.prefix(middle), f"the {middle} worst layers for their cost")
            below, count = (below, middle) if _good(seen, space.prefix(middle), enough) else (middle, count)
        yield from _without(space, seen, space.prefix(count), enough)
    yield from _alone(space)


def _without(
    space: Space, seen: Mapping[frozenset[str], Seen], names: frozenset[str], enough: float
) -> Iterator[Proposal]:
    """One layer less, the costliest first, for as long as that is good enough."""
    for name in sorted(names, key=lambda one: (-space.cost((one,)), one)):
        fewer = names - {name}
        if not fewer:
            return
        yield Proposal(fewer, f"as before without {name}")
        if _good(seen, fewer, enough):
            names = fewer


def _alone(space: Space) -> Iterator[Proposal]:
    for group in space.groups:
        yield Proposal(group, "one layer by itself")
