"""What a variant's files are made of, part by part: recorded, so that sizes are explained without the files."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

#: "tensor": a constant of the model; "scales": scales, zero points and what else belongs to a number format;
#: "structure": what describes the model (graph, names, headers); "metadata": what it carries along; "file": a file
#: beside the weights.
PartKind = Literal["tensor", "scales", "structure", "metadata", "file"]

#: How the name ends of a part that no tensor and no table of the model refers to: an editor left it behind.
UNREAD = ", which nothing names"


class StoredPart(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A part of a variant's files that takes `bytes`, each byte of which is in this part alone.

    `dtype`: as stored, by its numbers' width ("float32", "int4"). `elements`: numbers that it stands for. `op`: type of
    the op or module that reads it; `at`: which one, and as which of its operands. `why`: why its numbers stay as they
    were, where the format says so. `nans`: how many of its numbers are none, where they were looked at.
    """

    name: str
    kind: PartKind = "tensor"
    bytes: int
    dtype: str = ""
    elements: int = 0
    op: str = ""
    at: str = ""
    why: str = ""
    nans: int = 0


class StoredFiles(Struct, frozen=True, kw_only=True):
    """All files that a variant is kept in: their size together, and their parts. `reason`: why there are none."""

    bytes: int = 0
    parts: list[StoredPart] = field(default_factory=list)
    reason: str = ""
