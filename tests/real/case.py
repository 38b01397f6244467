"""What a case is: files made, a profile over them, and what is planted in them with the way to measure its truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Timed:
    """Truth of a latency: `present` against `absent`, each a variant's table ({"file", "threads", "delegate"})."""

    present: dict[str, Any]
    absent: dict[str, Any]


@dataclass(frozen=True)
class Scored:
    """Truth of a score: `present` against `absent`, each {"file"} and how it is read ({"color", "raw_pixels", ...}), or
    a checkpoint's number format ({"dtype"}). `counts`: "right" answers, or texts whose likelihood is "not finite"."""

    present: dict[str, Any]
    absent: dict[str, Any]
    counts: str = "right"


@dataclass(frozen=True)
class Loaded:
    """Truth of a busy machine: `file` with the case's neighbour against without."""

    file: str


@dataclass(frozen=True)
class Planted:
    """One thing that was planted.

    `mechanisms`: rows of the decomposition that may hold it. `ops`: patterns of names or types of its ops. `words`:
    patterns, one of which a finding's cause or text has to hold. `figure`: "latency", "score" (AP, top-1), "not_finite"
    (texts without a finite likelihood), "environment" (the machine) or "baseline" (a fault that all variants share).
    `direction`: +1 slower, better or more of them, -1 faster or worse, 0 where that hangs on the machine. `variant`:
    the comparison that holds it, the only one by default; `phase`: of a language model, both by default.
    """

    words: tuple[str, ...]
    truth: Timed | Scored | Loaded
    direction: int
    mechanisms: tuple[str, ...] = ()
    ops: tuple[str, ...] = ()
    figure: str = "latency"
    variant: str = ""
    phase: str = ""


@dataclass(frozen=True)
class Load:
    """A real neighbour on the core that is measured: busy for `share` of the time, during "run", "verify" or "both";
    `late` lets it start when half of the run's blocks are done."""

    share: float
    during: str = "both"
    late: bool = False


@dataclass(frozen=True)
class Case:
    """`make(folder)` writes the files that `variants` name. `same_model`: whether the variants are forms of one model,
    `None` where that is a matter of words.
    `cores`: how many it is measured on."""

    name: str
    make: Callable[[Path], None]
    variants: tuple[dict[str, Any], ...]
    planted: tuple[Planted, ...] = ()
    task: dict[str, Any] = field(default_factory=lambda: {"kind": "latency", "samples": 4})
    protocol: dict[str, Any] = field(default_factory=dict)
    model: str = ""
    load: Load | None = None
    same_model: bool | None = True
    cores: int = 1
    slice: bool = False
