"""A recorded score in the form of lm-evaluation-harness 0.4: its task lambada_openai, metrics and rows of samples."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from qprof.errors import DataError
from qprof.store.files import read_json
from qprof.store.writer import PREDICTIONS
from qprof.tasks.base import HarnessResults
from qprof.tasks.lastword.data import split_last_word
from qprof.tasks.lastword.task import LastWordTask


def harness_results(folder: Path, variant: str, task: LastWordTask, data: str) -> HarnessResults:
    """The score of a variant of the run in `folder`, on the rows of `task`. Raises `DataError` where predictions and
    rows are not of one text, `StoreError` where the predictions cannot be read."""
    path = folder / PREDICTIONS / f"{variant}.json"
    if not path.exists():
        raise DataError(f"{path}: there are no predictions of {variant}; run again with protocol.scored on")
    found = {int(sample): prediction for sample, prediction in read_json(path).items()}
    scores = task.score(found)  # of these very rows: refused otherwise
    texts = task.texts()
    correct = scores.per_sample["correct"]
    likelihoods = scores.per_sample["log_likelihood"]
    perplexity = scores.summary["perplexity"]
    error = _standard_error(likelihoods)
    metrics = {
        "perplexity": (perplexity, None if perplexity is None or error is None else perplexity * error, False),
        "acc": (scores.summary["accuracy"], _standard_error(correct), True),
    }
    samples = [_sample(sample, texts[sample], found[sample]) for sample in sorted(found)]
    name = "lambada_openai" if "lambada" in data.lower() else "lastword"
    return HarnessResults(name, data, metrics, samples)


def _standard_error(values: Any) -> float | None:
    """Of a mean; of exp(-mean) it is that many times exp(-mean), to first order."""
    if len(values) < 2 or not np.isfinite(values).all():
        return None
    return float(np.std(values, ddof=1)) / math.sqrt(len(values))


def _sample(number: int, text: str, prediction: Mapping[str, Any]) -> dict[str, Any]:
    parts = split_last_word(text)
    assert parts is not None  # rows without a last word are not scored
    context, target, doc = parts[0], f" {parts[1]}", {"text": text}
    likelihood, greedy = prediction["log_likelihood"], bool(prediction["greedy"])
    response = [str(likelihood), str(greedy)]  # as the harness does, whose tables want one type a column
    return {
        "doc_id": number,
        "doc": doc,
        "target": target,
        "arguments": {"gen_args_0": {"arg_0": context, "arg_1": target}},
        "resps": [[response]],
        "filtered_resps": [response],
        "filter": "none",
        "metrics": ["perplexity", "acc"],
        "doc_hash": _hash(json.dumps(doc, indent=2, ensure_ascii=False)),
        "prompt_hash": _hash(context),
        "target_hash": _hash(target),
        "perplexity": likelihood,
        "acc": float(greedy),
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()
