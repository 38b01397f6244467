"""An accelerator works on after the call returns: a host's clock that does not wait for it would have misled."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from qprof.findings.binding import op_times
from qprof.findings.causes.base import Evidence, Hypothesis, Intervention, Prediction, rectangular_error
from qprof.findings.comparison import Comparison
from qprof.findings.device import DeviceAudit, device_audits
from qprof.findings.effects import LATENCY
from qprof.stats.rounds import RoundEffect

#: Less than this is lost among other ways to time, and the host's clock need not be warned of.
_MISLEADING = 0.2


class AsynchronousTiming:
    """Predicted from the audit's clocks, measured against the clean blocks, which wait for the device: rescored from
    what is recorded, nothing is run."""

    name = "asynchronous_timing"
    title = "timing without waiting for the device misleads"

    def hypotheses(self, comparison: Comparison) -> Iterator[Hypothesis]:
        """About the variant; about the baseline where the variant's own error is small and swaps nothing."""
        found = {a.variant: a for a in device_audits(comparison.run, {}) if a.phase == comparison.phase}
        a, b = (found.get(name) for name in (comparison.baseline, comparison.variant))
        if a is None or b is None:
            return
        swapped = _is_order_swapped(comparison, a, b)
        misled = [audit for audit in (b, a) if audit.asynchronous_error > _MISLEADING]
        if not misled and swapped:
            misled = [max((b, a), key=lambda audit: audit.asynchronous_error)]
        if misled and misled[0].asynchronous_error > 0.0:
            yield self._hypothesis(comparison, misled[0], swapped)

    def _hypothesis(self, comparison: Comparison, about: DeviceAudit, swapped: bool) -> Hypothesis:
        error = -about.asynchronous_error
        order = f", and {comparison.variant} and {comparison.baseline} in the wrong order" if swapped else ""
        clean = comparison.run.latency(about.variant, phase=comparison.phase)
        rounds = [float(np.median(clean.duration_ns[clean.round == n])) / 1e3 for n in np.unique(clean.round)]
        source = f"manifest.json: timing.clocks of {about.variant}"
        return Hypothesis(
            cause=self.name,
            claim=(
                f"a clock that does not wait for the device would have shown {about.unsynchronized_us:.0f} µs for "
                f"{about.variant} instead of {about.synchronized_us:.0f} µs ({error:+.0%}){order}; qprof waits"
            ),
            figure=LATENCY,
            effect=None,
            evidence=(
                Evidence("the host's clock alone", about.unsynchronized_us, "us", source),
                Evidence("the host's clock, waiting for the device", about.synchronized_us, "us", source),
                Evidence("events on the device", about.events_us, "us", source),
            ),
            intervention=Intervention(
                does="compare the host's clock alone with the clean blocks, which wait for the device",
                prediction=_prediction(comparison, about, rounds),
                rescored=RoundEffect(np.log(about.unsynchronized_us / np.array(rounds))).interval(),
            ),
        )


def _prediction(comparison: Comparison, about: DeviceAudit, rounds: Sequence[float]) -> Prediction:
    """What the host's clock alone lacks of an inference, by the audit, which timed the forward alone: an inference is
    longer by some of what lies outside its ops, or by none. Its two clocks that wait tell how exactly one does, and the
    rounds, how far one pass lies from another."""
    times = op_times(Comparison(comparison.run, comparison.baseline, about.variant, comparison.phase))
    outside_us = 0.0 if times is None else max(0.0, times[2] - math.fsum(times[1]))
    least = math.log(about.unsynchronized_us / (about.synchronized_us + outside_us))
    most = math.log(about.unsynchronized_us / about.synchronized_us)
    clocks = abs(math.log(about.events_us / about.synchronized_us)) if about.events_us > 0.0 else 0.0
    between = float(np.std(np.log(rounds), ddof=1)) if len(rounds) > 1 else 0.0
    error = math.hypot(rectangular_error(0.0, clocks), between)
    return Prediction.between(LATENCY, about.variant, about.variant, least, most, error, relative=True)


def _is_order_swapped(comparison: Comparison, a: DeviceAudit, b: DeviceAudit) -> bool:
    """Whether the host's clock alone has the other variant faster, where it is known which is."""
    if comparison.latency is None:
        return False
    difference = comparison.latency.difference
    known = difference.low is not None and difference.high is not None and difference.low * difference.high > 0.0
    return known and (b.unsynchronized_us - a.unsynchronized_us) * difference.value < 0.0


CAUSE = AsynchronousTiming()
