"""Messages between qprof and its workers: MessagePack, typed at both ends, NumPy arrays inside. Nothing is pickled."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

Message = TypeVar("Message")

#: Kinds of NumPy dtype that cross: numbers and booleans, no objects.
_KINDS = "biufc"

#: Types that JSON holds as they are.
_PLAIN = frozenset({int, str, bool, type(None)})


class Envelope(msgspec.Struct, frozen=True, array_like=True):
    """What goes over the wire: a message, or why there is none. Its type is known to who asked."""

    message: msgspec.Raw
    failed: bool = False


class Channel:
    """One end of the connection between the parent and one worker."""

    def __init__(self, descriptor: int) -> None:
        self._connection = Connection(descriptor)

    def send(self, message: Any, *, failed: bool = False) -> None:
        """Send a message. Raises `OSError` where the other end is gone, `TypeError` for what cannot cross."""
        raw = msgspec.Raw(_ENCODER.encode(message))
        self._connection.send_bytes(_ENCODER.encode(Envelope(raw, failed)))

    def receive(self, timeout_s: float | None = None) -> Envelope:
        """The next message, still encoded; see `decoded`.

        Raises `EOFError` or `OSError` where the other end is gone, `TimeoutError` after `timeout_s` seconds.
        """
        if timeout_s is not None and not self._connection.poll(timeout_s):
            raise TimeoutError
        return _ENVELOPES.decode(self._connection.recv_bytes())

    def has_message(self) -> bool:
        """Whether `receive` would return, or raise, at once."""
        try:
            return self._connection.poll()
        except OSError:
            return True

    def close(self) -> None:
        """Close this end; may be called twice."""
        if not self._connection.closed:
            self._connection.close()


def decoded(envelope: Envelope, kind: type[Message]) -> Message:
    """The message in an envelope. Raises `msgspec.ValidationError` where it is of another type."""
    with _DECODERS:
        decoder = msgspec.msgpack.Decoder(kind, dec_hook=_array)
    return decoder.decode(envelope.message)


def _plain(value: Any) -> Any:
    """An array as its dtype, shape and bytes; a NumPy scalar as a number."""
    if isinstance(value, np.ndarray) and value.dtype.kind in _KINDS:
        return [value.dtype.str, list(value.shape), np.ascontiguousarray(value).tobytes()]
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be sent to a worker")


def _array(kind: type, value: Any) -> NDArray[Any]:
    """The array that `_plain` took apart; one that can be written to."""
    dtype, shape, content = value
    found = np.dtype(dtype)
    if found.kind not in _KINDS:
        raise ValueError(f"an array of {dtype} cannot be received")
    return np.frombuffer(content, found).reshape(shape).copy()


#: Held while msgspec looks at a type for the first time: a thread that decodes the same type meanwhile (several workers
#: are asked at once) sees half of what it found, and the process dies of it (msgspec 0.22, SIGSEGV in mpack_decode).
_DECODERS = threading.Lock()

_ENVELOPES = msgspec.msgpack.Decoder(Envelope)
_ENCODER = msgspec.msgpack.Encoder(enc_hook=_plain)


def json_safe(value: Any) -> Any:
    """NaN and infinity as `None`, tuples as lists, NumPy scalars as Python's: what JSON can hold."""
    kind = type(value)  # first what nearly all values are: of a detector's boxes 3000 in an image
    if kind is float:
        return value if math.isfinite(value) else None
    if kind in _PLAIN:
        return value
    if isinstance(value, Mapping):
        return {str(key): json_safe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_safe(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
