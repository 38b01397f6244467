"""Of a variant that stores numbers in less than float32: what is float32 still, and what that takes of its file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from qprof.record.manifest import VariantEntry

#: Less of a file than this is not worth a word: biases and small tables stay in float by design.
_LEAST_SHARE = 0.05
#: A constant of less of the file is not told by name.
_LEAST_NAMED = 0.01
_MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class Constant:
    """`op`: the type of the op that reads it, `None` where none does; `has_form`: whether the tool that makes variants
    has another form of it."""

    name: str
    n_bytes: int
    op: str | None
    has_form: bool


@dataclass(frozen=True, slots=True)
class Unshrunk:
    """`n_bytes` of `file_bytes` are float32; `named`: the largest of that. `method`: what left it so, "" for a finished
    file."""

    n_bytes: int
    file_bytes: int
    named: tuple[Constant, ...]
    method: str

    @property
    def share(self) -> float:
        return self.n_bytes / self.file_bytes

    @property
    def sentence(self) -> str:
        """In words, with a remedy where there is one."""
        told = ", ".join(self._told(one) for one in self.named)
        whole = "" if len(self.named) == 1 and self.named[0].n_bytes == self.n_bytes else self._whole()
        return f"{whole}{told}: {self._why()}"

    def _told(self, one: Constant) -> str:
        of = f"{one.op}'s " if one.op else ""
        return f"{of}{one.name} float32, {_size(one.n_bytes)} = {one.n_bytes / self.file_bytes:.0%} of the file"

    def _whole(self) -> str:
        return f"{_size(self.n_bytes)} = {self.share:.0%} of the file are float32 still, the largest of it "

    def _why(self) -> str:
        if not self.method:
            return "whoever made the file left it so"
        formless = sorted({one.op for one in self.named if one.op and not one.has_form})
        if formless:
            return f"{self.method} leaves it: its tool has no quantized form of what {', '.join(formless)} reads"
        return f"{self.method} leaves it"


def unshrunk(entry: VariantEntry) -> Unshrunk | None:
    """`None` where nothing of a variant is stored in less than float32 (then nothing was to shrink), where hardly
    anything else is float32, and where its runtime does not tell."""
    stored: dict[str, Any] = entry.facts.get("stored") or {}
    if not entry.bytes or not isinstance(stored, dict) or not stored.get("reduced_bytes"):
        return None
    n_bytes = int(stored["float_bytes"])
    if n_bytes < _LEAST_SHARE * entry.bytes:
        return None
    constants = [
        Constant(str(one["name"]), int(one["bytes"]), one["op"], bool(one["has_form"])) for one in stored["float"]
    ]
    named = [one for one in constants if one.n_bytes >= _LEAST_NAMED * entry.bytes][:_MOST_NAMED] or constants[:1]
    made = entry.making.method if entry.making.tool else ""
    return Unshrunk(n_bytes, entry.bytes, tuple(named), made or "")


def unshrunk_variants(entries: Iterable[VariantEntry]) -> Iterator[tuple[str, Unshrunk]]:
    """The variants of which there is something to tell, by name."""
    for entry in entries:
        found = unshrunk(entry)
        if found is not None:
            yield entry.name, found


def _size(n_bytes: int) -> str:
    for unit, factor in (("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= factor:
            return f"{n_bytes / factor:.3g} {unit}"
    return f"{n_bytes} B"
