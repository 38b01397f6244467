"""A search for mixed precision: the best so far while it goes on, and the front it ends with."""

from __future__ import annotations

from collections.abc import Sequence

from qprof.findings.search.outcome import Member, Outcome
from qprof.findings.search.search import Point, Search
from qprof.report.table import Column, Table
from qprof.report.units import duration, size
from qprof.stats.intervals import Interval

#: Layers of the chosen variant that are listed.
_MOST_LISTED = 12
#: Scores that are no shares.
_NATS = frozenset({"log_likelihood"})


def trial_line(search: Search, point: Point) -> str:
    """What a trial came to, and the best so far."""
    what = f"trial {point.trial.number}, {len(point.trial.names)} ops in float ({point.trial.why})"
    if point.trial.reason is not None:
        return f"{what}: {point.trial.reason}"
    chosen = search.chosen()
    figures = f"{search.metric} {_score(point.score)}, {_cost(search.kept.asked.figure, point.cost)}"
    if chosen.trial.names == point.trial.names:
        return f"{what}: {figures}; the best so far"
    best = f"{_score(chosen.score)}, {_cost(search.kept.asked.figure, chosen.cost)}"
    return f"{what}: {figures}; best so far: {best} with {len(chosen.trial.names)} ops"


def outcome_table(found: Outcome) -> Table:
    """One row per member of the front, the cheapest first, and the baseline."""
    columns = [
        Column("chosen", "mark", align="left", priority=1),
        Column("variant", "name", align="left", flexible=True),
        Column("in float", "count"),
        Column(f"{found.metric}, choosing half", "selection", priority=2),
        Column(f"{found.metric}, other half", "report"),
        Column("won back [simultaneous]", "gained"),
        Column("against the baseline", "lost", priority=1),
        Column("p50", "p50"),
        Column("against it", "ratio"),
        Column("size", "size"),
    ]
    cells = [_cells(found, member) for member in found.members]
    empty = {column.key for column in columns[1:] if all(row[column.key] is None for row in cells)}
    return Table(
        [column for column in columns if column.key not in empty],
        cells,
        title=f"{found.variant} with layers in float, {found.trials} trials by accuracy against {found.figure}",
        notes=_notes(found),
    )


def outcome_lines(found: Outcome) -> list[str]:
    """Which is chosen, its layers, and the files that were written."""
    chosen = next(member for member in found.members if member.name == found.chosen)
    lines = []
    if not chosen.layers:
        lines.append(f"chosen: {found.chosen} as it is, no layer in float")
    else:
        lines.append(f"chosen: {found.chosen}, in float:")
        lines += [f"  {name}" for name in chosen.layers[:_MOST_LISTED]]
        if len(chosen.layers) > _MOST_LISTED:
            lines.append(f"  and {len(chosen.layers) - _MOST_LISTED} more, listed in {found.profile.name}")
    if not found.good_enough:
        lines.append("  which is the best found, and not as good as was asked for; a larger --budget may find more")
    lines.append(f"run it: qprof run {found.profile}")
    if found.recipe is not None:
        lines.append(f"recipe: {found.recipe}, for {found.usage}")
    return lines


def _cells(found: Outcome, member: Member) -> dict[str, str | None]:
    return {
        "mark": "chosen" if member.name == found.chosen else None,
        "name": member.name,
        "count": None if member.name == found.baseline else f"{len(member.layers)}",
        "selection": _score(member.selection),
        "report": _score(member.report),
        "gained": _change(found.metric, member.gained),
        "lost": _change(found.metric, member.lost),
        "p50": None if member.p50_us is None else duration(member.p50_us.value),
        "ratio": _ratio(member.ratio),
        "size": None if member.bytes is None else size(member.bytes),
    }


def _notes(found: Outcome) -> list[str]:
    choosing, other = found.samples["selection"], found.samples["report"]
    notes = [
        f"chosen by {choosing} samples, told by {other} others that played no part in the choice: the best of many "
        "trials is flattered by the samples it was chosen by",
        f"all intervals of this table hold together (each at {found.level:.2%}; look {found.look} at that half)",
    ]
    if any(member.ratio is not None for member in found.members):
        notes.append("latencies were measured again, side by side, after the choice")
    if found.failed:
        notes.append(f"{found.failed} trials could not be made")
    return notes


def _score(value: float | None) -> str | None:
    return None if value is None else f"{value:.4f}"


def _cost(figure: str, value: float | None) -> str:
    if value is None:
        return "cost unknown"
    return size(value) if figure == "size" else f"x{value:.3f}"


def _change(metric: str, interval: Interval | None) -> str | None:
    """In points, or of a likelihood in nats."""
    return _bounded(interval, 1.0, "+.3f", " nats") if metric in _NATS else _bounded(interval, 100.0, "+.2f", " pt")


def _ratio(interval: Interval | None) -> str | None:
    from math import exp

    if interval is None:
        return None
    bounds: Sequence[float | None] = (interval.low, interval.high)
    low, high = (None if bound is None else exp(bound) for bound in bounds)
    return f"x{exp(interval.value):.3f}" + ("" if low is None or high is None else f" [{low:.3f}, {high:.3f}]")


def _bounded(interval: Interval | None, factor: float, form: str, unit: str) -> str | None:
    if interval is None:
        return None
    value = f"{interval.value * factor:{form}}{unit}"
    if interval.low is None or interval.high is None:
        return value
    return f"{value} [{interval.low * factor:{form}}, {interval.high * factor:{form}}]"
