"""Flames as a file for speedscope (https://www.speedscope.app/file-format-schema.json)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import qprof
from qprof.findings.flame import Flame

_SCHEMA = "https://www.speedscope.app/file-format-schema.json"
#: py-spy's frames: "forward (models/llama.py:33)"; native ones name their library alone.
_PLACED = re.compile(r"^(?P<name>.+) \((?P<file>[^()]+?)(?::(?P<line>\d{1,9}))?\)$", re.DOTALL)


def speedscope(flames: Sequence[Flame], name: str) -> dict[str, Any]:
    """The document: one "sampled" profile per flame, one sample per frame with a value of its own, parents first.

    The order of the samples is the tree's (execution order for a model), not the time at which they were taken.
    """
    frames: dict[str, int] = {}
    return {
        "$schema": _SCHEMA,
        "name": name,
        "exporter": f"qprof@{qprof.__version__}",
        "activeProfileIndex": 0,
        "profiles": [_profile(flame, frames) for flame in flames],
        "shared": {"frames": [_frame(text) for text in frames]},
    }


def _profile(flame: Flame, frames: dict[str, int]) -> dict[str, Any]:
    unit, scale = ("microseconds", 1.0) if flame.unit == "µs" else ("none", 1.0)
    if flame.seconds_per_sample is not None:
        unit, scale = "seconds", flame.seconds_per_sample
    samples, weights = [], []
    for path, node in flame.root.walk():
        if node.own > 0:
            samples.append([frames.setdefault(step, len(frames)) for step in path])
            weights.append(node.own * scale)
    return {
        "type": "sampled",
        "name": flame.title,
        "unit": unit,
        "startValue": 0,
        "endValue": sum(weights),
        "samples": samples,
        "weights": weights,
    }


def _frame(text: str) -> dict[str, Any]:
    found = _PLACED.match(text)
    if found is None or not ("." in found["file"] or found["line"]):
        return {"name": text}
    placed: dict[str, Any] = {"name": found["name"], "file": found["file"]}
    return placed | ({"line": int(found["line"])} if found["line"] else {})
