"""Host stacks of the variants of a run, with samplers and workers that do as they are told."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from qprof.errors import WorkerError
from qprof.measure.parent import jobs, stacks
from qprof.measure.parent.stacks import StackBlocks
from qprof.probes.stacks import Stacks
from qprof.record.manifest import VariantEntry
from qprof.record.sections import ProtocolSection


class World:
    """`log`: (variant, phase, whether it was sampled) of each block, with those that were run at the same time."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, cores: int = 2, **protocol: Any) -> None:
        self.folder, self.sampling = folder, set[str]()
        self.log: list[set[tuple[str, str, bool]]] = []
        self.refused, self.failing, self.notes = set[str](), dict[str, str](), list[str]()
        self.protocol = ProtocolSection(stacks_s=0.5, **protocol)
        self.entries = [VariantEntry(name=name, section={}, runtime="litert") for name in "abc"]
        self._together: set[tuple[str, str, bool]] = set()
        self._lock = threading.Lock()
        for module in (jobs, stacks):
            monkeypatch.setattr(module, "available_cores", lambda: cores)
        world = self

        class Recorder:
            def __init__(self, pid: str, out: Path, native: bool) -> None:
                self.name = pid

            def __enter__(self) -> Recorder:
                return self

            def __exit__(self, *error: object) -> None:
                world.sampling.discard(self.name)

            def start(self, limit_s: float) -> bool:
                if self.name in world.refused:
                    return False
                world.sampling.add(self.name)
                return True

            def stop(self) -> Stacks:
                world.sampling.discard(self.name)
                if self.name in world.refused:
                    return Stacks(100, True, reason="may not", remedy="allow it")
                return Stacks(100, True, (f"{self.name};invoke 3",), 3, 0)

        monkeypatch.setattr(stacks, "StackRecorder", Recorder)

    def ask(self, entry: VariantEntry, request: Any) -> Any:
        seen = (entry.name, request.phase, entry.name in self.sampling)
        with self._lock:
            self._together.add(seen)
        try:  # whoever is run beside it comes here within the time
            self.barrier.wait(10)
        except threading.BrokenBarrierError:
            pytest.fail("blocks that should be run at once were not")
        with self._lock:
            if self._together:
                self.log.append(set(self._together))
                self._together.clear()
        if self.failing.get(entry.name) == request.phase:
            raise WorkerError(f"variant {entry.name}: died")
        duration = 150 if seen[2] else 100
        return SimpleNamespace(samples=SimpleNamespace(duration_ns=np.array([duration])))

    def record(self, phases: list[str], together: list[int]) -> None:
        """`together`: how many blocks are at once in each step."""
        sizes = iter(together)
        self.barrier = _Barriers(sizes)
        crew = SimpleNamespace(living=lambda: self.entries, pid=lambda entry: entry.name, ask=self.ask)
        writer = SimpleNamespace(folder=self.folder)
        progress = SimpleNamespace(phase=lambda *_: None, note=self.notes.append)
        StackBlocks(writer, self.protocol, crew, progress).record(phases)  # type: ignore[arg-type]
        assert next(sizes, None) is None, "fewer blocks than expected"

    def facts(self, name: str) -> Any:
        return json.loads((self.folder / "stacks" / f"{name}.json").read_text())


class _Barriers:
    """One barrier after the other, each for so many."""

    def __init__(self, sizes: Any) -> None:
        self._sizes, self._lock = sizes, threading.Lock()
        self._now: threading.Barrier | None = None
        self._left = 0

    def wait(self, timeout_s: float) -> None:
        with self._lock:
            if not self._left:
                self._left = next(self._sizes)
                self._now = threading.Barrier(self._left)
            self._left -= 1
            now = self._now
        assert now is not None
        now.wait(timeout_s)


def step(names: str, phase: str, sampled: bool) -> set[tuple[str, str, bool]]:
    return {(name, phase, sampled) for name in names}


def test_two_variants_are_sampled_at_once_and_then_both_run_without_a_sampler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, monkeypatch)
    world.record(["prefill", "decode"], [2] * 4 + [1] * 4)
    steps = [step(names, phase, s) for names in ("ab", "c") for phase in ("prefill", "decode") for s in (True, False)]
    assert world.log == steps
    for name in "abc":
        assert world.facts(name)["slowdown"] == pytest.approx(0.5)
        text = (tmp_path / "stacks" / f"{name}.folded").read_text()
        assert text == f"prefill;{name};invoke 3\ndecode;{name};invoke 3\n"
    world.record(["prefill", "decode"], [])  # all of them are there


@pytest.mark.parametrize(
    ("cores", "protocol"),
    [(1, {}), (2, {"threads": 2}), (2, {"own_process": False}), (2, {"device": "cuda"})],
    ids=["one core", "of two threads each", "in one process", "on one device"],
)
def test_where_they_would_disturb_each_other_they_are_sampled_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: int, protocol: dict[str, Any]
) -> None:
    world = World(tmp_path, monkeypatch, cores, **protocol)
    world.record(["inference"], [1] * 6)
    assert world.log == [step(name, "inference", sampled) for name in "abc" for sampled in (True, False)]


def test_what_one_lacks_the_other_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    world.refused, world.failing = {"a"}, {"c": "decode"}
    world.record(["prefill", "decode"], [1] * 4 + [1] * 3)
    assert world.facts("a")["reason"] == "may not" and world.facts("a")["slowdown"] is None
    assert world.facts("b")["slowdown"] == pytest.approx(0.5) and not (tmp_path / "stacks" / "a.folded").exists()
    assert world.notes == ["a: no host stacks: may not: allow it", "c: its stacks were not sampled: variant c: died"]
    assert world.entries[2].notes == ["its stacks were not sampled: variant c: died"]
    assert not (tmp_path / "stacks" / "c.json").exists()
