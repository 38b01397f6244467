"""Which block runs when: decided before the first one starts, from the profile's seed alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qprof.stats.schedule import interleaved

#: Data sets up to this size run whole in every block; larger ones are spread over the rounds.
WHOLE_SET = 16


@dataclass(frozen=True, slots=True)
class PlannedBlock:
    """One block to run. `variant` is the variant's position in the profile; `keep`: its predictions are scored."""

    number: int
    round: int
    variant: int
    kind: str  # "clean" or "profiled"
    samples: tuple[int, ...]
    keep: bool


def plan_blocks(variants: int, rounds: int, samples: int, profiled: bool, seed: int) -> list[PlannedBlock]:
    """All blocks of a run, in order.

    Each round runs every variant once clean and, if `profiled`, once profiled, each time in an order of its own that
    is random and balanced (`qprof.stats.schedule`). All variants of a round run the same samples, so that they are
    paired by round and by sample; over all rounds every sample is run. Numbers depend on nothing but the arguments.
    """
    clean_orders = interleaved(variants, rounds, seed)
    profiled_orders = interleaved(variants, rounds, seed + 1)
    blocks: list[PlannedBlock] = []
    for round_, (clean, second) in enumerate(zip(clean_orders, profiled_orders, strict=True)):
        members, keep = round_samples(round_, rounds, samples)
        passes = [("clean", clean)] + ([("profiled", second)] if profiled else [])
        for kind, order in passes:
            for variant in order:
                wanted = keep and kind == "clean"
                blocks.append(PlannedBlock(len(blocks), round_, variant, kind, members, wanted))
    return blocks


def round_samples(round_: int, rounds: int, samples: int) -> tuple[tuple[int, ...], bool]:
    """The samples of a round, and whether any of them is run for the first time."""
    if samples <= WHOLE_SET:
        return tuple(range(samples)), round_ == 0
    share = -(-samples // rounds)
    begin = round_ * share
    return tuple((begin + i) % samples for i in range(share)), begin < samples


def warmup_number(variant: int, blocks: Sequence[PlannedBlock]) -> int:
    """Number under which a variant's warm-up is kept: behind all planned blocks."""
    return len(blocks) + variant
