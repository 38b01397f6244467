"""--budget, --margin and --samples on the command line: a run that is over as soon as it can be, and sharpened."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tflite_builder
from colour_models import colour_net, write_colours
from command_line import QUICK, CommandLine
from qprof.store.run import Run

#: Without the rounds.
_QUICK = QUICK[1:]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    folder = tmp_path_factory.mktemp("decided")
    (folder / "small.tflite").write_bytes(tflite_builder.tiny_conv_net(size=32, channels=8))
    (folder / "large.tflite").write_bytes(tflite_builder.tiny_conv_net(size=128, channels=8))
    write_colours(folder / "data", each=20)
    (folder / "net.tflite").write_bytes(colour_net())
    return CommandLine(folder)


@pytest.fixture(scope="module")
def clear(place: CommandLine) -> Path:
    done = place("run", "small.tflite", "large.tflite", "--budget", "10min", "--margin", "3%", "-o", "clear", *_QUICK)
    assert done.code == 0, done.err
    assert "after 6 rounds" in done.err, done.err
    return place.folder / "clear"


def test_a_clear_difference_ends_a_run_early(place: CommandLine, clear: Path) -> None:
    run = Run(clear)
    looks = run.manifest.looks
    assert looks is not None and looks.ended == "decided" and looks.decided["large"] < 48
    assert (looks.budget_s, looks.margin, looks.rounds) == (600.0, pytest.approx(0.03), 48)
    assert len(set(run.latency("large").round.tolist())) == looks.decided["large"]
    assert not (clear / "parts").exists(), "nothing is left to sharpen"
    refused = place("run", "--resume", "clear", "--budget", "30min")
    assert refused.code == 2 and "run anew" in refused.err


def test_commands_say_how_it_ended(place: CommandLine, clear: Path) -> None:
    for command in ("show", "explain"):
        done = place(command, "clear")
        assert done.code == 0, done.err
        for text in ("until every verdict was decided", "looked at after 6", "of 48 rounds at most", "alpha spending"):
            assert text in done.out, done.out
    assert "equivalent within 3 %" in place("show", "clear").out
    manifest = json.loads((clear / "manifest.json").read_text())
    assert manifest["looks"]["looks"][0]["rounds"] == 6


def test_a_budget_that_is_spent_can_be_raised(place: CommandLine) -> None:
    models = ("small.tflite", "small.tflite")
    (place.folder / "copy.tflite").write_bytes((place.folder / "small.tflite").read_bytes())
    arguments = ("--budget", "0.01s", "--margin", "0.0001%", "--set=protocol.rounds=6", "-o", "short", "-q")
    done = place("run", models[0], "copy.tflite", *arguments, *_QUICK)
    assert done.code == 0, done.err
    assert "--resume short --budget 0.02s goes on with copy" in done.err
    before = Run(place.folder / "short")
    assert before.manifest.looks is not None and before.manifest.looks.ended == "budget"
    assert set(before.latency("small").round.tolist()) == {0}, "one round in any case"
    first = before.latency("small").start_ns.tolist()
    done = place("run", "--resume", "short", "--budget", "5min", "-q")
    assert done.code == 0, done.err
    after = Run(place.folder / "short")
    assert after.manifest.looks is not None and after.manifest.looks.ended in ("rounds", "decided")
    assert after.manifest.looks.looks[-1].rounds == 6
    assert after.latency("small").start_ns.tolist()[: len(first)] == first, "the first round is kept"


def test_few_samples_are_sharpened_by_more(place: CommandLine) -> None:
    arguments = ("--variants", "float32,int8", "--images", "data", "--samples", "30", "-o", "few", "-q")
    done = place("run", "net.tflite", *arguments, *QUICK)
    assert done.code == 0, done.err
    few = Run(place.folder / "few")
    first = dict(few.sample_scores("int8", "correct"))
    assert len(first) == 30 and "scores all 144 samples" in done.err
    assert "of 30 of 144 samples, drawn at random" in place("show", "few").out
    done = place("run", "--resume", "few", "--samples", "5000", "-q")
    assert done.code == 0, done.err
    whole = Run(place.folder / "few")
    then = whole.sample_scores("int8", "correct")
    assert len(then) == 144 and {sample: then[sample] for sample in first} == first
    assert len(whole.sample_scores("float32", "correct")) == 144
    assert whole.latency("int8").start_ns.tolist() == few.latency("int8").start_ns.tolist()
    assert "of 144 of 144 samples; looked at before with 30" in place("show", "few").out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--budget", "60"), "60s"),
        (("--budget", "0s"), "protocol.budget_s"),
        (("--margin", "2"), "2%"),
        (("--samples", "50"), "protocol.output_samples"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_a_line(place: CommandLine, arguments: tuple[str, ...], says: str) -> None:
    done = place("run", "small.tflite", "large.tflite", *arguments)
    assert done.code == 2 and says in done.err and len(done.err.strip().splitlines()) == 1, done.err
