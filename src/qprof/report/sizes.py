"""Where a difference in size and in memory went, as lines: rows that add up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qprof.findings.size import MemoryDifference, SizeDifference, SizePart, SizeRow
from qprof.report.units import percent, size

#: Constants of a row that are named: those with the largest part of it.
_NAMED = 3
#: What is left in float is named where it is at least this part of the file, or where the file shrank too little.
_TOLD = 0.1
#: Longer names are told by their ends.
_LONGEST_NAME = 60


def size_lines(found: SizeDifference) -> Iterator[str]:
    """One row per kind, the largest first; they add up to the difference."""
    ratio = percent(found.delta_bytes / found.a_bytes, signed=True) if found.a_bytes else ""
    yield (
        f"size: {found.baseline} -> {found.variant}: {signed_size(found.delta_bytes)} {ratio} "
        f"({size(found.a_bytes)} -> {size(found.b_bytes)}, all files; exactly {found.delta_bytes:+d} B)"
    )
    for row in found.rows:
        if row.delta_bytes or row.kind == "left in float":
            yield f"  {signed_size(row.delta_bytes):>9} {row.what}: {_sentence(row)}"
    if found.short:
        yield f"  shrank less than its number format promises: {_promise(found)}"
    for row in found.rows:
        if row.kind == "left in float":
            yield from _left(row, found)


def memory_lines(found: MemoryDifference) -> Iterator[str]:
    """The peak above the bare runtime, by what is loaded."""
    yield f"peak memory: {found.baseline} -> {found.variant}: {signed_size(found.delta_bytes)}"
    for row in found.rows:
        how = "" if row.how == "rest" else f" ({row.how})"
        yield f"  {signed_size(row.delta_bytes):>9} {row.what}{how}"


def left_in_float(found: SizeDifference) -> Iterator[str]:
    """For a variant that shrank too little: what it left in float, one line each."""
    if found.short:
        for row in found.rows:
            if row.kind == "left in float":
                yield from (line.strip() for line in _left(row, found))


def signed_size(n_bytes: int) -> str:
    return f"{'-' if n_bytes < 0 else '+'}{size(abs(n_bytes))}"


def _sentence(row: SizeRow) -> str:
    count = f"{len(row.parts)} constant{'s' * (len(row.parts) != 1)}, " if row.parts else ""
    largest = [part for part in row.parts[:_NAMED] if part.delta_bytes]
    named = f"; most in {', '.join(_name(part) for part in largest)}" if largest else ""
    return f"{count}{size(row.a_bytes)} -> {size(row.b_bytes)}{named}"


def _promise(found: SizeDifference) -> str:
    if found.could_save_bytes is None:
        return "no weight is in a smaller number format"
    return f"{size(max(-found.delta_bytes, 0))} saved of {size(found.could_save_bytes)} that it could"


def _left(row: SizeRow, found: SizeDifference) -> Iterator[str]:
    parts = sorted(row.parts, key=lambda part: -part.b_bytes)
    told = [part for part in parts if part.b_bytes >= _TOLD * found.b_bytes] or parts[:1] * found.short
    for part in told[:_NAMED]:
        share = percent(part.b_bytes / found.b_bytes, 0)
        why = f" ({part.why})" if part.why else ""
        yield f"    {_name(part)} {_stays(row)}: {size(part.b_bytes)} = {share} of {found.variant}{why}"


def _stays(row: SizeRow) -> str:
    return f"stays {row.what.removeprefix('left in ')}"


def _name(part: SizePart) -> str:
    # Converters join the names of all that they fused into one.
    name = part.name.partition(";")[0]
    name = name if len(name) <= _LONGEST_NAME else f"…{name[1 - _LONGEST_NAME :]}"
    # A module's type is the end of its own name already.
    return f"{part.op}'s {name}" if part.op and f".{part.op}." not in f".{name}" else name


def all_lines(sizes: Sequence[SizeDifference], memory: Sequence[MemoryDifference]) -> Iterator[str]:
    """Variant by variant, size before memory."""
    of = {found.variant: found for found in memory}
    for found in sizes:
        yield from size_lines(found)
        if found.variant in of:
            yield from memory_lines(of[found.variant])
        yield ""
