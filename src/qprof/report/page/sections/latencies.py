"""Distributions of the clean inferences: quantiles, points over time, and the median of every round."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from qprof.findings.latency import p50_us
from qprof.report.page.data_drawn import Distribution, LatencyPoint, RoundMedian
from qprof.report.page.sections.amounts import amount, with_bounds
from qprof.report.units import duration
from qprof.store.run import Run

#: Points of a variant and phase that are drawn; of more, so many are taken evenly over the run.
MOST_POINTS = 500


def distributions(run: Run) -> Iterator[Distribution]:
    """Of every variant and phase that has clean inferences."""
    starts = [run.latency(entry.name, phase=phase.name).start_ns for entry in run.variants for phase in run.phases()]
    begun = min((int(found.min()) for found in starts if len(found)), default=0)
    for phase in run.phases():
        for entry in run.variants:
            found, p50 = run.latency(entry.name, phase=phase.name), p50_us(run, entry.name, phase.name)
            told = amount(p50, with_bounds(duration))
            if told is None:
                continue
            us = found.duration_ns / 1e3
            least, p5, p25, p75, p95, most = np.quantile(us, [0.0, 0.05, 0.25, 0.75, 0.95, 1.0]).tolist()
            order = np.argsort(found.start_ns, kind="stable")
            kept = order[np.linspace(0, len(order) - 1, min(len(order), MOST_POINTS)).round().astype(np.int64)]
            yield Distribution(
                variant=entry.name,
                phase=phase.name,
                count=len(us),
                p50_us=told,
                least_us=least,
                p5_us=p5,
                p25_us=p25,
                p75_us=p75,
                p95_us=p95,
                most_us=most,
                points=[
                    LatencyPoint(
                        round=int(found.round[n]) + 1,
                        at_s=round(float(found.start_ns[n] - begun) / 1e9, 3),
                        us=round(float(us[n]), 3),
                    )
                    for n in kept
                ],
                rounds=[
                    RoundMedian(round=int(number) + 1, us=float(np.median(us[found.round == number])))
                    for number in np.unique(found.round)
                ],
            )
