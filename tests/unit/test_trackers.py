"""Experiment trackers: their own stores hold what was logged."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from planted.world import PlantedOp, PlantedVariant, World
from qprof.errors import MissingExtraError
from qprof.report.exports import trackers
from qprof.store.run import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    variants = [
        PlantedVariant(name, [PlantedOp("conv", "CONV_2D", us)], summary_scores={"AP": 0.5})
        for name, us in (("float32", 40.0), ("int8", 30.0))
    ]
    world = World(variants, rounds=6, inferences=5, manifest={"score_columns": ["AP"]})
    return world.record(tmp_path_factory.mktemp("trackers") / "run")


@pytest.fixture
def report(tmp_path: Path) -> Path:
    path = tmp_path / "report.html"
    path.write_text("<p>report</p>")
    return path


def test_mlflow_keeps_it(run: Run, report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    try:
        ids = trackers.log_to_mlflow(run, [report], experiment="quantized")
        client = mlflow.MlflowClient()
        kept = [client.get_run(one) for one in ids]
        assert [one.info.run_name for one in kept] == ["run/float32", "run/int8"]
        assert kept[1].data.metrics["score/AP"] == 0.5
        low, p50, high = (kept[1].data.metrics[f"latency_p50_us{end}"] for end in ("_low", "", "_high"))
        assert low < p50 < high and kept[1].data.params["baseline"] == "float32"
        assert all(one.info.status == "FINISHED" for one in kept)
        assert [one.path for one in client.list_artifacts(ids[0])] == ["report.html"]
    finally:
        mlflow.set_tracking_uri(before)


def test_wandb_keeps_it(run: Run, report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    ids = trackers.log_to_wandb(run, [report], mode="offline", dir=str(tmp_path))
    wandb.teardown()  # as at the end of a process: what its service still holds is written
    assert len(set(ids)) == 2
    for one, name in zip(ids, ("float32", "int8"), strict=True):
        (folder,) = (tmp_path / "wandb").glob(f"offline-run-*-{one}")
        raw = (folder / f"run-{one}.wandb").read_bytes()
        assert f"run/{name}".encode() in raw and b"latency_p50_us" in raw and b"score/AP" in raw
        assert (folder / "files" / "report.html").read_text() == "<p>report</p>"


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_without_them(run: Run, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'qprof\[trackers\]'"):
        getattr(trackers, f"log_to_{name}")(run)


def test_figures_are_numbers(run: Run) -> None:
    from qprof.findings.summary import summarize
    from qprof.report.exports.figures import flat_figures

    found = flat_figures(summarize(run)[0])
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert "latency_p50_us" in found and "peak_memory_bytes" not in found  # which a world does not tell
