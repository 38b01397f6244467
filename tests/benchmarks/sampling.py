"""What sampling costs: RAPL zones in real files and this machine's /proc, read while the main thread sleeps.

Prints what waking a thread 100 times a second costs without reading anything; then for each rate the share of one core
that the sampling thread took by its own clock, that of the whole process by getrusage as a check, and the cost of a
reading. Reach: under 1 % of one core at 100 Hz.

    python tests/benchmarks/sampling.py [--seconds 10] [--rates 10 100 1000] [--threads]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from qprof.probes.base import JoinedProbe, Probe
from qprof.probes.host import open_host
from qprof.probes.rapl import open_rapl
from qprof.probes.sampler import Sampler

ZONES = {
    "intel-rapl:0": "package-0",
    "intel-rapl:0:0": "dram",
    "intel-rapl:1": "package-1",
    "intel-rapl:1:0": "dram",
    "intel-rapl:2": "psys",
}
REACH_HZ, REACH_SHARE = 100.0, 0.01


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rates", type=float, nargs="+", default=[10.0, 100.0, 1000.0])
    parser.add_argument("--threads", action="store_true", help="count context switches of every thread too")
    options = parser.parse_args()
    figures = ("load", "pressure", "frequency") + (("threads",) if options.threads else ())
    within = True
    print(f"waking alone at {REACH_HZ:g} Hz: {waking_share(options.seconds / 2):.2%}")
    print(f"{'Hz':>6} {'threads':>9} {'process':>9} {'readings/s':>11}  per reading")
    with tempfile.TemporaryDirectory() as folder:
        make_zones(Path(folder))
        for rate in options.rates:
            files = JoinedProbe("rapl+host", [open_rapl(Path(folder)), open_host(os.getpid(), figures=figures)])
            share = measure([files], rate, options.seconds)
            within &= rate != REACH_HZ or share < REACH_SHARE
    return 0 if within else 1


def make_zones(root: Path) -> None:
    for folder, name in ZONES.items():
        (root / folder).mkdir()
        (root / folder / "name").write_text(name)
        (root / folder / "energy_uj").write_text("123456789012\n")
        (root / folder / "max_energy_range_uj").write_text("262143328850\n")


def waking_share(seconds: float) -> float:
    """What the system takes for a sleep and a wake-up: no sampler is below it."""
    before, began = time.thread_time(), time.perf_counter()
    while time.perf_counter() - began < seconds:
        time.sleep(1 / REACH_HZ)
    return (time.thread_time() - before) / (time.perf_counter() - began)


def measure(probes: list[Probe], rate_hz: float, seconds: float) -> float:
    """Share of one core by the threads' own clocks."""
    sampler = Sampler(probes, rate_hz)
    before, began = time.process_time(), time.perf_counter()
    with sampler:
        time.sleep(seconds)
    whole = (time.process_time() - before) / (time.perf_counter() - began)
    share = sum(cost.cpu_share or 0.0 for cost in sampler.costs)
    per_reading = ", ".join(f"{cost.probe} {(cost.mean_read_ns or 0.0) / 1000:.0f} us" for cost in sampler.costs)
    taken = sum(cost.reads for cost in sampler.costs) / seconds
    print(f"{rate_hz:6g} {share:9.2%} {whole:9.2%} {taken:11.0f}  {per_reading}")
    for missing in sampler.missing:
        print(f"       missing {missing.probe}: {missing.reason}")
    return share


if __name__ == "__main__":
    raise SystemExit(main())
