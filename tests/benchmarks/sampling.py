"""What sampling costs: RAPL zones in files, this machine's /proc and a fake GPU, read while the main thread sleeps.

Prints what waking a thread 100 times a second costs without reading anything; then for each rate, by Python's threads
and by the compiled one, the share of one core that the sampling threads took by their own clocks, that of the whole
process by getrusage as a check, deadlines that were missed, and the cost of a reading. Both once more on cores that
have work: a core that slept wakes with cold caches, and a virtual one must be given back by its host. At last, what
each of the two does to a loop that is timed beside it (on one core, where the process is bound to one: `taskset -c 1`).
Reach: the compiled sampler under 0.5 % of one core at 100 Hz, of cores that are idle.

    python tests/benchmarks/sampling.py [--seconds 10] [--rates 10 100 1000] [--threads] [--blocks 20]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import fake_nvml
from qprof.probes.base import JoinedProbe, Probe
from qprof.probes.compiled import available
from qprof.probes.host import open_host
from qprof.probes.nvml import FAST_FIGURES, open_nvml
from qprof.probes.rapl import open_rapl
from qprof.probes.sampler import Sampler

ZONES = {
    "intel-rapl:0": "package-0",
    "intel-rapl:0:0": "dram",
    "intel-rapl:1": "package-1",
    "intel-rapl:1:0": "dram",
    "intel-rapl:2": "psys",
}
REACH_HZ, REACH_SHARE = 100.0, 0.005
#: A timed piece of the loop that is disturbed, and a block of such pieces.
PIECE_S, BLOCK_S = 200e-6, 0.5
WINDOWS = 7

Opener = Callable[[], list[Probe]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rates", type=float, nargs="+", default=[10.0, 100.0, 1000.0])
    parser.add_argument("--threads", action="store_true", help="count context switches of every thread too (in Python)")
    parser.add_argument("--blocks", type=int, default=20, help="of the disturbed loop, for each of the three")
    options = parser.parse_args()
    figures = ("load", "pressure", "frequency") + (("threads",) if options.threads else ())
    samplers = (False, True) if available() else (False,)
    within = True
    with tempfile.TemporaryDirectory() as folder, fake_gpu(Path(folder)) as gpu:
        make_zones(Path(folder))

        def opened() -> list[Probe]:
            pid = os.getpid() if options.threads else None
            files = JoinedProbe("rapl+host", [open_rapl(Path(folder)), open_host(pid, figures=figures)])
            return [files, *([open_nvml(figures=FAST_FIGURES, environ={})] if gpu else [])]

        print(f"cores that are idle; waking alone at {REACH_HZ:g} Hz: {waking_share(options.seconds / 2):.2%}")
        columns = f"{'sampler':>9} {'threads':>9} {'range':>17} {'process':>9} {'readings/s':>11} {'missed':>7}"
        print(f"{'Hz':>6} {columns}  per reading")
        for rate in options.rates:
            shares = compare(opened, samplers, rate, options.seconds)
            within &= rate != REACH_HZ or shares.get(True, 0.0) < REACH_SHARE
        with work_on_every_core():
            print(f"cores at work; waking alone at {REACH_HZ:g} Hz: {waking_share(options.seconds / 2):.2%}")
            compare(opened, samplers, REACH_HZ, options.seconds)
        disturb(opened, samplers, options.blocks)
    return 0 if within else 1


@contextlib.contextmanager
def fake_gpu(folder: Path) -> Iterator[bool]:
    """Whether there is one: it takes a C compiler and nvidia-ml-py."""
    try:
        import pynvml  # noqa: F401
    except ImportError:
        library = None
    else:
        library = fake_nvml.build(folder)
    if library is None:
        print("no GPU: it takes a C compiler and nvidia-ml-py")
        yield False
        return
    with fake_nvml.installed(library):
        yield True


@contextlib.contextmanager
def work_on_every_core() -> Iterator[None]:
    """Processes of the lowest priority, which give way at once."""
    command = [sys.executable, "-c", "import os; os.nice(19)\nwhile True: pass"]
    workers = [subprocess.Popen(command) for _ in os.sched_getaffinity(0)]
    try:
        yield
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


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


def compare(opened: Opener, samplers: tuple[bool, ...], rate_hz: float, seconds: float) -> dict[bool, float]:
    """Median share of one core, by the threads' own clocks, over windows in which the samplers take turns.

    A virtual machine charges a thread for what its host does to it, so that single windows go wide of the mark.
    """
    windows: dict[bool, list[Window]] = {compiled: [] for compiled in samplers}
    for _ in range(WINDOWS):
        for compiled in samplers:
            windows[compiled].append(measure(opened(), rate_hz, seconds / WINDOWS, compiled))
    shares: dict[bool, float] = {}
    for compiled, taken in windows.items():
        sampler, missing = taken[-1].sampler, taken[-1].missing
        shares[compiled] = statistics.median(window.share for window in taken)
        least, most = min(window.share for window in taken), max(window.share for window in taken)
        whole = statistics.median(window.whole for window in taken)
        reads, missed = (sum(getattr(window, name) for window in taken) for name in ("reads", "missed"))
        print(
            f"{rate_hz:6g} {sampler:>9} {shares[compiled]:9.2%} {f'{least:.2%} to {most:.2%}':>17} {whole:9.2%} "
            f"{reads / seconds:11.0f} {missed:7}  {taken[-1].per_reading}"
        )
        for reason in missing:
            print(f"       missing {reason}")
    return shares


@dataclass(frozen=True)
class Window:
    sampler: str
    share: float
    whole: float
    reads: int
    missed: int
    per_reading: str
    missing: list[str]


def measure(probes: list[Probe], rate_hz: float, seconds: float, compiled: bool) -> Window:
    sampler = Sampler(probes, rate_hz, compiled=compiled)
    before, began = time.process_time(), time.perf_counter()
    with sampler:
        time.sleep(seconds)
    whole = (time.process_time() - before) / (time.perf_counter() - began)
    costs = sampler.costs
    return Window(
        sampler="+".join(sorted({cost.sampler for cost in costs})),
        share=sum(cost.cpu_share or 0.0 for cost in costs),
        whole=whole,
        reads=sum(cost.reads for cost in costs),
        missed=sum(cost.skipped for cost in costs),
        per_reading=", ".join(f"{cost.probe} {(cost.mean_read_ns or 0.0) / 1000:.0f} us" for cost in costs),
        missing=[f"{missing.probe}: {missing.reason}" for missing in sampler.missing],
    )


def disturb(opened: Opener, samplers: tuple[bool, ...], blocks: int) -> None:
    """Blocks of a timed loop without a sampler and with each, in turn, so that what drifts does so for all."""
    turns = calibrate()
    kinds: list[bool | None] = [None, *samplers]
    pieces: dict[bool | None, list[float]] = {kind: [] for kind in kinds}
    means: dict[bool | None, list[float]] = {kind: [] for kind in kinds}
    for _ in range(blocks):
        for kind in kinds:
            with contextlib.nullcontext() if kind is None else Sampler(opened(), REACH_HZ, compiled=kind):
                times = timed_block(turns)
            pieces[kind] += times
            means[kind].append(statistics.fmean(times))
    print(f"a loop timed in pieces of {PIECE_S * 1e6:.0f} us beside a sampler at {REACH_HZ:g} Hz, over none beside it")
    print(f"{'sampler':>9} {'mean':>8} {'median':>8} {'99 %':>8}")
    for kind in samplers:
        mean = statistics.median(with_ / without for with_, without in zip(means[kind], means[None], strict=True))
        median, most = (quantile(pieces[kind], q) / quantile(pieces[None], q) for q in (0.5, 0.99))
        print(f"{'compiled' if kind else 'python':>9} {mean - 1:+8.2%} {median - 1:+8.2%} {most - 1:+8.2%}")


def calibrate() -> int:
    """Turns of the work that take a piece's time."""
    began = time.perf_counter()
    work(1_000_000)
    return max(1, round(1_000_000 * PIECE_S / (time.perf_counter() - began)))


def work(turns: int) -> int:
    total = 0
    for turn in range(turns):
        total += turn
    return total


def timed_block(turns: int) -> list[float]:
    times: list[float] = []
    end = time.perf_counter() + BLOCK_S
    while (began := time.perf_counter()) < end:
        work(turns)
        times.append(time.perf_counter() - began)
    return times


def quantile(values: list[float], q: float) -> float:
    return sorted(values)[int(q * (len(values) - 1))]


if __name__ == "__main__":
    raise SystemExit(main())
