"""Was the machine left alone, and did it stay the same? What speaks against it stands above every figure, as does that
a variant's ops take more than its inferences (`closure`).

Latency is wall-clock time: while the measuring thread waits for a processor, it goes on. How long it waited is known
exactly where it runs alone (its CPU time against the clock, block by block); with more threads the switches that were
forced on them, and what others used of the cores, have to tell.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from qprof.findings.causes.thread_starvation import usable_cores
from qprof.findings.closure import closures
from qprof.findings.decode_path import otherwise
from qprof.findings.environment import CleanBlock, clean_blocks_of, taken_cores
from qprof.findings.once import once_per_run
from qprof.findings.plausibility import LEAST_GAIN, plausibility
from qprof.findings.verdicts import FigureVerdict
from qprof.record.blocks import BlockEntry
from qprof.record.manifest import VariantEntry
from qprof.record.phases import INFERENCE
from qprof.store.run import Run

#: Part of its time that a thread waited for a processor, above which its latencies are doubted: the margin inside which
#: two latencies count as equal.
_WAITED = 0.02
#: And above which no verdict is given: the p50 of inferences as long as a scheduler's slice moves by far more than the
#: mean does, so that no widening of an interval would hold it.
_WAITED_TOO_LONG = 0.05
#: Forced switches per second of a thread: one that shares its core loses it at every slice of the scheduler, some
#: milliseconds long. Two threads on two cores lose theirs 30 times a second to qprof's own sensors, for a moment each;
#: how long others had the cores is told by their own time.
_FORCED_PER_S = 100.0
#: Cores that others used. CPU times go by ticks of 10 ms; over a block of 100 ms that is a tenth of a core.
_TAKEN_CORES = 0.3
#: Part of the time that a hypervisor gave to others.
_STOLEN = 0.01
#: A clock that differs by more: cores go by steps of 100 MHz, some 3 %.
_CLOCK = 0.05


#: `Doubt.what` of a baseline that scores next to nothing.
NO_SCORE = "score"


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why the latencies of a variant in a phase may not be its own. `withholds`: no verdict is given on them."""

    variant: str
    phase: str
    what: str
    says: str
    withholds: bool = False


@once_per_run
def doubts(run: Run) -> Sequence[Doubt]:
    """All that the readings of the clean blocks give rise to; nothing for a machine that was left alone."""
    found = []
    facts = {block.number: block for block in run.blocks() if block.kind == "clean"}
    for entry in run.manifest.living():
        for phase in run.phases():
            blocks = clean_blocks_of(run, entry.name, phase.name)
            own = [fact for fact in facts.values() if (fact.variant, fact.phase) == (entry.name, phase.name)]
            if blocks:
                found += list(_of_variant(run, entry, phase.name, blocks, own))
    decoding = [Doubt(name, INFERENCE, "decode path", says) for name, says in otherwise(run.manifest.living())]
    return [
        *_mixtures(run),
        *found,
        *_clocks(run),
        *_closures(run),
        *_calibrations(run),
        *_scores(run),
        *_unscored(run),
        *_not_numbers(run),
        *decoding,
    ]


def _mixtures(run: Run) -> Iterator[Doubt]:
    if run.manifest.changed:
        says = f"the run was resumed with another machine or other versions ({'; '.join(run.manifest.changed)})"
        for entry in run.manifest.living():
            yield Doubt(entry.name, INFERENCE, "mixture", says)


def _unscored(run: Run) -> Iterator[Doubt]:
    for entry in run.manifest.living():
        if entry.unscored:
            says = f"it was not scored ({entry.unscored}); qprof run --resume {run.name} scores it again"
            yield Doubt(entry.name, INFERENCE, "unscored", says)


def _not_numbers(run: Run) -> Iterator[Doubt]:
    """Constants that are NaN: kernels may hide them (a clamped activation makes a number of one), and yet the model is
    none."""
    for entry in run.manifest.living():
        broken = [part for part in entry.stored.parts if part.nans] if entry.stored else []
        if broken:
            first = max(broken, key=lambda part: part.nans)
            says = (
                f"{sum(part.nans for part in broken)} of its constants are not numbers (NaN), {first.nans} of them in "
                f"{first.name}: its figures are those of a broken model"
            )
            yield Doubt(entry.name, INFERENCE, "not a number", says)


def _scores(run: Run) -> Iterator[Doubt]:
    """A baseline that finds next to nothing, where no setting of its task mends that (`plausibility` tells those)."""
    for entry in run.manifest.living():
        facts = entry.plausibility  # of the baseline alone
        if facts is None or facts.unit != "share" or run.metric is None:
            continue
        score = run.score(entry.name, run.metric)
        if score is not None and score < LEAST_GAIN["share"] and not plausibility(run):
            says = (
                f"it scores {score:.3f} in {run.metric}, and no setting of the task that was tried mends that: see "
                "whether labels, data and model belong together before you compare variants"
            )
            yield Doubt(entry.name, INFERENCE, NO_SCORE, says)


def _closures(run: Run) -> Iterator[Doubt]:
    for one in closures(run):
        if one.is_over:
            yield Doubt(one.variant, one.phase, "closure", f"{one.says}; mistrust its op times")


def _calibrations(run: Run) -> Iterator[Doubt]:
    """Variants whose ranges come from invented numbers: that they are run at all says nothing of their outputs."""
    task = run.manifest.task
    for entry in run.manifest.living():
        if task is not None and task.calibration_invented and entry.making.calibrated:
            says = (
                f"it is calibrated on {task.calibration}, which are no data: its latency holds, and what its outputs "
                "are worth does not; give inputs to calibrate on (--inputs, --calibration-inputs)"
            )
            yield Doubt(entry.name, INFERENCE, "invented calibration", says)


def withheld(verdicts: Sequence[FigureVerdict], doubted: Sequence[Doubt], baseline: str) -> list[FigureVerdict]:
    """The verdicts, without those on a latency that is not to be trusted: they are withheld, and say why. More
    rounds on such a machine decide nothing."""
    why = _why_withheld(doubted)
    judged = []
    for one in verdicts:
        reason = why.get(one.variant) or why.get(baseline)
        if reason is None or not one.figure.endswith("latency"):
            judged.append(one)
        else:
            because = f"no verdict on the {one.figure} of {one.variant}: {reason}"
            judged.append(replace(one, kind="withheld", more_rounds=None, reason=because))
    return judged


def withholding(run: Run, a: str, b: str) -> str | None:
    """Why no verdict is given on the latencies of two variants; `None` where one is."""
    why = _why_withheld(doubts(run))
    return why.get(b) or why.get(a)


def _why_withheld(doubted: Sequence[Doubt]) -> dict[str, str]:
    """variant -> why its latencies get no verdict."""
    return {doubt.variant: doubt.says for doubt in doubted if doubt.withholds}


def _of_variant(
    run: Run, entry: VariantEntry, phase: str, blocks: Sequence[CleanBlock], facts: Sequence[BlockEntry]
) -> Iterator[Doubt]:
    if entry.device.startswith("cuda"):
        return
    name, threads = entry.name, entry.threads or 1
    waited = _waited(facts) if threads == 1 else None
    forced = _forced_per_s(blocks) / threads
    if waited is not None and waited > _WAITED:
        says = f"its thread waited for a processor during {waited:.0%} of its inferences"
        yield Doubt(name, phase, "waiting", says, waited > _WAITED_TOO_LONG)
    elif waited is None and forced > _FORCED_PER_S:
        says = f"each of its threads lost its core {forced:.0f} times a second"
        yield Doubt(name, phase, "forced switches", says)
    cores = [taken for block in blocks if (taken := taken_cores(block)) is not None]
    if cores and float(np.median(cores)) > _TAKEN_CORES:
        usable = usable_cores(run.manifest.machine)
        cores_there = run.manifest.machine.logical_cpus
        whole = "" if cores_there is None else f" of the machine's {cores_there}"
        crowded = usable is not None and float(np.median(cores)) + threads > usable + _TAKEN_CORES
        says = f"others used {float(np.median(cores)):.1f} cores{whole} while it ran on {threads}"
        yield Doubt(name, phase, "neighbours", says, withholds=crowded and waited is None)
    stolen = [rate for block in blocks if (rate := block.rate("host.steal")) is not None]
    if stolen and float(np.mean(stolen)) > _STOLEN * threads:
        says = f"the hypervisor gave {float(np.mean(stolen)):.0%} of a core to others"
        yield Doubt(name, phase, "steal", says)


def _waited(facts: Sequence[BlockEntry]) -> float | None:
    """Part of its inferences in which the only thread had no processor; `None` where that was not recorded."""
    known = [(fact.spent_ns, fact.on_cpu_ns) for fact in facts if fact.spent_ns and fact.on_cpu_ns is not None]
    if not known:
        return None
    spent, on_cpu = (math.fsum(column) for column in zip(*known, strict=True))
    return max(0.0, 1.0 - on_cpu / spent)


def _forced_per_s(blocks: Sequence[CleanBlock]) -> float:
    forced = [count for block in blocks if (count := block.gauge("host.involuntary_switches")) is not None]
    seconds = math.fsum(block.end_ns - block.start_ns for block in blocks) / 1e9
    return math.fsum(forced) / seconds if seconds > 0.0 else 0.0


def _clocks(run: Run) -> Iterator[Doubt]:
    """A clock that was not the same for all variants of a phase."""
    for phase in run.phases():
        means: dict[str, float] = {}
        for entry in run.manifest.living():
            known = [
                mhz
                for block in clean_blocks_of(run, entry.name, phase.name)
                if (mhz := block.gauge("host.frequency.max")) is not None
            ]
            if known:
                means[entry.name] = float(np.median(known))
        if not means:
            continue
        slowest, fastest = min(means, key=means.__getitem__), max(means, key=means.__getitem__)
        if means[slowest] < (1.0 - _CLOCK) * means[fastest]:
            says = f"its clock was {means[slowest]:.0f} MHz in the middle, that of {fastest} {means[fastest]:.0f} MHz"
            yield Doubt(slowest, phase.name, "clock", says)
