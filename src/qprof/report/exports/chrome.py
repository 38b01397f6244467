"""Some rounds of a run in the Trace Event Format of Chrome, JSON that chrome://tracing, Perfetto and others open."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qprof.report.exports.base import Format, Wanted
from qprof.report.exports.timeline import Timeline, timeline
from qprof.store.files import write_atomic
from qprof.store.run import Run


def events(found: Timeline, title: str) -> Iterator[dict[str, Any]]:
    """The events of a timeline: names of processes and threads ("M"), slices ("X") and counters ("C")."""
    for pid, process in enumerate(found.processes, 1):
        yield _named("process_name", pid, 0, name=f"{process.name} ({title})")
        yield _named("process_sort_index", pid, 0, sort_index=pid)
        for tid, track in enumerate(process.tracks, 1):
            yield _named("thread_name", pid, tid, name="ops" if tid == 1 else f"ops beside these, {tid - 1}")
            yield _named("thread_sort_index", pid, tid, sort_index=tid)
            for one in track:
                length_us = (one.end_ns - one.start_ns) / 1e3
                yield {
                    "name": one.name,
                    "cat": "qprof",
                    "ph": "X",
                    "ts": one.start_ns / 1e3,
                    "dur": length_us,
                    "pid": pid,
                    "tid": tid,
                    "args": dict(one.facts),
                }
        for counter in process.counters:
            for at, value in zip(counter.t_ns, counter.values, strict=True):
                label = f"{counter.name}, {counter.unit}"
                yield {"name": label, "ph": "C", "ts": at / 1e3, "pid": pid, "args": {counter.unit: value}}


def _named(what: str, pid: int, tid: int, **args: Any) -> dict[str, Any]:
    return {"name": what, "ph": "M", "pid": pid, "tid": tid, "args": args}


def _document(found: Timeline, title: str) -> Iterator[bytes]:
    """Piece by piece: the whole as one text would be several hundred MB. ASCII alone, and so safe inside any page."""
    yield b'{"displayTimeUnit": "ns", "otherData": '
    yield json.dumps({"run": title, "shows": found.says}).encode()
    yield b', "traceEvents": [\n'
    between = b""
    for event in events(found, title):
        yield between + json.dumps(event, allow_nan=False).encode()
        between = b",\n"
    yield b"\n]}\n"


def _write(run: Run, folder: Path, wanted: Wanted) -> list[Path]:
    path = folder / "trace.json"
    found = timeline(run, wanted)
    write_atomic(path, lambda stream: stream.writelines(_document(found, run.name)))
    return [path]


FORMAT = Format("the same trace as Chrome's JSON, for chrome://tracing and others", _write)
