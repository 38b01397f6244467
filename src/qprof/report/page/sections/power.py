"""Power over time, block by block."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from qprof.errors import StoreError
from qprof.findings.energy import PowerTrace, power_traces
from qprof.report.page.data_drawn import PowerBlock, PowerPoint
from qprof.store.run import Run

#: Points of one block, and blocks of one variant and channel.
_MOST_POINTS, _MOST_BLOCKS = 300, 8


def power(run: Run) -> Iterator[PowerBlock]:
    """Of every variant whose energy blocks a sensor saw."""
    for entry in run.manifest.living():
        try:
            traces = power_traces(run, entry.name)
        except StoreError:
            continue  # no sensor, or no blocks that are long enough: the energy table says which
        told: dict[tuple[str, str], int] = {}
        for trace in traces:
            key = (trace.phase, trace.channel)
            told[key] = told.get(key, 0) + 1
            if told[key] <= _MOST_BLOCKS:
                yield _block(trace)


def _block(trace: PowerTrace) -> PowerBlock:
    known = np.flatnonzero(np.isfinite(trace.watts))
    kept = known[:: max(1, -(-len(known) // _MOST_POINTS))]
    return PowerBlock(
        variant=trace.variant,
        phase=trace.phase,
        round=trace.round + 1,
        channel=trace.channel,
        provenance=trace.provenance,
        window_s=trace.window_s,
        points=[PowerPoint(t_s=round(float(trace.t_s[n]), 4), watts=round(float(trace.watts[n]), 4)) for n in kept],
    )
