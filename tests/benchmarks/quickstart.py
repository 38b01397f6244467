"""Wall time of the quickstart with an empty cache, the making of variants and data included, and the parent's memory.

python tests/benchmarks/quickstart.py
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from time import perf_counter

#: Both parts: the detector and the language model.
REACH_S = 150
REACH_PARENT_BYTES = 200_000_000


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "QPROF_CACHE": f"{folder}/cache"}
        begin = perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "qprof.cli.main", "run", "--output", f"{folder}/run"], env=environment
        )
        # wait4 reports the parent's own peak; its workers are children of it, not of this script.
        _, status, usage = os.wait4(process.pid, 0)
        seconds = perf_counter() - begin
    parent_bytes = usage.ru_maxrss * 1024
    print(f"quickstart {seconds:.1f} s (reach {REACH_S} s); parent's peak {parent_bytes / 1e6:.0f} MB (reach 200 MB)")
    return int(status != 0 or seconds > REACH_S or parent_bytes > REACH_PARENT_BYTES)


if __name__ == "__main__":
    sys.exit(main())
