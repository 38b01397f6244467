"""One run over models of different runtimes: the same samples, a score, and what `diff` and `explain` say of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx_models
from command_line import QUICK, CommandLine
from qprof.findings.difference import differ
from qprof.store.run import Run

DATA = Path(os.environ.get("QPROF_DATA", "/nonexistent"))


def test_files_of_two_runtimes_are_one_run(qprof: CommandLine, models: Path, tmp_path: Path):
    net = tmp_path / "a.onnx"
    net.write_bytes(onnx_models.residual_net(channels_last=True).SerializeToString())
    done = qprof("run", models / "a.tflite", net, *QUICK, "--set=protocol.rounds=5", "-o", tmp_path / "run")
    assert done.code == 0, done.err
    run = Run(tmp_path / "run")
    assert {entry.name: entry.runtime for entry in run.variants} == {"a.tflite": "litert", "a.onnx": "onnx"}
    assert all(entry.instrumented and entry.outputs_identical for entry in run.variants)
    table = differ(run, "a.tflite", "a.onnx")
    assert table.across == ("litert", "onnx") and abs(table.closing_error_us) < 1e-6
    assert {flag for row in table.rows for flag in row.flags} <= {"another runtime"}
    said = qprof("explain", tmp_path / "run")
    assert said.code == 0, said.err
    assert "left the delegate" not in said.out and "other settings" not in said.out


def test_variants_of_an_onnx_model_are_made_and_compared(qprof: CommandLine, tmp_path: Path):
    net = tmp_path / "net.onnx"
    net.write_bytes(onnx_models.residual_net().SerializeToString())
    done = qprof("run", net, "--variants", "float32,int8-dynamic,int8", *QUICK, "-o", tmp_path / "run")
    assert done.code == 0, done.err
    run = Run(tmp_path / "run")
    assert [entry.status for entry in run.variants] == ["ok"] * 3
    assert all(entry.instrumented and entry.outputs_identical for entry in run.variants)
    layers = qprof("layers", tmp_path / "run")
    assert layers.code == 0 and "body" in layers.out, layers.err


@pytest.mark.parametrize("content", [b"", b"\x08\x09", b"nonsense" * 100])
def test_a_file_that_is_no_model_is_one_line(qprof: CommandLine, tmp_path: Path, content: bytes):
    (tmp_path / "bad.onnx").write_bytes(content)
    done = qprof("run", tmp_path / "bad.onnx", *QUICK, "-o", tmp_path / "run")
    assert done.code == 2 and "is no ONNX model" in done.err and "Traceback" not in done.err + done.out


@pytest.mark.skipif(not (DATA / "models").is_dir(), reason="QPROF_DATA names no folder with models")
def test_one_classifier_scores_alike_in_two_runtimes(qprof: CommandLine, tmp_path: Path):
    """The CIFAR-10 ResNet of MLPerf Tiny, and what tf2onnx makes of it."""
    pytest.importorskip("tf2onnx")
    source, target = DATA / "models" / "pretrainedResnet.tflite", tmp_path / "pretrainedResnet.onnx"
    convert = [sys.executable, "-m", "tf2onnx.convert", "--tflite", str(source), "--output", str(target)]
    convert += ["--inputs-as-nchw", "input_1"]
    subprocess.run(convert, check=True, capture_output=True, timeout=300)
    # fmt: off
    done = qprof(
        "run", source, target, "--images", DATA / "cifar10_test", "--set=task.preprocess.raw_pixels=true",
        "--set=task.limit=200", *QUICK, "-o", tmp_path / "run",
    )
    # fmt: on
    assert done.code == 0, done.err
    run = Run(tmp_path / "run")
    top1 = [run.score(entry.name, "top1") for entry in run.variants]
    assert top1[0] == top1[1] and (top1[0] or 0.0) > 0.6
    shapes = {entry.name: entry.inputs[0].shape for entry in run.variants}
    assert shapes == {"pretrainedResnet.tflite": (1, 32, 32, 3), "pretrainedResnet.onnx": (1, 3, 32, 32)}
    convolutions = [row for row in differ(run, *shapes).rows if row.a and row.b and row.b.type == "Conv"]
    assert len(convolutions) == 9 and all(row.a and row.b and row.a.macs == row.b.macs for row in convolutions)
