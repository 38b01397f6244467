"""The reproducer of the dirty vector registers still shows them, and qprof's own reset takes them away in place."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert.interpreter")
pytest.importorskip("ai_edge_quantizer")

from qprof.runtimes.litert.profiled import ProfiledModel
from qprof.runtimes.litert.quantize import make

REPRODUCER = Path(__file__).parents[1] / "reproducers" / "xnnpack_vector_state.py"
EMBEDDED = Path(__file__).parents[2] / "src" / "qprof" / "embedded" / "shapes_detector.tflite"
FLAGS = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""

needs_avx512 = pytest.mark.skipif("avx512" not in FLAGS, reason="seen on processors with AVX-512")


@needs_avx512
def test_reproducer_shows_that_a_reset_makes_the_builtin_kernels_fast_again() -> None:
    pytest.importorskip("tensorflow")
    ran = subprocess.run([sys.executable, str(REPRODUCER), "100"], capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    us = json.loads(ran.stdout.splitlines()[-1])
    assert us["int8, nothing"] > 1.5 * us["int8, vzeroupper"]
    assert us["int8, vzeroupper"] == pytest.approx(us["float, nothing"], rel=0.2)
    assert us["float, vzeroupper"] == pytest.approx(us["float, nothing"], rel=0.2)


@pytest.fixture(scope="module")
def dynamic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "dynamic.tflite"
    make("int8-dynamic", EMBEDDED, path)
    return path


def op_us(model: ProfiledModel, before_ops: str, inferences: int) -> np.ndarray:
    """Median time of each op: float64[ops]."""
    model.prepare(before_ops)
    times = []
    for number in range(inferences):
        model.record(number)
        events = model.drain()
        times.append(np.bincount(events.op, events.duration_ns / 1e3, len(model.ops)))
    return np.median(times, axis=0)


@needs_avx512
def test_reset_takes_their_debt_off_builtin_ops_and_off_no_other(dynamic: Path) -> None:
    model = ProfiledModel(dynamic)
    model.set_inputs([np.zeros(spec.shape, spec.dtype) for spec in model.loaded.inputs])
    ops = model.discover()
    builtin = np.array([op.delegate is None and op.type != "DELEGATE" for op in ops])
    inside = np.array([op.delegate is not None for op in ops])
    assert builtin.sum() == 17
    as_is, reset, builtin_only = (op_us(model, b, 20) for b in ("nothing", "reset-vectors", "reset-vectors-builtin"))
    assert as_is[builtin].sum() > 1.5 * reset[builtin].sum()
    assert builtin_only[builtin].sum() == pytest.approx(reset[builtin].sum(), rel=0.2)
    assert reset[inside].sum() == pytest.approx(as_is[inside].sum(), rel=0.2)
