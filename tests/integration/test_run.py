"""`qprof run` end to end on models made by hand: what it records, and what it does when something breaks."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tflite_builder
from command_line import QUICK, CommandLine
from qprof.findings.layers import layers
from qprof.findings.measured import measured_variant
from qprof.measure.plan import plan_blocks
from qprof.store.blocks import block_files, read_block
from qprof.store.run import Run

#: Breaks qprof's processes as the variables of their environment say; Python imports it at its start.
SITE = """
    import errno, glob, os, signal

    where = os.environ.get("BREAK", "")

    def dies(request, path, step):
        return where.startswith(step + ":") and where.split(":")[1] in os.path.basename(str(path))

    if where.partition(":")[0] in ("block", "instrument", "load", "notes"):
        from qprof.measure.worker import bench

        class Bench(bench.Bench):
            def __init__(self, request, *shared):
                self.count = 0
                if dies(request, request.variant.path, "load"):
                    os.kill(os.getpid(), signal.SIGSEGV)
                super().__init__(request, *shared)

            def instrument(self):
                if dies(None, self._path, "instrument"):
                    os.abort()
                return super().instrument()

            def block(self, request):
                self.count += 1
                if self.count > 2 and dies(request, self._path, "block"):
                    print("the kernel's last words", flush=True)
                    os.kill(os.getpid(), signal.SIGSEGV)
                return super().block(request)

            def notes(self, decoding):
                if dies(None, self._path, "notes"):
                    os.kill(os.getpid(), signal.SIGKILL)
                return super().notes(decoding)

        bench.Bench = Bench

    if where.startswith("make:"):
        from qprof.measure.worker import making

        real_make = making.make_variant

        def make_variant(request):
            if dies(request, request.section["file"], "make"):
                os.abort()
            return real_make(request)

        making.make_variant = make_variant

    if where.startswith("disk:"):
        real_fsync = os.fsync

        def fsync(descriptor):
            if len(glob.glob(where[5:] + "/parts/block-*.npz")) >= 4:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            real_fsync(descriptor)

        os.fsync = fsync
"""


@pytest.fixture
def breakable(qprof: CommandLine) -> CommandLine:
    """A command line whose processes break where `environment["BREAK"]` says, such as "block:b" (model file b...)."""
    site = qprof.folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(textwrap.dedent(SITE))
    qprof.environment["PYTHONPATH"] = str(site)
    return qprof


def manifest_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return content


def rows_of(run: Run, columns: tuple[str, ...] = ("block", "round", "kind", "variant")) -> list[tuple[Any, ...]]:
    """The blocks of a run in the order in which they ran."""
    table = run.samples.sort_by("start_ns").select(columns).to_pylist()
    return list(dict.fromkeys(tuple(row.values()) for row in table))


# -- runs that go well --------------------------------------------------------------------------------------------


def test_every_planned_block_ran_in_the_planned_order(small_run: Path) -> None:
    run = Run(small_run)
    names = [entry.name for entry in run.variants]
    assert names == ["a", "b", "loop"]
    planned = plan_blocks(3, rounds=5, samples=8, profiled=True, seed=1, resets=True)
    measured = [row for row in rows_of(run) if row[2] != "warmup"]
    assert measured == [(b.number, b.round, b.kind, names[b.variant]) for b in planned]
    warmups = [row for row in rows_of(run) if row[2] == "warmup"]
    assert sorted(warmups) == [(len(planned) + i, -1, "warmup", name) for i, name in enumerate(names)]
    assert [block.number for block in run.manifest.blocks] == list(range(len(planned) + 3))


def test_no_two_inferences_overlap(small_run: Path) -> None:
    """Exactly one worker is active at any moment."""
    table = Run(small_run).samples.sort_by("start_ns")
    start = table["start_ns"].to_numpy()
    end = start + table["duration_ns"].to_numpy()
    assert (start[1:] >= end[:-1]).all()
    assert (table["duration_ns"].to_numpy() > 0).all()


def test_clean_blocks_run_every_sample_equally_often(small_run: Path) -> None:
    run = Run(small_run)
    for name in ("a", "b", "loop"):
        clean = run.latency(name)
        counts = np.bincount(clean.sample)
        assert len(counts) == 8
        assert len(set(counts.tolist())) == 1
        for block in np.unique(clean.block):
            assert clean.inference[clean.block == block].tolist() == list(range((clean.block == block).sum()))


def test_op_times_lie_within_their_inference(small_run: Path) -> None:
    run = Run(small_run)
    for name in ("a", "b", "loop"):
        measured = measured_variant(run, name)
        assert len(measured.ops) > 0
        rest_us = measured.profiled_us - measured.op_us.sum(axis=1)
        assert (rest_us >= -0.001 * len(measured.ops)).all(), name  # each op is rounded to a nanosecond
        assert (measured.op_us.sum(axis=1) > 0).all()
        table = layers(run, name)
        assert sum(row.share for row in table.rows) + table.rest_share == pytest.approx(1)


def test_ops_in_a_loop_are_found_below_it(small_run: Path) -> None:
    ops = {op.type: op for op in Run(small_run).op_meta["loop"]}
    assert ops["WHILE"].parent is None
    assert ops["LESS"].parent == ops["WHILE"].op
    measured = measured_variant(Run(small_run), "loop")
    place = next(place for place, op in enumerate(measured.ops) if op.type == "WHILE")
    # Its own time is what its ops leave over, so that all of them together are no more than the inference.
    assert measured.op_us[:, place].min() > 0 and (measured.op_us.sum(axis=1) <= measured.profiled_us).all()


def test_manifest_says_what_was_run(small_run: Path, models: Path) -> None:
    manifest = manifest_of(small_run)
    assert manifest["status"] == "complete"
    assert manifest["samples"] == 8
    assert manifest["packages"]["ai-edge-litert"]
    for entry in manifest["variants"]:
        path = models / f"{entry['name']}.tflite"
        assert (entry["status"], entry["path"], entry["bytes"]) == ("ok", str(path), path.stat().st_size)
        assert len(entry["sha256"]) == 64
        assert entry["outputs_identical"] is True
        assert entry["warmup"]["inference"]["inferences"] > 0
        assert entry["memory"]["runtime_rss_bytes"] > 0
    readings = Run(small_run).readings_table.to_pylist()
    assert {row["block"] for row in readings} == set(range(45))
    assert {row["provenance"] for row in readings} == {"measured"}


def test_predictions_of_every_sample_are_kept(small_run: Path) -> None:
    for name in ("a", "b", "loop"):
        kept = json.loads((small_run / "predictions" / f"{name}.json").read_text())
        assert [int(sample) for sample in kept] == list(range(8))
    first = json.loads((small_run / "predictions" / "a.json").read_text())["0"]["outputs"][0]
    assert first["mean"] == pytest.approx(0.1)  # ten probabilities


def test_variants_of_one_model(qprof: CommandLine, models: Path) -> None:
    done = qprof("run", models / "a.tflite", "--variants", "float32,int8-dynamic", *QUICK, "-o", "r")
    assert done.code == 0, done.err
    run = Run(qprof.folder / "r")
    assert [(v.name, v.status) for v in run.variants] == [("float32", "ok"), ("int8-dynamic", "ok")]
    assert run.variants[1].making.tool == "ai-edge-quantizer"
    assert len(run.latency("int8-dynamic").duration_ns)
    assert "x" in done.out


def test_inputs_from_files(qprof: CommandLine, models: Path) -> None:
    image = np.random.default_rng(0).random((1, 32, 32, 3), np.float32)
    np.save(qprof.folder / "x.npy", image)
    done = qprof("run", models / "a.tflite", "--inputs", "x.npy", *QUICK, "--set=protocol.profiled=false", "-o", "r")
    assert done.code == 0, done.err
    run = Run(qprof.folder / "r")
    assert run.manifest.samples == 1
    assert {row[2] for row in rows_of(run)} == {"clean", "warmup"}
    assert run.op_meta == {}
    kept = json.loads((qprof.folder / "r/predictions/a.json").read_text())
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(models / "a.tflite"))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    expected = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    assert kept["0"]["outputs"][0]["max"] == pytest.approx(float(expected.max()))


# -- variants that fail -------------------------------------------------------------------------------------------


def test_bad_files_do_not_stop_the_others(qprof: CommandLine, models: Path) -> None:
    whole = (models / "a.tflite").read_bytes()
    (qprof.folder / "cut.tflite").write_bytes(whole[: len(whole) // 2])
    (qprof.folder / "noise.tflite").write_bytes(np.random.default_rng(1).bytes(5000))
    (qprof.folder / "empty.tflite").write_bytes(b"")
    (qprof.folder / "custom.tflite").write_bytes(tflite_builder.custom_op_net())
    names = ["cut", "noise", "empty", "custom"]
    files = [f"{name}.tflite" for name in names]
    done = qprof("run", files[0], models / "a.tflite", *files[1:], *QUICK, "-o", "r")
    assert done.code == 1, done.err
    assert "Traceback" not in done.err
    run = Run(qprof.folder / "r")
    assert run.complete
    for name in names:
        entry = run.variant(name)
        assert entry.status == "failed"
        assert entry.reason is not None
        assert f"{name}.tflite" in entry.reason
        assert f"note: variant {name} failed: " in done.err
        assert f"{name} (failed)" in done.out
        assert entry.reason in done.out
    assert len(run.latency("a").duration_ns) > 0
    assert run.variant("a").status == "ok"


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("make:b", "preparation: the worker was killed by SIGABRT during 'make'"),
        ("load:b", "variant b: the worker was killed by SIGSEGV during 'load'"),
        (
            "block:b",
            "variant b: the worker was killed by SIGSEGV during 'block'; its last words: ",
        ),
    ],
)
def test_a_crashing_variant_does_not_stop_the_others(
    breakable: CommandLine, models: Path, where: str, reason: str
) -> None:
    breakable.environment["BREAK"] = where
    done = breakable("run", models / "a.tflite", models / "b.tflite", *QUICK, "-o", "r")
    assert done.code == 1, done.err
    run = Run(breakable.folder / "r")
    assert run.complete
    failed = run.variant("b")
    assert failed.status == "failed"
    assert failed.reason is not None
    assert failed.reason.startswith(reason)
    assert "b (failed)" in done.out
    assert failed.reason in done.out
    assert ("the kernel's last words" in done.out) == where.startswith("block")
    planned = plan_blocks(2, rounds=2, samples=8, profiled=True, seed=1, resets=True)
    measured = {row[0] for row in rows_of(run) if row[3] == "a" and row[2] != "warmup"}
    assert measured == {b.number for b in planned if b.variant == 0}
    kept = {row[0] for row in rows_of(run) if row[3] == "b" and row[2] != "warmup"}
    assert len(kept) == (2 if where.startswith("block") else 0)


def test_a_crash_of_the_instrumentation_leaves_the_latency(breakable: CommandLine, models: Path) -> None:
    breakable.environment["BREAK"] = "instrument:b"
    done = breakable("run", models / "a.tflite", models / "b.tflite", *QUICK, "-o", "r")
    assert done.code == 0, done.err
    run = Run(breakable.folder / "r")
    entry = run.variant("b")
    assert (entry.status, entry.instrumented) == ("ok", False)
    assert "per-op timing is off" in done.out
    assert len(run.latency("b").duration_ns) > 0
    assert len(run.latency("b", "profiled").duration_ns) == 0
    shown = breakable("layers", "r", "-v", "b")
    assert shown.code == 2
    assert "per-op timing is off" in shown.err

    assert "qprof run --resume r tries the per-op timing of b again" in done.err
    clean = run.latency("b").start_ns.tolist()
    breakable.environment.pop("BREAK")
    assert breakable("run", "--resume", "r").code == 0
    again = Run(breakable.folder / "r")
    assert (again.variant("b").instrumented, again.variant("b").untimed) == (True, None)
    assert again.latency("b").start_ns.tolist() == clean and len(again.latency("b", "profiled").duration_ns) > 0
    assert not (breakable.folder / "r/parts").exists()


def test_a_worker_lost_after_its_last_block_costs_nothing_measured(breakable: CommandLine, models: Path) -> None:
    breakable.environment["BREAK"] = "notes:b"
    done = breakable("run", models / "a.tflite", models / "b.tflite", *QUICK, "-o", "r")
    assert done.code == 0, done.err
    run = Run(breakable.folder / "r")
    assert run.complete
    assert len(run.latency("b", "profiled").duration_ns) > 0
    assert any("is lost" in note and "killed by SIGKILL" in note for note in run.variant("b").notes)


@pytest.mark.parametrize("where", ["make:", "load:", "block:"])
def test_when_all_variants_fail_the_run_does(breakable: CommandLine, models: Path, where: str) -> None:
    breakable.environment["BREAK"] = where
    done = breakable("run", "-q", models / "a.tflite", models / "b.tflite", *QUICK, "-o", "r")
    assert done.code == 2
    assert done.out == ""
    step = {"make:": "made", "load:": "loaded", "block:": "measured"}[where]
    assert done.err.startswith(f"qprof: no variant could be {step}; a: ")
    assert done.err.count("\n") == 1
    assert manifest_of(breakable.folder / "r")["status"] == "interrupted"


# -- runs that are stopped ----------------------------------------------------------------------------------------

#: Long enough to be stopped in the middle.
SLOW = (
    "--set=protocol.rounds=5",
    "--set=protocol.block_ms=60",
    "--set=protocol.profiled_block_ms=60",
    "--set=protocol.warmup_max_s=0.05",
)
SLOW_BLOCKS = 30


def stopped_in_the_middle(qprof: CommandLine, models: Path, sent: signal.Signals) -> tuple[int, str]:
    """Start a run and send it a signal once some blocks are kept; returns its exit code and stderr."""
    process = qprof.start("run", models / "a.tflite", models / "b.tflite", *SLOW, "-o", "r")
    deadline = time.monotonic() + 60
    while len(block_files(qprof.folder / "r/parts")) < 6 and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)
    process.send_signal(sent)
    err = process.communicate(timeout=60)[1]
    assert qprof.left_behind() == []
    return process.returncode, err


def kept_starts(folder: Path) -> dict[int, list[int]]:
    """Block number -> when its inferences began: equal starts are the same measurement."""
    blocks = [read_block(path) for path in block_files(folder / "parts")]
    return {block.number: block.samples.start_ns.tolist() for block in blocks if block.kind != "warmup"}


@pytest.mark.parametrize(
    ("sent", "code", "status"),
    [(signal.SIGKILL, -signal.SIGKILL, "running"), (signal.SIGINT, 130, "interrupted")],
)
def test_stopped_run_is_resumed(qprof: CommandLine, models: Path, sent: signal.Signals, code: int, status: str) -> None:
    ended, err = stopped_in_the_middle(qprof, models, sent)
    assert ended == code
    assert "Traceback" not in err
    if code == 130:
        assert err.splitlines()[-1] == "qprof: interrupted"
    folder = qprof.folder / "r"
    assert manifest_of(folder)["status"] == status
    shown = qprof("show", "r")
    assert shown.code == 0, shown.err
    assert "go on with qprof run --resume r" in shown.out
    kept = kept_starts(folder)
    contents = {path.name: path.read_bytes() for path in block_files(folder / "parts")}
    assert 4 <= len(kept) < SLOW_BLOCKS

    if sent == signal.SIGKILL:
        kept = resumed_and_stopped_again(qprof, contents)
    done = qprof("run", "--resume", "r")
    assert done.code == 0, done.err
    run = Run(folder)
    assert run.complete
    assert {row[0] for row in rows_of(run) if row[2] != "warmup"} == set(range(SLOW_BLOCKS))
    table = run.samples.to_pylist()
    for number, starts in kept.items():
        assert [row["start_ns"] for row in table if row["block"] == number] == starts, number


def test_termination_is_an_interruption(qprof: CommandLine, models: Path) -> None:
    ended, err = stopped_in_the_middle(qprof, models, signal.SIGTERM)
    assert ended == 130
    assert err.splitlines()[-1] == "qprof: interrupted"
    assert manifest_of(qprof.folder / "r")["status"] == "interrupted"
    assert qprof("explain", "r").out.startswith("THIS RUN IS NOT FINISHED (interrupted)")


def resumed_and_stopped_again(qprof: CommandLine, contents: dict[str, bytes]) -> dict[int, list[int]]:
    """Resume and stop once more: the block files that were kept stay as they are, byte for byte."""
    parts = qprof.folder / "r/parts"
    again = qprof.start("run", "--resume", "r")
    deadline = time.monotonic() + 60
    while len(block_files(parts)) < len(contents) + 3 and time.monotonic() < deadline:
        assert again.poll() is None, again.communicate()[1]
        time.sleep(0.005)
    again.send_signal(signal.SIGINT)
    again.communicate(timeout=60)
    assert again.returncode == 130
    for name, content in contents.items():
        number = int(name[6:12])
        assert number >= SLOW_BLOCKS or (parts / name).read_bytes() == content, name
    return kept_starts(qprof.folder / "r")


def test_resuming_a_finished_run_changes_nothing(qprof: CommandLine, models: Path) -> None:
    assert qprof("run", "-q", models / "a.tflite", *QUICK, "-o", "r").code == 0
    folder = qprof.folder / "r"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    done = qprof("run", "--resume", "r")
    assert (done.code, done.err) == (0, "note: r is complete; nothing is left to run\n")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_resuming_with_another_model_is_refused(qprof: CommandLine, models: Path) -> None:
    for name in ("a", "b"):
        (qprof.folder / f"{name}.tflite").write_bytes((models / f"{name}.tflite").read_bytes())
    stopped_in_the_middle(qprof, qprof.folder, signal.SIGINT)
    (qprof.folder / "b.tflite").write_bytes(tflite_builder.tiny_int8_net(size=24, channels=4))
    done = qprof("run", "--resume", "r")
    assert done.code == 1
    reason = Run(qprof.folder / "r").variant("b").reason
    assert reason is not None
    assert "its model file is not the one that the run began with" in reason


def test_resuming_with_other_data_is_refused(qprof: CommandLine, models: Path) -> None:
    stopped_in_the_middle(qprof, models, signal.SIGINT)
    path = qprof.folder / "r/manifest.json"
    path.write_text(path.read_text().replace('"samples": 8,\n "notes"', '"samples": 9,\n "notes"'))
    assert manifest_of(qprof.folder / "r")["samples"] == 9
    done = qprof("run", "-q", "--resume", "r")
    assert done.code == 2
    assert "the data set is not the one that the run began with (9 samples then, 8 now)" in done.err
    assert done.err.count("\n") == 1


def test_two_processes_do_not_write_one_run(qprof: CommandLine, models: Path) -> None:
    first = qprof.start("run", models / "a.tflite", *SLOW, "-o", "r")
    deadline = time.monotonic() + 60
    while not block_files(qprof.folder / "r/parts") and time.monotonic() < deadline:
        time.sleep(0.005)
    second = qprof("run", "--resume", "r")
    assert second.code == 2
    assert second.err == "qprof: r: another qprof is writing this run; wait for it, or stop it\n"
    err = first.communicate(timeout=60)[1]
    assert first.returncode == 0, err


def test_full_disk_is_told_in_one_line_and_resumed_from(breakable: CommandLine, models: Path) -> None:
    folder = breakable.folder / "r"
    breakable.environment["BREAK"] = f"disk:{folder}"
    done = breakable("run", "-q", models / "a.tflite", models / "b.tflite", *QUICK, "-o", "r")
    assert done.code == 2
    assert "no space left to write; all blocks before it are kept" in done.err
    assert "block-" in done.err
    assert done.err.count("\n") == 1
    assert len(block_files(folder / "parts")) == 4
    assert not [name for name in os.listdir(folder / "parts") + os.listdir(folder) if name.endswith(".tmp")]
    kept = kept_starts(folder)
    breakable.environment.pop("BREAK")
    resumed = breakable("run", "--resume", "r")
    assert resumed.code == 0, resumed.err
    run = Run(folder)
    table = run.samples.to_pylist()
    assert len(kept) == 2  # beside two warm-ups
    for number, starts in kept.items():
        assert [row["start_ns"] for row in table if row["block"] == number] == starts


def test_file_size_limit_is_a_full_disk(qprof: CommandLine, models: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))

    arguments = qprof.arguments("run", "-q", models / "a.tflite", *SLOW, "-o", "r")
    done = subprocess.run(
        arguments, cwd=qprof.folder, env=qprof.variables(), capture_output=True, text=True, preexec_fn=limit
    )
    assert done.returncode == 2
    assert "no space left to write" in done.stderr
    assert done.stderr.count("\n") == 1
    assert manifest_of(qprof.folder / "r")["status"] == "interrupted"
