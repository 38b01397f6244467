"""Which trial comes next, and which of them is chosen."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from qprof.errors import StoreError
from qprof.findings.search.propose import Seen, goal, propose
from qprof.findings.search.search import MOST_TOLD, Point, choose, front, told
from qprof.findings.search.space import Space
from qprof.findings.search.trials import Trial

LAYERS = [f"layer{number}" for number in range(12)]
Results = dict[frozenset[str], Seen]


def space(order: list[str]) -> Space:
    """Every layer by itself, in this order, of one cost."""
    groups = tuple(frozenset((name,)) for name in order)
    return Space(groups, dict.fromkeys(groups, 1.0), dict.fromkeys(order, 1.0), 0.1)


def search(choices: Space, lost: Mapping[str, float], most: int = 100) -> tuple[list[frozenset[str]], Results]:
    """All trials in their order where each layer in `lost` costs the score so much unless it is in float."""

    def score(names: frozenset[str]) -> float:
        return 1.0 - sum(cost for name, cost in lost.items() if name not in names)

    enough = goal(score(frozenset()), 1.0)
    seen = {frozenset[str](): Seen(score(frozenset()))}
    tried = []
    while len(tried) < most and (proposal := propose(choices, seen, enough)) is not None:
        assert proposal.names not in seen
        tried.append(proposal.names)
        seen[proposal.names] = Seen(score(proposal.names))
    return tried, seen


@pytest.mark.parametrize("place", [0, 1, 5, 11])
def test_the_one_layer_that_loses_it_all_is_found_wherever_it_stands(place: int) -> None:
    tried, seen = search(space(LAYERS), {LAYERS[place]: 0.3})
    enough = goal(0.7, 1.0)
    good = [names for names in tried if (seen[names].score or 0.0) >= enough]
    assert min(good, key=len) == {LAYERS[place]}
    # By doubling, halving, and leaving out one by one, not by trying each layer.
    assert tried.index(frozenset((LAYERS[place],))) <= 4 + 3 + place + 1


def test_of_several_layers_all_are_kept_that_are_needed() -> None:
    needed = {"layer2": 0.2, "layer9": 0.1}
    tried, seen = search(space(LAYERS), needed)
    good = [names for names in tried if (seen[names].score or 0.0) >= goal(0.7, 1.0)]
    assert min(good, key=len) == set(needed)


def test_the_same_trials_give_the_same_next_one() -> None:
    """What an interrupted search goes on with is what it would have gone on with."""
    whole, _ = search(space(LAYERS), {"layer6": 0.3})
    for kept in range(len(whole)):
        again, seen = search(space(LAYERS), {"layer6": 0.3}, most=kept)
        following = propose(space(LAYERS), seen, goal(0.7, 1.0))
        assert again == whole[:kept] and following is not None and following.names == whole[kept]


def test_a_trial_that_cannot_be_made_is_not_tried_twice_and_ends_nothing() -> None:
    seen = {frozenset[str](): Seen(0.5), frozenset({"layer0"}): Seen(None)}
    proposal = propose(space(LAYERS), seen, 0.9)
    assert proposal is not None and proposal.names == {"layer0", "layer1"}


def test_where_nothing_is_lost_every_layer_is_tried_by_itself() -> None:
    """In float it may be faster, and that is all there is to find."""
    tried, _ = search(space(LAYERS), {})
    assert tried == [frozenset((name,)) for name in LAYERS]


def test_a_tenth_of_the_loss_may_stay_lost_unless_it_is_said_otherwise() -> None:
    assert goal(0.6, 0.7) == pytest.approx(0.69)
    assert goal(0.6, 0.7, tolerance=0.05) == pytest.approx(0.65)
    assert goal(0.8, 0.7) == 0.7


def point(number: int, score: float | None, cost: float | None) -> Point:
    return Point(Trial(number, frozenset((f"layer{number}",)), ""), score, cost)


def test_the_front_holds_what_nothing_else_is_as_good_as() -> None:
    cheap, dominated, best, unknown = point(1, 0.6, 1.0), point(2, 0.59, 1.2), point(3, 0.7, 1.5), point(4, None, 0.5)
    assert front([dominated, best, unknown, cheap, point(5, 0.7, 1.5)]) == [cheap, best]


def test_the_cheapest_that_is_good_enough_is_chosen_else_the_best() -> None:
    members = [point(1, 0.6, 1.0), point(2, 0.65, 1.1), point(3, 0.7, 1.5)]
    assert choose(members, 0.65) is members[1]
    assert choose(members, 0.8) is members[2]
    with pytest.raises(StoreError, match="nothing to choose from"):
        choose([], 0.5)


def test_few_are_told_of_and_never_without_the_chosen() -> None:
    scores = [0.1, 0.3, 0.31, 0.5, 0.51, 0.7, 0.9, 0.95]
    members = [point(number, score, float(number)) for number, score in enumerate(scores)]
    shown = told(members, members[2])
    assert len(shown) == MOST_TOLD and members[2] in shown and members[6] in shown
    assert members[4] not in shown  # gains the least
