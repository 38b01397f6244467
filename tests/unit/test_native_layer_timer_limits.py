"""The layer timer where memory runs out: every call returns what it returns, and what went unrecorded is counted.

The scenarios run as those of `test_native_op_profiler_limits` do.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import Any

import pytest
from test_native_op_profiler_limits import Shim, address_space, build_shim, run


@pytest.fixture(scope="module", autouse=True)
def needed() -> None:
    pytest.importorskip("qprof.core._layers")


def test_calls_outlive_the_address_space() -> None:
    run(__file__, "the_address_space_ends")


def test_no_allocation_that_fails_ends_a_call(tmp_path: Path) -> None:
    run(__file__, "calling", build_shim(tmp_path))


# What follows runs in the scenarios' processes.


class Layer:
    """As much of a torch module as a timer sees; a chain of them, each calling the next."""

    def __init__(self, following: Layer | None) -> None:
        self.following = following

    def forward(self, value: int) -> int:
        return value if self.following is None else self.following.forward(value) + 1


def chain(length: int) -> list[Layer]:
    layers: list[Layer] = []
    for _ in range(length):
        layers.insert(0, Layer(layers[0] if layers else None))
    return layers


def the_address_space_ends() -> None:
    from qprof.core._layers import LayerTimer

    layers = chain(10)
    timer = LayerTimer(layers)
    timer.reserve(64)
    timer.start(0)
    rounds, beyond = 0, 100
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (address_space() + 2**23, hard))
    while beyond > 0 and rounds < 200_000:
        assert layers[0].forward(5) == 14
        rounds += 1
        beyond -= timer.lost > 0
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    timer.stop()
    lost = timer.lost
    assert lost > 0, f"the records of {rounds} rounds fit"
    assert len(timer.drain()) + lost == rounds * len(layers)
    # With memory again, everything is recorded again.
    timer.start(1)
    assert layers[0].forward(5) == 14
    timer.stop()
    assert len(timer.drain()) == len(layers) and timer.lost == lost


def calling(shim: Shim) -> None:
    from qprof.core._layers import LayerTimer

    layers = chain(100)  # deeper than the timer has room for from the start

    def call(after: int, count: int) -> None:
        timer: Any = LayerTimer(layers)
        timer.start(0)
        with shim.failing(after, count):
            result = layers[0].forward(0)
        timer.stop()
        lost = timer.lost
        assert result == len(layers) - 1
        assert len(timer.drain()) + lost == len(layers) and (lost > 0) == (shim.failed > 0)
        timer.start(1)
        layers[0].forward(0)
        timer.stop()
        assert len(timer.drain()) == len(layers) and timer.lost == lost

    shim.each_failure(call)


def main() -> None:
    scenario, *shims = sys.argv[1:]
    globals()[scenario](*(Shim(path, "_layers") for path in shims))
    print("all well")


if __name__ == "__main__":
    main()
