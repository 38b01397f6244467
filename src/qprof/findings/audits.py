"""Audits of the measurement itself: what it costs, what it leaves unexplained, whether its clocks and sensors agree."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from qprof.errors import StoreError
from qprof.findings.closure import closures
from qprof.findings.decode_path import decode_says, decodes_otherwise
from qprof.findings.device import device_audits
from qprof.findings.energy import EnergyTable
from qprof.findings.measured import measured_once
from qprof.findings.summary import VariantSummary
from qprof.stats.midmean import conditional_midmean
from qprof.stats.rounds import round_log_ratios
from qprof.store.run import Run

#: Beyond these a reader is to mistrust the figures that rest on it.
_MOST_OVERHEAD = 0.10
_MOST_UNATTRIBUTED = 0.10
#: Twice what a call of the interpreter takes beside its ops (0.43 µs, of a model that adds four numbers): of a model of
#: a few microseconds that is much, and yet nobody else's.
_CALL_US = 1.0
_MOST_DISAGREEMENT = 0.20


@dataclass(frozen=True, slots=True)
class Audit:
    """One check of the measurement: `passed`, what it found, and of which variants the worst."""

    name: str
    passed: bool
    says: str


def audits(run: Run, summaries: Sequence[VariantSummary], energy: EnergyTable) -> list[Audit]:
    """All that the run has the data for."""
    return [
        *_overhead(run),
        *_unattributed(run),
        *_steady(run),
        *_clocks(run, summaries),
        *_counters(energy),
        *_ceilings(run),
        *_decoding(run),
    ]


def _overhead(run: Run) -> Iterator[Audit]:
    """The instrumented inferences against the clean ones of their rounds."""
    found = []
    for who, name, phase in _measured(run):
        clean, profiled = (run.latency(name, kind, phase) for kind in ("clean", "profiled"))
        if np.intersect1d(clean.round, profiled.round).size:
            effect = round_log_ratios(clean.duration_ns, clean.round, profiled.duration_ns, profiled.round)
            found.append((effect.value, who, effect))
    if found:
        value, who, effect = max(found, key=lambda one: one[0])
        least = effect.interval().low
        added = f"{math.expm1(value) * 100:+.1f} %"
        says = f"timing the ops adds at most {added} to an inference ({who}); no latency is taken from it"
        yield Audit("instrumentation", least is None or math.expm1(least) <= _MOST_OVERHEAD, says)


def _unattributed(run: Run) -> Iterator[Audit]:
    known = []
    over = [one for one in closures(run) if one.is_over]
    for who, name, phase in _measured(run):
        try:
            measured = measured_once(run, name, phase)
        except StoreError:
            continue
        parts = conditional_midmean(measured.op_us, measured.profiled_us, measured.profiled_round)
        share, rest_us = float(parts.rest / parts.total), float(parts.rest)
        known.append((share > _MOST_UNATTRIBUTED and rest_us > _CALL_US, share, rest_us, who))
    if over:
        worst = max(over, key=lambda one: one.share)
        yield Audit("unattributed", False, f"{_who(worst.variant, worst.phase)}: {worst.says}")
    elif known:
        doubtful, share, rest_us, who = max(known)
        whose = "to nobody" if doubtful or rest_us > _CALL_US else f"to the call itself ({rest_us:.2g} µs)"
        says = f"the ops leave at most {max(share, 0.0) * 100:.1f} % of an inference {whose} ({who})"
        yield Audit("unattributed", not doubtful, says)


def _measured(run: Run) -> Iterator[tuple[str, str, str]]:
    for entry in run.variants:
        for phase in run.phases():
            yield _who(entry.name, phase.name), entry.name, phase.name


def _steady(run: Run) -> Iterator[Audit]:
    asked = [
        (_who(entry.name, phase), warmup.steady) for entry in run.variants for phase, warmup in entry.warmup.items()
    ]
    unsteady = [who for who, steady in asked if not steady]
    if asked:
        says = f"not steady before it was measured: {', '.join(unsteady)}" if unsteady else "every variant was steady"
        yield Audit("warm-up", not unsteady, says)


def _clocks(run: Run, summaries: Sequence[VariantSummary]) -> Iterator[Audit]:
    """Of an accelerator: the host's clock alone, with synchronization, and the device's events."""
    clean = {(s.name, p.name): p.latency_us.value for s in summaries for p in s.phases if p.latency_us is not None}
    for audit in device_audits(run, clean):
        off = audit.events_us / audit.synchronized_us - 1.0
        says = (
            f"{_who(audit.variant, audit.phase)}: events {off * 100:+.1f} % against the synchronized clock; "
            f"without synchronization it would have read {-audit.asynchronous_error * 100:+.1f} %"
        )
        yield Audit("clocks", abs(off) <= _MOST_DISAGREEMENT, says)


def _counters(energy: EnergyTable) -> Iterator[Audit]:
    for row in energy.rows:
        for check in row.checks:
            if check.mismatch is None:
                continue
            says = (
                f"{_who(row.variant, row.phase)}: the integral of {check.channel} is {check.mismatch * 100:+.1f} % off "
                f"the counter ({check.verdict})"
            )
            yield Audit("energy", check.verdict != "disagree", says)


def _ceilings(run: Run) -> Iterator[Audit]:
    for runtime, ceilings in run.manifest.ceilings.items():
        disturbed = sum(ceiling.disturbed for ceiling in ceilings)
        says = (
            f"{disturbed} of {len(ceilings)} ceilings of {runtime} were measured beside other work" if disturbed else ""
        )
        yield Audit("ceilings", not disturbed, says or f"{len(ceilings)} ceilings of {runtime}, undisturbed")


def _decoding(run: Run) -> Iterator[Audit]:
    """Language models one token at a time, against the whole sequences that they are scored by."""
    for entry in run.variants:
        if (says := decode_says(entry)) is not None:
            yield Audit("decode path", decodes_otherwise(entry) is None, f"{entry.name}: {says}")


def _who(variant: str, phase: str) -> str:
    return variant if phase == "inference" else f"{variant} {phase}"
