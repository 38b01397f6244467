"""Rounds until the verdicts are decided: what is measured, when it ends, and how it is gone on with."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fake_clock import FakeClock
from qprof.errors import StoreError
from qprof.findings.latency import compared_latency, figure_level, score_level
from qprof.measure.parent import blocks as blocks_module
from qprof.measure.parent.blocks import Measurement
from qprof.measure.parent.sharpen import ask_for_more, count_scored
from qprof.measure.profile import Profile
from qprof.measure.progress import SilentProgress, Standing
from qprof.measure.requests import BlockAnswer, MeasureBlock, WarmedUpAnswer
from qprof.record.blocks import Block, BlockFacts, Samples
from qprof.record.manifest import Manifest, RecordedProfile, VariantEntry, Warmup
from qprof.record.phases import Phase
from qprof.record.sections import ModelSection, ProtocolSection, TaskSection
from qprof.record.sensors import SensorFacts
from qprof.stats.sequential import look_level
from qprof.store.run import Run
from qprof.store.writer import RunWriter

_BLOCK_S = 0.5


class _Crew:
    """Variants whose inferences last as long as the test says: `speed` is the mean in ns, with 1 % of noise that
    depends on the block alone."""

    def __init__(self, manifest: Manifest, speed: dict[str, float], clock: FakeClock, stop_after: int = -1) -> None:
        self._manifest, self._speed, self._clock, self._left = manifest, speed, clock, stop_after
        self.scored = 0
        self.had: dict[str, int] = {}  # clean blocks of each variant before
        self.asked: list[tuple[str, MeasureBlock]] = []

    def living(self) -> list[VariantEntry]:
        return self._manifest.living()

    def require_some(self, step: str) -> None:
        assert self.living()

    def ask(self, entry: VariantEntry, request: Any) -> Any:
        if not isinstance(request, MeasureBlock):
            return WarmedUpAnswer(warmup=Warmup(steady=True, reason="", inferences=0), samples=Samples.none())
        if self._left == 0:
            raise KeyboardInterrupt
        self._left -= 1
        turn = self.had.get(entry.name, 0) + sum(name == entry.name for name, _ in self.asked)
        self.asked.append((entry.name, request))
        self._clock.advance(_BLOCK_S)
        rng = np.random.default_rng([sum(entry.name.encode()), turn])
        times = self._speed[entry.name] * np.exp(rng.normal(0.0, 0.01, 9))
        count = len(times)
        samples = Samples(np.zeros(count, np.int32), np.arange(count, dtype=np.int64), times.astype(np.int64))
        predictions = {sample: sample for sample in request.samples} if request.keep else {}
        return BlockAnswer(samples=samples, facts=BlockFacts(), predictions=predictions)

    def fail(self, entry: VariantEntry, error: Exception) -> None:
        raise AssertionError(error)


class _NoSensors:
    margin_s, least_window_s, estimates = 0.0, 0.0, False

    def energy_channels(self, device: str, uuid: str | None) -> list[str]:
        return []

    def describe(self, device: str, uuid: str | None) -> SensorFacts:
        return SensorFacts()

    def traces(self, *_: Any) -> list[Any]:
        return []

    @contextlib.contextmanager
    def estimated(self, _: Any) -> Iterator[None]:
        yield


class _Watching(SilentProgress):
    def __init__(self) -> None:
        self.seen: list[tuple[str, bool]] = []
        self.rows: list[Standing] = []

    def standing(self, title: str, rows: Any, decided: bool) -> None:
        self.seen.append((title, decided))
        self.rows = list(rows)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    clock = FakeClock()
    monkeypatch.setattr(blocks_module.time, "monotonic", lambda: clock.now_ns() / 1e9)
    return clock


Measure = Callable[..., tuple[RunWriter, _Crew, _Watching]]


@pytest.fixture
def measure(tmp_path: Path, clock: FakeClock) -> Iterator[Measure]:
    """Begin a run with variants of these speeds, or go on with the one that was begun."""
    writers: list[RunWriter] = []

    def go(
        speed: dict[str, float], total: int = 4, stop_after: int = -1, timed: tuple[str, ...] = (), **keys: Any
    ) -> Any:
        if writers:
            writers[-1].close()
            writer = RunWriter.resume(tmp_path / "run")
            ask_for_more(writer, keys.get("budget_s"), keys.get("samples"))
        else:
            protocol = ProtocolSection(
                **{"rounds": 24, "energy": "off", "stacks_s": 0.0, "profiled": False, "alone": False, **keys}
            )
            entries = [VariantEntry(name=name, phases=[Phase()]) for name in speed]
            writer = RunWriter.create(
                tmp_path / "run",
                Manifest(
                    created="2026-01-01T00:00:00+00:00",
                    profile=RecordedProfile(name="made", protocol=protocol),
                    variants=entries,
                    samples=total,
                ),
            )
        writers.append(writer)
        for entry in writer.manifest.variants:
            entry.instrumented = entry.name in timed
        recorded = writer.manifest.profile
        profile = Profile("made", ModelSection(), (), TaskSection(kind="latency"), recorded.protocol)
        crew, progress = _Crew(writer.manifest, speed, clock, stop_after), _Watching()
        crew.had = {name: len(rounds) for name, rounds in _rounds(writer).items()}
        made: Any = (writer, profile, crew, _NoSensors(), progress)
        Measurement(*made).run()
        return writer, crew, progress

    yield go
    writers[-1].close()


def _rounds(writer: RunWriter, kind: str = "clean") -> dict[str, list[int]]:
    """Rounds of each variant's kept blocks."""
    found: dict[str, list[int]] = defaultdict(list)
    for block in _blocks(writer):
        if block.kind == kind:
            found[block.variant].append(block.round)
    return {name: sorted(rounds) for name, rounds in found.items()}


def _blocks(writer: RunWriter) -> list[Block]:
    return [writer.kept_block(number) for number in sorted(writer.finished_blocks())]


def test_a_clear_difference_ends_the_run_at_the_first_look(measure: Measure) -> None:
    writer, _, progress = measure({"a": 1e6, "b": 2e6}, margin=0.02)
    looks = writer.manifest.looks
    assert looks is not None and looks.ended == "decided" and looks.decided == {"b": 6}
    assert _rounds(writer) == {"a": list(range(6)), "b": list(range(6))}
    assert [pair.verdict for pair in looks.looks[0].pairs] == ["worse"]
    assert progress.rows[1].verdict == "worse" and [seen for _, seen in progress.seen].count(True) == 1
    assert len(progress.seen) == 6, "there is a table from the first round on"


def test_equals_within_less_than_the_noise_use_all_rounds(measure: Measure) -> None:
    writer, _, progress = measure({"a": 1e6, "b": 1e6}, margin=1e-6)
    looks = writer.manifest.looks
    assert looks is not None and looks.ended == "rounds" and not looks.decided
    assert [look.rounds for look in looks.looks] == [6, 8, 12, 16, 24]
    assert len(_rounds(writer)["b"]) == 24
    assert writer.manifest.undecided() == ["b"] and progress.rows[1].verdict == "undecided yet"


def test_what_is_decided_is_measured_no_more_and_the_others_stay_paired(measure: Measure) -> None:
    writer, _, _ = measure({"a": 1e6, "slow": 3e6, "same": 1e6}, margin=1e-6)
    rounds = _rounds(writer)
    assert len(rounds["slow"]) == 6
    assert rounds["a"] == rounds["same"] == list(range(24))


def test_intervals_shown_are_those_of_the_looks(measure: Measure) -> None:
    writer, _, _ = measure({"a": 1e6, "slow": 3e6, "same": 1e6}, margin=1e-6)
    writer.finalize([])
    run = Run(writer.folder)
    assert figure_level(run, "a", "slow") == pytest.approx(look_level([6], 24, 0.975))
    assert figure_level(run, "a", "same") == pytest.approx(look_level([6, 8, 12, 16, 24], 24, 0.975))
    assert 0.975 < figure_level(run, "a", "same") < figure_level(run, "a", "slow")
    looks = writer.manifest.looks
    assert looks is not None
    for name, seen in (("slow", looks.looks[0].pairs[0]), ("same", looks.looks[-1].pairs[0])):
        shown = compared_latency(run, "a", name)
        assert shown is not None and seen.variant == name
        assert (shown.log_ratio.low, shown.log_ratio.high) == pytest.approx((seen.low, seen.high))


@pytest.mark.parametrize("stop_after", [1, 7, 12, 13, 20])
def test_an_interrupted_run_goes_on_with_the_same_plan(measure: Measure, stop_after: int) -> None:
    speed = {"a": 1e6, "slow": 3e6, "same": 1e6}
    with pytest.raises(KeyboardInterrupt):
        measure(speed, stop_after=stop_after, margin=1e-6)
    writer, _, _ = measure(speed)
    looks = writer.manifest.looks
    assert looks is not None and [look.rounds for look in looks.looks] == [6, 8, 12, 16, 24]
    assert looks.decided == {"slow": 6}
    blocks_s = _BLOCK_S * (24 + 6 + 24)
    assert blocks_s - 3 * _BLOCK_S < looks.spent_s <= blocks_s, "but for the round in which it was interrupted"
    rounds = _rounds(writer)
    assert rounds == {"a": list(range(24)), "slow": list(range(6)), "same": list(range(24))}


def test_the_budget_is_kept_to_and_half_a_round_does_not_count(measure: Measure) -> None:
    speed = {"a": 1e6, "b": 1e6}
    writer, crew, _ = measure(speed, margin=1e-6, budget_s=9.2)
    looks = writer.manifest.looks
    assert looks is not None and looks.ended == "budget"
    assert looks.spent_s == pytest.approx(9.0), "a tenth round would have ended after 10 s"
    assert [look.rounds for look in looks.looks] == [6, 8, 9]
    assert _rounds(writer) == {"a": list(range(9)), "b": list(range(9))}
    assert writer.manifest.can_be_sharpened()
    with pytest.raises(StoreError, match=r"has measured for 9\.0 s"):
        measure(speed, budget_s=8.0)
    writer, crew, _ = measure(speed, budget_s=30.0)
    looks = writer.manifest.looks
    assert looks is not None and looks.ended == "rounds"
    assert [look.rounds for look in looks.looks] == [6, 8, 9, 12, 16, 24]
    assert len(crew.asked) == 2 * 15, "what was measured is not measured again"


def test_a_budget_that_ends_within_a_round_leaves_whole_rounds(measure: Measure, clock: FakeClock) -> None:
    speed = {"a": 1e6, "b": 1e6}
    ask = _Crew.ask

    def slower(self: _Crew, entry: VariantEntry, request: Any) -> Any:
        if isinstance(request, MeasureBlock) and len(self.asked) >= 14:
            clock.advance(5.0)
        return ask(self, entry, request)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Crew, "ask", slower)
        writer, _, _ = measure(speed, margin=1e-6, budget_s=10.0)
    looks = writer.manifest.looks
    assert looks is not None and looks.ended == "budget"
    assert looks.spent_s <= 10.0 + 5.5, "the block that was under way is the last"
    assert _rounds(writer) == {"a": list(range(7)), "b": list(range(7))}
    assert looks.looks[-1].rounds == 7


def test_all_samples_are_predicted_by_variants_that_are_decided(measure: Measure) -> None:
    writer, _, _ = measure({"a": 1e6, "b": 2e6}, total=100, margin=0.02)
    assert writer.manifest.sampling is not None and writer.manifest.sampling.predicted == 100
    assert _rounds(writer)["a"] == list(range(6)), "for latency, no more is measured"
    later = _rounds(writer, "predicted")
    assert later["a"] == later["b"] == list(range(6, 20)), "five samples each"


def test_few_samples_are_predicted_by_the_first_look(measure: Measure) -> None:
    writer, crew, _ = measure({"a": 1e6, "b": 2e6}, total=300, samples=50, margin=0.02)
    kept = {name: [s for n, one in crew.asked if n == name and one.keep for s in one.samples] for name in "ab"}
    assert set(kept["a"]) == set(kept["b"]) and len(set(kept["a"])) == 50
    assert not _rounds(writer, "predicted"), "no round is run for them alone"


def test_a_run_of_fixed_rounds_cannot_have_more(measure: Measure) -> None:
    writer, _, _ = measure({"a": 1e6, "b": 2e6}, total=300, rounds=5)
    assert writer.manifest.sampling is None and writer.manifest.looks is None
    assert len(_rounds(writer)["a"]) == 5
    with pytest.raises(StoreError, match="predicts all its samples"):
        ask_for_more(writer, None, 500)
    with pytest.raises(StoreError, match="a fixed number of rounds"):
        ask_for_more(writer, 60.0, None)


def test_more_samples_come_behind_those_that_there_are(measure: Measure) -> None:
    speed = {"a": 1e6, "b": 2e6}
    writer, first, _ = measure(speed, total=300, rounds=5, samples=50)
    had = {sample for _, request in first.asked for sample in request.samples if request.keep}
    assert len(had) == 50 and had != set(range(50)), "drawn at random: a data set may be sorted"
    writer, second, _ = measure(speed, samples=280)
    more = [(name, request) for name, request in second.asked]
    assert {request.kind for _, request in more} == {"clean"} and all(request.min_ms == 0.0 for _, request in more)
    of_each = {name: [s for n, request in more if n == name for s in request.samples] for name in speed}
    assert sorted(of_each["a"]) == sorted(of_each["b"]) and len(of_each["a"]) == 230
    assert not had & set(of_each["a"]), "none is predicted twice"
    assert len(_rounds(writer)["a"]) == 5, "latency is that of the rounds"
    sampling = writer.manifest.sampling
    assert sampling is not None and (sampling.asked, sampling.predicted) == ([50, 280], 280)
    with pytest.raises(StoreError, match="has 280 of 300 samples"):
        ask_for_more(writer, None, 280)


def test_more_samples_hold_those_that_the_budget_left(measure: Measure) -> None:
    speed = {"a": 1e6, "b": 1e6}
    writer, _, _ = measure(speed, total=300, samples=50, margin=1e-6, budget_s=3.0)
    sampling = writer.manifest.sampling
    assert sampling is not None and 0 < sampling.predicted < 50
    writer, _, _ = measure(speed, samples=80)
    assert writer.manifest.sampling is not None and writer.manifest.sampling.predicted == 80


def test_scores_allow_for_the_looks_at_them(measure: Measure) -> None:
    writer, _, _ = measure({"a": 1e6, "b": 2e6}, total=300, rounds=5, samples=50)
    writer.manifest.score_columns = ["top1"]
    levels = []
    for samples in (None, 100, 300):
        if samples is not None:
            writer, _, _ = measure({"a": 1e6, "b": 2e6}, samples=samples)
        count_scored(writer.manifest)
        count_scored(writer.manifest)  # the same once more is no other look
        writer.save_manifest()
        levels.append(score_level(Run(writer.folder)))
    assert levels == pytest.approx([0.975, 0.9875, 0.9875]), "5 % in all: 2.5, 1.25 and what is left"


def test_ops_that_were_not_timed_are_so_in_the_rounds_that_decided(measure: Measure) -> None:
    """The worker died when it was to time them, and the run is resumed, in which nothing is left to decide."""
    speed = {"a": 1e6, "b": 1.5e6}
    first, crew, _ = measure(speed, timed=("a",), profiled=True, budget_s=60.0)
    rounds = first.manifest.looks.decided["b"]
    assert {name for name, request in crew.asked if request.kind == "profiled"} == {"a"}
    _, again, _ = measure(speed, timed=("a", "b"), budget_s=60.0)
    assert [(name, request.kind) for name, request in again.asked] == [("b", "profiled")] * rounds
