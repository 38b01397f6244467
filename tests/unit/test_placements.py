"""A variant is loaded anew for each of its blocks, so that no verdict hangs on where it came to lie in memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from qprof import embedded
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


def test_a_clean_block_is_of_a_model_loaded_anew(path: Path) -> None:
    tried = bench(path)
    first = tried._model
    answer = block(tried)
    assert answer.facts.load_ns is not None and answer.facts.load_ns > 0 and tried._model is not first


def test_places_are_others_in_a_process_like_a_workers() -> None:
    """Where else much was allocated and let go of, as in that of the tests, a few places come again and again."""
    code = "import test_placements as tests; print(len(tests.places(12)))"
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": path}
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert int(said.stdout) > 8


def places(blocks: int) -> set[int]:
    """The places of a detector in some blocks."""
    tried, found = bench(Path(embedded.__file__).parent / "shapes_detector.tflite"), set()
    for _ in range(blocks):
        block(tried, min_ms=50.0)
        found.add(address(tried))
    return found


def test_inputs_are_made_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a model is tried before a block: a block has kept those of the block before."""
    tried, made = bench(path), []
    inputs = tried._task.inputs
    monkeypatch.setattr(tried._task, "inputs", lambda sample: (made.append(sample), inputs(sample))[1])
    block(tried)
    block(tried)
    assert made == [0, 1, 2]


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
    """One whose models are made as is said."""

    def __init__(self, load: Callable[[], Any] | None = None, beside: Callable[[], list[Path]] = list) -> None:
        self.loads = 0
        self._load, self._beside = load or Net, beside

    def load_again(self, model: Any, path: Path, options: Any) -> Any:
        self.loads += 1
        return self._load()

    def files_beside(self, path: Path) -> list[Path]:
        return self._beside()


class Net:
    """One that adds a number to its input."""

    def __init__(self, adds: float = 1.0, keeps_state: bool = False) -> None:
        self.loaded = SimpleNamespace(keeps_state=keeps_state, phases=[SimpleNamespace(name=INFERENCE)])
        self._adds = adds

    def enter(self, phase: str) -> None:
        assert phase == INFERENCE

    def set_inputs(self, arrays: list[Any]) -> None:
        self._input = arrays[0]

    def invoke(self) -> None:
        self._output = self._input + self._adds

    def outputs(self) -> list[Any]:
        return [self._output]


class Drawn(Placements):
    def __init__(self, runtime: Runtime, path: Path) -> None:
        super().__init__(runtime, path, object())  # type: ignore[arg-type]

    def another(self, model: Any, block_ns: int = LONG_NS) -> Any:
        """The model loaded anew, `None` where it stays."""
        found, took_ns = self.moved(model, block_ns, [np.array([0.0, np.nan])])
        assert (took_ns is None) == (found is model)
        return None if found is model else found


def test_what_is_slow_to_load_stays(path: Path) -> None:
    runtime, first = Runtime(), Net()
    drawn = Drawn(runtime, path)
    second = drawn.another(first, block_ns=1)
    assert second is not None, "what it takes is known once it was tried"
    assert drawn.another(second, block_ns=1) is None and runtime.loads == 1
    assert drawn.another(second) is not None


def test_a_load_that_was_disturbed_is_not_the_last(path: Path) -> None:
    slow = iter([0.0, 0.1, 0.0])

    def load() -> Net:
        end = time.monotonic() + next(slow)
        while time.monotonic() < end:
            pass
        return Net()

    drawn, model = Drawn(Runtime(load), path), Net()
    for _ in range(3):
        model = drawn.another(model, block_ns=50_000_000)
        assert model is not None


def test_what_is_large_is_not_tried(path: Path) -> None:
    weights = path.with_name("weights")
    with weights.open("wb") as file:
        file.truncate(100_000_001)
    runtime = Runtime(beside=lambda: [weights])
    assert Drawn(runtime, path).another(Net()) is None and runtime.loads == 0
    assert Drawn(Runtime(), path).another(Net()) is not None


def test_a_state_is_kept(path: Path) -> None:
    runtime = Runtime()
    assert Drawn(runtime, path).another(Net(keeps_state=True)) is None and runtime.loads == 0


@pytest.mark.parametrize("adds", [2.0, np.nextafter(1.0, 2.0)])
def test_what_computes_otherwise_is_let_go_of(path: Path, adds: float) -> None:
    runtime, first = Runtime(lambda: Net(adds)), Net()
    drawn = Drawn(runtime, path)
    assert drawn.another(first) is None and drawn.another(first) is None and runtime.loads == 1


def fails(error: Exception) -> Any:
    raise error


@pytest.mark.parametrize(
    "load", [lambda: None, lambda: fails(ModelError("gone")), lambda: fails(MemoryError("no room for two"))]
)
def test_what_cannot_be_loaded_again_is_not_tried_twice(path: Path, load: Callable[[], Any]) -> None:
    runtime, first = Runtime(load), Net()
    drawn = Drawn(runtime, path)
    assert drawn.another(first) is None and drawn.another(first) is None
    assert runtime.loads == 1


@pytest.mark.parametrize("change", [lambda path: path.write_bytes(b"22"), Path.unlink])
def test_a_file_beside_the_model_is_watched_too(path: Path, change: Callable[[Path], Any]) -> None:
    weights = path.with_name("weights")
    weights.write_bytes(b"1")
    drawn = Drawn(Runtime(beside=lambda: [weights]), path)
    second = drawn.another(Net())
    assert second is not None
    change(weights)
    assert drawn.another(second) is None


def test_a_file_that_changes_while_it_is_loaded_again_is_let_go_of(path: Path) -> None:
    def load() -> object:
        path.write_bytes(b"another")
        return Net()

    assert Drawn(Runtime(load), path).another(Net()) is None


def test_a_file_that_changed_while_it_was_loaded_first_is_not_loaded_again(path: Path) -> None:
    runtime = Runtime()
    drawn = Drawn(runtime, path)  # before it is loaded
    path.write_bytes(b"another")
    assert drawn.another(Net()) is None and runtime.loads == 0


def test_a_folder_is_not_read_again(tmp_path: Path) -> None:
    """Its model is copied; files in it may come and go."""
    drawn = Drawn(Runtime(), tmp_path)
    second = drawn.another(Net())
    (tmp_path / "another").touch()
    assert second is not None and drawn.another(second) is not None
