"""Rounds in which the clock was held down: by heat, by a power limit, or by a governor."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from qprof.findings.causes.base import Evidence, Hypothesis, Intervention, Prediction
from qprof.findings.comparison import Comparison
from qprof.findings.environment import (
    CleanBlock,
    Contrast,
    clean_blocks,
    clock_channels,
    clock_contrast,
    clock_mhz,
    contrast,
    effect_on_difference,
    gpu_channels,
    percent,
    rounds_text,
)
from qprof.probes.nvml import SLOWED_BITS, throttle_reasons

#: How much of the clock's ratio the latency has to follow, in logarithms. All of it where nothing but the clock counts;
#: memory keeps its own pace, and a package that is held down lowers that of its caches too.
_FOLLOWS_LEAST, _FOLLOWS_MOST = 0.5, 1.3


class Throttling:
    """Sorted by the clock; predicted as its inverse, measured on the latencies of the same blocks."""

    name = "throttling"
    title = "the clock was held down"

    def hypotheses(self, comparison: Comparison) -> Iterator[Hypothesis]:
        """About the variant's blocks; about the baseline's where the variant's ran at full clock."""
        for variant in (comparison.variant, comparison.baseline):
            clocks = clock_channels(comparison, variant)
            bits = gpu_channels(comparison, variant, "throttle")
            found = clock_contrast(comparison, variant)
            if found is not None:
                yield self._hypothesis(comparison, found, clocks, bits)
                return
            found = None if clocks else _by_bits(comparison, variant, bits)
            if found is not None:
                yield self._without_clock(comparison, found, bits)
                return

    def _hypothesis(
        self, comparison: Comparison, found: Contrast, clocks: Sequence[str], bits: Sequence[str]
    ) -> Hypothesis:
        slow, fast = (_geometric_mean(side, clocks) for side in (found.disturbed, found.calm))
        ratio = math.log(fast / slow)
        where = rounds_text(found.rounds)
        change = found.change
        source = f"readings.parquet, {', '.join(clocks)}"
        return Hypothesis(
            cause=self.name,
            claim=f"the clock was held down in {where} ({slow:.0f} MHz, {fast:.0f} MHz in the others"
            f"{_reasons(found, bits)}): the p50 of {found.variant} is {percent(change.value)} in them",
            figure="latency",
            effect=effect_on_difference(comparison, found.rounds),
            mechanism="outside",
            evidence=(
                Evidence(f"clock in {where}", slow, "MHz", source),
                Evidence("clock in the others", fast, "MHz", source),
                *found.latency_evidence(),
            ),
            intervention=Intervention(
                f"compares the blocks of {found.variant} in {where} with its others: the latency goes as 1 / clock",
                Prediction(
                    "latency",
                    found.variant,
                    found.variant,
                    _FOLLOWS_LEAST * ratio,
                    _FOLLOWS_MOST * ratio,
                    relative=True,
                ),
                rescored=change,
            ),
        )

    def _without_clock(self, comparison: Comparison, found: Contrast, bits: Sequence[str]) -> Hypothesis:
        where = rounds_text(found.rounds)
        share = len(found.disturbed) / (len(found.disturbed) + len(found.calm))
        return Hypothesis(
            cause=self.name,
            claim=f"the GPU held its clock down in {where}{_reasons(found, bits)}: the p50 of {found.variant} is "
            f"{percent(found.change.value)} in them",
            figure="latency",
            effect=effect_on_difference(comparison, found.rounds),
            mechanism="outside",
            evidence=(
                Evidence("share of the blocks with such a reason", share, "1", f"readings.parquet, {', '.join(bits)}"),
                *found.latency_evidence(),
            ),
            untestable="the clock itself was not read, so nothing says how much slower it should have been",
        )


def _geometric_mean(blocks: Sequence[CleanBlock], channels: Sequence[str]) -> float:
    return math.exp(float(np.mean([math.log(clock) for b in blocks if (clock := clock_mhz(b, channels)) is not None])))


def _mask(block: CleanBlock, bits: Sequence[str]) -> int | None:
    """The reasons that were seen in a block and that slow it, `None` where they were not read."""
    values = [int(value) for channel in bits for value in block.inside(channel)]
    seen = 0
    for value in values:
        seen |= value & SLOWED_BITS
    return seen if values else None


def _by_bits(comparison: Comparison, variant: str, bits: Sequence[str]) -> Contrast | None:
    def slowed(block: CleanBlock) -> bool | None:
        mask = _mask(block, bits)
        return None if mask is None else mask != 0

    return contrast(variant, clean_blocks(comparison, variant), slowed)


def _reasons(found: Contrast, bits: Sequence[str]) -> str:
    names = sorted({name for block in found.disturbed for name in throttle_reasons(_mask(block, bits) or 0)})
    return f"; {', '.join(names)}" if names else ""


CAUSE = Throttling()
