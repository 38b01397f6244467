"""Which block runs when: decided before the first one starts, from the profile's seed alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from qprof.record.phases import INFERENCE
from qprof.stats.schedule import interleaved

#: Kinds of blocks that a worker runs; a warm-up is planned beside them.
MeasuredKind = Literal["warmup", "clean", "profiled", "reset", "scored", "energy", "stacks", "predicted"]

_TIMED: tuple[MeasuredKind, ...] = ("clean", "profiled", "reset")

#: Data sets up to this size run whole in every block; larger ones are spread over the rounds.
WHOLE_SET = 16

#: Samples of a block that is run for its predictions alone: what a killed run loses at most.
_SHARE = 64


@dataclass(frozen=True, slots=True)
class PlannedBlock:
    """One block to run. `variant` is the variant's position in the profile; `keep`: its predictions are scored."""

    number: int
    round: int
    variant: int
    kind: MeasuredKind
    samples: tuple[int, ...]
    keep: bool
    phase: str = INFERENCE


def plan_blocks(
    variants: int,
    rounds: int,
    samples: int,
    profiled: bool,
    seed: int,
    phases: Sequence[str] = (INFERENCE,),
    scored: int = 0,
    energy_rounds: int = 0,
    resets: bool = False,
    timed_alone: bool = False,
    predicted_within: int | None = None,
    most_samples: int = WHOLE_SET,
    timed: bool = True,
) -> list[PlannedBlock]:
    """All blocks of a run, in order.

    Each round runs every variant, in each phase once clean and, if `profiled`, once profiled, and once more with the
    processor's state reset before every op where it `resets`, each time in an order of its own that is random and
    balanced (`qprof.stats.schedule`). All variants of a round run the same samples, so that
    they are paired by round and by sample; over all rounds every sample is run. Where `scored` samples are predicted
    in passes of their own, a round ends with its share of them; so do `energy_rounds` of the rounds, spread over all of
    them, with one energy block of every variant and phase. Where nothing is scored (`timed_alone`), no prediction is
    kept, and a block runs `most_samples` at most: those of a larger set are spread evenly over it. With
    `predicted_within`, so many rounds predict all samples, not all of them. Where nothing is to be `timed`, and what is
    scored has passes of its own, the first round alone has other blocks. Numbers depend on nothing but the arguments.
    """
    passes = [(kind, phase) for phase in phases for kind in _TIMED[: 1 + profiled + (profiled and resets)]]
    orders = [interleaved(variants, rounds, seed + number) for number in range(len(passes) + 1 + len(phases))]
    count = min(samples, rounds * most_samples) if timed_alone else samples
    whole = most_samples if timed_alone else WHOLE_SET
    members_of = [number * samples // count for number in range(count)]
    blocks: list[PlannedBlock] = []
    within = min(rounds, predicted_within or rounds)
    for round_ in range(rounds):
        members, keep = round_samples(round_, within, len(members_of), whole)
        members = tuple(members_of[member] for member in members)
        for (kind, phase), order in zip(passes, orders, strict=False) if timed or not (scored and round_) else ():
            for variant in order[round_]:
                wanted = keep and not timed_alone and (kind, phase) == ("clean", phases[0]) and not scored
                blocks.append(PlannedBlock(len(blocks), round_, variant, kind, members, wanted, phase))
        part, parts = min(round_, within), within  # none is left behind the last of them
        share = tuple(range(part * scored // parts, min(part + 1, parts) * scored // parts))
        for variant in orders[len(passes)][round_] if share else ():
            blocks.append(PlannedBlock(len(blocks), round_, variant, "scored", share, True, phases[0]))
        if round_ * energy_rounds // rounds == (round_ + 1) * energy_rounds // rounds:
            continue
        for phase, order in zip(phases, orders[len(passes) + 1 :], strict=True):
            for variant in order[round_]:
                blocks.append(PlannedBlock(len(blocks), round_, variant, "energy", members, False, phase))
    return blocks


def round_samples(round_: int, rounds: int, samples: int, whole: int = WHOLE_SET) -> tuple[tuple[int, ...], bool]:
    """The samples of a round, all of up to a `whole` set, and whether any of them is run for the first time."""
    if samples <= whole:
        return tuple(range(samples)), round_ == 0
    share = -(-samples // rounds)
    begin = round_ * share
    return tuple((begin + i) % samples for i in range(share)), begin < samples


def sampled(
    blocks: Sequence[PlannedBlock], total: int, seed: int, *, apart: bool
) -> tuple[list[PlannedBlock], list[int]]:
    """The blocks with the first samples taken for those of a random order of `total`, and that order.

    A data set may be sorted, and what is predicted of it is to stand for all of it. `apart`: predictions come from
    passes of their own, whose samples alone are meant. Sets that run whole in every block stay in order.
    """
    order = (
        np.random.default_rng(seed).permutation(total).tolist() if apart or total > WHOLE_SET else list(range(total))
    )
    changed = [
        replace(block, samples=tuple(order[i] for i in block.samples)) if (block.kind == "scored") == apart else block
        for block in blocks
    ]
    return changed, order


def more_blocks(
    variants: int, samples: Sequence[int], number: int, round_: int, seed: int, kind: MeasuredKind, phase: str
) -> list[PlannedBlock]:
    """Blocks for the predictions of more samples, behind all others: the first has this number and round, and every
    variant predicts the same samples in each round."""
    shares = [tuple(samples[begin : begin + _SHARE]) for begin in range(0, len(samples), _SHARE)]
    order = interleaved(variants, len(shares), seed + number)
    return [
        PlannedBlock(number + i * variants + j, round_ + i, variant, kind, share, True, phase)
        for i, share in enumerate(shares)
        for j, variant in enumerate(order[i])
    ]


def warmup_number(variant: int, phase: int, variants: int, blocks: Sequence[PlannedBlock]) -> int:
    """Number under which a variant's warm-up in a phase is kept: behind all planned blocks."""
    return len(blocks) + phase * variants + variant


def extra_number(position: int, variants: int, phases: int, blocks: Sequence[PlannedBlock]) -> int:
    """Number of a block that belongs to no variant: behind the warm-ups."""
    return len(blocks) + phases * variants + position
