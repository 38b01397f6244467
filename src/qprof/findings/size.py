"""Where a difference in size went: rows that add up to it, every byte of the files in exactly one of them.

Constants of the two variants are matched by name, then by the op that reads them, then in order among those that an op
of the same type reads and that hold as many numbers, or that are of the same expert of a layer and hold as many. What
is not matched is only in one.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from qprof.record.manifest import VariantEntry
from qprof.record.stored import UNREAD, PartKind, StoredFiles, StoredPart
from qprof.store.run import Run

SizeKind = Literal["number format", "left in float", "same format", "only in one", PartKind, "unattributed"]

#: A variant that shrank by less of what its number format could save has what it left in float named.
_PROMISED = 0.5

#: Names of formats in less than 32 bits, as files, variants and methods are called: "int8", "w4a16", "fp16", "Q4_K".
_SMALLER = re.compile(
    r"quant|half|[1-9]-?bit|(?<![a-z])(u?int|bf|fp|nf|float|bfloat)-?(4|8|16)(?!\d)|(?<![a-z])[wq][2-8](?!\d)|ptq|qat|gptq|awq",
    re.IGNORECASE,
)

#: How a kind of part is told.
_KINDS: dict[PartKind, str] = {
    "scales": "scales and zero points",
    "structure": "the graph itself (tables, names, headers)",
    "metadata": "metadata",
    "file": "files beside the weights (tokenizer, configuration)",
}


_UNREAD = "data that nothing in the model reads (left behind by an editor)"


@dataclass(frozen=True, slots=True)
class SizePart:
    """What one constant has to do with a row: its bytes in the baseline and in the variant, 0 where one lacks it.
    `why`: why its format stays as it was, where the method says so."""

    name: str
    op: str
    a_bytes: int
    b_bytes: int
    why: str = ""

    @property
    def delta_bytes(self) -> int:
        return self.b_bytes - self.a_bytes


@dataclass(frozen=True, slots=True)
class SizeRow:
    """One kind's part of the difference; `parts`, the largest first."""

    kind: SizeKind
    what: str
    a_bytes: int
    b_bytes: int
    parts: tuple[SizePart, ...] = ()

    @property
    def delta_bytes(self) -> int:
        return self.b_bytes - self.a_bytes


@dataclass(frozen=True, slots=True)
class SizeDifference:
    """The rows add up to `b_bytes - a_bytes`, those of all files of the two variants.

    `could_save_bytes`: what the baseline's float constants would shrink by if all were stored as the variant's
    quantized ones are; `None` where it has none. `short`: whether less than half of that was saved.
    """

    baseline: str
    variant: str
    a_bytes: int
    b_bytes: int
    rows: tuple[SizeRow, ...]
    could_save_bytes: int | None
    short: bool

    @property
    def delta_bytes(self) -> int:
        return self.b_bytes - self.a_bytes


def size_differences(run: Run) -> list[SizeDifference]:
    """Of every variant against the baseline; none of runs that recorded no parts."""
    baseline, *others = run.variants
    if not _known(baseline.stored):
        return []
    return [size_difference(baseline, entry) for entry in others if not entry.failed and _known(entry.stored)]


def _promises(variant: VariantEntry) -> bool:
    """Whether what a variant is called, or what made it, speaks of a format that takes less room than float32."""
    called = (variant.name, variant.making.method or "", Path(str(variant.section.get("file") or "")).name)
    return any(_SMALLER.search(name) for name in called)


def _known(stored: StoredFiles | None) -> bool:
    return stored is not None and bool(stored.parts)


def size_difference(baseline: VariantEntry, variant: VariantEntry) -> SizeDifference:
    """Both must have their parts recorded."""
    a, b = baseline.stored or StoredFiles(), variant.stored or StoredFiles()
    pairs = list(_matched(_tensors(a), _tensors(b)))
    rows = [*_tensor_rows(pairs, baseline, variant), *_other_rows(a, b)]
    a_rest, b_rest = (side.bytes - sum(part.bytes for part in side.parts) for side in (a, b))
    rows.sort(key=lambda row: (-abs(row.delta_bytes), -row.b_bytes))
    if a_rest or b_rest:
        rows.append(SizeRow("unattributed", "unattributed", a_rest, b_rest))
    could = _could_save(pairs)
    short = could is not None and a.bytes - b.bytes < _PROMISED * could
    # With no constant in a smaller format it is only the variant's name or method that promises anything.
    short = short or (could is None and _promises(variant) and any(r.kind == "left in float" for r in rows))
    return SizeDifference(baseline.name, variant.name, a.bytes, b.bytes, tuple(rows), could, short)


def _tensors(stored: StoredFiles) -> list[StoredPart]:
    return [part for part in stored.parts if part.kind == "tensor"]


_Pair = tuple[StoredPart | None, StoredPart | None]
_Key = Callable[[StoredPart], Hashable]

_KEYS: Sequence[_Key] = (
    lambda part: (part.name, part.elements) if part.name else None,
    lambda part: (part.at, part.elements) if part.at else None,
    lambda part: (part.op, part.elements),
    lambda part: (_numbered(part.at), part.elements) if len(_numbered(part.at)) > 1 else None,
)


def _numbered(at: str) -> tuple[str, ...]:
    """Layer and expert of a module's path: libraries give experts names of their own, and leave their numbers."""
    return tuple(component for component in at.split(".") if component.isdecimal())


def _matched(a: Sequence[StoredPart], b: Sequence[StoredPart]) -> Iterator[_Pair]:
    """Every constant of both once; the surest way of matching first."""
    left, right = list(a), list(b)
    for key in _KEYS:
        waiting: dict[Hashable, deque[StoredPart]] = {}
        for part in right:
            if (of := key(part)) is not None:
                waiting.setdefault(of, deque()).append(part)
        rest, gone = [], set()
        for part in left:
            queue = waiting.get(key(part))
            if queue:
                other = queue.popleft()
                gone.add(id(other))
                yield part, other
            else:
                rest.append(part)
        left, right = rest, [part for part in right if id(part) not in gone]
    yield from ((part, None) for part in left)
    yield from ((None, part) for part in right)


def _tensor_rows(pairs: Sequence[_Pair], baseline: VariantEntry, variant: VariantEntry) -> Iterator[SizeRow]:
    groups: dict[tuple[SizeKind, str], list[SizePart]] = {}
    for a, b in pairs:
        one = b or a
        assert one is not None  # every pair has a side
        part = SizePart(one.name, one.op, a.bytes if a else 0, b.bytes if b else 0, _why(b, variant))
        groups.setdefault(_group(a, b, baseline, variant), []).append(part)
    for (kind, what), parts in groups.items():
        if kind == "same format" and not any(part.delta_bytes for part in parts):
            continue  # indices, shapes, biases: nothing to tell
        parts.sort(key=lambda part: (-abs(part.delta_bytes), -part.b_bytes))
        yield SizeRow(kind, what, sum(p.a_bytes for p in parts), sum(p.b_bytes for p in parts), tuple(parts))


def _group(
    a: StoredPart | None, b: StoredPart | None, baseline: VariantEntry, variant: VariantEntry
) -> tuple[SizeKind, str]:
    if a is None:
        return "only in one", f"only in {variant.name}"
    if b is None:
        return "only in one", f"only in {baseline.name}"
    if a.dtype != b.dtype:
        return "number format", f"{a.dtype} -> {b.dtype}"
    return ("left in float", f"left in {b.dtype}") if "float" in b.dtype else ("same format", f"{b.dtype} as before")


def _why(part: StoredPart | None, variant: VariantEntry) -> str:
    """What its format says of a constant that stays in float, or what its method says of the ops that read it."""
    if part is None or "float" not in part.dtype:
        return ""
    told = re.compile(rf"left in float\d+ by .*\b{re.escape(part.op)} x\d") if part.op else None
    return part.why or next((note for note in variant.notes if told and told.search(note)), "")


def _other_rows(a: StoredFiles, b: StoredFiles) -> Iterator[SizeRow]:
    for kind, what in _KINDS.items():
        for told, unread in ((what, False), (_UNREAD, True)):
            chosen = (
                [p for p in side.parts if p.kind == kind and p.name.endswith(UNREAD) == unread] for side in (a, b)
            )
            a_bytes, b_bytes = (sum(part.bytes for part in parts) for parts in chosen)
            if a_bytes or b_bytes:
                yield SizeRow(kind, told, a_bytes, b_bytes)


def _could_save(pairs: Sequence[_Pair]) -> int | None:
    """What the baseline's float constants that are matched would save in the format that most numbers changed to."""
    both = [(a, b) for a, b in pairs if a is not None and b is not None and "float" in a.dtype]
    changed: dict[int, int] = {}
    for a, b in both:
        if 0 < _bits(b.dtype) < _bits(a.dtype):
            changed[_bits(b.dtype)] = changed.get(_bits(b.dtype), 0) + b.elements
    if not changed:
        return None
    bits = max(changed, key=lambda width: changed[width])
    return sum(a.bytes - a.bytes * bits // _bits(a.dtype) for a, _ in both if _bits(a.dtype) > bits)


def _bits(dtype: str) -> int:
    """Bits of a number by its type's name, 0 where that does not tell."""
    found = re.search(r"\d+", dtype)
    return int(found[0]) if found else 0


# -- memory -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MemoryRow:
    """A category's part of the difference in peak memory; `how`: "counted" in the files, "measured", or "rest"."""

    what: str
    delta_bytes: int
    how: str


@dataclass(frozen=True, slots=True)
class MemoryDifference:
    """Of two peaks above the bare runtime; the rows add up to it."""

    baseline: str
    variant: str
    delta_bytes: int
    rows: tuple[MemoryRow, ...]


def memory_differences(run: Run) -> list[MemoryDifference]:
    """Of every variant whose peak and whose parts are known."""
    baseline, *others = run.variants
    return [found for entry in others if (found := _memory_difference(baseline, entry)) is not None]


def _memory_difference(a: VariantEntry, b: VariantEntry) -> MemoryDifference | None:
    a_peak, b_peak = a.memory.peak_rss_above_runtime_bytes, b.memory.peak_rss_above_runtime_bytes
    if a_peak is None or b_peak is None or not (_known(a.stored) and _known(b.stored)):
        return None
    rows = [MemoryRow("weights as stored", _weights(b) - _weights(a), "counted")]
    if a.arena_bytes is not None and b.arena_bytes is not None:
        rows.append(MemoryRow(_arena(a, b), b.arena_bytes - a.arena_bytes, "measured"))
    rest = b_peak - a_peak - sum(row.delta_bytes for row in rows)
    rows.append(MemoryRow("not attributed (packed or unpacked copies of weights, kernels, allocator)", rest, "rest"))
    return MemoryDifference(a.name, b.name, b_peak - a_peak, tuple(rows))


def _arena(a: VariantEntry, b: VariantEntry) -> str:
    """What an output is stored in is free for no other tensor: outputs that were left for debugging fill the arena."""
    counts = len(a.outputs), len(b.outputs)
    if counts[0] == counts[1] or not all(counts):
        return "arena of activations"
    return f"arena of activations, with room kept for {counts[1]} outputs, not {counts[0]}"


def _weights(entry: VariantEntry) -> int:
    return sum(part.bytes for part in (entry.stored or StoredFiles()).parts if part.kind in ("tensor", "scales"))
