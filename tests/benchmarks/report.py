"""The report of a run of a million op events, in a process of its own, and how soon its page can be used in Chromium.
Reach: 10 s (imports included) and 1 GB; 2 s.

    python tests/benchmarks/report.py [--events 1000000]
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

from million_events import recorded

from report_pages import browser, browser_binaries, opened

REACH_S, REACH_BYTES, REACH_READY_S = 10.0, 1_000_000_000, 2.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = recorded(Path(folder) / "run", options.events)
        events = run.op_events.num_rows
        begin = perf_counter()
        process = subprocess.Popen([sys.executable, "-m", "qprof.cli.main", "report", str(run.folder)])
        _, status, usage = os.wait4(process.pid, 0)
        seconds, processor_s = perf_counter() - begin, usage.ru_utime + usage.ru_stime
        peak = usage.ru_maxrss * 1024
        page = run.folder / "report.html"
        told = f"{seconds:.2f} s ({processor_s:.2f} s of a processor; reach {REACH_S:g} s), peak {peak / 1e6:.0f} MB"
        print(f"{events} op events: {told} (reach 1 GB), page {page.stat().st_size / 1e6:.1f} MB")
        ready_s = ready(page)
    print(
        "no browser to open it in" if ready_s is None else f"page ready in {ready_s:.2f} s (reach {REACH_READY_S:g} s)"
    )
    late = ready_s is not None and ready_s > REACH_READY_S
    return int(status != 0 or seconds > REACH_S or peak > REACH_BYTES or late)


def ready(page: Path) -> float | None:
    """Seconds from the navigation until the page can be used, the second time that the browser opens it."""
    if browser_binaries() is None:
        return None
    with browser() as window:
        for _ in range(2):
            opened(window, page)
        return float(window.execute_script("return performance.getEntriesByName('ready')[0].startTime")) / 1e3


if __name__ == "__main__":
    sys.exit(main())
