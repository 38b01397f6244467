"""From a run to the rows of its energy table: one per variant, phase and sensor, each figure with its source."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

from qprof.findings.energy.account import Account, account
from qprof.findings.energy.recorded import Recorded, Window
from qprof.findings.energy.sensors import Check, Flagged, Sensor, find_checks, find_flags, find_idle, find_sensors
from qprof.findings.latency import figure_level
from qprof.record.manifest import VariantEntry
from qprof.stats.energy import Idle, UpdatePeriod, co2e_g, split_energy_ratio
from qprof.stats.intervals import Interval
from qprof.store.run import Run
from qprof.tasks import registry as tasks

#: Differences of this relative size are rounding: a constant model's blocks are all alike.
_ROUNDING = 1e-9
#: What energies of variants are compared by: the first that is there.
COMPARED_SOURCES = ("measured", "estimated")
#: Sensors that tell of energy; others that are missing are no loss here.
_PROBES = re.compile(r"(nvml|rapl|codecarbon)\b")


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure with its 95 % interval over blocks, and where it is from.

    `value` is `None` where it is refused, for the `reason`; a `reason` beside a value says why it has no interval.
    `error` bounds what the sensor itself can add to every block alike, in `unit` (`None`: no bound can be given).
    `window_s`: mean length of the windows it comes from.
    """

    value: float | None
    low: float | None
    high: float | None
    unit: str
    provenance: str
    sensor: str
    window_s: float | None
    reason: str | None = None
    error: float | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """Energy per inference against the baseline, as fractions (-0.31 is 31 % less): `energy` = (1 + `time`) x
    (1 + `power`) - 1. Paired by round, at the level of `qprof.findings.latency.figure_level`. The figures are `None`,
    with the reason, where either side has none."""

    energy: Figure
    time: Figure
    power: Figure
    baseline: str
    rounds: int


@dataclass(frozen=True, slots=True)
class EnergyRow:
    """One variant in one phase, by one sensor.

    `source`: "counter", "power" (integrated) or "model"; `kind`: of the blocks, "energy" or "clean". `gross`, `net`:
    joules per inference, with and without what the machine draws idle; `per_item`: joules per image or per token,
    by name; `per_correct`: per answer that was right, from the scored blocks; `co2e`: of one inference. `window_s`:
    mean of the windows; `left_out`: number of a block and why it is not used.
    """

    variant: str
    phase: str
    scope: str
    provenance: str
    sensor: str
    source: str
    kind: str
    power: Figure
    gross: Figure
    net: Figure
    per_item: dict[str, Figure]
    per_correct: Figure | None
    co2e: Figure
    change: Change | None
    idle: Idle
    period: UpdatePeriod | None
    checks: list[Check]
    flags: list[Flagged]
    window_s: float | None
    blocks: int
    repetitions: int
    left_out: list[tuple[int, str]]


@dataclass(frozen=True, slots=True)
class EnergyTable:
    """All rows of a run. `missing`: sensors that are not there ("probe", "reason", "remedy"); `no_blocks`: why there
    are no blocks as long as a power sensor needs; `grid`: grams of CO2e per kWh and whose, `None` where not known;
    `remarks`: on variants and sensors that have no rows."""

    rows: list[EnergyRow]
    missing: list[dict[str, str]]
    no_blocks: str | None
    grid: dict[str, Any] | None
    remarks: list[str]


def energy_table(run: Run, phase: str | None = None) -> EnergyTable:
    """The energy of every variant in every phase (or one), by every sensor. Raises `StoreError` for no such phase."""
    phases = [run.phase(phase)] if phase else [each.name for each in run.phases()]
    recorded = Recorded(run)
    sensors, remarks = find_sensors(run, recorded)
    grid = _grid(run)
    rows = [row for sensor in sensors for name in phases for row in _Rows(run, recorded, sensor, name, grid).all()]
    order = {entry.name: i for i, entry in enumerate(run.variants)}
    rows.sort(key=lambda row: (phases.index(row.phase), order[row.variant]))  # stable: sensors keep their order
    missing = [asdict(each) for each in run.manifest.sensors.missing if _PROBES.match(each.probe)]
    if rows:
        remarks += [_no_rows(entry) for entry in run.variants if entry.name not in {row.variant for row in rows}]
    return EnergyTable(rows, missing, run.manifest.energy.reason if run.manifest.energy else None, grid, remarks)


@dataclass(frozen=True, slots=True)
class EnergyChange:
    """Joules per inference of one variant (`b_j`) against another (`a_j`) by one sensor; `change`: as a fraction."""

    phase: str
    sensor: str
    provenance: str
    a_j: float | None
    b_j: float | None
    change: Figure


def energy_changes(run: Run, a: str, b: str) -> list[EnergyChange]:
    """How the energy of variant `b` differs from that of `a`, of every phase and sensor of the best provenance that
    there is; empty where no sensor was there. A model of what is drawn at all times tells nothing of a variant."""
    recorded = _recorded(run)
    sensors, _ = find_sensors(run, recorded)
    for provenance in COMPARED_SOURCES:
        chosen = [sensor for sensor in sensors if sensor.provenance == provenance]
        found = [
            change
            for phase in run.phases()
            for sensor in chosen
            if (change := _Rows(run, recorded, sensor, phase.name, None).between(a, b)) is not None
        ]
        if found:
            return found
    return []


#: What a run's blocks hold: asked for by every pair of variants, and reading it is what takes time.
_RECORDED: WeakKeyDictionary[Run, Recorded] = WeakKeyDictionary()


def _recorded(run: Run) -> Recorded:
    if run not in _RECORDED:
        _RECORDED[run] = Recorded(run)
    return _RECORDED[run]


def _no_rows(entry: VariantEntry) -> str:
    why = entry.reason if entry.failed else "none of its blocks is finished"
    return f"{entry.name}: no energy ({why})"


def _grid(run: Run) -> dict[str, Any] | None:
    facts = run.manifest.sensors.codecarbon
    if facts is None or facts.grid_g_per_kwh is None:
        return None
    return {"grid_g_per_kwh": facts.grid_g_per_kwh, "grid_source": facts.grid_source, "country": facts.country}


class _Rows:
    """The rows of one sensor and phase."""

    def __init__(
        self, run: Run, recorded: Recorded, sensor: Sensor, phase: str, grid: Mapping[str, Any] | None
    ) -> None:
        self._run = run
        self._recorded = recorded
        self._sensor = sensor
        self._phase = phase
        self._grid = grid
        self._idle = find_idle(recorded, sensor)
        has_energy = any(window.kind == "energy" for window in recorded.windows)
        self._kind = "energy" if has_energy else "clean"

    def all(self) -> list[EnergyRow]:
        names = [entry.name for entry in self._run.variants]
        accounts = {
            name: account(self._recorded, self._sensor, windows, self._idle)
            for name in names
            if (windows := self._recorded.of(name, self._kind, self._phase))
        }
        return [self._row(name, found, accounts) for name, found in accounts.items()]

    def between(self, a: str, b: str) -> EnergyChange | None:
        """Of variant `b` against `a`; `None` where one has no blocks."""
        windows = {name: self._recorded.of(name, self._kind, self._phase) for name in (a, b)}
        if not all(windows.values()):
            return None
        accounts = {name: account(self._recorded, self._sensor, own, self._idle) for name, own in windows.items()}
        joules = [None if found.found.gross is None else found.found.gross.value for found in accounts.values()]
        change = self._against(a, b, accounts)
        sensor = self._sensor
        return EnergyChange(self._phase, sensor.text, sensor.provenance, joules[0], joules[-1], change.energy)

    def _row(self, variant: str, found: Account, accounts: Mapping[str, Account]) -> EnergyRow:
        sensor = self._sensor
        gross = self._gross(found)
        net = self._figure(found, found.found.net, "J", found.net_refusal, found.found.net_error_j)
        windows = [found.windows[i] for i in found.used]
        return EnergyRow(
            variant=variant,
            phase=self._phase,
            scope=sensor.scope,
            provenance=sensor.provenance,
            sensor=sensor.text,
            source=sensor.source,
            kind=self._kind,
            power=self._figure(found, found.power, "W", found.power_reason),
            gross=gross,
            net=net,
            per_item=self._per_item(gross),
            per_correct=self._per_correct(variant),
            co2e=self._co2e(gross),
            change=self._change(variant, accounts),
            idle=self._idle,
            period=None if sensor.source == "model" else self._recorded.period(sensor.channel),
            checks=find_checks(self._recorded, sensor, found.windows),
            flags=find_flags(self._recorded, sensor, found.windows, found.energies),
            window_s=_mean_s(windows),
            blocks=len(windows),
            repetitions=sum(window.repetitions for window in windows),
            left_out=[(found.windows[i].block, reason) for i, reason in found.left_out],
        )

    def _figure(
        self, found: Account, interval: Interval | None, unit: str, reason: str | None, error: float | None = None
    ) -> Figure:
        sensor, window_s = self._sensor, _mean_s([found.windows[i] for i in found.used] or found.windows)
        if interval is None:
            return Figure(None, None, None, unit, sensor.provenance, sensor.text, window_s, reason)
        value, low, high = interval.value, interval.low, interval.high
        if low is not None and high is not None and high - low <= _ROUNDING * max(abs(value), abs(low), abs(high)):
            low = high = value
        return Figure(value, low, high, unit, sensor.provenance, sensor.text, window_s, interval.reason, error)

    def _gross(self, found: Account) -> Figure:
        return self._figure(found, found.found.gross, "J", found.refusal, found.found.gross_error_j)

    def _per_item(self, gross: Figure) -> dict[str, Figure]:
        """Joules per token, where inferences are made of tokens; per item of the task (an image), where it is one."""
        facts = next(phase for phase in self._run.phases() if phase.name == self._phase)
        if facts.tokens:
            return {"token": _scaled(gross, 1.0 / facts.tokens)}
        kind = self._run.manifest.profile.task.get("kind")
        item = tasks.get(kind).item if kind in tasks.names() else None
        return {} if item is None else {item: gross}

    def _per_correct(self, variant: str) -> Figure | None:
        """All scored blocks' energy over all answers that were right; `None` for tasks without such blocks, and in all
        phases but the first, since those passes belong to no phase."""
        windows = self._recorded.of(variant, "scored")
        if not windows or self._phase != self._run.phase():
            return None
        found = account(self._recorded, self._sensor, windows, self._idle)
        batches = sum(window.repetitions for window in windows)
        correct = self._correct(variant)
        if not correct:
            why = "no answer was right" if correct == 0 else "nothing is scored before the run is finished"
            return self._figure(found, None, "J", why)
        if found.left_out and found.found.gross is not None:
            lost = f"{len(found.left_out)} of {len(windows)} scored blocks have no energy: {found.left_out[0][1]}"
            return self._figure(found, None, "J", lost)
        return _scaled(self._gross(found), batches / correct)

    def _correct(self, variant: str) -> float | None:
        """Answers that were right: rows of "correct", one for each scored sample (see `qprof.tasks.lastword`)."""
        rows = self._run.sample_scores(variant, "correct")
        return math.fsum(rows.values()) if rows else None

    def _co2e(self, gross: Figure) -> Figure:
        """Modelled, whatever the joules are: the grid's factor is a mean over a country and a year."""
        if self._grid is None:
            why = gross.reason if gross.value is None else "no grid factor: install codecarbon, set protocol.country"
            return Figure(None, None, None, "g", "modelled", gross.sensor, gross.window_s, why)
        factor = float(self._grid["grid_g_per_kwh"])
        return replace(_scaled(gross, co2e_g(1.0, factor)), unit="g", provenance="modelled")

    def _change(self, variant: str, accounts: Mapping[str, Account]) -> Change | None:
        baseline = str(self._run.baseline)
        return None if variant == baseline else self._against(baseline, variant, accounts)

    def _against(self, baseline: str, variant: str, accounts: Mapping[str, Account]) -> Change:
        found, base = accounts[variant], accounts.get(baseline)
        if base is None:
            return self._no_change(found, baseline, f"the baseline {baseline} has no blocks")
        for side, name in ((base, baseline), (found, variant)):
            if side.refusal:
                return self._no_change(found, baseline, f"{name} has no joules per inference")
        try:
            split = split_energy_ratio(base.rounds(), found.rounds(), level=figure_level(self._run, baseline, variant))
        except ValueError as error:
            return self._no_change(found, baseline, str(error))
        energy, time, power = (
            self._figure(found, _fraction(part), "1", None) for part in (split.energy, split.time, split.power)
        )
        return Change(energy, time, power, baseline, split.rounds)

    def _no_change(self, found: Account, baseline: str, reason: str) -> Change:
        nothing = self._figure(found, None, "1", reason)
        return Change(nothing, nothing, nothing, baseline, 0)


def _fraction(log: Interval) -> Interval:
    """From the logarithm of a ratio to the change that it is; equal sides give 0, not what rounding left of it."""

    def change(value: float) -> float:
        return 0.0 if abs(value) <= _ROUNDING else math.expm1(value)

    low, high = (None if bound is None else change(bound) for bound in (log.low, log.high))
    return replace(log, value=change(log.value), low=low, high=high)


def _scaled(figure: Figure, by: float) -> Figure:
    """By a factor that is not negative, so that the bounds keep their places."""

    def times(value: float | None) -> float | None:
        return None if value is None else value * by

    return replace(
        figure, value=times(figure.value), low=times(figure.low), high=times(figure.high), error=times(figure.error)
    )


def _mean_s(windows: list[Window]) -> float | None:
    return math.fsum(window.seconds for window in windows) / len(windows) if windows else None
