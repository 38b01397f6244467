"""Do layers and rest add up to the latency? Of every variant and phase of some runs.

    python tests/benchmarks/closure.py RUN ...

"ops": the ops' own times, "rest": what of the profiled inferences lies between and around them (from one reading of
the clock to the next, less what is known to be the profiler's own); in microseconds, medians over the profiled
inferences. "clean": p50 of the inferences that were not profiled, which is what latency is taken from. The last column
is the ratio of the rounds' medians, profiled to clean, in the middle of the rounds: each round measures both beside
each other, so that it says less about the machine than the columns before it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.findings.measured import measured_variant
from qprof.store.run import Run

#: How far ops and rest may be from the latency.
REACH = 0.03


def closed(run: Run, variant: str, phase: str) -> tuple[float, float, float, float]:
    """Microseconds of the ops, of the rest and of a clean inference; ops and rest over the latency."""
    found = measured_variant(run, variant, phase)
    own = found.op_us.sum(axis=1)
    clean = by_round(found.clean_us, found.clean_round)
    profiled = by_round(found.profiled_us, found.profiled_round)
    ratio = float(np.median([profiled[n] / clean[n] for n in profiled if n in clean]))
    rest = float(np.median(found.profiled_us - own))
    return float(np.median(own)), rest, float(np.median(found.clean_us)), ratio


def by_round(values: NDArray[np.float64], rounds: NDArray[Any]) -> dict[int, float]:
    return {int(number): float(np.median(values[rounds == number])) for number in np.unique(rounds)}


def main() -> int:
    if len(sys.argv) < 2:
        print(__doc__)
        return 2
    reached = True
    print(f"{'run':14} {'variant':26} {'phase':10} {'ops':>10} {'rest':>9} {'clean':>10} {'(ops + rest) / clean':>22}")
    for path in sys.argv[1:]:
        run = Run(Path(path))
        for entry in run.manifest.living():
            for phase in run.phases():
                if not run.ops_of(entry.name, phase.name):
                    continue
                ops, rest, clean, ratio = closed(run, entry.name, phase.name)
                reached &= abs(ratio - 1) <= REACH
                mark = "" if abs(ratio - 1) <= REACH else "  NOT REACHED"
                print(
                    f"{Path(path).name:14} {entry.name:26} {phase.name:10} {ops:10.1f} {rest:9.1f} {clean:10.1f} "
                    f"{ratio:22.3f}{mark}"
                )
    return int(not reached)


if __name__ == "__main__":
    sys.exit(main())
