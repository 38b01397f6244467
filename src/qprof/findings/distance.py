"""How near the outputs of each variant are to the baseline's: over all outputs, and output by output, with intervals.

Inputs are what is resampled. A share of inputs with the same top answer has the interval of a paired proportion, every
other figure that of a bootstrap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qprof.findings.once import once_per_run
from qprof.measure.distance_scores import by_sample, noise_arrays, one_answer
from qprof.record.distances import CLOSENESS, COSINE, KL, SAME_TOP
from qprof.record.manifest import VariantEntry
from qprof.record.rows import OutputDistanceRow
from qprof.stats.intervals import Interval
from qprof.stats.output_distance import sqnr_interval
from qprof.stats.paired_outcomes import PairedOutcomes, paired_bootstrap
from qprof.store.run import Run


@dataclass(frozen=True, slots=True)
class OutputFigures:
    """One output, or all of them (`output` is ""). `meaning`: what it was taken for. `same_top`, `closeness`, `cosine`,
    `kl` (nats), `sqnr_db`: see `qprof.record.distances`; what does not apply is `None`. `identical`: bit by bit, on
    every input. `many_rows`: an input has several rows with a top answer each. `tied`: inputs with a row whose top
    answer is shared by several classes. `nonfinite`: elements."""

    output: str
    meaning: str
    identical: bool
    same_top: Interval | None
    closeness: Interval | None
    cosine: Interval | None
    kl: Interval | None
    sqnr_db: Interval | None
    many_rows: bool = False
    tied: int = 0
    nonfinite: int = 0


@dataclass(frozen=True, slots=True)
class VariantDistance:
    """A variant's distance to the baseline on some inputs. `random`: these were made, not given. `one_answer`: the
    baseline has the same top answer on all of them. `outputs`: one by one, where there are several."""

    baseline: str
    variant: str
    inputs: int
    random: bool
    one_answer: bool
    whole: OutputFigures
    outputs: tuple[OutputFigures, ...] = ()


@once_per_run
def output_distances(run: Run) -> Sequence[VariantDistance]:
    """Of every variant whose outputs were compared, on the inputs that its scores are of."""
    known: dict[str, list[OutputDistanceRow]] = {}
    for row in run.output_distances:
        known.setdefault(row.variant, []).append(row)
    if not known:
        return []
    # Scores are of the inputs that there was time for in all variants.
    common = min(max(row.sample for row in rows) for rows in known.values()) + 1
    found = []
    for name, rows in known.items():
        compared = run.variant(name).outputs_compared
        used = [row for row in rows if row.sample < common]
        names = list(dict.fromkeys(row.output for row in used))
        single = [_figures(output, [row for row in used if row.output == output]) for output in names]
        whole = single[0] if len(single) == 1 else _figures("", used)
        found.append(
            VariantDistance(
                baseline=run.baseline,
                variant=name,
                inputs=common,
                random=compared is not None and compared.inputs == "random",
                one_answer=one_answer(used),
                whole=replace(whole, output=""),
                outputs=tuple(single) if len(single) > 1 else (),
            )
        )
    return found


def on_random_inputs(entry: VariantEntry) -> bool:
    """Whether a variant is known to be near on random inputs alone. The baseline's own file is near on any."""
    compared = entry.outputs_compared
    return compared is not None and compared.inputs == "random" and not compared.same


def _figures(output: str, rows: Sequence[OutputDistanceRow]) -> OutputFigures:
    columns = by_sample(rows)
    signals, noises = noise_arrays(rows)
    return OutputFigures(
        output=output,
        meaning=" and ".join(sorted({row.meaning for row in rows})),
        identical=all(row.identical for row in rows),
        same_top=_share(columns.get(SAME_TOP)),
        closeness=_mean(columns.get(CLOSENESS)),
        cosine=_mean(columns.get(COSINE)),
        kl=_mean(columns.get(KL)),
        sqnr_db=sqnr_interval(signals, noises) if signals.size else None,
        many_rows=any((row.rows or 0) > 1 for row in rows),
        tied=len({row.sample for row in rows if row.tied}),
        nonfinite=sum(row.nonfinite for row in rows),
    )


def _share(values: NDArray[np.float64] | None) -> Interval | None:
    if values is None or not np.isin(values, (0.0, 1.0)).all():
        return _mean(values)
    found = PairedOutcomes(len(values), int(np.count_nonzero(values == 0.0)), 0).interval()
    low, high = (None if bound is None else 1.0 + min(bound, 0.0) for bound in (found.low, found.high))
    return Interval(float(values.mean()), low, high, found.level, found.reason)


def _mean(values: NDArray[np.float64] | None) -> Interval | None:
    if values is None or np.isnan(values).any():
        return None
    return paired_bootstrap(np.zeros(len(values)), values).interval()
