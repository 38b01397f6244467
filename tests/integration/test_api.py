"""The Python face: the same run, the same figures as the commands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import qprof
from qprof.errors import ProfileError, StoreError
from tflite_builder import tiny_conv_net

QUICK = ["protocol.rounds=5", "protocol.block_ms=5", "protocol.profiled_block_ms=5", "protocol.warmup_max_s=0.2"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> qprof.Run:
    folder = tmp_path_factory.mktemp("api")
    model = folder / "tiny.tflite"
    model.write_bytes(tiny_conv_net(size=48, channels=16))
    made: qprof.Run = qprof.run(model, variants=["float32", "float16"], overrides=QUICK, output=folder / "run")
    return made


def test_run_measures_and_returns_the_run(run: qprof.Run) -> None:
    assert run.complete
    assert [variant.name for variant in run.variants] == ["float32", "float16"]
    assert (run.latency("float32").duration_ns > 0).all()
    assert len(run.ops("float32").op) > 0


def test_the_levels_below_follow_from_it(run: qprof.Run) -> None:
    summaries = qprof.summarize(run)
    assert summaries[0].latency_us is not None and summaries[0].latency_us.low is not None
    assert summaries[0].ratio is None and summaries[1].ratio is not None
    table = qprof.layers(run, "float32")
    assert sum(row.share for row in table.rows) + table.rest_share == pytest.approx(1)
    assert abs(qprof.differ(run, "float32", "float16").closing_error_us) < 1e-6


def test_a_run_is_opened_again(run: qprof.Run) -> None:
    again = qprof.open_run(run.folder)
    assert (again.latency("float16").start_ns == run.latency("float16").start_ns).all()
    assert qprof.resume(run.folder).complete


def test_bad_input_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="no such model"):
        qprof.run(tmp_path / "none.tflite")
    with pytest.raises(StoreError, match="no such run"):
        qprof.open_run(tmp_path / "none")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        qprof.nothing  # noqa: B018


def test_the_verbs_are_plain_functions_whatever_else_is_imported() -> None:
    script = (
        "import types, importlib.util, qprof; import qprof.measure.plan, qprof.findings.explanation, qprof.store.run\n"
        "verbs = [qprof.run, qprof.resume, qprof.open_run, qprof.explain, qprof.summarize]\n"
        "assert all(type(verb) is types.FunctionType for verb in verbs), verbs\n"
        "assert not importlib.util.find_spec('qprof.run') and not importlib.util.find_spec('qprof.explain')\n"
        "print(qprof.measure.plan.plan_blocks)"
    )
    assert "plan_blocks" in subprocess.check_output([sys.executable, "-c", script], text=True)
