"""Flames of every variant and their differences from the baseline's, as flat trees."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from qprof.errors import StoreError
from qprof.findings.flame import DiffNode, Flame, FlameNode, flame_difference, host_flame, model_flame
from qprof.report.page.data_drawn import FlameTree
from qprof.report.page.data_tables import Fact
from qprof.report.page.sections.commands import Commands
from qprof.report.units import duration
from qprof.store.run import Run

#: Frames below this part of the whole cannot be seen; of host stacks, which are deep and many, more is left out.
_NARROWEST = {"model": 1 / 2000, "host": 1 / 500}
_GONE_TOLD = 8


def flames(run: Run, commands: Commands) -> Iterator[FlameTree]:
    """Model and host flames, phase by phase; each variant's own, then its difference from the baseline's."""
    kinds: tuple[tuple[str, Callable[[Run, str, str | None], Flame]], ...] = (
        ("model", model_flame),
        ("host", host_flame),
    )
    for kind, make in kinds:
        for phase in run.phases():
            several = len(run.phases()) > 1
            found: dict[str, Flame] = {}
            for entry in run.manifest.living():
                try:
                    found[entry.name] = make(run, entry.name, phase.name if several or kind == "model" else None)
                except StoreError:
                    continue  # not timed, or no stacks sampled: nothing to draw
            for name, flame in found.items():
                words = ["--kind", kind] * (kind == "host") + ["--phase", phase.name] * several
                yield _tree(flame, kind, phase.name, name, commands.of("flame", "-v", name, *words))
                if name != run.baseline and run.baseline in found:
                    base = found[run.baseline]
                    yield _difference(
                        base,
                        flame,
                        kind,
                        phase.name,
                        run.baseline,
                        name,
                        commands.of("flame", "--diff", run.baseline, name, *words),
                    )


def _tree(flame: Flame, kind: str, phase: str, variant: str, command: str) -> FlameTree:
    flat = _Flat(_NARROWEST[kind] * flame.root.value)
    pending: list[tuple[int, FlameNode]] = [(-1, flame.root)]
    while pending:
        parent, node = pending.pop()
        at = flat.add(parent, node.name, node.value)
        if at is not None:
            pending += [(at, child) for child in reversed(node.children)]
    return flat.tree(flame, kind, phase, variant, command)


def _difference(a: Flame, b: Flame, kind: str, phase: str, against: str, variant: str, command: str) -> FlameTree:
    found = flame_difference(a, b)
    flat = _Flat(_NARROWEST[kind] * found.root.after)
    pending: list[tuple[int, DiffNode]] = [(-1, found.root)]
    while pending:
        parent, node = pending.pop()
        at = flat.add(parent, node.name, node.after, node.before)
        if at is not None:
            pending += [(at, child) for child in reversed(node.children)]
    gone = [
        Fact(name=" > ".join(path), value=duration(value) if b.unit == "µs" else f"{value:.0f} samples")
        for path, value in found.gone[:_GONE_TOLD]
    ]
    return flat.tree(b, kind, phase, variant, command, against, gone)


class _Flat:
    """A tree as parallel lists, parents first."""

    def __init__(self, least: float) -> None:
        self._least, self._names = least, dict[str, int]()
        self._parent: list[int] = []
        self._name: list[int] = []
        self._value: list[float] = []
        self._before: list[float] = []
        self._left_out = 0

    def add(self, parent: int, name: str, value: float, before: float | None = None) -> int | None:
        """The frame's position; `None` where it is too narrow to be seen."""
        if value < self._least and parent >= 0:
            self._left_out += 1
            return None
        self._parent.append(parent)
        self._name.append(self._names.setdefault(name, len(self._names)))
        self._value.append(float(f"{value:.6g}"))
        if before is not None:
            self._before.append(float(f"{before:.6g}"))
        return len(self._parent) - 1

    def tree(
        self,
        flame: Flame,
        kind: str,
        phase: str,
        variant: str,
        command: str,
        against: str | None = None,
        gone: list[Fact] | None = None,
    ) -> FlameTree:
        narrow = [f"{self._left_out} frames are too narrow to be seen and left out"] * bool(self._left_out)
        return FlameTree(
            title=flame.title if against is None else f"{against} → {flame.title}",
            kind="model" if kind == "model" else "host",
            phase=phase,
            variant=variant,
            unit=flame.unit,
            source=flame.source,
            names=list(self._names),
            parent=self._parent,
            name=self._name,
            value=self._value,
            before=self._before,
            against=against,
            gone=gone or [],
            notes=[*flame.notes, *narrow],
            command=command,
        )
