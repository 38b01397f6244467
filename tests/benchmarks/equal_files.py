"""How often equal models are told to differ: copies of one file (or of a language model's folder), really run.

For each run, three copies are measured and the verdicts on their latency are counted. Whatever is better or worse is
wrong. Prints each ratio with its interval, and what was wrong in all; fails where more is than the 5 % of runs that
intervals of 95 % may miss in. `--busy`: beside a neighbour that comes and goes on the same core.

    python tests/benchmarks/equal_files.py [MODEL] [--runs 20] [--core 1] [--busy] [--set KEY=VALUE ...]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import qprof.embedded

EMBEDDED = Path(qprof.embedded.__file__).parent / "shapes_detector.tflite"
LESS = ("layer_errors=0", "stacks_s=0", "ceilings=false", "energy=off", "output_samples=1")
NAMES = ("a", "b", "c")
WRONG = ("better", "worse")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?", default=EMBEDDED)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--core", type=int, help="bind all of it to one core")
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", dest="more")
    given = parser.parse_args()
    if given.core is not None:
        os.sched_setaffinity(0, {given.core})
    found: Counter[str] = Counter()
    wrong = 0
    with tempfile.TemporaryDirectory() as folder, busy() if given.busy else contextlib.nullcontext():
        models = copies(given.model, Path(folder))
        os.environ["QPROF_CACHE"] = str(Path(folder) / "cache")
        for number in range(given.runs):
            verdicts = list(measured(models, Path(folder) / f"run{number}", given.more))
            for where, text, verdict in verdicts:
                print(f"{number:3} {where:12} {text:28} {verdict}", flush=True)
                found[verdict] += 1
            wrong += any(verdict in WRONG for *_, verdict in verdicts)
    print(", ".join(f"{count} {verdict}" for verdict, count in found.most_common()))
    print(f"{wrong} of {given.runs} runs tell equal models to differ")
    return 0 if wrong <= 0.05 * given.runs else 1


def copies(model: Path, folder: Path) -> list[Path]:
    found = [folder / f"{name}{model.suffix}" for name in NAMES]
    for path in found:
        (shutil.copytree if model.is_dir() else shutil.copy)(model, path)
    return found


def measured(models: list[Path], run: Path, more: list[str]) -> Iterator[tuple[str, str, str]]:
    """Each comparison's variant and phase, its ratio, and the verdict on its latency."""
    settings = [option for key in (*(f"protocol.{key}" for key in LESS), *more) for option in ("--set", key)]
    qprof = [sys.executable, "-m", "qprof"]
    subprocess.run([*qprof, "run", "-q", *map(str, models), "-o", str(run), *settings], check=True, capture_output=True)
    shown = subprocess.run([*qprof, "show", "--json", str(run)], check=True, capture_output=True, text=True).stdout
    rows: list[dict[str, Any]] = json.loads(shown)
    for row in rows:
        for phase in row["phases"]:
            if phase.get("verdict"):
                value, low, high = (math.exp(phase["ratio"]["log_ratio"][key]) for key in ("value", "low", "high"))
                text = f"x{value:.4f} [{low:.4f}, {high:.4f}]"
                yield f"{row['name']} {phase['name']}", text, phase["verdict"]


@contextlib.contextmanager
def busy() -> Iterator[None]:
    """Beside a process that works now and then, for as long as it likes."""
    process = subprocess.Popen([sys.executable, __file__, "--neighbour"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def work_now_and_then() -> None:
    chosen = random.Random(1)
    numbers = list(range(100_000))
    while True:
        end = time.monotonic() + chosen.choice([0.02, 0.1, 0.5, 2.0])
        while time.monotonic() < end:
            sum(numbers)
        time.sleep(chosen.choice([0.02, 0.1, 0.5, 2.0]))


if __name__ == "__main__":
    if sys.argv[1:] == ["--neighbour"]:
        work_now_and_then()
    raise SystemExit(main())
