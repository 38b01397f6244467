"""Variants that interventions make: the section of a variant with what is to be changed, under a name that tells it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from qprof.runtimes.base import OpMeta

#: The longest name that a profile takes (`qprof.run.profile.Name`).
_LONGEST_NAME = 80

Section = Mapping[str, Any]


def changed(section: Section, what: str, **changes: Any) -> dict[str, Any]:
    """The section of a variant, called "NAME+WHAT". Its method is spelled out: the name no longer tells it."""
    name = f"{section['name']}+{what}"
    if len(name) > _LONGEST_NAME:
        name = f"{name[: _LONGEST_NAME - 9]}-{_digest(name)}"
    own = {} if section.get("file") else {"method": method(section)}
    return {**section, **own, "name": name, **changes}


def method(section: Section) -> str:
    """How a variant is made."""
    return str(section.get("method") or section["name"])


def in_float(section: Section, ops: Sequence[OpMeta], every: Sequence[OpMeta]) -> dict[str, Any]:
    """The variant with some ops of the float model left in float; the variant itself where there are none to leave.

    `every`: the model's ops. A type is named where all of its ops are meant, other ops by their own names.
    """
    if not ops:
        return dict(section)
    names = {op.name for op in ops}
    partly = {op.type for op in every if op.name not in names}
    types = sorted({op.type for op in ops} - partly)
    layers = sorted({op.name for op in ops if op.type in partly})
    what = [*types, *([f"{len(layers)}-layers-{_digest(*layers)}"] if layers else [])]
    return changed(
        section,
        f"float:{'.'.join(what)}",
        skip_ops=sorted({*section.get("skip_ops", ()), *types}),
        skip_layers=sorted({*section.get("skip_layers", ()), *layers}),
    )


def without_delegate(section: Section) -> dict[str, Any]:
    """The variant on the interpreter's builtin kernels alone."""
    return changed(section, "no-delegate", delegate="none")


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:8]
