"""A whole run with a fault in its profile: the first thing said is what mends it, and nothing is recommended."""

from __future__ import annotations

import json

from command_line import QUICK, CommandLine
from qprof.store.run import Run

#: A fault that all variants share, and the same run without it.
ASKED = ("--set=task.limit=30", "--set=protocol.plausibility=20", '--set=variants=["float32","float16"]')


def test_a_broken_baseline_is_said_first_and_nothing_is_recommended(qprof: CommandLine) -> None:
    folder = qprof.folder / "run"
    done = qprof(
        "run", "quickstart", *QUICK, *ASKED, "--set=task.preprocess.mean=0", "--set=task.preprocess.std=1", "-o", folder
    )
    assert done.code == 0, done.err
    run = Run(folder)
    assert len({row.sample for row in run.plausibility}) == 20
    assert {row.variant for row in run.plausibility} == {"float32"}
    facts = run.variant("float32").plausibility
    assert facts is not None and facts.seconds > 0 and run.variant("float16").plausibility is None
    told = qprof("explain", folder, "--quiet")
    assert told.code == 0, told.err
    lines = told.out.splitlines()
    assert lines[0].startswith("THE BASELINE IS BROKEN: float32")
    assert "task.preprocess.mean = 127.5, task.preprocess.std = 127.5" in lines[1]
    assert "on 20 samples: F1" in lines[2]
    assert "nothing is recommended on a broken baseline" in told.out and "  deploy " not in told.out
    found = json.loads((folder / "findings.json").read_text())
    assert found["choice"]["variant"] is None
    assert found["plausibility"][0]["gain"]["value"] > 0.3


def test_a_sound_baseline_is_not_accused(qprof: CommandLine) -> None:
    folder = qprof.folder / "run"
    done = qprof("run", "quickstart", *QUICK, *ASKED, "-o", folder)
    assert done.code == 0, done.err
    told = qprof("explain", folder, "--quiet")
    assert "BROKEN" not in told.out and "  deploy " in told.out
    assert json.loads((folder / "findings.json").read_text())["plausibility"] == []
