"""The truth of what was planted, by direct measurement: nothing of qprof takes part in it.

    python truth.py JOB.json RESULT.json

Latency: all files of a case in one process, in interleaved blocks in random order; the ratio is that of the two files'
block medians, paired by round. Scores: see `truth_scores` and `truth_language`. Each planted thing is ablated: a file
(or setting) with it is compared with one without it, everything else alike.
"""

from __future__ import annotations

import json
import math
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROUNDS = 15
BLOCK_S = 0.04


def timed(specs: Sequence[dict[str, Any]], rounds: int = ROUNDS) -> np.ndarray:
    """Block medians in µs, [round, spec]."""
    calls = [_call(spec) for spec in specs]
    for call in calls:
        _block(call)
    shuffle = random.Random(7)
    medians = np.zeros((rounds, len(calls)))
    for row in medians:
        for index in shuffle.sample(range(len(calls)), len(calls)):
            row[index] = _block(calls[index])
    return medians


def compared(present: np.ndarray, absent: np.ndarray) -> dict[str, float]:
    """Ratio and difference of two columns of block medians: medians over rounds, with the ratio's 95 % interval.

    The interval of a median is between two of the sorted values, whatever their distribution: of 15 the fourth from
    either end (96.5 %, by the binomial distribution). A round that another process disturbed moves neither.
    """
    ratios = np.sort(present / absent)
    end = max(0, math.floor(len(ratios) / 2 - 0.98 * math.sqrt(len(ratios))))
    return {
        "ratio": float(np.median(ratios)),
        "low": float(ratios[end]),
        "high": float(ratios[-1 - end]),
        "delta_us": float(np.median(present - absent)),
        "absent_us": float(np.median(absent)),
    }


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """`pairs`: the truth of each planted thing, in the order of the job; `variants`: each one against the first."""
    return {
        "pairs": [_pair(pair, job) for pair in job["pairs"]],
        "variants": _variants(job["variants"]) if job.get("time_variants") else {},
    }


def _variants(specs: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    medians = timed(specs)
    return {spec["name"]: compared(medians[:, n], medians[:, 0]) for n, spec in enumerate(specs) if n}


def _pair(pair: dict[str, Any], job: dict[str, Any]) -> dict[str, float]:
    if pair["kind"] == "Timed":
        medians = timed([pair["present"], pair["absent"]])
        return compared(medians[:, 0], medians[:, 1])
    if pair["kind"] == "Loaded":
        return _loaded(pair, job)
    if job["language"]:
        from truth_language import share

        sides = [pair[side] for side in ("present", "absent")]
        scores = [
            share(Path(side["file"]), job["texts"], side.get("dtype", "float32"), pair["counts"]) for side in sides
        ]
    else:
        from truth_scores import average_precision

        scores = [average_precision(pair[side], job["scenes"]) for side in ("present", "absent")]
    return {"present": scores[0], "absent": scores[1], "points": 100 * (scores[0] - scores[1])}


def _loaded(pair: dict[str, Any], job: dict[str, Any]) -> dict[str, float]:
    """By means: a neighbour that is busy half of the time may leave the median alone, which is given beside it."""
    from neighbour import busy

    call = _call({"file": pair["file"]})
    core = min(os.sched_getaffinity(0))
    quiet = _calls_us(call)
    with busy(core, job["share"]):
        loud = _calls_us(call)
    ratio, medians = float(loud.mean() / quiet.mean()), float(np.median(loud) / np.median(quiet))
    delta = float(loud.mean() - quiet.mean())
    return {"ratio": ratio, "ratio_of_medians": medians, "absent_us": float(quiet.mean()), "delta_us": delta}


def _call(spec: dict[str, Any]) -> Callable[[], Any]:
    if Path(spec["file"]).is_dir():
        from truth_language import forward

        return forward(Path(spec["file"]), spec)
    if spec["file"].endswith(".onnx"):
        return _onnx_call(spec)
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kind = {"xnnpack": OpResolverType.BUILTIN, "none": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES}
    made = Interpreter(
        spec["file"],
        num_threads=spec.get("threads", 1),
        experimental_op_resolver_type=kind[spec.get("delegate", "xnnpack")],
    )
    made.allocate_tensors()
    numbers = np.random.default_rng(3)
    for detail in made.get_input_details():
        values = numbers.uniform(-1, 1, detail["shape"])
        whole = np.issubdtype(detail["dtype"], np.integer)
        made.set_tensor(detail["index"], (values * 100 if whole else values).astype(detail["dtype"]))
    invoke: Callable[[], Any] = made.invoke
    return invoke


def _onnx_call(spec: dict[str, Any]) -> Callable[[], Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = spec.get("threads", 1)
    session = onnxruntime.InferenceSession(spec["file"], options, providers=["CPUExecutionProvider"])
    numbers = np.random.default_rng(3)
    inputs = {one.name: numbers.uniform(-1, 1, one.shape).astype(np.float32) for one in session.get_inputs()}
    return lambda: session.run(None, inputs)


def _block(call: Callable[[], Any]) -> float:
    """The median of a block's calls in µs, the first two left out: another model had the caches."""
    call()
    call()
    samples = []
    end = time.perf_counter_ns() + int(BLOCK_S * 1e9)
    while not samples or time.perf_counter_ns() < end:
        start = time.perf_counter_ns()
        call()
        samples.append(time.perf_counter_ns() - start)
    return float(np.median(samples)) / 1e3


def _calls_us(call: Callable[[], Any], seconds: float = 1.5) -> np.ndarray:
    call()
    samples = []
    end = time.perf_counter_ns() + int(seconds * 1e9)
    while time.perf_counter_ns() < end:
        start = time.perf_counter_ns()
        call()
        samples.append(time.perf_counter_ns() - start)
    return np.asarray(samples) / 1e3


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(measure(json.loads(Path(sys.argv[1]).read_text())), indent=1))
