"""Messages between processes: what is sent arrives, arrays of every kind included."""

from __future__ import annotations

import math
import socket
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from qprof.run.channel import Channel, json_safe

Ends = tuple[Channel, Channel]


@pytest.fixture
def ends() -> Iterator[Ends]:
    ours, theirs = socket.socketpair()
    pair = Channel(ours.detach()), Channel(theirs.detach())
    yield pair
    for end in pair:
        end.close()


@pytest.mark.parametrize(
    "dtype",
    [*"?bBhHiIqQefdF", ">i4", ">f8", "S3", "U2"],
)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 3), (3, 0, 2)])
def test_arrays_arrive_as_sent(ends: Ends, dtype: str, shape: tuple[int, ...]) -> None:
    sent = np.arange(math.prod(shape)).reshape(shape).astype(dtype)
    ends[0].send({"n": 1}, {"x": sent})
    message, arrays = ends[1].receive(5)
    assert message == {"n": 1}
    assert arrays["x"].dtype == sent.dtype
    assert arrays["x"].shape == shape
    assert np.array_equal(arrays["x"], sent)


def test_views_and_nan(ends: Ends) -> None:
    base = np.array([[1.0, math.nan, 3.0], [4.0, math.inf, -0.0]])
    ends[0].send({}, {"t": base.T, "s": base[:, ::2], "f": np.asfortranarray(base)})
    _, arrays = ends[1].receive(5)
    assert list(arrays) == ["t", "s", "f"]
    assert np.array_equal(arrays["t"], base.T, equal_nan=True)
    assert np.array_equal(arrays["s"], base[:, ::2], equal_nan=True)
    assert np.array_equal(arrays["f"], base, equal_nan=True)
    assert math.copysign(1, arrays["f"][1, 2]) == -1


def test_messages_keep_their_order_and_text(ends: Ends) -> None:
    messages: list[dict[str, Any]] = [{"i": 0, "t": "µ\n\0😀"}, {"i": 1, "n": None, "l": [1.5, {"a": []}]}, {}]
    for message in messages:
        ends[0].send(message)
    assert [ends[1].receive(5) for _ in messages] == [(message, {}) for message in messages]


def test_large_arrays(ends: Ends) -> None:
    sent = np.random.default_rng(0).integers(0, 256, 5_000_000, dtype=np.uint8)
    thread = threading.Thread(target=ends[0].send, args=({}, {"x": sent}))
    thread.start()
    _, arrays = ends[1].receive(30)
    thread.join()
    assert np.array_equal(arrays["x"], sent)


def test_nothing_in_time(ends: Ends) -> None:
    with pytest.raises(TimeoutError):
        ends[0].receive(0.01)


def test_other_end_gone(ends: Ends) -> None:
    ends[1].close()
    with pytest.raises((EOFError, OSError)):
        ends[0].receive(5)
    with pytest.raises(OSError, match="Broken pipe"):
        ends[0].send({})


def test_nan_in_a_message_is_refused_before_anything_is_sent(ends: Ends) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        ends[0].send({"x": math.nan})
    ends[0].send({"x": 1})
    assert ends[1].receive(5) == ({"x": 1}, {})


def test_objects_are_never_unpickled(ends: Ends) -> None:
    ends[0].send({}, {"x": np.array([None], object)})
    with pytest.raises(ValueError, match="OBJECT"):
        ends[1].receive(5)


def test_json_safe() -> None:
    value = {
        1: math.nan,
        "a": [math.inf, -math.inf, 1.5, None, True, "x"],
        "b": (np.float32(0.5), np.int64(3), np.float64("nan"), np.bool_(True)),
    }
    assert json_safe(value) == {"1": None, "a": [None, None, 1.5, None, True, "x"], "b": [0.5, 3, None, True]}
    assert json_safe(value)["b"][3] is True
