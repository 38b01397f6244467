"""Messages between processes: what is sent arrives as the type that was asked for, arrays of every kind included."""

from __future__ import annotations

import math
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from qprof.measure.channel import Channel, decoded, json_safe
from qprof.record.blocks import BlockFacts, Samples
from qprof.record.ops import OpEvents, OpMeta
from qprof.record.phases import Phase
from qprof.record.readings import Reading
from qprof.record.tensors import TensorSpec

Ends = tuple[Channel, Channel]


@pytest.fixture
def ends() -> Iterator[Ends]:
    ours, theirs = socket.socketpair()
    pair = Channel(ours.detach()), Channel(theirs.detach())
    yield pair
    for end in pair:
        end.close()


class Arrays(msgspec.Struct):
    n: int
    x: NDArray[Any]


class Several(msgspec.Struct):
    t: NDArray[np.float64]
    s: NDArray[np.float64]
    f: NDArray[np.float64]


@dataclass
class Whole:
    """Of everything that messages are made of."""

    facts: BlockFacts
    phase: Phase
    spec: TensorSpec
    op: OpMeta
    readings: list[Reading]
    values: dict[int, Any]
    samples: Samples | None = None
    pairs: list[tuple[str, str]] = field(default_factory=list)


@pytest.mark.parametrize("dtype", [*"?bBhHiIqQefdFD", ">i4", ">f8"])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 3), (3, 0, 2)])
def test_arrays_arrive_as_sent(ends: Ends, dtype: str, shape: tuple[int, ...]) -> None:
    sent = np.arange(math.prod(shape)).reshape(shape).astype(dtype)
    ends[0].send(Arrays(1, sent))
    message = decoded(ends[1].receive(5), Arrays)
    assert message.n == 1
    assert message.x.dtype == sent.dtype
    assert message.x.shape == shape
    assert np.array_equal(message.x, sent)
    assert message.x.flags.writeable


def test_views_and_nan(ends: Ends) -> None:
    base = np.array([[1.0, math.nan, 3.0], [4.0, math.inf, -0.0]])
    ends[0].send(Several(t=base.T, s=base[:, ::2], f=np.asfortranarray(base)))
    arrived = decoded(ends[1].receive(5), Several)
    assert np.array_equal(arrived.t, base.T, equal_nan=True)
    assert np.array_equal(arrived.s, base[:, ::2], equal_nan=True)
    assert np.array_equal(arrived.f, base, equal_nan=True)
    assert math.copysign(1, arrived.f[1, 2]) == -1


def test_messages_keep_their_order_and_text(ends: Ends) -> None:
    messages: list[dict[str, Any]] = [{"i": 0, "t": "µ\n\0😀"}, {"i": 1, "n": None, "l": [1.5, {"a": []}]}, {}]
    for message in messages:
        ends[0].send(message)
    envelopes = [ends[1].receive(5) for _ in messages]
    assert [decoded(envelope, dict[str, Any]) for envelope in envelopes] == messages
    assert not any(envelope.failed for envelope in envelopes)


def test_a_failure_is_told_from_an_answer(ends: Ends) -> None:
    ends[0].send("no", failed=True)
    envelope = ends[1].receive(5)
    assert envelope.failed
    assert decoded(envelope, str) == "no"


def test_dataclasses_and_structs_arrive_as_what_they_are(ends: Ends) -> None:
    sent = Whole(
        facts=BlockFacts(window_ns=(5, 2**62), repetitions=3),
        phase=Phase("decode", 1, 8),
        spec=TensorSpec("in", (1, 2), "int8", 0.5, -128, (-1, 2)),
        op=OpMeta("conv", "conv/µ", "CONV_2D", 0, inputs=["float32[1]"], outputs=[], macs=7),
        readings=[Reading("host.user_s", 200, 0.25, "s", "measured")],
        values={4: [{"score": 0.5}], 5: None},
        samples=Samples(np.array([4], np.int32), np.array([2**40]), np.array([10])),
        pairs=[("a", "b")],
    )
    ends[0].send(sent)
    arrived = decoded(ends[1].receive(5), Whole)
    assert arrived.samples is not None and sent.samples is not None
    for name in ("sample", "start_ns", "duration_ns"):
        mine, its = getattr(arrived.samples, name), getattr(sent.samples, name)
        assert (mine.dtype, mine.tolist()) == (its.dtype, its.tolist())
    for each in fields(Whole):
        if each.name != "samples":
            assert getattr(arrived, each.name) == getattr(sent, each.name), each.name
            assert type(getattr(arrived, each.name)) is type(getattr(sent, each.name)), each.name


def test_op_events_arrive_as_what_they_are(ends: Ends) -> None:
    small, large = np.array([0, 1], np.int32), np.array([2**40, 2**41])
    ends[0].send(OpEvents(small, small, large, large, np.array([0, 6], np.uint8)))
    arrived = decoded(ends[1].receive(5), OpEvents)
    kinds = [getattr(arrived, each.name).dtype for each in fields(OpEvents)]
    assert kinds == [np.int32, np.int32, np.int64, np.int64, np.uint8]
    assert arrived.start_ns.tolist() == [2**40, 2**41]


def test_large_arrays(ends: Ends) -> None:
    sent = np.random.default_rng(0).integers(0, 256, 5_000_000, dtype=np.uint8)
    thread = threading.Thread(target=ends[0].send, args=(Arrays(0, sent),))
    thread.start()
    arrived = decoded(ends[1].receive(30), Arrays)
    thread.join()
    assert np.array_equal(arrived.x, sent)


def test_nothing_in_time(ends: Ends) -> None:
    with pytest.raises(TimeoutError):
        ends[0].receive(0.01)


def test_other_end_gone(ends: Ends) -> None:
    ends[1].close()
    ends[1].close()  # twice does no harm
    with pytest.raises((EOFError, OSError)):
        ends[0].receive(5)
    with pytest.raises(OSError, match="Broken pipe"):
        ends[0].send({})


def test_nan_in_a_message_arrives_as_itself(ends: Ends) -> None:
    ends[0].send(Reading("x", 1, math.nan, "s", "measured"))
    assert math.isnan(decoded(ends[1].receive(5), Reading).value)
    ends[0].send({"x": [math.nan, -math.inf, np.float32("nan")]})
    first, second, third = decoded(ends[1].receive(5), dict[str, list[float]])["x"]
    assert math.isnan(first)
    assert second == -math.inf
    assert math.isnan(third)


def test_numpy_scalars_arrive_as_numbers(ends: Ends) -> None:
    ends[0].send([np.float32(0.5), np.int64(3), np.bool_(True), np.uint8(255)])
    arrived = decoded(ends[1].receive(5), list[Any])
    assert arrived == [0.5, 3, True, 255]
    assert [type(value) for value in arrived] == [float, int, bool, int]


@pytest.mark.parametrize("dtype", ["O", "S3", "U2", "M8[s]", "m8[s]", "V4", [("a", "i4")]], ids=str)
def test_arrays_of_anything_but_numbers_are_refused_before_anything_is_sent(ends: Ends, dtype: Any) -> None:
    with pytest.raises(TypeError, match="ndarray cannot be sent to a worker"):
        ends[0].send(Arrays(1, np.zeros(2, dtype)))
    ends[0].send({"x": 1})
    assert decoded(ends[1].receive(5), dict[str, int]) == {"x": 1}


@pytest.mark.parametrize("value", [object(), 1j, range(3), ValueError("x"), lambda: 0], ids=lambda v: type(v).__name__)
def test_values_of_other_types_are_refused_before_anything_is_sent(ends: Ends, value: object) -> None:
    with pytest.raises(TypeError, match=f"{type(value).__name__} cannot be sent to a worker"):
        ends[0].send({"deep": [1, {"x": value}]})
    ends[0].send(2)
    assert decoded(ends[1].receive(5), int) == 2


@pytest.mark.parametrize("dtype", ["|O", "O", "|S3", "<U2", "<M8[s]", "|V8"])
def test_objects_are_never_unpickled(ends: Ends, dtype: str) -> None:
    ends[0].send({"n": 1, "x": [dtype, [1], bytes(8)]})
    with pytest.raises(msgspec.ValidationError, match=r"cannot be received|`\$\.x`"):
        decoded(ends[1].receive(5), Arrays)


@pytest.mark.parametrize(
    "sent",
    [
        *({"n": 1}, {"n": "1", "x": ["<i4", [1], bytes(4)]}, {"n": 1, "x": 3}, {"n": 1, "x": ["<i4", [2], bytes(4)]}),
        *({"n": 1, "x": ["<i4", [1], bytes(3)]}, {"n": 1, "x": ["nonsense", [1], bytes(4)]}, [], None),
    ],
    ids=str,
)
def test_messages_of_another_form_are_refused(ends: Ends, sent: Any) -> None:
    ends[0].send(sent)
    with pytest.raises(msgspec.ValidationError):
        decoded(ends[1].receive(5), Arrays)


def test_json_safe() -> None:
    value = {
        1: math.nan,
        "a": [math.inf, -math.inf, 1.5, None, True, "x"],
        "b": (np.float32(0.5), np.int64(3), np.float64("nan"), np.bool_(True)),
    }
    assert json_safe(value) == {"1": None, "a": [None, None, 1.5, None, True, "x"], "b": [0.5, 3, None, True]}
    assert json_safe(value)["b"][3] is True


#: Three threads are sent the same 300 new types at once, each of a dozen others.
TOGETHER = """
import sys, threading
import msgspec
from qprof.measure.channel import Envelope, decoded

def nested(number):
    kind, value = int, 1
    for depth in range(12):
        fields = [(f"field{i}", int) for i in range(11)] + [("last", kind)]
        kind, value = msgspec.defstruct(f"S{number}_{depth}", fields, array_like=True), [*range(11), value]
    return kind, Envelope(msgspec.Raw(msgspec.msgpack.encode(value)))

sys.setswitchinterval(1e-6)
for number in range(300):
    kind, envelope = nested(number)
    begin = threading.Barrier(3)
    threads = [threading.Thread(target=lambda: (begin.wait(), decoded(envelope, kind))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


def test_threads_that_are_sent_a_type_for_the_first_time_at_once() -> None:
    """msgspec looks at a type when it meets it first; a thread that saw half of that ended the process by SIGSEGV."""
    done = subprocess.run([sys.executable, "-c", TOGETHER], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
