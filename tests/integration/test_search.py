"""A search for mixed precision on a model that int8 spoils in one place: interrupted, gone on with, and used."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from command_line import CommandLine
from qprof.measure.profile_file import load_profile

pytest.importorskip("ai_edge_quantizer")
pytest.importorskip("tflite_builder", reason="the builder of tiny models needs ai_edge_litert")
from test_bad_layer import PLANTED, chain

QUICK = [
    *("--set=protocol.rounds=2", "--set=protocol.block_ms=2", "--set=protocol.profiled_block_ms=2"),
    *("--set=protocol.warmup_max_s=0.05", "--set=task.calibration_samples=8", "--set=protocol.output_samples=40"),
]
#: Both sides of the range that int8 cannot hold: the one that writes it, and the one that reads it.
SPOILED = [f"conv{PLANTED - 1}", f"conv{PLANTED}"]


def finished(folder: Path) -> dict[str, bytes]:
    """The manifests of the trials that are done, by trial."""
    found = {path.parts[-3]: path.read_bytes() for path in sorted(folder.glob("trials/*/run/manifest.json"))}
    return {name: content for name, content in found.items() if json.loads(content)["status"] == "complete"}


def test_an_interrupted_search_loses_nothing_and_finds_the_layer(qprof: CommandLine) -> None:
    (qprof.folder / "chain.tflite").write_bytes(chain())
    folder = qprof.folder / "search"
    with qprof.start("search", "chain.tflite", "--figure", "size", "-o", folder, *QUICK) as process:
        deadline = time.monotonic() + 100
        while not (folder / "trials" / "002" / "trial.json").exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "go on with qprof search --resume" in err
    before = finished(folder)
    assert "001" in before

    again = qprof("search", "--resume", folder, "--budget", "10m", "--json", "-q")
    assert again.code == 0, again.err
    after = finished(folder)
    assert {name: after[name] for name in before} == before  # not made again
    found = json.loads(again.out)
    assert len(after) == found["trials"] > len(before)
    members = {member["name"]: member for member in found["members"]}
    chosen = members[found["chosen"]]
    assert found["good_enough"] and chosen["layers"] == SPOILED
    assert found["samples"] == {"selection": 20, "report": 20}
    # Each half has its own score, and what was won back is told of the one that did not choose.
    assert chosen["selection"] != chosen["report"]
    start = members["int8"]
    assert chosen["gained"]["value"] == pytest.approx(chosen["report"] - start["report"])
    assert chosen["gained"]["low"] > 0.5
    assert start["bytes"] < chosen["bytes"] < members["float32"]["bytes"]

    quantizer = pytest.importorskip("ai_edge_quantizer.quantizer")
    recipe = quantizer.Quantizer(str(qprof.folder / "chain.tflite"), found["recipe"])
    rules = recipe.get_quantization_recipe()
    assert rules == json.loads(Path(found["recipe"]).read_text())
    assert [rule["regex"] for rule in rules if rule["algorithm_key"] == "no_quantize"][-1] == r"^(?:conv4;|conv5;)$"

    profile = load_profile(Path(found["profile"]))
    assert [variant.name for variant in profile.variants] == ["float32", "int8", found["chosen"]]
    run = qprof("run", found["profile"], "-q", "-o", qprof.folder / "again")
    assert run.code == 0, run.err
    manifest = json.loads((qprof.folder / "again" / "manifest.json").read_text())
    made = {entry["name"]: entry["bytes"] for entry in manifest["variants"]}
    assert made[found["chosen"]] == chosen["bytes"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("chain.tflite", "--method", "int9"), "there is no method 'int9'"),
        (("--resume", "nowhere"), "nowhere/search.json: cannot be read"),
        (("--resume", "nowhere", "--score", "AP"), "--resume goes on with a search as it was begun"),
        (("chain.tflite", "--budget", "long"), "'long': write a number and a unit"),
        (("quickstart", "--method", "float32"), "float32 is its baseline"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_a_line(qprof: CommandLine, words: tuple[str, ...], said: str) -> None:
    (qprof.folder / "chain.tflite").write_bytes(chain())
    done = qprof("search", *words)
    assert done.code == 2 and said in done.err and len(done.err.splitlines()) == 1
    assert not (qprof.folder / "runs").exists()
