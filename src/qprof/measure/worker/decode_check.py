"""The targets of a few scored rows once more, one token at a time, as a model generates.

Rows are scored by whole sequences: products of matrices. A token that is decoded is a product of one row, mostly by
another kernel, and one that is wrong there alone would go unseen.
"""

from __future__ import annotations

from time import perf_counter_ns

import numpy as np
from numpy.typing import NDArray

from qprof.errors import QprofError
from qprof.record.decoding import DecodeCheck, Kept
from qprof.record.model import LanguageModel, Model, Stepwise
from qprof.runtimes.base import Runtime
from qprof.tasks.base import Task

#: Rows and targets of each: enough to see a kernel that is wrong, and little beside the rest of a run.
_ROWS, _TARGETS = 12, 8
_MOST_S = 10.0


def check_decoding(task: Task, model: LanguageModel, stepwise: Stepwise, dtype: str) -> DecodeCheck | None:
    """`None` where the task scores no sequences. Raises `QprofError` where the model cannot be run so."""
    count = task.scored_count()
    if not count:
        return None
    started_ns = perf_counter_ns()
    rows, differences, error, signal = 0, [], 0.0, 0.0
    for sample in sorted({int(n) for n in np.linspace(0, count - 1, min(_ROWS, count)).round()}):
        tokens, start = task.sequence(sample)
        start = max(start, len(tokens) - _TARGETS)
        ids = np.array(tokens, np.int64)
        whole = model.target_logits(ids[None], [start]).float().numpy().astype(np.float64)
        single = stepwise.logits(ids, start).astype(np.float64)
        targets = ids[start:]
        differences += (_likelihoods(single, targets) - _likelihoods(whole, targets)).tolist()
        centred = whole - whole.mean(axis=1, keepdims=True)
        signal += float((centred**2).sum())
        error += float(((single - whole) ** 2).sum())
        rows += 1
        if perf_counter_ns() - started_ns > _MOST_S * 1e9:
            break
    found = np.array(differences)
    return DecodeCheck(
        rows=rows,
        tokens=len(found),
        mean_nats=float(found.mean()) if np.isfinite(found).all() else None,
        most_nats=float(np.abs(found).max()) if np.isfinite(found).all() else None,
        logits_error=float(np.sqrt(error / signal)) if signal and np.isfinite(error) else None,
        dtype=dtype,
        seconds=(perf_counter_ns() - started_ns) / 1e9,
    )


def between_tokens(
    runtime: Runtime, model: Model, task: Task, check: bool
) -> tuple[Kept | None, DecodeCheck | None, list[str]]:
    """What a language model keeps between tokens, with `check` whether it decodes as it was scored, and why something
    of that is not known."""
    stepwise = runtime.stepwise(model)
    if stepwise is None or not isinstance(model, LanguageModel):
        return None, None, []
    kept, checked, notes = None, None, []
    try:
        found = stepwise.state_bytes()
        kept = Kept(prompt_bytes=found["prompt"], generated_bytes=found["generated"])
        if check:
            checked = check_decoding(task, model, stepwise, str(model.loaded.facts.get("dtype") or ""))
    except QprofError as error:
        notes.append(f"what it does one token at a time was not checked: {error}")
    return kept, checked, notes


def _likelihoods(logits: NDArray[np.float64], targets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Natural logarithms of the targets' softmax probabilities."""
    highest = logits.max(axis=1)
    total = np.log(np.exp(logits - highest[:, None]).sum(axis=1)) + highest
    found: NDArray[np.float64] = logits[np.arange(len(targets)), targets] - total
    return found
