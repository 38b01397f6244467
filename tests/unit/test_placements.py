"""A variant is loaded anew for each of its blocks, so that no verdict hangs on where it came to lie in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from qprof.errors import ModelError
from qprof.measure.requests import BlockAnswer, LoadedVariant, LoadVariant, MeasureBlock
from qprof.measure.worker.bench import Bench
from qprof.measure.worker.placements import Placements
from qprof.record.manifest import PreparedTask
from qprof.record.phases import INFERENCE
from qprof.store.cache import file_sha256
from qprof.tasks.latency.kind import LatencySection

builder = pytest.importorskip("tflite_builder", reason="the builder of tiny models needs ai_edge_litert")

LONG_NS = 10_000_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "net.tflite"
    found.write_bytes(builder.tiny_conv_net())
    return found


def bench(path: Path) -> Bench:
    variant = LoadedVariant(runtime="litert", path=str(path), options={"threads": 1}, sha256=file_sha256(path))
    task = PreparedTask(section=msgspec.to_builtins(LatencySection(samples=3)))
    return Bench(LoadVariant(variant=variant, task=task))


def block(tried: Bench, kind: Any = "clean", min_ms: float = 200.0, keep: bool = False) -> BlockAnswer:
    return tried.block(MeasureBlock(name="a", kind=kind, phase=INFERENCE, samples=[0, 1, 2], min_ms=min_ms, keep=keep))


def address(tried: Bench) -> int:
    """Where the interpreter's first input lies."""
    interpreter = tried._model.interpreter  # type: ignore[attr-defined]
    view = interpreter.tensor(interpreter.get_input_details()[0]["index"])()
    return int(view.__array_interface__["data"][0])


def test_each_clean_block_has_a_place_of_its_own(path: Path) -> None:
    tried, places = bench(path), set()
    for _ in range(8):
        answer = block(tried, min_ms=50.0)
        assert answer.facts.load_ns is not None and answer.facts.load_ns > 0
        places.add(address(tried))
    assert len(places) > 4, "a model that is let go of leaves its place to the next one"


def test_a_profiled_block_loads_nothing(path: Path) -> None:
    tried = bench(path)
    assert tried.instrument().ops
    model = tried._model
    assert block(tried, "profiled").facts.load_ns is None and tried._model is model


def test_predictions_are_those_of_the_model_that_was_loaded_first(path: Path) -> None:
    tried = bench(path)
    assert block(tried, keep=True).predictions == block(tried, keep=True).predictions


@pytest.mark.parametrize("change", [lambda path: path.write_bytes(builder.tiny_int8_net()), Path.unlink])
def test_a_file_that_was_changed_is_not_loaded(path: Path, change: Callable[[Path], Any]) -> None:
    """What is reported is the file that was made, whatever became of it since."""
    tried = bench(path)
    model = tried._model
    change(path)
    answer = block(tried)
    assert answer.facts.load_ns is None and tried._model is model and len(answer.samples.duration_ns)


class Runtime:
    """One whose models take as long to load as is said."""

    def __init__(self, load: Callable[[], Any] = lambda: model(), beside: Callable[[], list[Path]] = list) -> None:
        self.loads = 0
        self._load, self._beside = load, beside

    def load_again(self, model: Any, path: Path, options: Any) -> Any:
        self.loads += 1
        return self._load()

    def files_beside(self, path: Path) -> list[Path]:
        return self._beside()


def model(keeps_state: bool = False) -> Any:
    return SimpleNamespace(loaded=SimpleNamespace(keeps_state=keeps_state))


def placements(runtime: Runtime, path: Path, first_load_ns: int = 1_000) -> Placements:
    made = Placements(runtime, path, object())  # type: ignore[arg-type]
    made.loaded(first_load_ns)
    return made


def test_what_is_slow_to_load_stays(path: Path) -> None:
    runtime, first = Runtime(), model()
    assert placements(runtime, path, 2_000_000_000).moved(first, LONG_NS) == (first, None)
    assert runtime.loads == 0
    drawn = placements(runtime, path)
    second, took_ns = drawn.moved(first, 1)
    assert second is not first and took_ns is not None and took_ns > 1, "what it takes is known once it was tried"
    assert drawn.moved(second, 1) == (second, None)
    assert runtime.loads == 1
    assert drawn.moved(second, LONG_NS)[0] is not second


def test_a_file_that_changed_while_it_was_loaded_first_is_not_loaded_again(path: Path) -> None:
    runtime, first = Runtime(), model()
    drawn = Placements(runtime, path, object())  # type: ignore[arg-type]
    path.write_bytes(b"another")
    drawn.loaded(1_000)
    assert drawn.moved(first, LONG_NS) == (first, None)
    assert runtime.loads == 0


def test_a_state_is_kept(path: Path) -> None:
    runtime, first = Runtime(), model(keeps_state=True)
    assert placements(runtime, path).moved(first, LONG_NS) == (first, None)
    assert runtime.loads == 0


@pytest.mark.parametrize("load", [lambda: None, lambda: (_ for _ in ()).throw(ModelError("gone"))])
def test_what_cannot_be_loaded_again_is_not_tried_twice(path: Path, load: Callable[[], Any]) -> None:
    runtime, first = Runtime(load), model()
    drawn = placements(runtime, path)
    assert drawn.moved(first, LONG_NS) == drawn.moved(first, LONG_NS) == (first, None)
    assert runtime.loads == 1


def test_a_file_beside_the_model_is_watched_too(path: Path) -> None:
    weights = path.with_name("weights")
    weights.write_bytes(b"1")
    runtime, first = Runtime(beside=lambda: [weights]), model()
    drawn = placements(runtime, path)
    second, _ = drawn.moved(first, LONG_NS)
    assert second is not first
    weights.write_bytes(b"22")
    assert drawn.moved(second, LONG_NS) == (second, None)


def test_a_file_that_changes_while_it_is_loaded_again_is_let_go_of(path: Path) -> None:
    def load() -> object:
        path.write_bytes(b"another")
        return object()

    first = model()
    assert placements(Runtime(load), path).moved(first, LONG_NS) == (first, None)
