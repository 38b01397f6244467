"""What times nothing is asked of two variants at once."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from qprof.errors import ModelError, WorkerError
from qprof.measure.parent import jobs, variants
from qprof.measure.parent.process import Bounds
from qprof.measure.parent.variants import Crew
from qprof.measure.progress import SilentProgress
from qprof.measure.requests import CollectNotes
from qprof.record.manifest import VariantEntry
from qprof.record.sections import ProtocolSection

CALM = CollectNotes(decoding=False)


class Worker:
    """Answers with its name once `beside` of them have been asked."""

    def __init__(self, name: str, beside: threading.Barrier, error: Exception | None = None) -> None:
        self.label, self._name, self._beside, self._error = "", name, beside, error
        self.killed = False

    def ask(self, request: Any, timeout_s: float) -> str:
        self._beside.wait(10)
        if self._error is not None:
            raise self._error
        return self._name

    def kill_process(self) -> None:
        self.killed = True


def crew(tmp_path: Path, workers: dict[str, Any], **protocol: Any) -> tuple[Crew, list[VariantEntry]]:
    entries = [VariantEntry(name=name, section={}, runtime="litert") for name in workers]
    manifest = SimpleNamespace(baseline=entries[0], variants=entries, living=lambda: entries)
    writer = SimpleNamespace(folder=tmp_path, manifest=manifest, save_manifest=lambda: None)
    profile = SimpleNamespace(protocol=ProtocolSection(**protocol))
    made = Crew(writer, profile, SilentProgress(), Bounds())  # type: ignore[arg-type]
    made._workers = workers
    return made, entries


def test_two_are_asked_at_once_and_what_failed_is_among_the_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "available_cores", lambda: 2)
    pair, dead = threading.Barrier(2), WorkerError("b died")
    workers = {"a": Worker("a", pair), "b": Worker("b", pair, dead), "c": Worker("c", threading.Barrier(1))}
    made, entries = crew(tmp_path, workers)
    asked: list[str] = []

    def request(entry: VariantEntry) -> CollectNotes:
        asked.append(entry.name)
        if entry.name == "c":
            raise ModelError("no options")
        return CALM

    found = [(entry.name, answer) for entry, answer in made.answers(entries, request, "asking")]
    assert [name for name, _ in found] == ["a", "b", "c"] and sorted(asked) == ["a", "b", "c"]
    assert found[0][1] == "a" and found[1][1] is dead and str(found[2][1]) == "no options"


@pytest.mark.parametrize(("cores", "fit", "own"), [(1, True, True), (2, False, True), (2, True, False)])
def test_others_are_asked_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: int, fit: bool, own: bool
) -> None:
    monkeypatch.setattr(jobs, "available_cores", lambda: cores)
    monkeypatch.setattr(variants, "fit_together", lambda *_: fit)

    class Alone(Worker):
        def ask(self, request: Any, timeout_s: float) -> str:
            assert threading.current_thread() is threading.main_thread()
            return super().ask(request, timeout_s)

    made, entries = crew(tmp_path, {name: Alone(name, threading.Barrier(1)) for name in "abc"}, own_process=own)
    answers = made.answers(entries, lambda _: CALM, "asking")
    assert [answer for _, answer in answers] == ["a", "b", "c"]


def test_ctrl_c_ends_the_workers_that_are_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "available_cores", lambda: 2)
    pair = threading.Barrier(2)
    workers = {"a": Worker("a", pair, KeyboardInterrupt()), "b": Worker("b", pair)}  # type: ignore[arg-type]
    made, entries = crew(tmp_path, workers)
    with pytest.raises(KeyboardInterrupt):
        list(made.answers(entries, lambda _: CALM, "asking"))
    assert workers["a"].killed and workers["b"].killed
