"""Simulated worlds whose causes are known: runs as `qprof run` records them, and as interventions would change them."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from qprof.errors import QprofError
from qprof.findings.causes import all_causes
from qprof.findings.causes.base import Cause, Finding
from qprof.findings.comparison import Comparison
from qprof.findings.judgement import findings
from qprof.findings.verify import Claim, Verification, plan_verification
from qprof.measure.plan import PlannedBlock, plan_blocks, warmup_number
from qprof.measure.profile import resolved, validate
from qprof.record.blocks import Block, BlockEntry, BlockFacts, Samples
from qprof.record.machine import Machine
from qprof.record.manifest import EnergyPlan, Manifest, PreparedTask, RecordedProfile, Timing, VariantEntry
from qprof.record.ops import SOURCES, OpEvents, OpMeta
from qprof.record.phases import Phase
from qprof.record.readings import Reading
from qprof.record.rows import LayerErrorRow, ScoreRow
from qprof.record.sections import ProtocolSection
from qprof.store.manifests import manifest_from
from qprof.store.run import Run
from qprof.store.writer import RunWriter, write_run_tables

#: From the end of a block to the start of the next.
_GAP_NS = 5_000_000
#: Inferences of a warm-up behind those that are planted as cold.
_WARM_INFERENCES = 30

Readings = Callable[[int, int, int], list[Reading]]


@dataclass(frozen=True)
class PlantedOp:
    """An op that takes `us` microseconds; one that is the `parent` of others takes what they take. `id`: what the
    variant's file calls it, where there is one; else it goes by its phase and name."""

    name: str
    type: str
    us: float
    delegate: str | None = None
    kernel: str | None = None
    parent: str | None = None
    macs: int | None = None
    weight_bytes: int | None = None
    activation_bytes: int | None = None
    quantization: str | None = None
    phase: str = "inference"
    id: str | None = None


@dataclass(frozen=True)
class PlantedVariant:
    """A variant as it is: an inference takes its ops and `outside_us` in every phase.

    `warmup_us`: its first inferences, which the steady ones follow. `readings`: (round, start and end of a clean block
    in ns) -> what sensors and the worker told of it. `by_round`: factors of its latency, besides those of the noise.
    `on_cpu`: part of the time in which its thread had a processor, `None` where that is not recorded.
    """

    name: str
    ops: Sequence[PlantedOp]
    outside_us: float = 20.0
    section: Mapping[str, Any] = field(default_factory=dict)
    runtime: str = "litert"
    sample_scores: Mapping[str, Sequence[float]] = field(default_factory=dict)
    summary_scores: Mapping[str, float | None] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    timing: Timing | None = None
    warmup_us: Sequence[float] | None = None
    readings: Readings | None = None
    by_round: Mapping[int, float] = field(default_factory=dict)
    on_cpu: float | None = None

    def leaves(self, phase: str) -> list[PlantedOp]:
        """The ops of a phase that contain no other."""
        ops = [op for op in self.ops if op.phase == phase]
        parents = {op.parent for op in ops}
        return [op for op in ops if op.name not in parents]

    def total_us(self, phase: str = "inference") -> float:
        """One inference without noise."""
        return math.fsum(op.us for op in self.leaves(phase)) + self.outside_us


@dataclass(frozen=True)
class Noise:
    """Of a block and of an inference `relative`, each; blocks in time order are an AR(1) process with `ar1`.

    `spikes`: probability that an inference takes `spike_factor` times as long. `drift_per_round`: share by which the
    machine gets slower from round to round. `by_round`: factors of some rounds. All of it is common to the variants.
    """

    relative: float = 0.02
    drift_per_round: float = 0.0
    ar1: float = 0.0
    spikes: float = 0.0
    spike_factor: float = 5.0
    by_round: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class World:
    """Variants, baseline first, and what an intervention makes of them.

    `respond` gives the variant that a section of a profile means where it is not one of `variants`. Where an
    intervention overrides protocol or task, it is asked for every section, with the overrides in "protocol" and "task",
    and may answer `None`: as planted. A `QprofError` that it raises is that of a variant that failed. `manifest` is
    laid upon the run's, its "profile" upon the profile before that is validated.
    """

    variants: Sequence[PlantedVariant]
    noise: Noise = field(default_factory=Noise)
    rounds: int = 10
    inferences: int = 20
    phases: Sequence[Phase] = (Phase(),)
    respond: Callable[[dict[str, Any]], PlantedVariant | None] | None = None
    manifest: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0

    @property
    def model(self) -> str:
        """What its profile names: a model that the runtime of its variants takes."""
        return "hf://planted/model" if self.variants[0].runtime == "torch_lm" else "planted.tflite"

    def record(self, folder: Path, names: Sequence[str] | None = None, extra: Sequence[PlantedVariant] = ()) -> Run:
        """A complete run of the named variants (all of them by default) and of some more."""
        chosen = [v for v in self.variants if names is None or v.name in names]
        profile = {
            "name": "planted",
            "model": {"path": self.model},
            "variants": [{**v.section, "name": v.name} for v in (*chosen, *extra)],
            "protocol": {"rounds": self.rounds},
        }
        laid = _laid_on(profile, self.manifest.get("profile", {}))
        return self._written(folder, [*chosen, *extra], resolved(validate(laid, source="planted")), self.seed)

    def explain(self, folder: Path, verify: bool = True, causes: Sequence[Cause] | None = None) -> list[Finding]:
        """What `qprof explain` finds in a run of this world; interventions are run in the world, too."""
        return self.claims_and_findings(folder, verify, causes)[1]

    def claims_and_findings(
        self, folder: Path, verify: bool = True, causes: Sequence[Cause] | None = None
    ) -> tuple[list[Claim], list[Finding]]:
        """The same, and the claim that each finding is of."""
        run = self.record(folder / "run")
        claims = list(hypotheses(run, all_causes() if causes is None else causes))
        outcomes: dict[int, Run | QprofError] = {}
        for number, verification in enumerate(plan_verification(run, claims) if verify else ()):
            outcome = self._verified(folder / f"verify-{number}", verification, self.seed + 1000 * (number + 1))
            members = {id(claim) for claim in verification.claims}
            outcomes |= {position: outcome for position, claim in enumerate(claims) if id(claim) in members}
        return claims, findings(claims, outcomes)

    def _verified(self, folder: Path, verification: Verification, seed: int) -> Run:
        """Carried out as `qprof.findings.verify.carry_out` would, the profile validated as there."""
        profile = resolved(validate(verification.profile, source=f"verification {verification.name}"))
        intervention = verification.claims[0].hypothesis.intervention
        assert intervention is not None  # as planned
        overrides = {"protocol": dict(intervention.protocol), "task": dict(intervention.task)}
        made = [self._answer(section, overrides) for section in profile.variants]
        return self._written(folder, made, profile, seed)

    def _answer(self, section: dict[str, Any], overrides: Mapping[str, Any]) -> PlantedVariant | tuple[str, str]:
        """The variant that a section means, or its name and why it failed."""
        known = {variant.name: variant for variant in self.variants}.get(section["name"])
        overridden = any(overrides.values())
        if known is not None and not overridden:
            return known
        if self.respond is None:
            raise AssertionError(f"an intervention needs {section} {overrides}, and the world has no respond")
        try:
            answer = self.respond({**section, **overrides} if overridden else section)
        except QprofError as error:
            return section["name"], str(error)
        if answer is None and known is None:
            raise AssertionError(f"the world does not respond to {section}")
        return known if answer is None else _renamed(answer, section["name"])  # type: ignore[return-value]

    def _written(
        self,
        folder: Path,
        made: Sequence[PlantedVariant | tuple[str, str]],
        profile: RecordedProfile,
        seed: int,
    ) -> Run:
        alive = [one if isinstance(one, PlantedVariant) else None for one in made]
        phases = [phase.name for phase in self.phases]
        blocks = list(_Recording(self, profile.protocol, alive, phases, seed).blocks())
        ops = {v.name: _op_list(v, phases) for v in alive if v is not None and profile.protocol.profiled}
        scores = [row for v in alive if v is not None for row in _score_rows(v)]
        own = {key: value for key, value in self.manifest.items() if key != "profile"}
        plain = msgspec.to_builtins(_manifest(profile, [self._entry(one, profile) for one in made]))

        def tabulate(where: Path, _: Sequence[str], sources: Sequence[str]) -> list[BlockEntry]:
            return write_run_tables(where, blocks, ops, scores, self.layer_errors(seed, profile), sources)

        writer = RunWriter.create(folder, manifest_from(_laid_on(plain, own)))
        writer.finalize(SOURCES, tabulate)
        writer.close()
        return Run(folder)

    def layer_errors(self, seed: int, profile: RecordedProfile) -> list[LayerErrorRow]:
        """How far the layers are from the baseline's, where the world knows."""
        return []

    def _entry(self, made: PlantedVariant | tuple[str, str], profile: RecordedProfile) -> VariantEntry:
        sections = {section["name"]: section for section in profile.variants}
        if not isinstance(made, PlantedVariant):
            name, reason = made
            return VariantEntry(name=name, section=sections[name], status="failed", reason=reason, runtime="litert")
        section, protocol = sections[made.name], profile.protocol
        own = ("threads", "delegate") if made.runtime == "litert" else ("threads",)
        options = {name: section.get(name) or getattr(protocol, name) for name in own}
        return VariantEntry(
            name=made.name,
            section=section,
            runtime=made.runtime,
            path=section.get("file") or f"/nowhere/{made.name}",
            sha256=hashlib.sha256(made.name.encode()).hexdigest(),
            bytes=sum(op.weight_bytes or 0 for op in made.ops) or 1000,
            phases=list(self.phases),
            structure="graph" if made.runtime == "litert" else "modules",
            instrumented=protocol.profiled,
            facts=copy.deepcopy(dict(made.facts)),
            options={**options, "device": protocol.device, **made.options},
            timing=made.timing,
        )


def hypotheses(run: Run, causes: Sequence[Cause]) -> Iterator[Claim]:
    """What the causes say of every variant and phase against the baseline."""
    alive = [entry.name for entry in run.variants if not entry.failed]
    for name in alive[1:]:
        for phase in run.phases():
            comparison = Comparison(run, alive[0], name, phase.name)
            for cause in causes:
                yield from (Claim(comparison, hypothesis) for hypothesis in cause.hypotheses(comparison))


class _Recording:
    """The blocks of one run, in the order of `qprof.measure.plan` and on one time axis."""

    def __init__(
        self,
        world: World,
        protocol: ProtocolSection,
        variants: Sequence[PlantedVariant | None],
        phases: Sequence[str],
        seed: int,
    ) -> None:
        self._world, self._variants, self._phases = world, variants, phases
        self._rng = np.random.default_rng(seed)
        self._now_ns = 1_000_000_000
        self._plan = plan_blocks(len(variants), protocol.rounds, 1, protocol.profiled, seed, phases)

    def blocks(self) -> Iterator[Block]:
        for position in range(len(self._variants)):
            for number, phase in enumerate(self._phases):
                where = warmup_number(position, number, len(self._variants), self._plan)
                if self._variants[position] is not None:
                    yield self._warmup(PlannedBlock(where, -1, position, "warmup", (), False, phase))
        noise, state = self._world.noise, 0.0
        for planned in self._plan:
            own = noise.relative * float(self._rng.standard_normal())
            state = noise.ar1 * state + math.sqrt(1.0 - noise.ar1**2) * own
            variant = self._variants[planned.variant]
            if variant is not None:
                yield self._measured(planned, variant, math.exp(state) * self._machine(planned.round))

    def _machine(self, round_: int) -> float:
        noise = self._world.noise
        return float((1.0 + noise.drift_per_round) ** round_ * noise.by_round.get(round_, 1.0))

    def _warmup(self, planned: PlannedBlock) -> Block:
        variant = self._variants[planned.variant]
        assert variant is not None  # only those are warmed up
        steady = variant.total_us(planned.phase) * self._scatter(_WARM_INFERENCES)
        return self._block(planned, variant, np.concatenate([np.array(variant.warmup_us or ()), steady]))

    def _measured(self, planned: PlannedBlock, variant: PlantedVariant, factor: float) -> Block:
        factor *= variant.by_round.get(planned.round, 1.0)
        scatter = factor * self._scatter(self._world.inferences)
        if planned.kind == "clean":
            return self._block(planned, variant, variant.total_us(planned.phase) * scatter)
        leaves = variant.leaves(planned.phase)
        each = self._rng.normal(0.0, self._world.noise.relative / 2.0, (len(scatter), len(leaves)))
        times = np.array([op.us for op in leaves]) * scatter[:, None] * np.exp(each)
        return self._block(planned, variant, times.sum(axis=1) + variant.outside_us * scatter, times)

    def _scatter(self, count: int) -> NDArray[np.float64]:
        noise = self._world.noise
        factors = np.exp(self._rng.normal(0.0, noise.relative, count))
        return np.asarray(factors * np.where(self._rng.random(count) < noise.spikes, noise.spike_factor, 1.0))

    def _block(
        self,
        planned: PlannedBlock,
        variant: PlantedVariant,
        durations_us: NDArray[np.float64],
        op_us: NDArray[np.float64] | None = None,
    ) -> Block:
        durations = np.maximum(np.rint(durations_us * 1e3), 1).astype(np.int64)
        starts = self._now_ns + np.concatenate([[0], np.cumsum(durations[:-1] + 100)])
        begin, end = int(starts[0]), int(starts[-1] + durations[-1])
        self._now_ns = end + _GAP_NS
        window = (begin, end) if planned.kind == "clean" else None
        sensed = window is not None and variant.readings is not None
        return Block(
            number=planned.number,
            round=planned.round,
            variant=variant.name,
            kind=planned.kind,
            samples=Samples(np.zeros(len(starts), np.int32), starts, durations),
            ops=None if op_us is None else _events(variant, planned.phase, self._phases, op_us, starts),
            readings=variant.readings(planned.round, begin, end) if sensed and variant.readings else [],
            facts=_facts(variant, begin, end, len(starts)) if planned.kind == "clean" else BlockFacts(),
            phase=planned.phase,
        )


def _facts(variant: PlantedVariant, begin: int, end: int, inferences: int) -> BlockFacts:
    """What a clean block tells of itself."""
    spent = end - begin
    on_cpu = None if variant.on_cpu is None else round(variant.on_cpu * spent)
    return BlockFacts(window_ns=(begin, end), repetitions=inferences, spent_ns=spent, on_cpu_ns=on_cpu)


def _events(
    variant: PlantedVariant,
    phase: str,
    phases: Sequence[str],
    op_us: NDArray[np.float64],
    starts: NDArray[np.int64],
) -> OpEvents:
    """Op events: the leaves one after the other, each op that contains some around them."""
    rows = [(position, op) for position, op in enumerate(_ordered(variant, phases)) if op.phase == phase]
    leaves = {op.name: column for column, op in enumerate(variant.leaves(phase))}
    ends = np.cumsum(op_us, axis=1)
    columns = []
    for position, op in rows:
        inside = _columns_within(op, [other for _, other in rows], leaves)
        begin = ends[:, inside[0]] - op_us[:, inside[0]] if inside else np.zeros(len(starts))
        columns.append((position, begin, op_us[:, inside].sum(axis=1)))
    count = len(columns)
    return OpEvents(
        inference=np.repeat(np.arange(len(starts), dtype=np.int32), count),
        op=np.tile(np.array([position for position, _, _ in columns], np.int32), len(starts)),
        start_ns=(starts[:, None] + np.rint(1e3 * np.stack([b for _, b, _ in columns], 1))).astype(np.int64).ravel(),
        duration_ns=np.rint(1e3 * np.stack([d for _, _, d in columns], axis=1)).astype(np.int64).ravel(),
        source=np.zeros(len(starts) * count, np.uint8),
    )


def _columns_within(op: PlantedOp, ops: Sequence[PlantedOp], leaves: Mapping[str, int]) -> list[int]:
    if op.name in leaves:
        return [leaves[op.name]]
    return [column for other in ops if other.parent == op.name for column in _columns_within(other, ops, leaves)]


def _ordered(variant: PlantedVariant, phases: Sequence[str]) -> list[PlantedOp]:
    return [op for phase in phases for op in variant.ops if op.phase == phase]


def _op_list(variant: PlantedVariant, phases: Sequence[str]) -> list[OpMeta]:
    """The op list of a variant. Within a phase, names must differ."""
    partitions = {op.name: n for n, op in enumerate(op for op in variant.ops if op.type == "DELEGATE")}
    rows = []
    for index, op in enumerate(_ordered(variant, phases)):
        meta = OpMeta(
            op=op.id or _op_id(op.phase, op.name),
            name=op.name,
            type=op.type,
            index=index,
            kernel=op.kernel,
            delegate=op.delegate,
            partition=partitions.get(op.name if op.type == "DELEGATE" else op.parent or ""),
            parent=None if op.parent is None else _op_id(op.phase, op.parent),
            quantization=op.quantization,
            macs=op.macs,
            weight_bytes=op.weight_bytes,
            activation_bytes=op.activation_bytes,
            phase=op.phase,
        )
        rows.append(meta)
    return rows


def _op_id(phase: str, name: str) -> str:
    return f"{phase}/{name}"


def _score_rows(variant: PlantedVariant) -> Iterator[ScoreRow]:
    for metric, value in variant.summary_scores.items():
        yield ScoreRow(variant.name, metric, None, value)
    for metric, values in variant.sample_scores.items():
        for sample, each in enumerate(values):
            yield ScoreRow(variant.name, metric, sample, float(each))


def _manifest(profile: RecordedProfile, entries: Sequence[VariantEntry]) -> Manifest:
    return Manifest(
        name=profile.name,
        created="2026-01-01T00:00:00+00:00",
        profile=profile,
        machine=Machine(cpu_model="simulated", logical_cpus=4, physical_cores=4, affinity=[0, 1, 2, 3]),
        op_sources=list(SOURCES),
        samples=1,
        task=PreparedTask(section=dict(profile.task)),
        variants=list(entries),
        energy=EnergyPlan(blocks=False, reason="protocol.energy is off"),
    )


def _renamed(variant: PlantedVariant, name: str) -> PlantedVariant:
    return variant if variant.name == name else PlantedVariant(**{**vars(variant), "name": name})


def _laid_on(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid on `base`: tables key by key, all else replaced."""
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = _laid_on(result[key], value) if both else value
    return result
