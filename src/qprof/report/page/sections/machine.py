"""What binds the ops and what the layers cost: rooflines, and errors beside times."""

from __future__ import annotations

import math
from collections.abc import Iterator

from qprof.errors import StoreError
from qprof.findings.binding import Binding, binding
from qprof.findings.comparison import Comparison
from qprof.findings.mixed_precision import LayerCost, layer_rows
from qprof.findings.roofline import Bound
from qprof.record.ceilings import COMPUTE_UNIT, MEMORY_UNIT, Ceiling
from qprof.report.layer_costs import layer_costs_table
from qprof.report.op_names import short_names
from qprof.report.page.data_drawn import CeilingLine, LayerCosts, LayerPoint, Roofline, RooflinePoint
from qprof.report.page.sections.amounts import finite
from qprof.report.page.sections.commands import Commands
from qprof.report.page.sections.grids import grid
from qprof.store.run import Run

#: Ops of a chart: those that take the longest.
_MOST_POINTS = 1000


def rooflines(run: Run, commands: Commands) -> Iterator[Roofline]:
    """Of every variant and phase that can be held against ceilings."""
    for phase in run.phases():
        for entry in run.manifest.living():
            bound = binding(Comparison(run, run.baseline, entry.name, phase.name))
            found = None if bound is None else _roofline(entry.name, phase.name, bound, commands)
            if found is not None:
                yield found


def _roofline(variant: str, phase: str, bound: Binding, commands: Commands) -> Roofline | None:
    names = short_names(row.op.name for row in bound.rows)
    rows = sorted(bound.rows, key=lambda row: -(row.time_us or 0.0))
    points = [
        RooflinePoint(
            label=names[row.op.name],
            op=row.op.name,
            type=row.op.type,
            intensity_mac_per_byte=row.intensity,
            gmac_per_s=row.gmac_per_s,
            time_us=row.time_us,
            bound=row.bound or "not known",
        )
        for row in rows
        if row.intensity and row.gmac_per_s and row.time_us and math.isfinite(row.gmac_per_s)
    ]
    if not points:
        return None
    used: dict[tuple[str, str], Ceiling] = {}
    for row in rows:
        for ceiling in (row.compute_ceiling, row.level, row.weights_level):
            if ceiling is not None and ceiling.value:
                used.setdefault((ceiling.kind, f"{ceiling.name} {ceiling.dtype}"), ceiling)
    kinds: tuple[Bound, ...] = ("compute", "memory", "dispatch", "neither")
    shares: dict[str, float] = {kind: bound.share(kind) for kind in kinds}
    return Roofline(
        variant=variant,
        phase=phase,
        ceilings=[line for ceiling in used.values() if (line := _line(ceiling)) is not None],
        points=points[:_MOST_POINTS],
        shares=shares | {"not known": max(0.0, 1.0 - math.fsum(shares.values()))},
        command=commands.of("layers", "-v", variant, "--errors"),
    )


def _line(ceiling: Ceiling) -> CeilingLine | None:
    if ceiling.value is None or ceiling.unit not in (COMPUTE_UNIT, MEMORY_UNIT):
        return None
    return CeilingLine(
        kind="compute" if ceiling.unit == COMPUTE_UNIT else "memory",
        name=f"{ceiling.name}, {ceiling.dtype}" if ceiling.unit == COMPUTE_UNIT else ceiling.name,
        value=ceiling.value,
        unit=ceiling.unit,
        disturbed=ceiling.disturbed,
    )


def layer_costs(run: Run, commands: Commands) -> Iterator[LayerCosts]:
    """Of every variant whose layers were compared with the baseline's."""
    for entry in run.manifest.living():
        if entry.name == run.baseline or not any(row.variant == entry.name for row in run.layer_errors):
            continue
        try:
            rows = layer_rows(run, entry.name)
        except StoreError:
            continue  # neither timed nor compared: there is nothing to show
        bound = binding(Comparison(run, run.baseline, entry.name, run.phase()))
        bounds = {} if bound is None else {row.op.op: row for row in bound.rows}
        names = short_names(row.name for row in rows)
        yield LayerCosts(
            variant=entry.name,
            points=[_point(row, names[row.name]) for row in rows[:_MOST_POINTS]],
            table=grid(
                layer_costs_table(rows, bounds, entry.name, _MOST_POINTS),
                commands.of("layers", "-v", entry.name, "--errors"),
            ),
        )


def _point(row: LayerCost, label: str) -> LayerPoint:
    return LayerPoint(
        label=label,
        op=row.name,
        type=row.type,
        own_sqnr_db=finite(row.own_sqnr_db),
        sqnr_db=finite(row.sqnr_db),
        share=finite(row.share),
        p50_us=finite(row.p50_us.value) if row.p50_us is not None else None,
        weight_bytes=row.weight_bytes,
        energy_j=finite(row.energy_j),
    )
