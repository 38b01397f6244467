"""What is measured is kept whatever dies, tried again where it can be, and told of the file that was measured."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import tflite_builder
from command_line import QUICK, CommandLine
from qprof.findings import verify
from qprof.findings.verify import VERIFY, Verification, carry_out
from qprof.measure.parent.execution import new_run_folder
from qprof.measure.profile import validate
from qprof.measure.progress import SilentProgress
from qprof.store.blocks import block_files, read_block
from qprof.store.run import Run

#: Breaks workers as the variables of their environment say; Python imports it at its start.
SITE = """
    import os, shutil, signal

    broken, _, what = os.environ.get("BREAK", "").partition(":")

    if broken == "score":
        from qprof.measure.worker import scoring

        real_score = scoring.score_variant

        def score_variant(request):
            if request.variant == what:
                os.kill(os.getpid(), signal.SIGKILL)
            return real_score(request)

        scoring.score_variant = score_variant

    if broken in ("overwrite", "block"):
        from qprof.measure.worker import bench

        class Bench(bench.Bench):
            def __init__(self, request, *shared):
                self.count = 0
                if broken == "overwrite":
                    shutil.copyfile(what, request.variant.path)
                super().__init__(request, *shared)

            def block(self, request):
                self.count += 1
                if broken == "block" and self.count > 1 and what in str(self._path):
                    os.kill(os.getpid(), signal.SIGKILL)
                return super().block(request)

        bench.Bench = Bench
"""


@pytest.fixture
def breakable(qprof: CommandLine) -> CommandLine:
    """A command line whose workers break where `environment["BREAK"]` says."""
    site = qprof.folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(textwrap.dedent(SITE))
    qprof.environment["PYTHONPATH"] = str(site)
    return qprof


def starts(run: Run, variant: str) -> list[int]:
    """When the inferences of a variant began, in clean and profiled blocks: its measurement, and no other."""
    return [s for kind in ("clean", "profiled") for s in run.latency(variant, kind).start_ns.tolist()]


def test_a_scorer_that_dies_loses_no_prediction(breakable: CommandLine, models: Path) -> None:
    breakable.environment["BREAK"] = "score:b"
    done = breakable("run", models / "a.tflite", models / "b.tflite", *QUICK, "-o", "r")
    assert done.code == 1, done.err
    run = Run(breakable.folder / "r")
    assert run.complete and run.variant("a").unscored is None
    assert "killed by SIGKILL (out of memory?) during 'score'" in str(run.variant("b").unscored)
    assert "qprof run --resume r tries b again" in done.err
    assert "DOUBT  b: it was not scored" in breakable("show", "r").out
    before = starts(run, "a"), starts(run, "b")

    breakable.environment.pop("BREAK")
    again = breakable("run", "--resume", "r")
    assert again.code == 0, again.err
    run = Run(breakable.folder / "r")
    assert run.variant("b").unscored is None and not (run.folder / "parts").exists()
    assert (starts(run, "a"), starts(run, "b")) == before


def test_of_variants_in_one_process_the_death_of_one_is_not_that_of_the_others(
    breakable: CommandLine, models: Path
) -> None:
    breakable.environment["BREAK"] = "block:b.tflite"
    files = [models / f"{name}.tflite" for name in "ab"]
    shutil.copyfile(models / "a.tflite", breakable.folder / "c.tflite")
    together = ("--set", "protocol.own_process=false")
    done = breakable("run", *files, breakable.folder / "c.tflite", *QUICK, *together, "-o", "r")
    assert done.code == 1, done.err
    run = Run(breakable.folder / "r")
    assert run.complete and "killed by SIGKILL (out of memory?) during 'block'" in str(run.variant("b").reason)
    for name in "ac":
        assert not run.variant(name).failed
        per_round = run.latency(name, "clean").round
        assert set(per_round.tolist()) == set(range(run.manifest.profile.protocol.rounds)), "no round is missing"
        assert run.variant(name).memory.peak_rss_above_runtime_bytes is None
        assert "shares its process" in run.variant(name).memory.missing["peak_rss_bytes"]
    assert sorted(path.name for path in (run.folder / "logs").glob("?.log")) == ["a.log", "c.log"]


def test_variants_with_threads_of_their_own_share_no_process(qprof: CommandLine, models: Path) -> None:
    text = f"""
        name = "p"
        variants = [
            {{ name = "one", file = "{models / "a.tflite"}" }},
            {{ name = "same", file = "{models / "b.tflite"}" }},
            {{ name = "two", file = "{models / "a.tflite"}", threads = 2 }},
        ]
        [task]
        kind = "latency"
        [protocol]
        own_process = false
        rounds = 1
        block_ms = 1
        warmup_max_s = 0.1
        energy = "off"
        stacks_s = 0
        ceilings = false
    """
    (qprof.folder / "p.toml").write_text(textwrap.dedent(text))
    done = qprof("run", "p.toml", "-o", "r")
    assert done.code == 0, done.err
    logs = {path.stem for path in (qprof.folder / "r" / "logs").glob("*.log")}
    assert logs & {"one", "same", "two"} == {"one", "two"}


def test_a_variant_that_failed_in_a_finished_run_is_tried_again(breakable: CommandLine, models: Path) -> None:
    breakable.environment["BREAK"] = "block:b.tflite"
    done = breakable("run", models / "a.tflite", models / "b.tflite", *QUICK, "-o", "r")
    assert done.code == 1, done.err
    first = Run(breakable.folder / "r")
    assert first.complete and first.variant("b").failed
    before, kept = starts(first, "a"), starts(first, "b")

    breakable.environment.pop("BREAK")
    again = breakable("run", "--resume", "r")
    assert again.code == 0, again.err
    second = Run(breakable.folder / "r")
    assert not second.variant("b").failed and second.variant("b").reason is None
    assert starts(second, "a") == before
    assert set(kept) < set(starts(second, "b"))
    assert breakable("run", "--resume", "r").err == "note: r is complete; nothing is left to run\n"


def test_a_model_written_over_before_it_is_loaded_is_not_reported_as_the_one_that_was_made(
    breakable: CommandLine, models: Path
) -> None:
    model, other = breakable.folder / "b.tflite", breakable.folder / "other.tflite"
    model.write_bytes((models / "b.tflite").read_bytes())
    other.write_bytes(tflite_builder.tiny_conv_net(size=32, channels=8))
    breakable.environment["BREAK"] = f"overwrite:{other}"
    done = breakable("run", "-q", model, *QUICK, "-o", "r")
    assert done.code == 2
    assert "b.tflite: was written over since its variant was made" in done.err
    assert len(done.err.splitlines()) == 1


def test_of_two_runs_at_once_only_one_measures_at_any_moment(qprof: CommandLine, models: Path) -> None:
    words = (models / "a.tflite", *QUICK, "--set=protocol.block_ms=40", "--set=protocol.rounds=6")
    processes = [qprof.start("run", *words, "-o", name) for name in ("first", "second")]
    told = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], told
    assert any("another run of qprof measures on this machine" in text for text in told)
    blocks = [block for name in ("first", "second") for block in _spans(Run(qprof.folder / name))]
    blocks.sort()
    assert len(blocks) == 2 * len(_spans(Run(qprof.folder / "first")))
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(blocks))


def _spans(run: Run) -> list[tuple[int, int]]:
    """Each block of a run: the beginning of its first inference, and the end of its last."""
    found: dict[int, tuple[int, int]] = {}
    for row in run.samples.to_pylist():
        start, end = row["start_ns"], row["start_ns"] + row["duration_ns"]
        first, last = found.get(row["block"], (start, end))
        found[row["block"]] = (min(first, start), max(last, end))
    return list(found.values())


def test_runs_that_begin_in_one_second_have_folders_of_their_own(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QPROF_RUNS", str(tmp_path))
    profile = validate({"name": "p", "model": {"path": str(models / "a.tflite")}, "variants": ["float32"]}, "test")
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: new_run_folder(profile), range(32)))
    assert len(set(folders)) == 32 and all(folder.is_dir() for folder in folders)


# -- on another machine -------------------------------------------------------------------------------------------


def changed(run: Path, **facts: Any) -> None:
    """A run directory as if it had been recorded on another machine."""
    path = run / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["machine"] |= facts
    path.write_text(json.dumps(manifest))


def test_a_run_is_not_resumed_on_another_machine_in_silence(breakable: CommandLine, models: Path) -> None:
    breakable.environment["BREAK"] = "block:b.tflite"
    breakable("run", "-q", models / "a.tflite", models / "b.tflite", *QUICK, "-o", "r")
    breakable.environment.pop("BREAK")
    changed(breakable.folder / "r", cpu_model="Another CPU @ 1 GHz")
    before = (breakable.folder / "r/manifest.json").read_bytes()
    refused = breakable("run", "--resume", "r")
    assert refused.code == 2 and len(refused.err.splitlines()) == 1
    assert "processor: Another CPU @ 1 GHz then, " in refused.err
    assert (breakable.folder / "r/manifest.json").read_bytes() == before
    done = breakable("run", "--resume", "r", "--changed")
    assert done.code == 0, done.err
    for command in ("show", "explain"):
        assert "the run was resumed with another machine" in breakable(command, "r").out


def test_a_gate_does_not_judge_latencies_of_another_machine(qprof: CommandLine, small_run: Path) -> None:
    standard = qprof.folder / "standard"
    shutil.copytree(small_run, standard)
    alike = qprof("check", small_run, "--against", standard)
    assert alike.code == 0 and "NOT ALIKE" not in alike.out and "doubtful" not in alike.out
    changed(standard, cpu_model="Another CPU @ 1 GHz")
    other = qprof("check", small_run, "--against", standard)
    assert other.out.startswith("NOT ALIKE  processor: Another CPU @ 1 GHz then, ")
    latencies = [line for line in other.out.splitlines() if "p50 of" in line]
    assert len(latencies) == 2 and all(" doubtful " in line for line in latencies)
    assert "passed" in other.out  # its scores are judged all the same
    assert qprof("check", small_run, "--against", standard, "--strict").code == 1


def test_a_run_folder_may_be_named_as_an_address_is(qprof: CommandLine, small_run: Path) -> None:
    shutil.copytree(small_run, qprof.folder / "s3:x")
    for command in ("show", "layers", "explain"):
        done = qprof(command, "s3:x")
        assert done.code == 0, done.err


# -- explanations -------------------------------------------------------------------------------------------------


def test_an_explanation_that_cannot_be_kept_is_printed(qprof: CommandLine, small_run: Path) -> None:
    shutil.copytree(small_run, qprof.folder / "r")
    (qprof.folder / "r/findings.json").unlink(missing_ok=True)
    (qprof.folder / "r/findings.json/taken").mkdir(parents=True)
    done = qprof("explain", "-q", "r")
    assert done.code == 0 and "a -> b" in done.out
    assert done.err.endswith("qprof: the explanation is printed, and not kept: r/findings.json: Is a directory\n")


class Interrupting(SilentProgress):
    """Ctrl-C after some blocks."""

    def __init__(self, blocks: int) -> None:
        self.left = blocks

    def done(self, key: str, seconds: float) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def test_an_interrupted_verification_goes_on_where_it_was(
    tmp_path: Path, small_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QPROF_CACHE", str(tmp_path / "cache"))
    shutil.copytree(small_run, tmp_path / "r")
    run = Run(tmp_path / "r")
    profile: Mapping[str, Any] = verify.profile_again(run)
    asked = Verification("1", {**profile, "protocol": {**profile["protocol"], "rounds": 4}}, ())
    with pytest.raises(KeyboardInterrupt):
        carry_out(run, asked, Interrupting(5))
    parts = run.folder / VERIFY / "1" / "parts"
    kept = {path.name: read_block(path).samples.start_ns.tolist() for path in block_files(parts)}
    assert len(kept) >= 5
    other = Verification("1", {**profile, "protocol": {**profile["protocol"], "rounds": 3}}, ())
    assert carry_out(run, other, SilentProgress()).folder.name == "1-2"
    done = carry_out(run, asked, SilentProgress())
    assert done.folder.name == "1" and done.complete
    table = done.samples.to_pylist()
    for name, began in kept.items():
        number = int(name[6:12])
        found = [row["start_ns"] for row in table if row["block"] == number]
        assert found == began or table[0]["kind"] == "warmup" or number >= 24, name
    assert carry_out(run, asked, SilentProgress()).folder == done.folder


def test_resuming_a_run_that_is_complete_removes_what_was_left_of_it(qprof: CommandLine, models: Path) -> None:
    """Its parent may be killed when the tables stand and the workers are leaving."""
    temporary = qprof.folder / "tmp"
    temporary.mkdir()
    qprof.environment["TMPDIR"] = str(temporary)
    assert qprof("run", models / "a.tflite", *QUICK, "-o", "r").code == 0
    leaving = "import os, signal; from qprof.store.own import OwnFolder; kept = OwnFolder(); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", leaving], env=qprof.variables(), check=False)
    assert len(list(temporary.iterdir())) == 1
    again = qprof("run", "--resume", "r")
    assert again.code == 0 and "is complete; nothing is left to run" in again.err
    assert list(temporary.iterdir()) == []
