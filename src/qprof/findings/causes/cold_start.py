"""First inferences that take far longer than the steady ones: kernels to compile, weights to pack, caches to fill."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from qprof.findings.causes.base import Evidence, Hypothesis, Intervention, Prediction
from qprof.findings.comparison import Comparison
from qprof.findings.environment import LEVEL, CleanBlock, clean_blocks
from qprof.stats.intervals import Interval

#: The first inference of a warm-up takes this many times the last ones, at the least, to be worth a word.
_COLD = 1.5
#: Fewer inferences in a warm-up do not show where it ends.
_LEAST_INFERENCES = 8
#: From here on an inference counts as steady.
_STEADY = 1.1
#: Standard error of the median of normal values over that of their mean (large samples).
_OF_MEDIAN = math.sqrt(math.pi / 2.0)


class ColdStart:
    """Predicted from the warm-up alone, measured against the clean blocks, which came later and are steady or not."""

    name = "cold_start"
    title = "the first inferences are slow"

    def hypotheses(self, comparison: Comparison) -> Iterator[Hypothesis]:
        """About the variant; about the baseline where the variant starts as it goes on."""
        for variant in (comparison.variant, comparison.baseline):
            warmup = comparison.run.latency(variant, "warmup", comparison.phase).duration_ns / 1e3
            blocks = clean_blocks(comparison, variant)
            clean = comparison.run.latency(variant, phase=comparison.phase).duration_ns / 1e3
            if len(warmup) < _LEAST_INFERENCES or not len(clean):
                continue
            end = float(np.median(warmup[len(warmup) // 2 :]))
            if warmup[0] >= _COLD * end:
                yield self._hypothesis(variant, warmup, end, clean, blocks)
                return

    def _hypothesis(
        self,
        variant: str,
        warmup: NDArray[np.float64],
        end: float,
        clean: NDArray[np.float64],
        blocks: Sequence[CleanBlock],
    ) -> Hypothesis:
        first, steady = float(warmup[0]), float(np.median(clean))
        cold = int(np.argmax(warmup <= _STEADY * end))
        extra = float((warmup[:cold] - end).sum())
        ratio = math.log(first / end)
        source = f"samples.parquet, warm-up of {variant}"
        over = "it" if cold == 1 else f"the first {cold} inferences"
        return Hypothesis(
            cause=self.name,
            claim=f"the first inference of {variant} took {first:.0f} us, {first / steady:.1f} times its steady "
            f"{steady:.0f} us; it is steady after {over}, which cost {extra:.0f} us beyond that: a timing without "
            "warm-up measures it",
            figure="latency",
            remark=True,
            effect=None,
            evidence=(
                Evidence("first inference", first, "us", source),
                Evidence("last inferences of the warm-up", end, "us", source),
                Evidence("p50 of the clean blocks", steady, "us", f"samples.parquet, clean blocks of {variant}"),
            ),
            intervention=Intervention(
                f"compares the first inference of {variant} with those of its clean blocks, as the warm-up foretells",
                Prediction.point("latency", variant, variant, ratio, _error(warmup, blocks), relative=True),
                rescored=_against_steady(first, clean),
            ),
        )


def _error(warmup: NDArray[np.float64], blocks: Sequence[CleanBlock]) -> float:
    """Standard error of ln(first inference / steady ones) as the warm-up tells it: that of the median of its second
    half, and how far one block lies from another, since the warm-up is one of them and the clean ones are many. Where
    they lie does not come in, so that they can refute it."""
    steady = np.log(warmup[len(warmup) // 2 :])
    of_median = _OF_MEDIAN * float(np.std(steady, ddof=1)) / math.sqrt(len(steady))
    between = float(np.std([math.log(block.p50_us) for block in blocks], ddof=1)) if len(blocks) > 1 else 0.0
    return math.hypot(of_median, between)


def _against_steady(first: float, clean: NDArray[np.float64]) -> Interval:
    """ln of one inference over many: between those that (1 - LEVEL) / 2 of them exceed and fall below.

    Were it one of them, it would lie beyond the k-th largest of n with probability k / (n + 1): no distribution is
    assumed (Vovk, Gammerman & Shafer, "Algorithmic Learning in a Random World", 2005, chapter 2).
    """
    ordered = np.sort(clean)
    outside = max(1, math.floor((1.0 - LEVEL) / 2.0 * (len(ordered) + 1)))
    level = 1.0 - 2.0 * outside / (len(ordered) + 1)
    middle, low, high = float(np.median(ordered)), float(ordered[outside - 1]), float(ordered[-outside])
    return Interval(math.log(first / middle), math.log(first / high), math.log(first / low), level)


CAUSE = ColdStart()
