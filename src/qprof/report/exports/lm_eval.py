"""The score of every variant as lm-evaluation-harness writes it: results_DATE.json and samples_TASK_DATE.jsonl.

One folder for each variant, as the harness has one for each model (version 0.4, `loggers/evaluation_tracker.py`).
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import qprof
from qprof.errors import StoreError
from qprof.report.exports.base import Format, Wanted, chosen
from qprof.store.files import make_folder, write_text
from qprof.store.run import Run
from qprof.tasks import registry
from qprof.tasks.base import HarnessResults


def results(run: Run, variant: str, found: HarnessResults) -> dict[str, Any]:
    """The file of results."""
    task, created = found.task, datetime.fromisoformat(run.manifest.created)
    figures: dict[str, Any] = {"alias": task}
    for name, (value, error, _) in found.metrics.items():
        figures |= {f"{name},none": "N/A" if value is None else value}
        figures |= {f"{name}_stderr,none": "N/A" if error is None else error}
    hashes = "".join(row["doc_hash"] + row["prompt_hash"] + row["target_hash"] for row in found.samples)
    count = len(found.samples)
    entry = run.variant(variant)
    return {
        "results": {task: figures},
        "group_subtasks": {task: []},
        "configs": {
            task: {
                "task": task,
                "dataset_path": found.data,
                "output_type": "loglikelihood",
                "num_fewshot": 0,
                "metric_list": [{"metric": name, "higher_is_better": up} for name, (_, _, up) in found.metrics.items()],
                "metadata": {"version": 1.0},
            }
        },
        "versions": {task: 1.0},
        "n-shot": {task: 0},
        "higher_is_better": {task: {name: up for name, (_, _, up) in found.metrics.items()}},
        "n-samples": {task: {"original": count, "effective": count}},
        "config": {"model": "qprof", "model_args": {"variant": variant, "sha256": entry.sha256}, "limit": None},
        "git_hash": None,
        "date": created.timestamp(),
        "task_hashes": {task: hashlib.sha256(hashes.encode()).hexdigest()},
        "model_source": "qprof",
        "model_name": variant,
        "model_name_sanitized": variant,
        "qprof_version": run.manifest.qprof or qprof.__version__,
    }


def _write(run: Run, folder: Path, wanted: Wanted) -> list[Path]:
    kind = registry.of(run.manifest.task)
    date = datetime.fromisoformat(run.manifest.created).replace(tzinfo=None).isoformat(timespec="microseconds")
    stamp = date.replace(":", "-")
    paths = []
    for name in chosen(run, wanted):
        found = None if kind is None else kind.harness_results(run, name)
        if found is None:
            raise StoreError(f"{run.folder}: its task is none that lm-evaluation-harness has")
        make_folder(folder / name)
        whole = folder / name / f"results_{stamp}.json"
        write_text(whole, json.dumps(results(run, name, found), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
        rows = folder / name / f"samples_{found.task}_{stamp}.jsonl"
        lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in found.samples)
        write_text(rows, "".join(lines))
        paths += [whole, rows]
    return paths


FORMAT = Format("results and samples of a language model, as lm-evaluation-harness writes them", _write)
