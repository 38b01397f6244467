"""Two variants as one profile of pprof: `go tool pprof -http=: profile.pb.gz`, and the viewers that read its form.

Three values for every op, A, B and B - A in nanoseconds per inference, between which viewers switch. Stacks are those
of the flame: partition or interpreter, op type, op, kernel. https://github.com/google/pprof/blob/main/proto/profile.proto
"""

from __future__ import annotations

import gzip
from pathlib import Path

from qprof.findings.flame import Flame, model_flame
from qprof.report.exports.base import Format, Wanted, pair
from qprof.report.exports.wire import integer, message, packed, text
from qprof.report.terminal import printable
from qprof.store.files import write_atomic
from qprof.store.run import Run

# Fields of the messages Profile, ValueType, Sample, Location, Line and Function.
_SAMPLE_TYPE, _SAMPLE, _LOCATION, _FUNCTION, _STRING, _TIME, _COMMENT, _DEFAULT_TYPE = 1, 2, 4, 5, 6, 9, 13, 14


def profile(a: Flame, b: Flame, time_ns: int, comment: str) -> bytes:
    """The message of two flames in µs; `time_ns` since 1970."""
    strings: dict[str, int] = {"": 0}
    frames: dict[str, int] = {}

    def string(value: str) -> int:
        return strings.setdefault(printable(value), len(strings))

    values: dict[tuple[str, ...], list[float]] = {}
    for side, flame in enumerate((a, b)):
        for path, node in flame.root.walk():
            if node.own > 0:
                values.setdefault(path[1:], [0.0, 0.0])[side] += node.own
    body = []
    types = [a.title, b.title, f"{b.title} - {a.title}"]
    for name in types:
        body.append(message(_SAMPLE_TYPE, integer(1, string(name)), integer(2, string("nanoseconds"))))
    for path, (first, second) in values.items():
        ids = [frames.setdefault(name, len(frames) + 1) for name in reversed(path)]  # the leaf first
        amounts = (round(1e3 * first), round(1e3 * second))
        body.append(message(_SAMPLE, packed(1, ids), packed(2, (*amounts, amounts[1] - amounts[0]))))
    for name, number in frames.items():
        body.append(message(_LOCATION, integer(1, number), message(4, integer(1, number))))
        body.append(message(_FUNCTION, integer(1, number), integer(2, string(name))))
    ends = [integer(_TIME, time_ns), integer(_COMMENT, string(comment)), integer(_DEFAULT_TYPE, string(types[1]))]
    return b"".join([*body, *(text(_STRING, value) for value in strings), *ends])


def _write(run: Run, folder: Path, wanted: Wanted) -> list[Path]:
    from datetime import datetime

    a, b = (model_flame(run, name, wanted.phase) for name in pair(run, wanted))
    created = round(datetime.fromisoformat(run.manifest.created).timestamp() * 1e9)
    comment = f"qprof {run.name}: mean time per profiled inference"
    path = folder / "profile.pb.gz"
    packed_profile = gzip.compress(profile(a, b, created, comment), mtime=0)
    write_atomic(path, lambda stream: stream.write(packed_profile))
    return [path]


FORMAT = Format("two variants and their difference, for go tool pprof", _write)
