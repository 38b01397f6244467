"""The table of one variant's ops."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from qprof.findings.layers import By, LayerRow, Layers, Split
from qprof.record.phases import INFERENCE
from qprof.report.op_names import short_names
from qprof.report.table import Column, Table
from qprof.report.units import MISSING, percent, scaled_column, scaled_intervals

_ORDERS: dict[str, Callable[[LayerRow], float]] = {
    "time": lambda row: row.p50_us.value if row.p50_us else 0.0,
    "share": lambda row: row.share,
    "macs": lambda row: row.macs or 0,
    "gflops": lambda row: row.gflop_per_s or 0.0,
    "bytes": lambda row: (row.weight_bytes or 0) + (row.activation_bytes or 0),
}


def selected(table: Layers, *, sort: str = "order", text: str | None = None, top: int | None = None) -> list[LayerRow]:
    """The rows to show: those that contain `text`, largest first unless in order of execution, the first `top`."""
    rows = list(table.rows)
    if text:
        needle = text.casefold()
        rows = [r for r in rows if needle in " ".join(filter(None, (r.label, r.type, r.kernel, _where(r)))).casefold()]
    if sort != "order":
        rows.sort(key=_ORDERS[sort], reverse=True)
    return rows[:top]


def layers_table(table: Layers, rows: Sequence[LayerRow], by: By) -> Table:
    """One row per op (or group) with time, share, MACs, speed and bytes; the notes say what the rows leave over."""
    names = short_names(row.label for row in table.rows)
    time_unit, times = scaled_intervals(
        [(r.p50_us.value, r.p50_us.low, r.p50_us.high) if r.p50_us else (None, None, None) for r in rows],
        "duration_us",
    )
    macs_unit, macs = scaled_column([row.macs for row in rows], "count")
    weight_unit, weights = scaled_column([row.weight_bytes for row in rows], "bytes")
    activation_unit, activations = scaled_column([row.activation_bytes for row in rows], "bytes")
    columns = [
        Column("op" if by == "op" else by, "label", align="left", flexible=True),
        *([Column("type", "type", align="left")] if by == "op" else [Column("ops", "ops")]),
        *([Column("runs in", "where", align="left", priority=1)] if table.structure == "graph" else []),
        Column("p50 [95 %]", "p50", unit=time_unit),
        Column("share", "share"),
        Column("runs", "runs", priority=3),
        Column("MACs", "macs", unit=macs_unit, priority=3),
        Column("GFLOP/s", "gflops", priority=2),
        Column("weights", "weights", unit=weight_unit, priority=4),
        Column("activations", "activations", unit=activation_unit, priority=5),
        Column("output", "output", align="left", priority=7),
        Column("numbers", "numbers", align="left", priority=8),
        Column("kernel", "kernel", align="left", priority=6 if table.structure == "graph" else 1, flexible=True),
    ]
    cells = [
        {
            "label": names[row.label],
            "type": row.type,
            "ops": str(row.ops),
            "where": _where(row),
            "p50": times[i],
            "share": percent(row.share) if row.p50_us else None,
            "runs": None if row.runs is None else f"{row.runs:.4g}",
            "macs": macs[i],
            "gflops": None if row.gflop_per_s is None else f"{row.gflop_per_s:.1f}",
            "weights": weights[i],
            "activations": activations[i],
            "output": ", ".join(row.meta.outputs) if row.meta else None,
            "numbers": row.meta.quantization if row.meta else None,
            "kernel": row.kernel,
        }
        for i, row in enumerate(rows)
    ]
    if all(row.runs in (None, 1.0) for row in rows):
        cells = [{**cell, "runs": None} for cell in cells]
    empty = {key for key in ("runs", "output", "numbers", "kernel") if all(cell[key] is None for cell in cells)}
    return Table([c for c in columns if c.key not in empty], cells, title=_title(table), notes=_notes(table, rows))


#: To whom the time belongs that no op accounts for.
_WHOSE: Mapping[str, str] = {"graph": "interpreter's and the delegates'"}


#: Op types that run other ops, which have rows of their own.
_LOOPS = ("WHILE", "IF", "CALL", "STABLEHLO_WHILE", "STABLEHLO_CASE", "STABLEHLO_COMPOSITE")


def _where(row: LayerRow) -> str:
    if row.delegate is not None:
        return row.delegate
    return "builtin" if row.kernel is None or row.kernel.startswith("builtin") else row.kernel


def _title(table: Layers) -> str:
    from qprof.report.units import duration

    parts = [f"{count} {name} partition{'s' * (count != 1)}" for name, count in table.partitions.items()]
    if not parts and table.structure == "graph":
        parts = ["no delegate"]
    phase = "" if table.phase == INFERENCE else f", {table.phase}"
    times = f"p50 {duration(table.clean_us.value)} clean, {duration(table.end_to_end_us.value)} profiled"
    return f"{table.variant}{phase}: {times}" + (f"; {', '.join(parts)}" if parts else "")


def _notes(table: Layers, rows: Sequence[LayerRow]) -> list[str]:
    owner = _WHOSE.get(table.structure, "runtime's")
    shown = sum(row.share for row in rows)
    total = sum(row.share for row in table.rows)
    notes = [
        f"{table.inferences} profiled inferences; ops are {percent(total)} of the profiled time, the rest "
        f"({percent(table.rest_share)}) is the {owner} own",
    ]
    if table.clean_us.value > 0:
        together = percent(table.end_to_end_us.value / table.clean_us.value)
        notes.append(f"ops and rest together are {together} of a clean inference")
    if len(rows) < len(table.rows):
        notes.append(f"{len(rows)} of {len(table.rows)} rows shown, {percent(shown)} of the time")
    if any(row.reason and row.runs != 0 for row in rows):
        notes.append(f"{MISSING}: no kernel of its own (fused into a neighbour, or folded when the model was loaded)")
    if any(row.reason and row.runs == 0 for row in rows):
        notes.append("runs 0: in another branch than the one that was taken, or in a model's first inference alone")
    if any(row.runs not in (None, 1.0, 0.0) for row in rows):
        notes.append("runs: per inference; times, MACs and activations are those of all runs, weights as stored once")
    if any(row.type in _LOOPS for row in rows):
        notes.append("WHILE, IF, calls: what their own ops leave over, to go round and to hand tensors over")
    if table.partitions:
        notes += _clock_notes(rows)
    if table.stored:
        notes.append(table.stored)
    return notes + _split_notes(table.split)


def _clock_notes(rows: Sequence[LayerRow]) -> list[str]:
    """How times inside delegates came about, where that differs from row to row also of how many."""
    ways = {
        "clocked": "measured in nanoseconds by the delegate's own clock, less the cost of its readings",
        "kernel": "estimated: its kernels' whole microseconds, scaled to the delegate's nanoseconds",
    }
    found = {way: [row for row in rows if row.timed == way] for way in ways}
    notes = []
    for way, says in ways.items():
        if found[way]:
            which = "" if sum(map(bool, found.values())) == 1 else f" ({len(found[way])} rows)"
            notes.append(f"times inside a delegate{which}: {says}")
    unsure = [row for row in rows if row.resolution_us and row.p50_us and row.p50_us.value < 2.0 * row.resolution_us]
    if unsure:
        worst = max(row.resolution_us or 0.0 for row in unsure)
        notes.append(
            f"{len(unsure)} rows are too short for their clock, which may be off by {worst:.2g} µs: "
            "their intervals hold it, and nothing is concluded from them"
        )
    return notes


#: Kernels that a note on dequantization names.
_OPS_NAMED = 5


def _split_notes(split: Split | None) -> list[str]:
    """How the rows of a quantized linear came about, and what its dequantization consists of."""
    if split is None or (split.how is None and split.reason is None):
        return []
    if split.how is None:
        return [f"quantized layers are shown whole: {split.reason}"]
    ways = {
        "in situ": "a pass of its own timed every op inside the layers; its shares divide the time of the layers",
        "replayed": "dequantization and matmul were run alone; their ratio divides the time of the layers",
    }
    first = "dequantize" if split.quantize_ops is None else "quantize"
    notes = [f"{first}, matmul and other in linear ({split.how}): {ways[split.how]}"]
    if split.in_situ_ms is not None and split.replayed_ms is not None:
        notes.append(
            f"dequantization per inference: {split.in_situ_ms:.3g} ms in situ (op by op, which inflates it), "
            f"{split.replayed_ms:.3g} ms when run alone"
        )
    for what, ops in (("dequantization", split.dequantize_ops), ("quantizing activations", split.quantize_ops)):
        if ops:
            parts = [f"{name} {percent(share)}" for name, share in list(ops.items())[:_OPS_NAMED]]
            notes.append(f"{what} is {', '.join(parts)}")
    return notes
