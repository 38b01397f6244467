"""What qprof decides within a budget: a detector against itself, and against one that is slower by about a percent.

    python tests/benchmarks/smallest_difference.py --core 1 --runs 10 --budget 90

The slower file has a few ops more. By how much it is slower is measured without qprof, before and after the runs, as in
`tests/real/truth.py`. Every run is a run of its own (new processes), on one core that nothing else uses. Prints how
often the slower one is told to be worse, how often equal files are told to differ, and after how long.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

REAL = Path(__file__).resolve().parents[1] / "real"
sys.path.insert(0, str(REAL))

import makers_edits as edits  # noqa: E402
from cases_edits import base  # noqa: E402
from truth import compared, timed  # noqa: E402

#: More of them are another percent each.
MOST_PAIRS = 4
TRUTH_ROUNDS = 60
PROTOCOL = ("energy=off", "stacks_s=0", "layer_errors=0", "profiled=false")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--budget", type=float, default=90.0, metavar="SECONDS")
    parser.add_argument("--share", type=float, default=0.01, help="by how much the other file is to be slower")
    given = parser.parse_args()
    os.sched_setaffinity(0, {given.core})
    with tempfile.TemporaryDirectory() as folder:
        return _report(Path(folder), given)


def _report(folder: Path, given: argparse.Namespace) -> int:
    first = base(folder)
    shutil.copy(first, folder / "same.tflite")
    slower, before = _slower(folder, given.share)
    found = {
        name: [_decided(first, folder / name, given) for _ in range(given.runs)] for name in ("same.tflite", slower)
    }
    after = _truth(folder / slower, first)
    for when, truth in (("before", before), ("after", after)):
        print(f"the slower file, {when}: x{truth['ratio']:.4f} [{truth['low']:.4f}, {truth['high']:.4f}]")
    for name, what in (("same.tflite", "equal files"), (slower, "the slower file")):
        words = [run["verdict"] for run in found[name]]
        counts = ", ".join(f"{word} {words.count(word)}" for word in sorted(set(words)))
        seconds = [run["seconds"] for run in found[name]]
        print(
            f"{what}, {len(words)} runs: {counts}; {statistics.median(seconds):.0f} s for a whole command (longest "
            f"{max(seconds):.0f})"
        )
        changes = (run["change"] for run in found[name])
        print("  " + ", ".join(f"{c['value']:+.2%} [{c['low']:+.2%}, {c['high']:+.2%}]" for c in changes))
    return 0


def _slower(folder: Path, share: float) -> tuple[str, dict[str, float]]:
    """The file nearest to being slower by `share`, and by how much it is."""
    tried: dict[str, dict[str, float]] = {}
    for pairs in range(1, MOST_PAIRS + 1):
        name = f"slower{pairs}.tflite"
        edits.round_trips(folder / "base.tflite", folder / name, pairs)
        tried[name] = _truth(folder / name, folder / "base.tflite")
    name = min(tried, key=lambda name: abs(tried[name]["ratio"] - 1.0 - share))
    return name, tried[name]


def _truth(present: Path, absent: Path) -> dict[str, float]:
    medians = timed([{"file": str(present)}, {"file": str(absent)}], TRUTH_ROUNDS)
    return compared(medians[:, 0], medians[:, 1])


def _decided(first: Path, second: Path, given: argparse.Namespace) -> dict[str, Any]:
    """The verdict of one run, with half of the share for a margin, and how long its blocks took."""
    out = first.parent / "run"
    command = [sys.executable, "-m", "qprof", "run", str(first), str(second), "-o", str(out), "--no-verify"]
    command += ["--budget", f"{given.budget:g}s", "--margin", f"{50 * given.share:g}%"]
    for setting in PROTOCOL:
        command += ["--set", f"protocol.{setting}"]
    start = time.monotonic()
    subprocess.run(command, check=True, capture_output=True, text=True)
    whole_s = time.monotonic() - start
    shown = subprocess.run(
        [sys.executable, "-m", "qprof", "explain", str(out), "--json"], check=True, capture_output=True, text=True
    )
    latency = next(row for row in json.loads(shown.stdout)["verdicts"] if row["figure"] == "latency")
    shutil.rmtree(out)
    return {"verdict": latency["kind"], "change": latency["change"], "seconds": whole_s}


if __name__ == "__main__":
    raise SystemExit(main())
