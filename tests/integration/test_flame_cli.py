"""`qprof flame` as a user meets it: files by suffix, the run left as it was, bad input told in one line."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from command_line import CommandLine


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_default_is_the_baselines_model_here(qprof: CommandLine, small_run: Path) -> None:
    before = everything(small_run)
    done = qprof("flame", small_run)
    assert (done.code, done.out, done.err) == (0, "flame-a.svg\n", "")
    root = ElementTree.parse(qprof.folder / "flame-a.svg").getroot()
    names = {str(title.text).split(":")[0] for title in root.iter("{http://www.w3.org/2000/svg}title")}
    assert {"a", "CONV_2D", "outside the ops"} <= names
    assert everything(small_run) == before


def test_suffix_chooses_the_format(qprof: CommandLine, small_run: Path) -> None:
    assert qprof("flame", small_run, "-o", "all.speedscope.json").code == 0
    document = json.loads((qprof.folder / "all.speedscope.json").read_text())
    assert [profile["name"].split(",")[0] for profile in document["profiles"]] == ["a", "b", "loop"]
    assert qprof("flame", small_run, "-v", "loop", "-o", "loop.folded").code == 0
    assert "interpreter;" in (qprof.folder / "loop.folded").read_text()
    assert qprof("flame", small_run, "--diff", "a", "b").out == "flame-a-b.svg\n"
    ElementTree.parse(qprof.folder / "flame-a-b.svg")
    assert qprof("flame", small_run, "-v", "b", "--phase", "inference").out == "flame-b-inference.svg\n"
    assert qprof("flame", small_run, "--diff", "a", "b", "-o", "ab.speedscope.json").code == 0
    assert len(json.loads((qprof.folder / "ab.speedscope.json").read_text())["profiles"]) == 2


def test_host_stacks_of_a_run(qprof: CommandLine, small_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "copy"
    shutil.copytree(small_run, run)
    (run / "stacks").mkdir()
    (run / "stacks/b.folded").write_text("<module> (worker.py:1);invoke (libtensorflowlite.so) 40\n")
    (run / "stacks/b.json").write_text('{"rate_hz": 100, "samples": 40, "errors": 0, "native": true, "slowdown": 0.06}')
    assert qprof("flame", run, "--kind", "host", "-v", "b").out == "flame-b-host.svg\n"
    text = (qprof.folder / "flame-b-host.svg").read_text(encoding="utf-8")
    assert "40 samples (400 ms)" in text and "sampling changed the median inference by +6.0 %" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--kind", "host"], "no host stacks of a (none were recorded)"),
        (["--kind", "host", "--phase", "decode"], "no phase 'decode'"),
        (["-v", "x"], "no variant 'x' in this run; it has a, b, loop"),
        (["--phase", "decode"], "no phase 'decode'"),
        (["-v", "a", "--diff", "a", "b"], "not both"),
        (["-o", "x.png"], "x.png: a flame is written as .svg"),
        (["--diff", "a", "b", "-o", "x.folded"], "without --diff"),
        (["-o", "missing/x.svg"], "cannot be written"),
    ],
)
def test_bad_input(qprof: CommandLine, small_run: Path, words: list[str], said: str) -> None:
    done = qprof("flame", small_run, *words)
    assert done.code == 2 and done.out == ""
    assert said in done.err and len(done.err.splitlines()) == 1
    assert list(qprof.folder.glob("*.svg")) == []
