"""Some rounds of a run as a trace of Perfetto's own kind: .pftrace, for https://ui.perfetto.dev and trace_processor.

TrackEvent packets with interned names (https://perfetto.dev/docs/reference/trace-packet-proto). Every variant is a
process: a track of blocks, inferences and ops, more where ops overlap, and a counter for each sensor of power.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from qprof.report.exports.base import Format, Wanted
from qprof.report.exports.timeline import Counter, Slice, Timeline, timeline
from qprof.report.exports.wire import integer, message, number, text
from qprof.store.files import write_atomic
from qprof.store.run import Run

# Fields of the messages Trace, TracePacket, TrackDescriptor, TrackEvent, InternedData and DebugAnnotation.
_PACKET = 1
_TIMESTAMP, _SEQUENCE, _TRACK_EVENT, _INTERNED, _FLAGS, _DESCRIPTOR = 8, 10, 11, 12, 13, 60
_UUID, _NAME, _PROCESS, _PARENT, _COUNTER, _ORDERING, _RANK = 1, 2, 3, 5, 8, 11, 12
_EVENT_ANNOTATION, _EVENT_TYPE, _EVENT_NAME_IID, _EVENT_TRACK, _EVENT_DOUBLE = 4, 9, 10, 11, 44
_INTERNED_NAME, _INTERNED_KEY, _INTERNED_VALUE = 2, 3, 29
_ANNOTATION_KEY_IID, _ANNOTATION_INT, _ANNOTATION_VALUE_IID = 1, 4, 17

_BEGIN, _END, _SAMPLE = 1, 2, 4
_STATE_CLEARED, _NEEDS_STATE = 1, 2
_EXPLICIT_ORDER = 3
_SEQUENCE_ID = 1


def trace(found: Timeline, title: str) -> Iterator[bytes]:
    """The packets of a timeline."""
    interned = _Interned()
    uuid = 1
    state = integer(_FLAGS, _STATE_CLEARED)
    for pid, process in enumerate(found.processes, 1):
        top, uuid = uuid, uuid + 1
        named = message(_PROCESS, integer(1, pid), text(6, f"{process.name} ({title})"))
        yield _packet(_descriptor(top, named), state)
        state = b""
        for counter in process.counters:
            # Unit 0 is unspecified: its name is told beside it.
            about = message(_COUNTER, text(6, counter.unit))
            yield _packet(_descriptor(uuid, text(_NAME, counter.name), integer(_PARENT, top), about))
            yield from _counts(counter, uuid)
            uuid += 1
        for place, track in enumerate(process.tracks):
            name = "ops" if place == 0 else f"ops beside these, {place}"
            rank = integer(_RANK, place)
            yield _packet(_descriptor(uuid, text(_NAME, name), integer(_PARENT, top), rank))
            yield from _slices(track, uuid, interned)
            uuid += 1


def _descriptor(uuid: int, *parts: bytes) -> bytes:
    return message(_DESCRIPTOR, integer(_UUID, uuid), *parts, integer(_ORDERING, _EXPLICIT_ORDER))


def _packet(*parts: bytes) -> bytes:
    return message(_PACKET, integer(_SEQUENCE, _SEQUENCE_ID), *parts)


class _Interned:
    """Texts that are written once and named by number; new ones wait for the packet that uses them first."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, str], int] = {}
        self._waiting: list[bytes] = []

    def number(self, kind: int, value: str) -> int:
        found = self._known.get((kind, value))
        if found is None:
            found = self._known[kind, value] = len(self._known) + 1
            self._waiting.append(message(kind, integer(1, found), text(2, value)))
        return found

    def written(self) -> bytes:
        if not self._waiting:
            return b""
        found, self._waiting = message(_INTERNED, *self._waiting), []
        return found


def _slices(track: list[Slice], uuid: int, interned: _Interned) -> Iterator[bytes]:
    """Begins and ends in the order of time, an inner end before an outer one."""
    needs = integer(_FLAGS, _NEEDS_STATE)
    on_track, begin, end = integer(_EVENT_TRACK, uuid), integer(_EVENT_TYPE, _BEGIN), integer(_EVENT_TYPE, _END)
    # Facts are the same for all events of an op: their bytes are made once.
    known: dict[tuple[str, tuple[tuple[str, str | int], ...]], bytes] = {}
    open_ends: list[int] = []
    # Of a million slices: what all ends have is made once.
    end_event = message(_TRACK_EVENT, end, on_track) + needs

    def ended(at: int) -> bytes:
        return _packet(integer(_TIMESTAMP, at), end_event)

    for one in track:
        while open_ends and open_ends[-1] <= one.start_ns:
            yield ended(open_ends.pop())
        body = known.get((one.name, one.facts))
        if body is None:
            name = integer(_EVENT_NAME_IID, interned.number(_INTERNED_NAME, one.name))
            facts = b"".join(_fact(key, value, interned) for key, value in one.facts)
            body = message(_TRACK_EVENT, begin, on_track, name, facts) + needs
            known[one.name, one.facts] = body
        yield _packet(integer(_TIMESTAMP, one.start_ns), body, interned.written())
        open_ends.append(one.end_ns)
    while open_ends:
        yield ended(open_ends.pop())


def _fact(key: str, value: str | int, interned: _Interned) -> bytes:
    named = integer(_ANNOTATION_KEY_IID, interned.number(_INTERNED_KEY, key))
    if isinstance(value, int):
        return message(_EVENT_ANNOTATION, named, integer(_ANNOTATION_INT, value))
    return message(_EVENT_ANNOTATION, named, integer(_ANNOTATION_VALUE_IID, interned.number(_INTERNED_VALUE, value)))


def _counts(counter: Counter, uuid: int) -> Iterator[bytes]:
    about = integer(_EVENT_TYPE, _SAMPLE) + integer(_EVENT_TRACK, uuid)
    for at, value in zip(counter.t_ns, counter.values, strict=True):
        yield _packet(integer(_TIMESTAMP, at), message(_TRACK_EVENT, about, number(_EVENT_DOUBLE, value)))


def _write(run: Run, folder: Path, wanted: Wanted) -> list[Path]:
    path = folder / "trace.pftrace"
    found = timeline(run, wanted)
    write_atomic(path, lambda stream: stream.writelines(trace(found, run.name)))
    return [path]


FORMAT = Format("a trace of some rounds, for https://ui.perfetto.dev (native TrackEvent)", _write)
