"""The layer timer: what it records, and that it leaves no trace. The compiled one and its oracle, case by case."""

from __future__ import annotations

import gc
import inspect
import sys
import threading
import time
import weakref
from typing import Any

import numpy as np
import pytest

from qprof.core import _layers
from qprof.runtimes.torch_lm import timing
from qprof.runtimes.torch_lm.timing import PythonLayerTimer, layer_timer

TIMERS = [_layers.LayerTimer, PythonLayerTimer]


class Module:
    """As much of a torch module as a timer sees."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    def forward(self, x: Any = None, *more: Any, scale: int = 1) -> Any:
        busy(20_000)
        return x


class Parent(Module):
    def __init__(self, *children: Module) -> None:
        self.children = children

    def forward(self, x: Any = None, *more: Any, scale: int = 1) -> Any:
        busy(50_000)
        for child in self.children:
            x = child(x)
        return x


def busy(ns: int) -> None:
    end_ns = time.perf_counter_ns() + ns
    while time.perf_counter_ns() < end_ns:
        pass


@pytest.fixture(params=TIMERS, ids=["compiled", "python"])
def make(request: pytest.FixtureRequest) -> Any:
    return request.param


def timed(timer: Any, call: Any, inference: int = 0) -> Any:
    timer.start(inference)
    try:
        call()
    finally:
        timer.stop()
    return timer.drain()


def test_a_nested_call_is_one_record_per_layer_and_own_times_add_up(make: Any) -> None:
    leaf, other = Module(), Module()
    root = Parent(leaf, other)
    before_ns = time.monotonic_ns()
    records = timed(make([root, leaf, other]), lambda: root(1), inference=7)
    after_ns = time.monotonic_ns()
    assert records.dtype == timing.record_dtype
    assert records["layer"].tolist() == [1, 2, 0]  # in the order in which calls end
    assert records["inference"].tolist() == [7, 7, 7]
    whole = records[2]
    assert before_ns <= whole["start_ns"] <= records["start_ns"][0]
    assert whole["start_ns"] + whole["duration_ns"] <= after_ns
    assert records["own_ns"][:2].tolist() == records["duration_ns"][:2].tolist()
    assert records["own_ns"].sum() == whole["duration_ns"]
    assert 50_000 <= whole["own_ns"] <= whole["duration_ns"] - 40_000


def test_modules_are_as_they_were_before_and_after(make: Any) -> None:
    plain, patched = Module(), Module()
    patched.forward = theirs = lambda x: "patched"  # type: ignore[method-assign]
    timer = make([plain, patched])
    assert "forward" not in plain.__dict__
    timer.start(0)
    assert "forward" in plain.__dict__ and patched.forward is not theirs
    assert patched(1) == "patched"
    timer.stop()
    assert "forward" not in plain.__dict__
    assert patched.forward is theirs
    timer.stop()
    assert patched(1) == "patched" and len(timer.drain()) == 1


def test_what_replaced_it_meanwhile_stays(make: Any) -> None:
    module = Module()
    timer = make([module])
    timer.start(0)
    module.forward = theirs = lambda: 5  # type: ignore[method-assign]
    timer.stop()
    assert module.forward is theirs


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((), {}), ((1,), {}), ((1, 2, 3, 4, 5, 6, 7), {"scale": 3}), ((), {"x": 4, "scale": 2}), ((None,), {"scale": 0})],
)
def test_arguments_and_results_pass_unchanged(make: Any, args: Any, kwargs: Any) -> None:
    class Echo(Module):
        def forward(self, x: Any = "x", *more: Any, scale: int = 1) -> Any:
            return (x, more, scale)

    echo = Echo()
    plain, got = echo(*args, **kwargs), []
    timed(make([echo]), lambda: got.append(echo(*args, **kwargs)))
    assert got == [plain]


def test_a_call_that_raises_is_recorded_and_the_stack_unwound(make: Any) -> None:
    class Broken(Module):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            busy(20_000)
            raise ValueError("broken")

    class Tolerant(Parent):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            with pytest.raises(ValueError, match="broken"):
                self.children[0]()

    broken = Broken()
    tolerant, strict = Tolerant(broken), Parent(broken)
    timer = make([tolerant, broken, strict])
    records = timed(timer, tolerant)
    assert records["layer"].tolist() == [1, 0]
    assert records["own_ns"].sum() == records["duration_ns"][1]
    with pytest.raises(ValueError, match="broken"):
        timed(timer, strict)
    assert "forward" not in broken.__dict__
    assert timer.drain()["layer"].tolist() == [1, 2]
    assert timed(timer, tolerant)["layer"].tolist() == [1, 0]


def test_a_module_twice_in_a_forward_and_inside_itself(make: Any) -> None:
    class Recursive(Module):
        def forward(self, depth: int = 0, *more: Any, scale: int = 1) -> Any:
            busy(20_000)
            return self(depth - 1) if depth else None

    leaf, recursive = Module(), Recursive()
    root = Parent(leaf, leaf)
    timer = make([root, leaf, recursive])
    records = timed(timer, root)
    assert records["layer"].tolist() == [1, 1, 0]
    assert records["own_ns"].sum() == records["duration_ns"][2]
    records = timed(timer, lambda: recursive(3))
    assert records["layer"].tolist() == [2] * 4
    assert (np.diff(records["duration_ns"]) > 0).all()
    assert records["own_ns"].sum() == records["duration_ns"].max()
    assert (records["own_ns"] >= 20_000).all()


def test_calls_of_another_thread_run_untimed_and_are_counted(make: Any) -> None:
    leaf = Module()
    got: list[Any] = []

    class Threaded(Module):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            thread = threading.Thread(target=lambda: got.append(leaf(3)))
            thread.start()
            thread.join()
            return leaf(4)

    root = Threaded()
    timer = make([root, leaf])
    records = timed(timer, lambda: got.append(root()))
    assert got == [3, 4]
    assert records["layer"].tolist() == [1, 0]
    assert records["own_ns"].sum() == records["duration_ns"][1]
    assert (timer.foreign_calls, timer.lost) == (1, 0)


def test_starting_and_stopping_inside_a_timed_call(make: Any) -> None:
    class Meddling(Module):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            with pytest.raises(RuntimeError, match="under way"):
                timer.start(1)
            timer.stop()
            return leaf(2)

    leaf, meddling = Module(), Meddling()
    timer = make([meddling, leaf])
    timer.start(0)
    assert meddling() == 2
    assert timer.drain()["layer"].tolist() == [0]
    assert timed(timer, leaf, inference=2)["inference"].tolist() == [2]


def test_starting_again_changes_the_inference(make: Any) -> None:
    leaf = Module()
    timer = make([leaf])
    for inference in (3, 4):
        timer.start(inference)
        leaf()
    timer.stop()
    leaf()
    assert timer.drain()["inference"].tolist() == [3, 4]
    assert len(timer.drain()) == 0
    assert "forward" not in leaf.__dict__


def test_reserving_keeps_what_was_recorded(make: Any) -> None:
    leaf = Module()
    timer = make([leaf])
    timer.start(0)
    for call in range(300):
        leaf.forward()
        if call == 100:
            timer.reserve(1000)
    timer.stop()
    records = timer.drain()
    assert len(records) == 300
    assert (np.diff(records["start_ns"]) > 0).all()


def test_the_call_in_place_looks_like_what_it_stands_for(make: Any) -> None:
    module = Module()
    plain = inspect.signature(module.forward)
    timer = make([module])
    timer.start(0)
    assert inspect.signature(module.forward) == plain
    assert inspect.unwrap(module.forward).__func__ is Module.forward  # type: ignore[attr-defined]
    timer.stop()


def test_nothing_is_kept_alive(make: Any) -> None:
    class Result:
        pass

    module, result = Module(), Result()
    timer = make([module])
    counts = sys.getrefcount(result), sys.getrefcount(None)
    timer.start(0)
    for _ in range(1000):
        module.forward(result, scale=2)
    timer.stop()
    assert sys.getrefcount(result) == counts[0]
    assert abs(sys.getrefcount(None) - counts[1]) < 500
    # In place, the module, its dictionary and the call form a cycle.
    timer.start(1)
    gone = weakref.ref(module)
    del module, timer
    gc.collect()
    assert gone() is None


def test_both_have_the_same_layout_and_the_compiled_one_is_preferred(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _layers.record_dtype == timing.record_dtype
    assert layer_timer([Module()])[1] == "compiled"
    monkeypatch.setitem(sys.modules, "qprof.core._layers", None)
    timer, kind = layer_timer([Module()])
    assert (type(timer), kind) == (PythonLayerTimer, "python")


def test_torch_modules_run_as_before(make: Any) -> None:
    torch = pytest.importorskip("torch")
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)).eval()
    given = torch.ones(3, 4)
    got: list[Any] = []
    with torch.inference_mode():
        plain = net(given)
        records = timed(make(list(net.modules())), lambda: got.append(net(given)))
    assert torch.equal(got[0], plain)
    assert records["layer"].tolist() == [1, 2, 3, 0]
    assert all("forward" not in module.__dict__ for module in net.modules())
