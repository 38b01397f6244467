"""Tables of what each layer costs and loses, and of what leaving the worst ones in float would cost and gain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qprof.findings.mixed_precision import FloatLayers, LayerCost
from qprof.findings.roofline import RooflineRow
from qprof.report.op_names import short_names
from qprof.report.table import Column, Table
from qprof.report.units import duration, percent, scaled_column, scaled_intervals, size
from qprof.stats.intervals import Interval

Triple = tuple[float | None, float | None, float | None]


def layer_costs_table(
    rows: Sequence[LayerCost], bounds: Mapping[str, RooflineRow], variant: str, top: int | None = None
) -> Table:
    """One row per op, the largest own error first: error, time, what binds it, bytes, energy. `bounds`: by op."""
    ordered = sorted(rows, key=lambda row: (row.own_sqnr_db is None, row.own_sqnr_db or 0.0))[:top]
    names = short_names(row.name for row in rows)
    unit, times = scaled_intervals([_triple(row.p50_us) for row in ordered], "duration_us")
    weight_unit, weights = scaled_column([row.weight_bytes for row in ordered], "bytes")
    energy_unit, energies = scaled_column(
        [None if row.energy_j is None else row.energy_j * 1e3 for row in ordered], "energy_mj"
    )
    columns = [
        Column("op", "op", align="left", flexible=True),
        Column("type", "type", align="left", priority=1),
        Column("own SQNR", "own", unit="dB"),
        Column("SQNR", "whole", unit="dB", priority=1),
        Column("weights'", "weights_sqnr", unit="dB", priority=3),
        Column("cut off", "saturated", priority=2),
        Column("p50 [95 %]", "p50", unit=unit),
        Column("share", "share"),
        Column("bound by", "bound", align="left"),
        Column("weights", "weights", unit=weight_unit, priority=4),
        Column("energy", "energy", unit=energy_unit, priority=5),
    ]
    cells = [
        {
            "op": names[row.name],
            "type": row.type,
            "own": _decibels(row.own_sqnr_db),
            "whole": _decibels(row.sqnr_db),
            "weights_sqnr": _decibels(row.weight_sqnr_db),
            "saturated": None if row.own_saturated_share is None else percent(row.own_saturated_share),
            "p50": times[i],
            "share": None if row.share is None else percent(row.share),
            "bound": bounds[row.op].bound if row.op in bounds else None,
            "weights": weights[i],
            "energy": energies[i],
        }
        for i, row in enumerate(ordered)
    ]
    empty = {column.key for column in columns if all(cell[column.key] is None for cell in cells)}
    return Table(
        [column for column in columns if column.key not in empty],
        cells,
        title=f"{variant}: what each layer loses, takes and weighs",
        notes=list(_cost_notes(ordered, bounds)),
    )


def _cost_notes(rows: Sequence[LayerCost], bounds: Mapping[str, RooflineRow]) -> Sequence[str]:
    notes = [
        "own SQNR: the op on the baseline's own numbers; SQNR: as it is in use, with all errors before it; "
        "weights': of the weights alone; cut off: elements whose true value lies beyond the range"
    ]
    if any(row.op in bounds for row in rows):
        notes.append("bound by: what explains at least half of the op's time, by this machine's ceilings")
        calmed = [row.compute_ceiling or row.level for row in bounds.values()]
        if any(ceiling is not None and ceiling.disturbed for ceiling in calmed):
            notes.append(
                "some ceilings were measured beside other work and may be too low: run again on a calm machine"
            )
    sources = sorted({row.energy_source for row in rows if row.energy_source})
    notes += [f"energy: modelled, the op's share of the time of an inference, times its joules ({s})" for s in sources]
    return notes


def float_layers_table(rows: Sequence[FloatLayers], metric: str) -> Table:
    """One row per number of layers that stay in float: predicted gain, measured score, latency and size."""
    columns = [
        Column("in float", "count"),
        Column("ops", "ops"),
        Column(metric, "score"),
        Column("gained [95 %]", "gained"),
        Column("predicted", "predicted"),
        Column("p50", "p50"),
        Column("against it [95 %]", "latency"),
        Column("size", "size"),
        Column("layers", "layers", align="left", flexible=True, priority=1),
    ]
    cells: list[dict[str, str | None]] = [
        {
            "count": f"{row.count}",
            "ops": f"{len(row.skip_layers)}",
            "score": None if row.score is None else f"{row.score:.3f}",
            "gained": _points(row.gained),
            "predicted": None if row.predicted is None else f"{row.predicted * 100:+.2f} pt",
            "p50": None if row.latency_us is None else duration(row.latency_us.value),
            "latency": _microseconds(row.latency_change_us),
            "size": None if row.file_bytes is None else size(row.file_bytes),
            "layers": ", ".join(row.layers) or None,
        }
        for row in rows
    ]
    notes = [
        "worst layers by their own error; the ops next to them stay in float too, since these quantize what is between",
        "predicted: the loss in proportion to the noise that goes away; a rough model, so look at what was measured",
        *(f"{row.count} layers: {row.reason}" for row in rows if row.reason),
    ]
    return Table(columns, cells, title=f"{rows[0].variant} with its worst layers in float", notes=notes)


def _triple(interval: Interval | None) -> Triple:
    return (None, None, None) if interval is None else (interval.value, interval.low, interval.high)


def _decibels(value: float | None) -> str | None:
    return None if value is None else f"{value:.1f}"


def _points(interval: Interval | None) -> str | None:
    if interval is None:
        return None
    if interval.low is None or interval.high is None:
        return f"{interval.value * 100:+.2f} pt"
    return f"{interval.value * 100:+.2f} pt [{interval.low * 100:+.2f}, {interval.high * 100:+.2f}]"


def _microseconds(interval: Interval | None) -> str | None:
    if interval is None:
        return None
    if interval.low is None or interval.high is None:
        return f"{interval.value:+.0f} µs"
    return f"{interval.value:+.0f} µs [{interval.low:+.0f}, {interval.high:+.0f}]"
