"""What timing every layer of a language model costs, and how much of the time the layers account for.

For each model and phase, turns of a few inferences alternate in random order: clean, with the layer timers in place,
with forward hooks on every module, and under torch.profiler. Prints medians, their ratios to clean with a bootstrap
interval over rounds, what putting the timers in place and taking them away costs per inference (outside of the timed
region), and the sum of all leaf ops over the end-to-end time of the same inference. For quantized models also what the
dispatch pass says of dequantization against `dequantize_weight()` alone, measured in turn.

    python tests/benchmarks/layers.py [FOLDER ...] [--rounds 30] [--shapes smol,embedded] [--clock cpu]

Without a folder: random models of SmolLM-135M's shape (bfloat16 and float32) and of the embedded one's. `--clock cpu`
compares this thread's CPU time, for machines that do something else too (with one thread).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from time import perf_counter_ns, thread_time_ns
from typing import Any

import numpy as np

from qprof.findings.measured import leaves
from qprof.runtimes.torch_lm.model import CausalLM
from qprof.runtimes.torch_lm.profiled import ProfiledCausalLM
from qprof.runtimes.torch_lm.sections import TorchLMOptions
from qprof.runtimes.torch_lm.split import time_dequantize
from qprof.stats.rounds import round_log_ratios

#: A way's turn: inferences until this is reached, one at least; short, so that what else happens hits all alike.
TURN_NS = 10_000_000
WAYS = ("clean", "timed", "hooks", "profiler")
SHAPES = {
    "smol": {
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
    },
    "embedded": {
        "vocab_size": 512,
        "hidden_size": 128,
        "intermediate_size": 352,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
}


def main() -> int:
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else a line per start and stop of torch.profiler
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--shapes", default="smol,embedded")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    options = parser.parse_args()
    header = f"{'model':34} {'phase':8} {'clean us':>10} {'timed/clean':>24} {'hooks/clean':>24} {'profiler/clean':>24}"
    print(f"{header} {'in+out us':>10} {'ops/whole':>10}")
    worst_ratio, worst_sum = 0.0, 1.0
    for name, model in _models(options):
        profiled = ProfiledCausalLM(model)
        profiled.set_inputs(_prompt(model))
        profiled.discover()
        for phase in model.loaded.phases:
            ratio, share = _measure(name, profiled, phase.name, options)
            worst_ratio, worst_sum = max(worst_ratio, ratio), min(worst_sum, share)
        _compare_split(profiled, options.rounds)
    print(f"worst timed/clean {worst_ratio:.4f} (reach 1.03); worst ops/whole {worst_sum:.4f} (reach 0.97)")
    return 0 if worst_ratio <= 1.03 and worst_sum >= 0.97 else 1


def _models(options: argparse.Namespace) -> Iterator[tuple[str, CausalLM]]:
    run = TorchLMOptions(threads=options.threads)
    for folder in options.folders:
        yield folder.name, CausalLM.load(folder, run)
    for shape in [] if options.folders else options.shapes.split(","):
        for dtype in ("bfloat16", "float32"):
            yield f"{shape} {dtype}", CausalLM(_random(shape, dtype), None, run)


def _random(shape: str, dtype: str) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(**SHAPES[shape], max_position_embeddings=256, tie_word_embeddings=True)
    return LlamaForCausalLM(config).to(getattr(torch, dtype)).eval()


def _prompt(model: CausalLM) -> list[Any]:
    shape = model.loaded.inputs[0].shape
    return [np.random.default_rng(1).integers(0, model.vocabulary, shape)]


def _measure(name: str, profiled: ProfiledCausalLM, phase: str, options: argparse.Namespace) -> tuple[float, float]:
    profiled.enter(phase)
    inputs = _prompt(profiled.model)
    profiled.set_inputs(inputs)
    profiled.reserve(64)
    leaf = leaves(profiled.ops)
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    blocks: dict[str, list[int]] = {way: [] for way in WAYS}
    moving: list[float] = []
    shares: list[float] = []
    rng = np.random.default_rng(1)
    for round_ in range(options.rounds):
        for way in rng.permutation(list(WAYS)):
            with _instrumented(way, profiled.model.module):
                profiled.set_inputs(inputs)
                profiled.run_once()
                end_ns, walls = perf_counter_ns() + TURN_NS, []
                while not walls or perf_counter_ns() < end_ns:
                    profiled.set_inputs(inputs)
                    wall_ns, cpu_ns = _one(profiled, len(walls), moving if way == "timed" else None)
                    walls.append(wall_ns)
                    times[way].append((cpu_ns if options.clock == "cpu" else wall_ns) / 1e3)
                    blocks[way].append(round_)
            if way == "timed":
                events = profiled.drain()
                mine = leaf[events.op]
                shares.extend(np.bincount(events.inference[mine], weights=events.duration_ns[mine]) / walls)
    ratios = {way: _ratio(times, blocks, way) for way in WAYS[1:]}
    share = float(np.median(shares))
    print(
        f"{name:34} {phase:8} {np.median(times['clean']):10.1f}",
        *(f"{_text(ratios[way]):>24}" for way in WAYS[1:]),
        f"{np.median(moving):10.1f} {share:10.4f}",
        flush=True,
    )
    return ratios["timed"][0], share


def _one(profiled: ProfiledCausalLM, number: int, moving: list[float] | None) -> tuple[int, int]:
    """Wall and CPU time of one inference, in ns; timers are in place where `moving` takes what that costs (us)."""
    before_ns = perf_counter_ns()
    if moving is not None:
        profiled.begin(number)
    start_cpu_ns, start_ns = thread_time_ns(), perf_counter_ns()
    profiled.run_once()
    end_ns, end_cpu_ns = perf_counter_ns(), thread_time_ns()
    if moving is not None:
        profiled.end()
        moving.append((start_ns - before_ns + perf_counter_ns() - end_ns) / 1e3)
    return end_ns - start_ns, end_cpu_ns - start_cpu_ns


def _instrumented(way: str, module: Any) -> AbstractContextManager[Any]:
    if way == "hooks":
        return _hooks(module)
    if way == "profiler":
        import torch

        found: AbstractContextManager[Any] = torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CPU], acc_events=True
        )
        return found
    return nullcontext()


@contextmanager
def _hooks(module: Any) -> Iterator[None]:
    """What a layer timer without a compiled part does: a pair of forward hooks on every module."""
    started: list[int] = []
    records: list[tuple[str, int, int]] = []

    def after(name: str) -> Callable[..., None]:
        return lambda *_: records.append((name, started.pop(), perf_counter_ns()))

    handles = []
    for name, inner in module.named_modules():
        handles.append(inner.register_forward_pre_hook(lambda *_: started.append(perf_counter_ns())))
        handles.append(inner.register_forward_hook(after(name)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _compare_split(profiled: ProfiledCausalLM, rounds: int) -> None:
    """Dequantization as the dispatch pass finds it in place, and alone: in turn, so that both see the same machine."""
    linears = profiled.divided()
    if not linears:
        return
    for phase in profiled.loaded.phases:
        profiled.enter(phase.name)
        profiled.set_inputs(_prompt(profiled.model))
        found = []
        for _ in range(max(3, rounds // 5)):
            shares = profiled.divide()
            found.append((shares.total_ns, sum(time_dequantize(linears).values())))
        in_situ, alone = (np.median(column) / 1e6 for column in _columns(found))
        total = {part: np.median([totals[part] for totals, _ in found]) / 1e6 for part in found[0][0]}
        parts = ", ".join(f"{part} {ms:.2f}" for part, ms in total.items())
        print(f"  {phase.name}: ms in quantized linears: {parts}; dequantize in place/alone {in_situ / alone:.3f}")


def _columns(found: list[tuple[dict[str, float], int]]) -> tuple[list[float], list[float]]:
    return [totals["dequantize"] for totals, _ in found], [float(alone) for _, alone in found]


def _ratio(times: dict[str, list[float]], blocks: dict[str, list[int]], way: str) -> tuple[float, float, float]:
    found = round_log_ratios(times["clean"], blocks["clean"], times[way], blocks[way]).interval()
    assert found.low is not None and found.high is not None
    return float(np.exp(found.value)), float(np.exp(found.low)), float(np.exp(found.high))


def _text(ratio: tuple[float, float, float]) -> str:
    return f"{ratio[0]:.4f} [{ratio[1]:.4f}, {ratio[2]:.4f}]"


if __name__ == "__main__":
    sys.exit(main())
