"""A run of a million op events taken apart: wall time and peak memory of a process that reads it and explains the
difference of its two variants op by op, with intervals. Reach: 2 s (imports included) and 500 MB.

    python tests/benchmarks/million_events.py [--events 1000000]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).parents[1]))

from planted.world import PlantedOp, PlantedVariant, World
from qprof.store.run import Run

OPS, ROUNDS = 66, 10
REACH_S, REACH_BYTES = 2.0, 500_000_000
ANALYSE = """
import sys
from pathlib import Path
from qprof.findings.difference import differ
from qprof.store.run import Run
table = differ(Run(Path(sys.argv[1])), "float32", "int8")
print(f"{len(table.rows)} rows, closing error {table.closing_error_us:.1g} us")
"""


def recorded(folder: Path, events: int) -> Run:
    """A run of two variants with that many op events, or a few more."""
    inferences = -(-events // (2 * OPS * ROUNDS))
    variants = [
        PlantedVariant(name, [PlantedOp(f"layer{i}/conv", "CONV_2D", us + i) for i in range(OPS)])
        for name, us in (("float32", 30.0), ("int8", 20.0))
    ]
    return World(variants, rounds=ROUNDS, inferences=inferences).record(folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = recorded(Path(folder) / "run", options.events)
        events = run.op_events.num_rows
        begin = perf_counter()
        process = subprocess.Popen([sys.executable, "-c", ANALYSE, str(run.folder)])
        _, status, usage = os.wait4(process.pid, 0)
        seconds = perf_counter() - begin
    peak = usage.ru_maxrss * 1024
    print(f"{events} op events: {seconds:.2f} s (reach {REACH_S:g} s), peak {peak / 1e6:.0f} MB (reach 500 MB)")
    return int(status != 0 or seconds > REACH_S or peak > REACH_BYTES)


if __name__ == "__main__":
    sys.exit(main())
