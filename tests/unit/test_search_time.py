"""A search by a clock that a test sets: what it begins within its budget, and what it keeps."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from qprof.errors import DataError, StoreError
from qprof.findings.search import search as module
from qprof.findings.search.search import Point, Search
from qprof.findings.search.space import Space
from qprof.findings.search.trials import Asked, SearchFolder, Trial
from qprof.measure.progress import SilentProgress

TRIAL_S = 10.0
VALID = {"name": "a", "model": {"path": "embedded:shapes_detector.tflite"}, "variants": ["float32", "int8"]}
LAYERS = [f"layer{number}" for number in range(8)]


class FakeFolder:
    """Trials take ten seconds each; of the layers, the sixth alone costs the score."""

    def __init__(self) -> None:
        self.asked = Asked(profile={}, variant="int8", figure="size")
        self.clock_s = 0.0
        self.done: list[Trial] = []
        entry = SimpleNamespace(name="int8", bytes=100)
        self.run = SimpleNamespace(baseline="float32", metric="accuracy", variant=lambda name: entry, folder="fake")

    def start(self, progress: object) -> Any:
        return self.run

    def trials(self) -> list[Trial]:
        return list(self.done)

    def carry_out(self, begun: object, names: frozenset[str], why: str, progress: object) -> Trial:
        self.clock_s += TRIAL_S
        run: Any = SimpleNamespace(names=names, variant=lambda name: SimpleNamespace(bytes=100 + len(names)))
        self.done.append(Trial(len(self.done) + 1, names, why, run, "trial"))
        return self.done[-1]


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> FakeFolder:
    groups = tuple(frozenset((name,)) for name in LAYERS)
    space = Space(groups, dict.fromkeys(groups, 1.0), dict.fromkeys(LAYERS, 1.0), 0.1)

    def score(of: tuple[Any, str], metric: str, half: str, seed: int) -> float:
        assert half == "selection"
        return 0.9 if of[1] == "float32" or "layer5" in getattr(of[0], "names", ()) else 0.6

    def change(a: tuple[Any, str], b: tuple[Any, str], metric: str, half: str, seed: int) -> float:
        return score(b, metric, half, seed) - score(a, metric, half, seed)

    monkeypatch.setattr(module, "change", change)
    monkeypatch.setattr(module, "space_of", lambda run, variant, figure: space)
    monkeypatch.setattr(module, "score", score)
    return FakeFolder()


def search_in(folder: FakeFolder, told: list[Point] | None = None) -> Search:
    def tell(search: Search, point: Point) -> None:
        if told is not None:
            told.append(point)

    kept: Any = folder
    return Search(kept, SilentProgress(), lambda: folder.clock_s, tell)


def test_no_trial_is_begun_that_would_end_beyond_the_budget(folder: FakeFolder) -> None:
    told: list[Point] = []
    search_in(folder, told).go(3.5 * TRIAL_S)
    assert len(folder.done) == 3 and folder.clock_s == 3 * TRIAL_S
    assert [point.trial for point in told] == folder.done


def test_a_budget_of_nothing_still_gives_one_trial(folder: FakeFolder) -> None:
    search_in(folder).go(0.0)
    assert len(folder.done) == 1


def test_what_was_tried_is_not_tried_again_and_the_way_is_the_same(folder: FakeFolder) -> None:
    whole = FakeFolder()
    search_in(whole).go(1e9)
    while True:
        before = len(folder.done)
        search_in(folder).go(0.0)  # a new process each time, one trial at a time
        if len(folder.done) == before:
            break
    assert [trial.names for trial in folder.done] == [trial.names for trial in whole.done]
    assert len({trial.names for trial in whole.done}) == len(whole.done)
    found = search_in(folder)
    found.go(0.0)
    assert found.chosen().trial.names == {"layer5"}
    assert [sorted(point.trial.names) for point in found.front()] == [[], ["layer5"]]


def test_what_is_not_scored_cannot_be_searched(folder: FakeFolder) -> None:
    folder.run.metric = None
    with pytest.raises(DataError, match="nothing was scored"):
        search_in(folder).go(0.0)


def test_a_folder_that_is_no_search_or_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "search.json").write_text('{"version": 99}')
    with pytest.raises(StoreError, match="is no search of this version"):
        SearchFolder.open(tmp_path)
    (tmp_path / "search.json").write_text('{"version": 1, "asked": {"variant": 3}, "looks": []}')
    with pytest.raises(StoreError, match="damaged"):
        SearchFolder.open(tmp_path)
    model = {"name": "a", "model": {"path": "embedded:shapes_detector.tflite"}, "variants": ["float32", "int8"]}
    with pytest.raises(StoreError, match="exists already"):
        SearchFolder.create(tmp_path, Asked(profile=model, variant="int8", figure="size"))


@pytest.mark.parametrize(
    "change",
    [
        {"profile": {}},
        {"profile": {**VALID, "protocol": {"layer_errors": {"a": 1}}}},
        {"profile": {**VALID, "protocol": []}},
        {"variant": 5},
        {"variant": "../../x"},
    ],
)
def test_a_damaged_search_is_told_in_one_line(tmp_path: Path, change: dict[str, Any]) -> None:
    SearchFolder.create(tmp_path / "s", Asked(profile=VALID, variant="int8", figure="size"))
    place = tmp_path / "s" / "search.json"
    written = json.loads(place.read_text())
    written["asked"] |= change
    place.write_text(json.dumps(written))
    with pytest.raises(StoreError, match=r"search\.json: damaged") as caught:
        SearchFolder.open(tmp_path / "s")
    assert "\n" not in str(caught.value)


def test_a_search_without_what_has_defaults_is_whole(tmp_path: Path) -> None:
    SearchFolder.create(tmp_path / "s", Asked(profile=VALID, variant="int8", figure="size"))
    assert SearchFolder.open(tmp_path / "s").asked.profile["protocol"]["rounds"] > 0


@pytest.mark.parametrize("place", ["trials", "trials/001", "trials/001/run", "start", "front", "recipes"])
def test_a_search_does_not_go_on_behind_a_link(tmp_path: Path, place: str) -> None:
    SearchFolder.create(tmp_path / "s", Asked(profile=VALID, variant="int8", figure="size"))
    SearchFolder.open(tmp_path / "s")
    link = tmp_path / "s" / place
    if link.exists():
        link.rmdir()
    link.parent.mkdir(exist_ok=True)
    (tmp_path / "mine").mkdir()
    link.symlink_to(tmp_path / "mine")
    with pytest.raises(StoreError, match="is a link"):
        SearchFolder.open(tmp_path / "s")
