"""A run for experiment trackers: one call logs its figures and the files that are named, such as its report.

Nothing of qprof calls them: whether figures leave this machine is decided where the tracker is set up.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qprof.errors import MissingExtraError
from qprof.findings.summary import summarize
from qprof.report.exports.figures import flat_figures
from qprof.store.run import Run


def log_to_mlflow(run: Run, files: Sequence[str | Path] = (), *, experiment: str | None = None) -> list[str]:
    """Log every variant as a run of MLflow: figures as metrics, what they depend on as parameters, `files` as artifacts
    of each; returns MLflow's run ids, in the order of the variants.

    Where to, `mlflow.set_tracking_uri` or MLFLOW_TRACKING_URI say; by default MLflow's own. Raises `MissingExtraError`
    without MLflow.
    """
    try:
        import mlflow
    except ImportError as error:
        raise MissingExtraError("MLflow is not installed: pip install 'qprof[trackers]'") from error
    if experiment is not None:
        mlflow.set_experiment(experiment)
    ids = []
    for summary in summarize(run):
        with mlflow.start_run(run_name=f"{run.name}/{summary.name}", nested=mlflow.active_run() is not None) as active:
            mlflow.log_params(_settings(run, summary.name))
            mlflow.log_metrics(flat_figures(summary))
            for file in files:
                mlflow.log_artifact(str(file))
            ids.append(str(active.info.run_id))
    return ids


def log_to_wandb(run: Run, files: Sequence[str | Path] = (), *, project: str = "qprof", **options: Any) -> list[str]:
    """Log every variant as a run of Weights & Biases, in one group: figures in the summary, what they depend on in the
    config, `files` beside them; returns their ids, in the order of the variants.

    `options` go to `wandb.init`, such as mode="offline", entity or dir. Raises `MissingExtraError` without wandb.
    """
    try:
        import wandb
    except ImportError as error:
        raise MissingExtraError("wandb is not installed: pip install 'qprof[trackers]'") from error
    ids = []
    for summary in summarize(run):
        named = {
            "project": project,
            "group": run.name,
            "name": f"{run.name}/{summary.name}",
            "reinit": "finish_previous",
        }
        with wandb.init(config=_settings(run, summary.name), **named, **options) as active:
            active.summary.update(flat_figures(summary))
            for file in files:
                path = Path(file).resolve()
                active.save(str(path), base_path=str(path.parent), policy="now")
            ids.append(str(active.id))
    return ids


def _settings(run: Run, variant: str) -> dict[str, str]:
    """What a variant's figures depend on, as text that every tracker takes."""
    entry, machine = run.variant(variant), run.manifest.machine
    values = {
        "variant": variant,
        "baseline": run.baseline,
        "runtime": entry.runtime,
        "method": entry.making.method or None,
        "sha256": entry.sha256,
        "threads": entry.threads,
        "device": entry.device or None,
        "machine": machine.cpu_model,
        "qprof": run.manifest.qprof,
        "run": run.name,
        "created": run.manifest.created,
    }
    return {name: str(value) for name, value in values.items() if value is not None}
