"""Doubts about the machine: told where its readings give rise to them, and to nothing where it was left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from planted.world import PlantedOp, PlantedVariant, World
from qprof.findings.doubts import Doubt, doubts, withheld
from qprof.findings.verdicts import verdicts
from qprof.record.readings import Reading
from qprof.report.doubts import doubt_lines
from qprof.store.run import Run


def readings(busy: float = 1.0, own: float = 1.0, forced: float = 0.0, steal: float = 0.0, mhz: float = 3000.0):
    """What a clean block tells: cores busy and stolen as counters in seconds, the worker's own CPU time."""

    def told(round_: int, start_ns: int, end_ns: int) -> list[Reading]:
        seconds = (end_ns - start_ns) / 1e9
        at = 1000.0 * round_
        found = [
            Reading("host.cpu_s", end_ns, own * seconds, "s", "measured"),
            Reading("host.involuntary_switches", end_ns, forced * seconds, "count", "measured"),
        ]
        for t_ns, share in ((start_ns, 0.0), (end_ns, 1.0)):
            found += [
                Reading("host.busy", t_ns, at + share * busy * seconds, "s", "measured"),
                Reading("host.steal", t_ns, at + share * steal * seconds, "s", "measured"),
                Reading("host.frequency.max", t_ns, mhz, "MHz", "measured"),
            ]
        return found

    return told


def variant(name: str, us: float, on_cpu: float | None = 1.0, **told: float) -> PlantedVariant:
    options = {"threads": int(told.pop("threads", 1)), "device": "cpu"}
    ops = [PlantedOp("conv", "CONV_2D", us)]
    return PlantedVariant(name, ops, options=options, readings=readings(**told), on_cpu=on_cpu)


def recorded(folder: Path, *variants: PlantedVariant) -> Run:
    cores = {"machine": {"logical_cpus": 2, "affinity": [0, 1]}}
    return World(list(variants), manifest=cores).record(folder / "run")


def test_a_machine_that_was_left_alone_gives_no_doubt(tmp_path: Path) -> None:
    run = recorded(tmp_path, variant("float32", 1000.0), variant("int8", 700.0, busy=1.05, forced=3.0))
    assert doubts(run) == []
    judged = verdicts(run)
    assert withheld(judged, [], "float32") == judged


@pytest.mark.parametrize(
    ("told", "on_cpu", "what", "withholds", "says"),
    [
        ({}, 0.5, "waiting", True, "its thread waited for a processor during 50% of its inferences"),
        ({}, 0.97, "waiting", False, "during 3% of its inferences"),
        ({"forced": 250.0, "threads": 2.0}, None, "forced switches", False, "lost its core 125 times a second"),
        ({"busy": 2.0}, 1.0, "neighbours", False, "others used 1.0 cores of the machine's 2 while it ran on 1"),
        (
            {"busy": 2.0, "own": 1.0, "threads": 2.0},
            None,
            "neighbours",
            True,
            "others used 1.0 cores of the machine's 2",
        ),
        ({"steal": 0.2}, 1.0, "steal", False, "the hypervisor gave 20% of a core to others"),
        ({"mhz": 2000.0}, 1.0, "clock", False, "its clock was 2000 MHz in the middle, that of float32 3000 MHz"),
    ],
)
def test_each_reading_gives_rise_to_its_doubt(
    tmp_path: Path, told: dict[str, float], on_cpu: float | None, what: str, withholds: bool, says: str
) -> None:
    run = recorded(tmp_path, variant("float32", 1000.0), variant("int8", 700.0, on_cpu, **told))
    found = [doubt for doubt in doubts(run) if doubt.what == what]
    assert [doubt.variant for doubt in found] == ["int8"]
    assert found[0].withholds is withholds and says in found[0].says
    assert {doubt.variant for doubt in doubts(run)} == {"int8"}


def test_latencies_of_a_thread_that_waited_get_no_verdict_and_other_figures_keep_theirs(tmp_path: Path) -> None:
    variants = [variant("float32", 1000.0), variant("int8", 700.0, 0.5), variant("float16", 700.0)]
    run = recorded(tmp_path, *variants)
    judged = withheld(verdicts(run), doubts(run), "float32")
    kinds = {(one.variant, one.figure): one.kind for one in judged}
    assert kinds["int8", "latency"] == "withheld" and kinds["float16", "latency"] == "better"
    before = {(one.variant, one.figure): one.kind for one in verdicts(run)}
    assert {key: kind for key, kind in kinds.items() if kind != before[key]} == {("int8", "latency"): "withheld"}
    reason = next(one.reason for one in judged if (one.variant, one.figure) == ("int8", "latency"))
    assert reason == (
        "no verdict on the latency of int8: its thread waited for a processor during 50% of its inferences"
    )


def test_a_baseline_that_waited_takes_the_verdicts_of_all(tmp_path: Path) -> None:
    run = recorded(tmp_path, variant("float32", 1000.0, 0.5), variant("int8", 700.0))
    judged = withheld(verdicts(run), doubts(run), "float32")
    assert [one.kind for one in judged if one.figure == "latency"] == ["withheld"]


def test_one_line_per_kind_with_the_worst_variant_first() -> None:
    told = [
        Doubt("a", "inference", "waiting", "it waited a little"),
        Doubt("b", "decode", "waiting", "it waited for long", withholds=True),
        Doubt("a", "inference", "clock", "it was slow"),
    ]
    assert list(doubt_lines(told)) == [
        "DOUBT  b decode: it waited for long; likewise a. No verdict on latency is given.",
        "DOUBT  a: it was slow.",
    ]
    assert list(doubt_lines([])) == []


def test_constants_that_are_no_numbers_are_doubted() -> None:
    from qprof.findings.doubts import _not_numbers
    from qprof.record.manifest import Manifest, RecordedProfile, VariantEntry
    from qprof.record.stored import StoredFiles, StoredPart

    parts = [
        StoredPart(name="a", bytes=8, nans=1),
        StoredPart(name="b", bytes=8, nans=2),
        StoredPart(name="c", bytes=8),
    ]
    entries = [
        VariantEntry(name="broken", stored=StoredFiles(bytes=24, parts=parts)),
        VariantEntry(name="whole", stored=StoredFiles(bytes=8, parts=parts[2:])),
        VariantEntry(name="unknown"),
    ]

    class InMemory:
        manifest = Manifest(created="2026-01-01T00:00:00+00:00", profile=RecordedProfile(name="p"), variants=entries)

    (found,) = _not_numbers(InMemory())  # type: ignore[arg-type]
    assert found.variant == "broken"
    assert found.says.startswith("3 of its constants are not numbers (NaN), 2 of them in b")
