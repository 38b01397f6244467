"""Whether a score hangs on a setting of the task that others may have otherwise: how a text begins, for one.

The settings of a text task are tried on some rows of the baseline (`measure.worker.plausibility`). One that mends a
broken baseline is told as that; here is told that a choice matters at all, in whichever direction, with both scores: a
figure of another tool may have been made with the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from qprof.findings.once import once_per_run
from qprof.findings.plausibility import LEAST_GAIN, settings_tried
from qprof.store.run import Run

_LEVEL = 0.95


@once_per_run
def sensitivities(run: Run) -> list[str]:
    """One sentence for every setting whose change moves the baseline's score for certain by more than what counts."""
    return list(_told(run))


def _told(run: Run) -> Iterator[str]:
    facts = run.manifest.baseline.plausibility
    if facts is None or facts.unit != "nats":
        return
    least = LEAST_GAIN[facts.unit]
    for setting, says, before, after, effect, count in settings_tried(run.plausibility):
        interval = effect.interval(_LEVEL)
        if interval.low is None or interval.high is None or (-least <= interval.high and interval.low <= least):
            continue
        scores = " and ".join(f"{math.exp(-score):.4g}" for score in (before, after))
        rows = f"{count} rows" if count != 1 else "one row"
        yield (
            f"the score hangs on {setting.partition(' ')[0]}: perplexity is {scores} on {rows}, as configured and with "
            f"{setting} ({says}); compare with figures of other tools only where they begin a text alike"
        )
