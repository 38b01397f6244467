"""A finished int8 detector with one ruined layer, changed in two ways: its scores come back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import qprof

pytest.importorskip("ai_edge_quantizer")
edits = pytest.importorskip("litert_edits", reason="files are edited with ai_edge_litert")

from qprof.runtimes.interventions import Impossible  # noqa: E402
from qprof.runtimes.litert.runtime import RUNTIME  # noqa: E402

TASK = """
[task]
kind = "detection"
dataset = "shapes"
limit = 60
calibration_samples = 16
[task.head]
kind = "centernet"
[protocol]
rounds = 2
block_ms = 1
profiled = false
warmup_max_s = 0.2
energy = "off"
stacks_s = 0
layer_errors = 0
ceilings = false
"""


def inline(value: Any) -> str:
    """A value of a section as TOML writes it in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {inline(item)}" for key, item in value.items()) + "}"
    return json.dumps(value)


def average_precision(run: qprof.Run) -> dict[str, float]:
    return {row.variant: row.value for row in run.scores if row.metric == "AP" and row.sample is None}


def test_a_ruined_layer_of_a_finished_file(tmp_path: Path) -> None:
    first = tmp_path / "first.toml"
    model = '[model]\npath = "embedded:shapes_detector.tflite"\n'
    first.write_text(f'name = "first"\nvariants = ["float32", "int8"]\n{model}{TASK}')
    made = qprof.run(first, output=tmp_path / "first")
    baseline, int8 = (made.variant(name) for name in ("float32", "int8"))
    ops = edits.ops_of(Path(str(int8.path)))
    shared = set(edits.names(Path(str(baseline.path))))
    ruined = [op for op in ops if op.type == "CONV_2D" and op.name in shared][15]
    file = edits.with_weight_scale(Path(str(int8.path)), tmp_path / "ruined.tflite", ruined.index, 4)

    # Nothing but the two finished files is known from here on.
    entry, pair = edits.entry(file, "ruined"), [(ruined.name, ruined.name)]
    given = edits.entry(Path(str(baseline.path)), "float32")
    restored = RUNTIME.interventions.constants_from(entry, given, pair)
    patched = RUNTIME.interventions.patched(entry, given, pair)
    assert not isinstance(restored, Impossible) and not isinstance(patched, Impossible)
    sections = [given.section, {"name": "int8", "file": int8.path}, entry.section, restored, patched]
    second = tmp_path / "second.toml"
    second.write_text(f'name = "second"\nvariants = [{", ".join(map(inline, sections))}]\n{TASK}')
    run = qprof.run(second, output=tmp_path / "second")

    scores = average_precision(run)
    sound, worse = scores["int8"], scores["ruined"]
    assert worse < sound - 0.05
    assert scores[restored["name"]] == pytest.approx(sound, abs=0.005)
    assert scores[patched["name"]] == pytest.approx(sound, abs=0.03)
    notes = run.variant(patched["name"]).notes
    assert any("not its latency" in note for note in notes)
    assert run.variant(patched["name"]).making.facts["settings"]["baseline_sha256"] == baseline.sha256
