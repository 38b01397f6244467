"""The table of a run's energy: joules per inference, where from, and every reason why there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from qprof.findings.energy import Change, Check, EnergyRow, EnergyTable, Figure
from qprof.report.table import Column, Table
from qprof.report.units import Interval, percent, scaled_column, scaled_intervals, significant
from qprof.store.run import Run

#: CO2e is given for so many inferences: grams of one are too few to read.
_CO2E_INFERENCES = 1_000_000
#: Reasons for leaving blocks out that are told of each row.
_REASONS = 3

Cells = dict[str, str | None]


def energy_report(run: Run, table: EnergyTable) -> Table:
    """One row per variant, phase and sensor; the notes give the split of each difference, idle, checks, refusals."""
    rows = table.rows
    cells: list[Cells] = [_named(row) for row in rows]
    columns = [
        Column("variant", "variant", align="left"),
        Column("phase", "phase", align="left"),
        Column("sensor", "scope", align="left"),
        Column("source", "provenance", align="left"),
        Column("power", "power", unit="W", priority=2),
        _energies(cells, "per inference [95 %]", "gross", [row.gross for row in rows]),
        _energies(cells, "net [95 %]", "net", [row.net for row in rows], priority=5),
        Column("vs baseline", "change", priority=1),
        Column("time x power", "split", align="left", priority=8),
    ]
    for item in dict.fromkeys(name for row in rows for name in row.per_item):
        columns.append(_energies(cells, f"per {item}", item, [row.per_item.get(item) for row in rows], 6, plain=True))
    columns += [
        _energies(cells, "per correct", "correct", [row.per_correct for row in rows], 3, plain=True),
        _co2e(cells, rows),
        Column("window", "window", priority=4),
        Column("inferences", "repetitions", priority=10),
        Column("updates every", "period", priority=9),
        Column("integral", "check", align="left", priority=7),
        Column("flags", "flags", align="left", priority=7),
    ]
    always = {"variant", "scope", "provenance", "gross"}
    shown = [c for c in columns if c.key in always or any(cell.get(c.key) is not None for cell in cells)]
    several = len({row.phase for row in rows}) > 1
    shown = [c for c in shown if c.key != "phase" or several]
    return Table(shown, cells, title=f"{run.name}: energy", notes=_notes(run, table))


def _named(row: EnergyRow) -> Cells:
    """What needs no common unit."""
    change = row.change if row.change and row.change.energy.value is not None else None
    check = _first_known(row.checks)
    period = row.period.period_ns if row.period else None
    return {
        "variant": row.variant,
        "phase": row.phase,
        "scope": row.scope,
        "provenance": row.provenance,
        "power": None if row.power.value is None else significant(row.power.value),
        "change": _percents(change.energy) if change else None,
        "split": split_text(change, bounds=False) if change and _has_power(row) else None,
        "window": f"{row.window_s:.2f} s x {row.blocks}" if row.window_s is not None else None,
        "repetitions": str(row.repetitions) if row.blocks else None,
        "period": None if period is None else f"{significant(period * 1e-6)} ms",
        "check": None if check is None else _check_text(check),
        "flags": ", ".join(flagged.flag for flagged in row.flags) or None,
    }


def _energies(
    cells: list[Cells], title: str, key: str, figures: Sequence[Figure | None], priority: int = 0, plain: bool = False
) -> Column:
    """A column of joules in one unit, with intervals unless `plain`."""
    triples = [_millijoules(figure) for figure in figures]
    unit, texts = (
        scaled_column([value for value, _, _ in triples], "energy_mj")
        if plain
        else scaled_intervals(triples, "energy_mj")
    )
    for cell, text in zip(cells, texts, strict=True):
        cell[key] = text
    return Column(title, key, unit=unit if any(texts) else "J", priority=priority)


def _millijoules(figure: Figure | None) -> Interval:
    if figure is None or figure.value is None:
        return None, None, None
    low, high = (None if bound is None else bound * 1e3 for bound in (figure.low, figure.high))
    return figure.value * 1e3, low, high


def _co2e(cells: list[Cells], rows: Sequence[EnergyRow]) -> Column:
    grams = [None if row.co2e.value is None else row.co2e.value * _CO2E_INFERENCES for row in rows]
    prefix, texts = scaled_column(grams, "count")
    for cell, text in zip(cells, texts, strict=True):
        cell["co2e"] = text
    return Column("CO2e/1M", "co2e", unit=f"{prefix}g", priority=6)


def split_text(change: Change, bounds: bool = True) -> str:
    """ "-31.0 % [-31.4, -30.6]: -28.0 % [...] shorter, -4.2 % [...] lower power"; without `bounds` the part behind the
    colon. A factor whose interval holds 0 is named without a direction."""
    time = f"{_percents(change.time, bounds)} {_direction(change.time, 'shorter', 'longer', 'in time')}"
    power = f"{_percents(change.power, bounds)} {_direction(change.power, 'lower power', 'higher power', 'in power')}"
    return f"{_percents(change.energy)}: {time}, {power}" if bounds else f"{time}, {power}"


def _direction(figure: Figure, less: str, more: str, undecided: str) -> str:
    if figure.low is not None and figure.high is not None and figure.low <= 0.0 <= figure.high:
        return undecided
    return less if (figure.value or 0.0) < 0 else more


def _percents(figure: Figure, bounds: bool = True) -> str:
    """ "-31.0 % [-31.4, -30.6]"; the bounds of a factor need not lie around its percentage evenly."""
    text = percent(figure.value, signed=True)
    if not bounds or figure.low is None or figure.high is None:
        return text
    return f"{text} [{percent(figure.low, signed=True)[:-2]}, {percent(figure.high, signed=True)[:-2]}]"


def _has_power(row: EnergyRow) -> bool:
    """Whether its power can differ between variants; where it is assumed, the time makes all of a difference."""
    return row.provenance != "modelled"


def _first_known(checks: Iterable[Check]) -> Check | None:
    return next((check for check in checks if check.what == "blocks" and check.mismatch is not None), None)


def _check_text(check: Check) -> str:
    return f"{check.verdict} ({percent(check.mismatch, signed=True)})"


def _notes(run: Run, table: EnergyTable) -> list[str]:
    notes = _reading_notes(table.rows)
    notes += [f"{name}: {text}" for name, text in _grouped((r.scope, _sensor_text(r)) for r in table.rows)]
    for row in table.rows:
        if row.change and row.change.energy.value is not None and _has_power(row):
            notes.append(f"{_who(row)} against {row.change.baseline}, per inference: {split_text(row.change)}")
    notes += [f"{who}: {text}" for who, text in _grouped((r.scope, t) for r in table.rows for t in _idle_texts(r))]
    for texts_of in (_busy_idle_texts, _error_texts):
        notes += _of_rows(table.rows, texts_of)
    notes += [f"{who}: {text}" for who, text in _grouped(pair for r in table.rows for pair in _check_notes(r))]
    for texts_of in (_flag_notes, _refusals):
        notes += _of_rows(table.rows, texts_of)
    if table.no_blocks:
        notes.append(f"no energy blocks: {table.no_blocks}")
    notes += table.remarks
    notes += [f"{m['probe']}: {m['reason']}: {m['remedy']}" for m in table.missing]
    if not table.rows and not table.missing:
        notes.append("no sensor of energy or power was read in this run; see qprof doctor")
    notes += _grid_notes(table)
    return notes


def _reading_notes(rows: Sequence[EnergyRow]) -> list[str]:
    """How to read the columns that are there."""
    if not rows:
        return []
    notes = [
        "measured, estimated and modelled figures stand in rows of their own and are never added; "
        "95 % intervals by bootstrap over blocks"
    ]
    if any(row.net.value is not None for row in rows):
        notes.append("net: less what the machine draws with every variant loaded and none at work")
    if any(row.change and row.change.energy.value is not None for row in rows):
        notes.append(
            "vs baseline: energy per inference, paired by round; it is time x power, which multiply; "
            "intervals of all variants hold together at 95 %"
        )
    return notes


def _sensor_text(row: EnergyRow) -> str:
    how = {
        "counter": "counter first, integral of the power as cross-check",
        "power": "no counter: the integral of the power is the figure",
        "model": "energy of the time around a block, times the window's part of it; no update periods to keep a rule; "
        "intervals tell how blocks vary, not how right the model is",
    }[row.source]
    period = row.period
    if period is None:
        return f"{row.sensor} ({row.provenance}); {how}"
    if period.period_ns is None:
        return f"{row.sensor} ({row.provenance}); {how}; its update period is unknown: {period.reason}"
    most = "" if period.resolved else "at most "
    updates = f"updates every {most}{significant(period.period_ns * 1e-6)} ms ({period.updates} seen)"
    return f"{row.sensor} ({row.provenance}); {how}; {updates}"


def _idle_texts(row: EnergyRow) -> list[str]:
    idle = row.idle
    if idle.watts is None:
        return [idle.reason] if idle.reason and row.gross.value is not None else []
    error = "" if idle.error_w is None else f" within {significant(idle.error_w, 2)} W"
    text = f"idle {significant(idle.watts)} W{error}"
    if idle.drift_w is not None:
        text += f", {significant(idle.before_w or 0.0)} before and {significant(idle.after_w or 0.0)} after"
        text += " (it drifted: net figures are uncertain)" if idle.drifted else ""
    return [f"{text}; {idle.reason}" if idle.reason else text]


#: An idle of this share of the power at work leaves nothing to tell apart.
_BUSY_IDLE = 0.95


def _busy_idle_texts(row: EnergyRow) -> list[str]:
    if not _has_power(row) or row.idle.watts is None or row.power.value is None:
        return []
    if row.idle.watts < _BUSY_IDLE * row.power.value:
        return []
    return ["as much power idle as at work: something else was running, or the sensor does not see the work"]


def _error_texts(row: EnergyRow) -> list[str]:
    """What no number of blocks shows: the sensor's own error, which all of them share."""
    if row.source == "model" or not row.gross.value:
        return []
    if row.gross.error is None:
        return ["beyond the interval, the sensor's own error has no bound: it does not look at all of the time"]
    share = percent(row.gross.error / abs(row.gross.value))
    return [f"beyond the interval, the edges of the windows can add up to {share} to the energy per inference"]


def _check_notes(row: EnergyRow) -> list[tuple[str, str]]:
    """Every check that has something to compare, and of whom it is: idle is the same for all variants."""
    found = []
    for check in row.checks:
        if check.mismatch is None:
            continue
        error = "without a bound" if check.error is None else f"explained up to {percent(check.error)}"
        where = "" if check.what == "blocks" else f" while {check.what}"
        text = (
            f"{check.verdict}: the integral of {check.channel}{where} is off the counter by "
            f"{percent(check.mismatch, signed=True)} over {check.windows} window{'s' * (check.windows != 1)} ({error})"
        )
        found.append((_who(row) if check.what == "blocks" else row.scope, text))
    return found


def _flag_notes(row: EnergyRow) -> list[str]:
    texts = []
    for flagged in row.flags:
        detail = f" ({flagged.detail})" if flagged.detail else ""
        texts.append(f"{flagged.flag}{detail} in {flagged.windows} of {flagged.of} blocks")
    left_out = _grouped((str(number), reason) for number, reason in row.left_out if row.blocks)
    texts += [f"left out: {reason} (block {numbers.replace(';', ',')})" for numbers, reason in left_out[:_REASONS]]
    more = len(left_out) - _REASONS
    return texts + ([f"left out: {more} further reasons, see --json"] if more > 0 else [])


def _refusals(row: EnergyRow) -> list[str]:
    """Why a figure is missing; one reason is said once."""
    figures = {
        "per inference": row.gross,
        "net": row.net,
        "per correct": row.per_correct,
        "CO2e": row.co2e,
        "vs baseline": row.change.energy if row.change else None,
        "power": row.power,
    }
    said: dict[str, list[str]] = {}
    for name, figure in figures.items():
        if figure is not None and figure.reason:
            said.setdefault(figure.reason, []).append(name if figure.value is None else f"{name}'s interval")
    return [f"{', '.join(names)}: {reason}" for reason, names in said.items()]


def _grid_notes(table: EnergyTable) -> list[str]:
    if table.grid is None or not table.rows:
        return []
    country = f" for {table.grid['country']}" if table.grid.get("country") else ""
    source = f", {table.grid['grid_source']}" if table.grid.get("grid_source") else ""
    factor = significant(float(table.grid["grid_g_per_kwh"]))
    return [f"CO2e of a million inferences: modelled, {factor} g per kWh{country}{source}, times the joules of its row"]


def _who(row: EnergyRow) -> str:
    phase = f" {row.phase}" if row.phase != "inference" else ""
    return f"{row.variant}{phase}, {row.scope}"


def _of_rows(rows: Sequence[EnergyRow], texts_of: Callable[[EnergyRow], list[str]]) -> list[str]:
    """Texts on rows; one that all rows of a sensor share names the sensor alone, one that all rows share none."""
    members = {scope: {_who(row) for row in rows if row.scope == scope} for scope in {row.scope for row in rows}}
    notes = []
    for who, text in _grouped((_who(row), text) for row in rows for text in texts_of(row)):
        names = who.split("; ")
        for scope, whole in members.items():
            if len(whole) > 1 and whole <= set(names):
                names = [scope, *(name for name in names if name not in whole)]
        everyone = len(members) > 1 and set(names) == set(members)
        notes.append(text if everyone else f"{'; '.join(names)}: {text}")
    return notes


def _grouped(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Texts that several share are said once, with all of their names."""
    who: dict[str, list[str]] = {}
    for name, text in pairs:
        names = who.setdefault(text, [])
        if name not in names:
            names.append(name)
    return [("; ".join(names), text) for text, names in who.items()]
