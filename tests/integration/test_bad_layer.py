"""A real model with a layer that int8 ruins: its own error gives it away, and in float the output comes back."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

import qprof
from qprof.findings.causes.bad_layer import CAUSE, apart
from qprof.findings.comparison import Comparison
from qprof.findings.float_layers import layer_errors, section_in_float
from qprof.findings.judgement import findings
from qprof.findings.mixed_precision import float_layer_pareto
from qprof.findings.verify import Claim, carry_out, plan_verification
from qprof.measure.parent.execution import start
from qprof.measure.profile import validate_recorded
from qprof.measure.progress import SilentProgress
from qprof.runtimes import registry
from qprof.runtimes.interventions import Impossible
from qprof.store.run import Run

pytest.importorskip("ai_edge_quantizer")
builder = pytest.importorskip("tflite_builder", reason="the builder of tiny models needs ai_edge_litert")

CHANNELS, CONVS, PLANTED = 16, 10, 5
QUICK = [
    *("protocol.rounds=5", "protocol.block_ms=5", "protocol.profiled_block_ms=5", "protocol.warmup_max_s=0.2"),
    *("protocol.energy=off", "protocol.stacks_s=0", "protocol.ceilings=false", "task.calibration_samples=16"),
]


def chain() -> bytes:
    """Ten convolutions one after the other. A channel of the fifth is a thousand times as large as it need be, and the
    sixth takes it for a thousandth: nothing changes in float, and no other channel is left in the one range of int8."""
    random = np.random.default_rng(0)
    graph = builder.Graph()
    node, depth = graph.input("image", (1, 12, 12, 3)), 3
    for number in range(CONVS):
        kernel = random.normal(0, 1 / np.sqrt(9 * depth), (CHANNELS, 3, 3, depth)).astype(np.float32)
        if number == PLANTED - 1:
            kernel[3] *= 1000.0
        if number == PLANTED:
            kernel[..., 3] /= 1000.0
        node = graph.conv_2d(f"conv{number}", node, graph.constant(f"conv{number}/kernel", kernel))
        depth = CHANNELS
    graph.outputs = [node]
    return bytes(builder.build_model([graph]))


def spoiled(*layers: int) -> bytes:
    """The chain without its plants, in which some layers have their filters in the order of others."""
    random = np.random.default_rng(1)
    graph = builder.Graph()
    node, depth = graph.input("image", (1, 12, 12, 3)), 3
    for number in range(CONVS):
        kernel = random.normal(0, 1 / np.sqrt(9 * depth), (CHANNELS, 3, 3, depth)).astype(np.float32)
        if number in layers:
            kernel[:4] = np.roll(kernel[:4], 1, axis=0)
        node = graph.conv_2d(f"conv{number}", node, graph.constant(f"conv{number}/kernel", kernel))
        depth = CHANNELS
    graph.outputs = [node]
    return bytes(builder.build_model([graph]))


def output_sqnr_db(run: Run, variant: str) -> float:
    """Of the last convolution, with the error of all before it."""
    (found,) = [row for row in run.layer_errors if (row.variant, row.name) == (variant, f"conv{CONVS - 1}")]
    assert found.sqnr_db is not None
    return found.sqnr_db


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("bad_layer")
    (folder / "chain.tflite").write_bytes(chain())
    made: Run = qprof.run(folder / "chain.tflite", variants=["float32", "int8"], overrides=QUICK, output=folder / "run")
    return made


def test_the_planted_layer_stands_apart_and_brings_the_output_back(run: Run, tmp_path: Path) -> None:
    known = layer_errors(run, "int8")
    bad = apart(known)
    assert [layer.name for layer in bad] == [f"conv{PLANTED}"]
    assert set(bad[0].skip_layers) == {f"conv{number}" for number in (PLANTED - 1, PLANTED, PLANTED + 1)}
    section = section_in_float(run.variant("int8"), registry.get("litert").interventions, bad, "mended")
    assert not isinstance(section, Impossible)
    profile = msgspec.structs.replace(run.manifest.profile, variants=[run.variants[0].section, section])
    start(validate_recorded(profile, source="test"), tmp_path / "mended", SilentProgress())
    mended = Run(tmp_path / "mended")
    settings = mended.variant("int8+mended").making.facts["settings"]
    assert settings["skip_layers"] == sorted(bad[0].skip_layers)
    assert output_sqnr_db(mended, "int8+mended") > output_sqnr_db(run, "int8") + 10.0


def test_layers_in_float_are_made_and_measured(run: Run) -> None:
    rows = float_layer_pareto(run, "int8", SilentProgress(), most_layers=2)
    assert [row.count for row in rows] == [0, 1, 2] and all(row.reason is None for row in rows)
    assert rows[0].file_bytes is not None and rows[1].file_bytes is not None
    assert rows[1].file_bytes > rows[0].file_bytes
    assert rows[1].latency_change_us is not None and rows[1].latency_change_us.low is not None
    # Without labels, what is scored is how near the outputs are to the float model's.
    assert rows[0].score is not None and rows[1].score is not None and rows[1].score > rows[0].score + 0.01
    assert rows[1].predicted is not None
    assert rows[1].noise_share > 0.5


def test_two_spoiled_layers_of_a_finished_float_file_give_back_all_that_they_lost(tmp_path: Path) -> None:
    """One behind the other: what the baseline's activations before the second would mend is the first one's."""
    (tmp_path / "sound.tflite").write_bytes(spoiled())
    (tmp_path / "spoiled.tflite").write_bytes(spoiled(2, 7))
    quick = [*QUICK[:6], "protocol.ceilings=false", "protocol.output_samples=50"]
    run = qprof.run(tmp_path / "sound.tflite", tmp_path / "spoiled.tflite", overrides=quick, output=tmp_path / "run")
    comparison = Comparison(run, "sound", "spoiled", "inference")
    claims = [Claim(comparison, hypothesis) for hypothesis in CAUSE.hypotheses(comparison)]
    (verification,) = plan_verification(run, claims)
    (found,) = findings(claims, {0: carry_out(run, verification, SilentProgress())})
    assert "in 2 of 10 layers" in found.hypothesis.claim
    assert found.hypothesis.claim.count(" dB, other weights)") == 2
    assert all(f"{layer} (" in found.hypothesis.claim for layer in ("conv2", "conv7"))
    assert found.hypothesis.intervention is not None and found.hypothesis.effect is not None
    assert found.hypothesis.intervention.does == "put sound's ops in place of 2 layers of spoiled"
    assert found.status == "confirmed" and found.measured is not None
    assert found.measured.value == pytest.approx(-found.hypothesis.effect.value)
