"""Several runs side by side: what is not the same around them, their variants' figures, and op against op."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence

from qprof.errors import StoreError
from qprof.findings.across_runs import AcrossRow, AcrossRuns, differ_across
from qprof.findings.around_runs import Line, align_variants, around
from qprof.report.causes import signed_duration, signed_interval
from qprof.report.op_names import short_names
from qprof.report.page.data import Across, OpRow, Pair, RunReport, Variant
from qprof.report.page.data_tables import Amount, Grid, GridColumn
from qprof.report.page.sections.amounts import amount, finite, with_bounds
from qprof.report.ratio import change_text
from qprof.report.units import Interval, scaled_column, scaled_intervals, significant
from qprof.stats.rounds import scaled_change
from qprof.store.run import Run

#: Lines of a table of ops on the page; the others are added up in one.
_MOST_OPS = 1500
_REST = ("outside ops", "instrumentation")
_UNPAIRED = (
    "unpaired: nothing pairs the rounds of two runs; its interval (Welch, 95 %) also holds what two processes differ by"
)


def across(runs: Sequence[Run], reports: Sequence[RunReport]) -> Across:
    """Each later run beside the first. `reports`: what is shown of each by itself."""
    letters = [chr(ord("A") + number) for number in range(len(runs))]
    lines = align_variants(runs)
    compared: dict[tuple[int, str, str], AcrossRuns] = {}
    not_compared: list[str] = []
    for line in lines:
        for number in range(1, len(runs)):
            first, other = line.names[0], line.names[number]
            if first is None or other is None:
                continue
            for phase in reports[0].phases:
                try:
                    compared[number, other, phase] = differ_across(runs[0], first, runs[number], other, phase)
                except StoreError as error:
                    not_compared.append(f"{other} of {letters[number]} is not compared with A, {phase}: {error}")
    return Across(
        letters=letters,
        differs=_differs(runs, letters, lines),
        variants=_variants(reports, letters, lines, compared, not_compared),
        pairs=[
            _pair(found, reports, number, letters[number], len(reports[0].phases) > 1)
            for (number, _, _), found in compared.items()
        ],
    )


def _differs(runs: Sequence[Run], letters: Sequence[str], lines: Sequence[Line]) -> Grid:
    columns = [GridColumn(title="of", key="topic", numeric=False), GridColumn(title="what", key="what", numeric=False)]
    columns += [GridColumn(title=letter, key=letter, numeric=False) for letter in letters]
    rows = []
    for one in around(runs, lines):
        told = {letter: value for letter, value in zip(letters, one.values, strict=True) if value is not None}
        rows.append({"topic": one.topic, "what": one.what, **told})
    return Grid(title="What is not the same around the runs", columns=columns, rows=rows)


def _variants(
    reports: Sequence[RunReport],
    letters: Sequence[str],
    lines: Sequence[Line],
    compared: dict[tuple[int, str, str], AcrossRuns],
    not_compared: Sequence[str],
) -> Grid:
    scores = list(dict.fromkeys(one.metric for one in reports if one.metric is not None))
    several = any(len(one.phases) > 1 for one in reports)
    shown = [
        (number, found, phase)
        for line in lines
        for phase in dict.fromkeys(phase for one in reports for phase in one.phases)
        for number, name in enumerate(line.names)
        for found in reports[number].variants
        if found.name == name and phase in reports[number].phases
    ]
    unit, times = scaled_intervals([_p50(found, phase) for _, found, phase in shown], "duration_us")
    size_unit, files = scaled_column([found.size_bytes for _, found, _ in shown], "bytes")
    memory_unit, peaks = scaled_column([found.memory_bytes for _, found, _ in shown], "bytes")
    columns = [
        GridColumn(title="variant", key="variant", numeric=False),
        *([GridColumn(title="phase", key="phase", numeric=False)] if several else []),
        GridColumn(title="run", key="run", numeric=False),
        GridColumn(title="p50 [95 %]", key="p50", unit=unit),
        GridColumn(title="time against A [95 %]", key="change"),
        GridColumn(title="verdict", key="verdict", numeric=False),
        *(GridColumn(title=name, key=f"score {name}") for name in scores),
        GridColumn(title="size", key="size", unit=size_unit),
        GridColumn(title="peak memory", key="memory", unit=memory_unit),
    ]
    rows = [
        {
            "variant": found.name,
            "phase": phase,
            "run": letters[number],
            **{key: text for key, text in (("p50", time), ("size", file), ("memory", peak)) if text is not None},
            **{f"score {name}": significant(found.scores[name], 4) for name in scores if name in found.scores},
            **_against(compared.get((number, found.name, phase)), first=number == 0),
        }
        for (number, found, phase), time, file, peak in zip(shown, times, files, peaks, strict=True)
    ]
    if any(found.verdict == "withheld" for found in compared.values()):
        not_compared = ["withheld: a doubt about one of the two runs forbids a verdict", *not_compared]
    notes = [
        f"time against A is {_UNPAIRED}",
        "variants of one name stand together; of the others those of one file, then the baselines",
        "scores stand side by side and are not tested against each other",
        *not_compared,
    ]
    return Grid(title="Variants side by side", columns=columns, rows=rows, notes=notes)


def _p50(found: Variant, phase: str) -> Interval:
    time = found.phases_us.get(phase)
    return (None, None, None) if time is None else (time.value, time.low, time.high)


def _against(found: AcrossRuns | None, first: bool) -> dict[str, str]:
    """Of the first run, with which the others are compared, nothing is missing."""
    if found is None:
        return {"change": "", "verdict": ""} if first else {}
    change = change_text(scaled_change(found.log_ratio), relative=True)
    return {"verdict": found.verdict, **({"change": change} if change is not None else {})}


def _pair(found: AcrossRuns, reports: Sequence[RunReport], number: int, letter: str, several: bool) -> Pair:
    words = ["--phase", found.phase] if found.phase != reports[0].phases[0] else []
    sides = [f"{reports[0].reference}:{found.a}", f"{reports[number].reference}:{found.b}"]
    return Pair(
        baseline=found.a,
        variant=found.b,
        sides=["A", letter],
        phase=found.phase,
        title=f"{found.a} in A → {found.b} in {letter}" + (f", {found.phase}" if several else ""),
        verdict=found.verdict,
        baseline_us=finite(found.a_us),
        variant_us=finite(found.b_us),
        difference_us=amount(found.difference_us, signed_interval),
        unexplained=[f"the ops stand without times: {found.untimed}"] if found.untimed else [],
        ops=_ops(found.rows),
        ops_command=shlex.join(["qprof", "diff", *sides, *words]),
    )


def _ops(rows: Sequence[AcrossRow]) -> list[OpRow]:
    """All lines; of very many the largest differences, and the sum of the others."""
    names = short_names(row.label for row in rows)
    kept = set(sorted(range(len(rows)), key=lambda n: -_rank(rows[n]))[:_MOST_OPS])
    others = [row for n, row in enumerate(rows) if n not in kept]
    told = [_op(row, names.get(row.label, row.label)) for n, row in enumerate(rows) if n in kept]
    if others:
        total = math.fsum(row.delta_us.value for row in others)
        told.append(
            OpRow(
                label=f"{len(others)} other ops",
                kind="sum",
                delta_us=Amount(value=total, text=signed_duration(total)),
                a_us=math.fsum(row.a_us or 0.0 for row in others),
                b_us=math.fsum(row.b_us or 0.0 for row in others),
            )
        )
    return told


def _rank(row: AcrossRow) -> float:
    """What is no op is always shown."""
    return math.inf if row.kind in _REST else abs(row.delta_us.value)


def _op(row: AcrossRow, label: str) -> OpRow:
    op = row.a or row.b
    named = row.b or row.a
    return OpRow(
        label=label,
        op=named.name if named is not None else "",
        kind=row.kind,
        delta_us=amount(row.delta_us, with_bounds(signed_duration)) or Amount(value=0.0, text="not a number"),
        type=op.type if op is not None else "",
        a_us=finite(row.a_us),
        b_us=finite(row.b_us),
        flags=list(row.flags),
        a_kernel=row.a.kernel if row.a is not None else None,
        b_kernel=row.b.kernel if row.b is not None else None,
    )
