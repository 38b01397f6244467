"""Several runs side by side: which of their variants belong together, and what is not the same around them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from qprof.measure.surroundings import fact_text, machine_facts
from qprof.record.manifest import VariantEntry
from qprof.store.run import Run

#: Digits of a hash that tell files apart.
_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Around:
    """One thing that is not the same in all runs. `topic`: "machine", "versions", "protocol", "data", or of which
    variant; `values`: by run, `None` where a run does not tell."""

    topic: str
    what: str
    values: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """Variants that belong together. `names`: by run, `None` where a run has none."""

    names: tuple[str | None, ...]

    @property
    def label(self) -> str:
        """Their name; all of them where they are not called the same."""
        return " / ".join(dict.fromkeys(name for name in self.names if name is not None))


def align_variants(runs: Sequence[Run]) -> list[Line]:
    """Variants of one name belong together; of those left, one and the same file, then the baselines. The others stand
    alone. In the order of the first run."""
    lines: list[list[VariantEntry | None]] = []
    for number, run in enumerate(runs):
        left = list(run.variants)
        for together in _rules(runs, run):
            for entry in list(left):
                line = next((one for one in lines if one[number] is None and _any(one, entry, together)), None)
                if line is not None:
                    line[number] = entry
                    left.remove(entry)
        for entry in left:
            lines.append([entry if n == number else None for n in range(len(runs))])
    return [Line(tuple(None if entry is None else entry.name for entry in line)) for line in lines]


_Together = Callable[[VariantEntry, VariantEntry], bool]


def _rules(runs: Sequence[Run], run: Run) -> Iterator[_Together]:
    baselines = [id(one.manifest.baseline) for one in runs]
    yield lambda one, other: one.name == other.name
    yield lambda one, other: one.sha256 is not None and one.sha256 == other.sha256
    yield lambda one, other: id(one) in baselines and other is run.manifest.baseline


def _any(line: Sequence[VariantEntry | None], entry: VariantEntry, together: _Together) -> bool:
    return any(one is not None and together(one, entry) for one in line)


def around(runs: Sequence[Run], lines: Sequence[Line]) -> list[Around]:
    """What differs, the machine first. A fact that a run does not tell is not compared with."""
    manifests = [run.manifest for run in runs]
    found = [*_differing("machine", [dict(machine_facts(one.machine)) for one in manifests])]
    versions = [{"qprof": one.qprof, **{k: v or "not installed" for k, v in one.packages.items()}} for one in manifests]
    found += _differing("versions", versions)
    found += _differing("protocol", [msgspec.to_builtins(one.profile.protocol) for one in manifests])
    tasks = [
        {**(one.task.section if one.task is not None else one.profile.task), "samples": one.samples}
        for one in manifests
    ]
    found += _differing("data", tasks)
    for line in lines:
        entries = [None if name is None else run.variant(name) for run, name in zip(runs, line.names, strict=True)]
        found += _differing(line.label, [{} if one is None else dict(_of_variant(one)) for one in entries])
    return found


def _of_variant(entry: VariantEntry) -> Iterator[tuple[str, object]]:
    yield "runtime", entry.runtime
    yield "model file (SHA-256)", entry.sha256 and entry.sha256[:_DIGITS]
    yield "inputs", ", ".join(f"{one.dtype}{list(one.shape)}" for one in entry.inputs) or None
    yield from entry.options.items()


def _differing(topic: str, sides: Sequence[Mapping[str, Any]]) -> Iterator[Around]:
    for name in dict.fromkeys(name for side in sides for name in side):
        values = [_text(side.get(name)) for side in sides]
        if len({value for value in values if value is not None}) > 1:
            yield Around(topic, name.replace("_", " "), tuple(values))


def _text(value: object) -> str | None:
    """A setting that is empty is one that was not made."""
    return None if value is None or value in ("", {}, []) else fact_text(value)
