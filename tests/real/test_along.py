"""A lost score divided along a real model: one layer's weights are spoiled, and its stage must be the one to blame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert.interpreter")

from graph import Graph

import qprof
from qprof import embedded
from qprof.findings.explanation import explain

#: Layer that is spoiled, in the middle of the network.
SPOILED = "stage2_block1_expand_1/"
PROFILE = """
name = "along"
[task]
kind = "detection"
dataset = "shapes"
limit = 40
[protocol]
rounds = 2
block_ms = 5
profiled_block_ms = 5
warmup_max_s = 0
energy = "off"
stacks_s = 0
ceilings = false
plausibility = 0
layer_errors = 1
[[variants]]
name = "base"
file = "{base}"
[[variants]]
name = "spoiled"
file = "{spoiled}"
"""


def spoiled(source: Path, out: Path) -> None:
    """The weights of a layer get as much noise as they have spread."""
    graph = Graph(source)
    weights = int(graph.find(SPOILED).inputs[1])
    values = graph.data(weights)
    noise = np.random.default_rng(3).normal(0, values.std(), values.shape)
    graph.set_data(weights, (values + noise).astype(np.float32))
    graph.save(out)


def test_the_stage_of_a_spoiled_layer_costs_what_the_model_lost(tmp_path: Path) -> None:
    base = embedded.path("shapes_detector.tflite")
    spoiled(base, tmp_path / "spoiled.tflite")
    profile = tmp_path / "along.toml"
    profile.write_text(PROFILE.format(base=base, spoiled=tmp_path / "spoiled.tflite"))
    run = qprof.run(profile, output=tmp_path / "run")
    assert explain(run).along == (), "nothing is divided that was not asked for"
    (found,) = explain(run, divide=True).along
    deltas = [stage.delta.value for stage in found.stages if stage.delta is not None]
    difference = (run.score("spoiled", "AP") or 0.0) - (run.score("base", "AP") or 0.0)
    assert found.total == pytest.approx(difference, abs=1e-9) and difference < -0.02
    assert sum(deltas) == pytest.approx(found.total, abs=1e-9) and abs(found.rest) < 1e-9
    (guilty,) = [n for n, stage in enumerate(found.stages) if any(SPOILED in name for name in stage.layers)]
    assert deltas[guilty] == pytest.approx(found.total, abs=1e-9)
    assert [value for n, value in enumerate(deltas) if n != guilty] == [0.0] * (len(deltas) - 1)
    assert explain(run).along == (found,), "what was measured is kept"
