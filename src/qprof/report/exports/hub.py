"""Scores for the Hugging Face hub, one folder for each variant: `.eval_results/qprof.yaml`, which model pages and
leaderboards show, and `model-card.md`, a card's metadata (`model-index`, of which neither has room for an interval: the
notes and names tell it) with the tables below it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import qprof
from qprof.errors import DataError, StoreError
from qprof.findings.effects import score_difference
from qprof.findings.summary import VariantSummary, summarize
from qprof.report.exports.base import Format, Wanted, chosen
from qprof.report.exports.markdown import markdown
from qprof.report.exports.yaml import dump
from qprof.report.summary import summary_table
from qprof.report.units import interval
from qprof.store.files import make_folder, write_text
from qprof.store.run import Run
from qprof.tasks import registry

_HUB = "hf://datasets/"


def _dataset(run: Run) -> tuple[str, str | None]:
    """The id of the data set (the hub's, else the name of the file or folder) and its revision."""
    section = run.manifest.task.section if run.manifest.task is not None else {}
    named = next((str(section[key]) for key in ("data", "annotations", "images") if section.get(key)), "")
    if named.startswith(_HUB):
        name, _, revision = named.removeprefix(_HUB).partition("@")
        return name, revision or None
    return str(section.get("dataset") or Path(named).name or run.manifest.name), None


def _note(run: Run, variant: str, metric: str) -> str:
    parts = [f"{metric}, of {run.manifest.samples} samples" if run.manifest.samples else metric]
    if variant != run.baseline:
        try:
            found = score_difference(run, run.baseline, variant, metric)
        except DataError:  # its ground truth is gone: the score is known, its interval is not
            found = None
        if found is not None:
            change = found.interval()
            if change.low is not None:
                told = interval(change.value, change.low, change.high)
                parts.append(f"{told} against {run.baseline} ({100 * change.level:.4g} %, paired by sample)")
    return "; ".join([*parts, f"qprof {run.manifest.qprof or qprof.__version__}"])


def eval_results(run: Run, summary: VariantSummary) -> list[dict[str, Any]]:
    """The entries of `.eval_results`: one for each score of a variant."""
    name, revision = _dataset(run)
    kind = run.manifest.task.kind if run.manifest.task is not None else "default"
    entries: list[dict[str, Any]] = []
    for metric, value in summary.scores.items():
        if value is not None:
            dataset = {"id": name, "task_id": f"{kind}-{metric}"} | ({"revision": revision} if revision else {})
            note = _note(run, summary.name, metric)
            entries.append({"dataset": dataset, "value": value, "date": run.manifest.created, "notes": note})
    return entries


def card_metadata(run: Run, summary: VariantSummary) -> dict[str, Any]:
    """A model card's metadata: the scores, and the latency as a metric of its own."""
    kind = registry.of(run.manifest.task)
    name, revision = _dataset(run)
    metrics: list[dict[str, Any]] = [
        {"type": metric, "value": value, "name": _note(run, summary.name, metric)}
        for metric, value in summary.scores.items()
        if value is not None
    ]
    for phase in summary.phases:
        found = phase.latency_us
        if found is not None:
            low, high = (None if end is None else end / 1e3 for end in (found.low, found.high))
            told = interval(found.value / 1e3, low, high)
            where = run.manifest.machine.cpu_model or "unknown processor"
            says = f"p50 latency of {phase.name}, {told} ms (95 %), {where}"
            metrics.append({"type": "latency_ms", "value": found.value / 1e3, "name": says})
    dataset = {"name": name, "type": name} | ({"revision": revision} if revision else {})
    task = kind.hub_task if kind is not None else "other"
    result = {"task": {"type": task}, "dataset": dataset, "metrics": metrics}
    return {"model-index": [{"name": summary.name, "results": [result]}], "tags": ["quantized", "qprof"]}


def _write(run: Run, folder: Path, wanted: Wanted) -> list[Path]:
    names = chosen(run, wanted)
    summaries = summarize(run)
    table = markdown(summary_table(run, summaries))
    paths = []
    for summary in summaries:
        if summary.name not in names:
            continue
        entries = eval_results(run, summary)
        place = folder / summary.name
        make_folder(place / ".eval_results")
        if entries:
            paths.append(place / ".eval_results" / "qprof.yaml")
            write_text(paths[-1], dump(entries))
        metadata = card_metadata(run, summary)
        if metadata["model-index"][0]["results"][0]["metrics"]:
            paths.append(place / "model-card.md")
            write_text(paths[-1], f"---\n{dump(metadata)}---\n\n{table}")
    if not paths:
        raise StoreError(f"{run.folder}: nothing of it is finished; go on with qprof run --resume")
    return paths


FORMAT = Format("scores for the Hugging Face hub: .eval_results and a model card", _write)
