"""What timing every op costs, and how much of the time the ops account for.

For each model, inferences of three interpreters are interleaved in random order: a clean one, one with the op profiler
attached but not recording, and that one recording. Prints medians, their ratios with a bootstrap interval over rounds,
and the sum of the top-level ops over the end-to-end time of the same inference (median).

    python tests/benchmarks/recording.py [FOLDER_OR_MODEL ...] [--rounds 60]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from time import perf_counter_ns

import numpy as np

from qprof import embedded
from qprof.core._op_profiler import KIND_NODE
from qprof.errors import ModelError
from qprof.runtimes.litert.interpreter import LiteRTModel
from qprof.runtimes.litert.profiled import ProfiledModel
from qprof.stats.rounds import round_log_ratios
from qprof.tasks.latency import LatencyTask

BLOCK_NS = 20_000_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args()
    print(f"{'model':44} {'clean us':>10} {'attached/clean':>24} {'recording/attached':>24} {'ops/end-to-end':>15}")
    worst_ratio, worst_sum = 0.0, 1.0
    for path in _models(options.models):
        try:
            ratio, share = _measure(path, options.rounds)
        except ModelError as error:
            print(f"{path.name:44} {error}")
            continue
        worst_ratio, worst_sum = max(worst_ratio, ratio), min(worst_sum, share)
    print(f"worst recording/attached {worst_ratio:.4f} (reach 1.01); worst ops/end-to-end {worst_sum:.4f} (reach 0.98)")
    return 0 if worst_ratio <= 1.01 and worst_sum >= 0.98 else 1


def _models(given: list[Path]) -> list[Path]:
    paths = given or [embedded.path("shapes_detector.tflite")]
    return [found for path in paths for found in (sorted(path.glob("*.tflite")) if path.is_dir() else [path])]


def _measure(path: Path, rounds: int) -> tuple[float, float]:
    clean, profiled = LiteRTModel(path), ProfiledModel(path)
    task = LatencyTask(samples=1)
    task.bind(clean)
    inputs = task.inputs(0)
    for model in (clean, profiled):
        model.set_inputs(inputs)
    profiled.discover()
    profiled.reserve(10_000)
    ways = {"clean": clean.run_once, "attached": profiled.run_once, "recording": profiled.run_once}
    times: dict[str, list[float]] = {way: [] for way in ways}
    blocks: dict[str, list[int]] = {way: [] for way in ways}
    shares: list[float] = []
    rng = np.random.default_rng(1)
    for round_ in range(rounds):
        for way in rng.permutation(list(ways)):
            run = ways[way]
            run()
            end_ns = perf_counter_ns() + BLOCK_NS
            while perf_counter_ns() < end_ns:
                if way == "recording":
                    profiled.begin(0)
                start_ns = perf_counter_ns()
                run()
                duration_ns = perf_counter_ns() - start_ns
                profiled.end()
                times[way].append(duration_ns / 1e3)
                blocks[way].append(round_)
                if way == "recording":
                    records = profiled.profiler.drain()
                    top = (records["kind"] == KIND_NODE) & (records["subgraph"] == 0)
                    shares.append(records["duration_ns"][top].sum() / duration_ns)
    attached = _ratio(times, blocks, "clean", "attached")
    recording = _ratio(times, blocks, "attached", "recording")
    share = float(np.median(shares))
    print(
        f"{path.name:44} {np.median(times['clean']):10.1f} {_text(attached):>24} {_text(recording):>24} {share:15.4f}",
        flush=True,
    )
    return recording[0], share


def _ratio(times: dict[str, list[float]], blocks: dict[str, list[int]], a: str, b: str) -> tuple[float, float, float]:
    found = round_log_ratios(times[a], blocks[a], times[b], blocks[b]).interval()
    assert found.low is not None and found.high is not None
    return float(np.exp(found.value)), float(np.exp(found.low)), float(np.exp(found.high))


def _text(ratio: tuple[float, float, float]) -> str:
    return f"{ratio[0]:.4f} [{ratio[1]:.4f}, {ratio[2]:.4f}]"


if __name__ == "__main__":
    sys.exit(main())
