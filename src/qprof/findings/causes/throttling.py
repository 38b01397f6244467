"""Rounds in which the clock was held down: by heat, by a power limit, or by a governor."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from qprof.findings.binding import binding
from qprof.findings.causes.base import Evidence, Hypothesis, Intervention, Prediction, rectangular_error
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

#: Cores change their clock in steps of so much, the bus clock that ratios multiply (Intel SDM, volume 4,
#: MSR_PLATFORM_INFO: "ratio in multiples of 100 MHz"); a reading may be off by half of it.
_STEP_MHZ = 100.0


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
                _prediction(comparison, found, slow, fast),
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


def _prediction(comparison: Comparison, found: Contrast, slow: float, fast: float) -> Prediction:
    """Latency as 1 / clock, but for what memory takes, which keeps its own pace: T = T0 (b (f0 / f - 1) + 1) with
    0 <= b <= 1 (Hsu & Feng, "A Power-Aware Run-Time System for High-Performance Computing", SC 2005). What memory takes
    is between nothing and the floor of the bytes under the roofline; it may be anything where no ceilings are recorded.
    """
    other = comparison.baseline if found.variant == comparison.variant else comparison.variant
    bound = binding(Comparison(comparison.run, other, found.variant, comparison.phase))
    memory = 1.0 if bound is None else min(1.0, bound.part(bound.rows, lambda row: min(1.0, row.memory_share or 0.0)))
    longer = fast / slow - 1.0
    least, most = (math.log1p(follows * longer) for follows in (1.0 - memory, 1.0))
    step = rectangular_error(-_STEP_MHZ / 2.0, _STEP_MHZ / 2.0)
    error = math.hypot(step / slow, step / fast)
    return Prediction.between("latency", found.variant, found.variant, least, most, error, relative=True)


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
