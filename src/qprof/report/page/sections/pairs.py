"""Each variant against the baseline: the waterfall, its causes, and the table of ops that closes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from qprof.findings.binding import binding
from qprof.findings.comparison import Comparison
from qprof.findings.decomposition import Decomposition
from qprof.findings.difference_table import DifferenceRow, DifferenceTable
from qprof.findings.explanation import ComparisonFindings, Explanation
from qprof.report.causes import signed_duration, signed_interval, unexplained_lines
from qprof.report.op_names import short_names
from qprof.report.page.data import Cause, MechanismRow, OpRow, Pair
from qprof.report.page.data_tables import Amount
from qprof.report.page.sections.amounts import amount, finite, with_bounds
from qprof.report.page.sections.causes import cause_card, memory_cards, not_applicable, size_cards
from qprof.report.page.sections.commands import Commands
from qprof.stats.intervals import Interval
from qprof.store.run import Run

#: Lines of a table of ops on the page; the others are added up in one.
_MOST_OPS = 1500


def pairs(run: Run, explanation: Explanation, watts: Mapping[str, float], commands: Commands) -> Iterator[Pair]:
    """In the order of the explanation. `watts`: what a variant draws, where a sensor tells."""
    sizes = {one.variant: one for one in explanation.sizes}
    memory = {one.variant: one for one in explanation.memory}
    for found in explanation.comparisons:
        comparison = Comparison(run, found.baseline, found.variant, found.phase)
        table = comparison.table
        names = short_names(row.label for row in table.rows) if table is not None else {}
        cards = [cause_card(one, commands, watts.get(found.variant), names) for one in found.findings]
        if comparison.leads:
            cards += size_cards(sizes[found.variant], commands) if found.variant in sizes else []
            cards += memory_cards(memory[found.variant], commands) if found.variant in memory else []
        yield _pair(comparison, found, explanation, cards, commands)


def _pair(
    comparison: Comparison,
    found: ComparisonFindings,
    explanation: Explanation,
    cards: Sequence[Cause],
    commands: Commands,
) -> Pair:
    end, rows = comparison.latency, found.decomposition
    phase = "" if found.phase == "inference" else f", {found.phase}"
    words = [] if found.phase == comparison.run.phase() else ["--phase", found.phase]
    changed = "" if found.difference_us is None else f": p50 {signed_interval(found.difference_us)}"
    return Pair(
        baseline=found.baseline,
        variant=found.variant,
        phase=found.phase,
        title=f"{found.baseline} → {found.variant}{phase}{changed}",
        verdict=_verdict(explanation, found),
        stop=found.sameness.says if found.sameness is not None and not found.sameness.same else None,
        baseline_us=finite(end.a.value) if end is not None else None,
        variant_us=finite(end.b.value) if end is not None else None,
        difference_us=amount(found.difference_us, signed_interval),
        rows=[
            MechanismRow(
                mechanism=row.mechanism,
                delta_us=_signed(row.delta_us),
                sentence=row.sentence,
                ops=len(row.ops),
            )
            for row in (rows.rows if rows is not None else ())
        ],
        share_explained=None if rows is None else rows.share_explained,
        unexplained=[line.strip() for one in found.unexplained for line in unexplained_lines(found, one)],
        causes=list(cards),
        not_applicable=not_applicable(found, explanation.remarks),
        ops=_ops(comparison, comparison.table, rows),
        command=commands.of("explain"),
        ops_command=commands.of("diff", found.baseline, found.variant, *words),
    )


def _verdict(explanation: Explanation, found: ComparisonFindings) -> str | None:
    wanted = ("latency", f"{found.phase} latency")
    return next((v.kind for v in explanation.verdicts if v.variant == found.variant and v.figure in wanted), None)


def _signed(interval: Interval) -> Amount:
    told = amount(interval, with_bounds(signed_duration))
    return told or Amount(value=0.0, text="not a number")


def _ops(comparison: Comparison, table: DifferenceTable | None, rows: Decomposition | None) -> list[OpRow]:
    """The largest differences first where there are too many to show; in the order of the table otherwise."""
    if table is None:
        return []
    lines = list(table.rows)
    shown = lines
    if len(lines) > _MOST_OPS:
        kept = sorted(range(len(lines)), key=lambda n: -abs(lines[n].delta_us.value))[:_MOST_OPS]
        shown = [lines[n] for n in sorted(kept)]
    names = short_names(row.label for row in lines)
    mechanisms = _mechanisms(rows)
    errors = {row.op: row.own_sqnr_db for row in comparison.run.layer_errors if row.variant == comparison.variant}
    bound = binding(comparison)
    bounds = {} if bound is None else {row.op.op: row.bound for row in bound.rows}
    told = [_op(row, names, mechanisms, errors, bounds) for row in shown]
    if len(shown) < len(lines):
        left = {id(row) for row in lines} - {id(row) for row in shown}
        others = [row for row in lines if id(row) in left]
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


def _mechanisms(rows: Decomposition | None) -> dict[str, str]:
    """Op -> the mechanism that holds the largest part of its difference."""
    largest: dict[str, tuple[float, str]] = {}
    for row in rows.rows if rows is not None else ():
        for part in row.ops:
            size = abs(part.delta_us)
            if size > largest.get(part.name, (-1.0, ""))[0]:
                largest[part.name] = (size, row.mechanism)
    return {name: mechanism for name, (_, mechanism) in largest.items()}


def _op(
    row: DifferenceRow,
    names: Mapping[str, str],
    mechanisms: Mapping[str, str],
    errors: Mapping[str, float | None],
    bounds: Mapping[str, str | None],
) -> OpRow:
    op, named = row.a or row.b, row.b or row.a
    of_b = row.b.op if row.b is not None else None
    return OpRow(
        label=names.get(row.label, row.label),
        op=named.name if named is not None else "",
        kind=row.kind,
        delta_us=_signed(row.delta_us),
        type=op.type if op is not None else "",
        a_us=finite(row.a_us),
        b_us=finite(row.b_us),
        flags=list(row.flags),
        mechanism=mechanisms.get(row.label),
        a_kernel=row.a.kernel if row.a is not None else None,
        b_kernel=row.b.kernel if row.b is not None else None,
        own_sqnr_db=finite(errors.get(of_b)) if of_b is not None else None,
        bound=bounds.get(of_b) if of_b is not None else None,
    )
