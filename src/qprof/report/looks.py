"""What is said of a run that went on until its verdicts were decided, and of one that predicted a part of its samples;
and the figures so far, while it goes on."""

from __future__ import annotations

import math
from collections.abc import Sequence

from qprof.findings.doubts import withholding
from qprof.measure.progress import Standing
from qprof.report.table import Column, Table
from qprof.report.units import duration, interval
from qprof.store.run import Run

_WHY = {
    "decided": "every verdict was decided",
    "budget": "its budget was spent",
    "rounds": "it had all its rounds",
    None: "it was interrupted",
}


def looks_lines(run: Run) -> list[str]:
    """How long the run went on and why no longer, how often its verdicts were looked at, and of how many samples its
    scores are. Nothing for a run of a fixed number of rounds that scored all."""
    manifest, lines = run.manifest, []
    looks, sampling = manifest.looks, manifest.sampling
    if looks is not None:
        budget = "" if looks.budget_s is None else f" of {looks.budget_s:g} s"
        lines.append(
            f"measured for {looks.spent_s:.1f} s{budget}, until {_WHY[looks.ended]}; looked at after "
            f"{_counts([look.rounds for look in looks.looks])} of {looks.rounds} rounds at most, and intervals are as "
            f"wide as holds over all looks ({looks.rule})"
        )
        stopped: dict[int, list[str]] = {}
        for name, rounds in looks.decided.items():
            stopped.setdefault(rounds, []).append(name)
        lines += [f"decided after {rounds} rounds: {', '.join(names)}" for rounds, names in sorted(stopped.items())]
        withheld = [name for name in looks.decided if withholding(run, run.baseline, name)]
        if withheld:
            lines.append(f"decided, but withheld for what speaks against the latencies: {', '.join(withheld)}")
        undecided = manifest.undecided()
        if undecided:
            lines.append(f"not decided at a margin of {100 * looks.margin:g} %: {', '.join(undecided)}")
    if sampling is not None and sampling.scored:
        part = "" if sampling.scored[-1] == sampling.total else ", drawn at random"
        before = sampling.scored[:-1]
        looked = f"; looked at before with {_counts(before)}, which their intervals allow for" if before else ""
        lines.append(f"scores: of {sampling.scored[-1]} of {sampling.total} samples{part}{looked}")
    return lines


def more_lines(run: Run) -> list[str]:
    """The commands that sharpen a finished run."""
    manifest, lines = run.manifest, []
    looks, sampling = manifest.looks, manifest.sampling
    if looks is not None and looks.ended == "budget" and looks.budget_s is not None:
        what = ", ".join(manifest.undecided()) or "samples that are not predicted yet"
        lines.append(f"qprof run --resume {run.folder} --budget {2 * looks.budget_s:g}s goes on with {what}")
    if sampling is not None and sampling.scored and sampling.asked[-1] < sampling.total:
        lines.append(f"qprof run --resume {run.folder} --samples {sampling.total} scores all {sampling.total} samples")
    return lines


def _counts(numbers: Sequence[int]) -> str:
    texts = [str(number) for number in numbers]
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts) or "0"


def standing_table(title: str, rows: Sequence[Standing]) -> Table:
    """The figures so far."""
    cells: list[dict[str, str | None]] = [
        {
            "variant": f"{row.variant} {row.phase}".strip(),
            "p50": None if row.p50_us is None else duration(row.p50_us),
            "ratio": _ratio(row),
            "verdict": row.verdict,
            "rounds": str(row.rounds),
        }
        for row in rows
    ]
    columns = [
        Column("variant", "variant", align="left"),
        Column("p50", "p50"),
        Column("vs baseline", "ratio"),
        Column("verdict", "verdict", align="left"),
        Column("rounds", "rounds", priority=1),
    ]
    return Table(columns, cells, title=title)


def standing_line(title: str, rows: Sequence[Standing]) -> str:
    """The same in one line, of the variants that are compared."""
    told = [f"{row.variant} {row.phase}".strip() + f" {_ratio(row)} {row.verdict}" for row in rows if row.log_ratio]
    return f"{title}: {'; '.join(told)}"


def _ratio(row: Standing) -> str | None:
    if row.log_ratio is None:
        return None
    value, low, high = (None if bound is None else math.exp(bound) for bound in row.log_ratio)
    assert value is not None  # only the bounds may be missing
    return "x" + interval(value, low, high)
