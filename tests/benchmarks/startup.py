"""Start-up time against bare Python, as medians of interleaved processes.

python tests/benchmarks/startup.py [--repetitions 15]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from time import perf_counter

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import qprof": [sys.executable, "-c", "import qprof"],
    "qprof --help": [sys.executable, "-m", "qprof.cli.main", "--help"],
}
REACH_S = {"import qprof": 0.15, "qprof --help": 0.3}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=15)
    repetitions = parser.parse_args().repetitions
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(repetitions):
        for name, command in COMMANDS.items():
            begin = perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(perf_counter() - begin)
    bare = statistics.median(seconds["python -c pass"])
    failed = False
    for name, values in seconds.items():
        median = statistics.median(values)
        reach = REACH_S.get(name)
        failed |= reach is not None and median > reach
        print(f"{name:16} {median:.3f} s  x{median / bare:.2f} of bare Python  {f'(reach {reach} s)' if reach else ''}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
