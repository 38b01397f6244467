"""Op names as tables show them: short enough to tell ops apart in half a line. Files keep the full names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Full name -> shown name.

    Converters join the names of everything they fused with ";": the first says enough. A scope that more than half of
    the names begin with ("model/", "StatefulPartitionedCall/detector/") is left out. Names stay apart: where two would
    be shown alike, they are shown in full.
    """
    full = list(dict.fromkeys(names))
    heads = {name: name.split(";")[0] or name for name in full}
    scope = _common_scope(list(heads.values()))
    shown = {name: head.removeprefix(scope) or head for name, head in heads.items()}
    count = Counter(shown.values())
    return {name: text if count[text] == 1 else name for name, text in shown.items()}


def _common_scope(names: list[str]) -> str:
    """The longest path ("a/b/") that more than half of the names begin with."""
    scope = ""
    while True:
        inside = [name for name in names if name.startswith(scope)]
        steps = Counter(name[len(scope) :].split("/", 1)[0] for name in inside if "/" in name[len(scope) :])
        if not steps:
            return scope
        step, count = steps.most_common(1)[0]
        if count * 2 <= len(names):
            return scope
        scope += f"{step}/"
