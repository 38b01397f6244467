"""Where the time of a variant nests: the model's own parts, or the stacks of the process that ran it, as a tree."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from qprof.errors import StoreError
from qprof.findings.measured import measured_variant, op_list
from qprof.record.ops import OpMeta
from qprof.store.files import read_bytes, read_json
from qprof.store.run import Run

#: The frame of the time that no op accounts for.
OUTSIDE = "outside the ops"
#: The frame of LiteRT's ops that no delegate took.
INTERPRETER = "interpreter"
#: Code without symbols goes by its address, which differs from process to process.
_ADDRESS = re.compile(r"^0x[0-9a-fA-F]+(?= \(|$)")


@dataclass(slots=True)
class FlameNode:
    """A frame, the value of it and all that it holds, and the frames inside it; what they leave over is its own."""

    name: str
    value: float = 0.0
    children: list[FlameNode] = field(default_factory=list)

    @property
    def own(self) -> float:
        """The value that no child accounts for (never below 0: sums of floats do not close to the last bit)."""
        left = self.value - math.fsum(child.value for child in self.children)
        return left if left > 1e-9 * abs(self.value) else 0.0

    def walk(self) -> Iterator[tuple[tuple[str, ...], FlameNode]]:
        """Every frame with the names from the root to it, parents first. Stacks may be deeper than Python's own."""
        pending: list[tuple[tuple[str, ...], FlameNode]] = [((self.name,), self)]
        while pending:
            path, node = pending.pop()
            yield path, node
            pending += [((*path, child.name), child) for child in reversed(node.children)]

    def folded(self) -> list[str]:
        """ "a;b;c 12.5" for every frame with a value of its own, the root left out of the names (unless it is all)."""
        return [
            f"{';'.join(_folded_name(name) for name in (path[1:] or path))} {node.own:.10g}"
            for path, node in self.walk()
            if node.own > 0
        ]


@dataclass(frozen=True, slots=True)
class Flame:
    """A tree with what a reader must know of it.

    `unit`: "µs" (mean of the profiled inferences) or "samples". `source`: one line telling what the width is and where
    it comes from. `notes`: what limits it. `seconds_per_sample`: of sampled stacks.
    """

    root: FlameNode
    title: str
    unit: str
    source: str
    notes: list[str] = field(default_factory=list)
    seconds_per_sample: float | None = None


@dataclass(slots=True)
class DiffNode:
    """A frame that B has: its value there, and in A (0 where A has none), in B's unit."""

    name: str
    before: float
    after: float
    children: list[DiffNode] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class FlameDifference:
    """Two trees laid over each other. `gone`: the topmost frames that only A has, as (path, value), largest first.

    `scaled`: what A's values were multiplied by to compare them with B's; 1 for times.
    """

    root: DiffNode
    a: Flame
    b: Flame
    gone: list[tuple[tuple[str, ...], float]]
    scaled: float = 1.0


class _Growing:
    """A tree that grows stack by stack; children stand in the order in which they came."""

    def __init__(self, name: str) -> None:
        self.root = FlameNode(name)
        self._children: dict[tuple[int, str], FlameNode] = {}

    def add(self, path: Iterable[str], value: float) -> None:
        node = self.root
        node.value += value
        for name in path:
            child = self._children.get((id(node), name))
            if child is None:
                child = self._children[id(node), name] = FlameNode(name)
                node.children.append(child)
            child.value += value
            node = child


def model_flame(run: Run, variant: str, phase: str | None = None) -> Flame:
    """The parts of a variant by mean time per profiled inference: of one phase, or of one inference of each phase.

    A language model: phase, module path, part of a quantized layer, kernel. LiteRT: delegate partition or interpreter,
    op type, op, kernel. Raises `StoreError` where the ops were not timed.
    """
    phases = [run.phase(phase)] if phase is not None else [entry.name for entry in run.phases()]
    growing, notes, counts = _Growing(variant), [], []
    for name in phases:
        note, inferences = _add_phase(growing, run, variant, name, several=len(run.phases()) > 1)
        notes += note
        counts.append(f"{inferences} {name}")
    per = "inference" if len(phases) == 1 else "inference of each phase"
    what = " + ".join(counts) if len(run.phases()) > 1 else counts[0].split()[0]
    return Flame(
        root=growing.root,
        title=variant if phase is None else f"{variant}, {phase}",
        unit="µs",
        source=f"width: mean time per {per}, of {what} profiled inferences (instrumented: slower than the clean ones)",
        notes=notes,
    )


def host_flame(run: Run, variant: str, phase: str | None = None) -> Flame:
    """The sampled stacks of a variant's worker, of all phases or of one.

    Raises `StoreError` where the run has none, or they are damaged.
    """
    run.variant(variant)
    names = [entry.name for entry in run.phases()]
    phases = names if len(names) > 1 else []
    known = None if phase is None else run.phase(phase)
    wanted = known if phases else None
    path = run.folder / "stacks" / f"{variant}.folded"
    if not path.is_file():
        facts = _host_facts(path.with_suffix(".json"))
        why = facts.get("reason") or "none were recorded"
        remedy = facts.get("remedy") or "make the run anew with py-spy installed (pip install 'qprof[energy]')"
        raise StoreError(f"{path}: no host stacks of {variant} ({why}); {remedy}, or draw the model with --kind model")
    facts = _host_facts(path.with_suffix(".json"))
    root = read_folded(path, variant, phases, wanted)
    rate, native, notes = facts.get("rate_hz"), facts.get("native"), []
    if facts.get("errors"):
        notes.append(f"{facts['errors']} stacks could not be read by the sampler and are missing")
    if facts.get("slowdown") is not None:
        notes.append(f"sampling changed the median inference by {100 * float(facts['slowdown']):+.1f} %")
    else:
        notes.append("the slowdown by sampling was not measured")
    frames = "frames" if native is None else "Python and native frames" if native else "Python frames alone"
    often = f" at {rate:g} Hz" if rate else ""
    return Flame(
        root=root,
        title=f"{variant}, host" if wanted is None else f"{variant}, host, {wanted}",
        unit="samples",
        source=f"width: samples of the worker's running threads{often}, by py-spy ({frames}), in blocks of their own",
        notes=notes,
        seconds_per_sample=1 / rate if rate else None,
    )


def read_folded(path: Path, name: str, phases: Sequence[str] = (), phase: str | None = None) -> FlameNode:
    """The tree of a file of folded stacks ("a;b;c 12"), siblings by name.

    `phases`: the outermost frame may be one of these, and only stacks below `phase` are taken, where one is named.
    Raises `StoreError` where the file is damaged, or holds nothing of what is wanted.
    """
    try:
        lines = read_bytes(path).decode("utf-8", errors="replace").split("\n")
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror})") from error
    stacks = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        stack, _, count = line.rstrip().rpartition(" ")
        if not stack or not count.isascii() or not count.isdigit() or len(count) > 15:
            raise StoreError(f"{path}: line {number} is no folded stack (frames joined by ';', a space, a count)")
        outermost, _, rest = stack.partition(";")
        frames = [outermost, *_frames(rest)] if outermost in phases else _frames(stack)
        if phase in (None, outermost):
            stacks.append((frames, int(count)))
    growing = _Growing(name)
    for frames, samples in sorted(stacks):
        growing.add(frames, samples)
    if not growing.root.value:
        raise StoreError(f"{path}: holds no samples; record longer, or at a higher rate")
    return growing.root


def flame_difference(a: Flame, b: Flame) -> FlameDifference:
    """Lay A over B. Times compare as they are; samples are scaled to equal totals, since they grow with the time that
    was sampled. Raises `StoreError` for different units."""
    if a.unit != b.unit:
        raise StoreError(f"{a.title} is in {a.unit}, {b.title} in {b.unit}: no difference can be drawn")
    scaled = b.root.value / a.root.value if a.unit == "samples" and a.root.value else 1.0
    root = DiffNode(f"{a.root.name} -> {b.root.name}", a.root.value * scaled, b.root.value)
    gone: list[tuple[tuple[str, ...], float]] = []
    pending: list[tuple[tuple[str, ...], FlameNode, FlameNode | None, DiffNode]] = [((), b.root, a.root, root)]
    while pending:
        path, new, old, node = pending.pop()
        before = {child.name: child for child in old.children} if old else {}
        for child in new.children:
            match = before.pop(child.name, None)
            below = DiffNode(child.name, match.value * scaled if match else 0.0, child.value)
            node.children.append(below)
            pending.append(((*path, child.name), child, match, below))
        gone += [((*path, left.name), left.value * scaled) for left in before.values()]
    return FlameDifference(root, a, b, sorted(gone, key=lambda item: (-item[1], item[0])), scaled)


def _add_phase(growing: _Growing, run: Run, variant: str, phase: str, several: bool) -> tuple[list[str], int]:
    """The ops of one phase and what they leave over; remarks and the number of inferences."""
    ops = {op.op: op for op in op_list(run, variant, phase)}
    measured = measured_variant(run, variant, phase)
    top = [phase] if several else []
    path = _graph_path if run.variant(variant).structure == "graph" else _module_path
    whole = float(np.mean(measured.profiled_us))
    means = np.mean(measured.op_us, axis=0)
    for op, mean_us in zip(measured.ops, means, strict=True):
        if mean_us > 0:
            growing.add([*top, *path(op, ops)], float(mean_us))
    rest = whole - math.fsum(means)
    if rest > 0:
        growing.add([*top, OUTSIDE], rest)
    excess = f"{phase}: the ops add up to {-rest / whole:.1%} more than the inference (parts of it ran at once)"
    return ([excess] if rest < -0.001 * whole else []), len(measured.profiled_us)


def _module_path(op: OpMeta, ops: dict[str, OpMeta]) -> list[str]:
    """Root module, module path, part ("dequantize", "matmul", ...), kernel."""
    layer = ops.get(op.parent or "", op)
    root = next((other.name for other in ops.values() if other.name == other.type and other.parent is None), None)
    inside = [] if layer.name == root else layer.name.split(".")
    part = [op.op.removeprefix(f"{op.parent}/")] if layer is not op else []
    return [*([root] if root else []), *inside, *part, *([op.kernel] if op.kernel else [])]


def _graph_path(op: OpMeta, ops: dict[str, OpMeta]) -> list[str]:
    """What holds the op (a delegate's partition, control flow, the interpreter), its type, itself, its kernel."""
    holders: list[OpMeta] = []
    inner = op
    while inner.parent in ops and len(holders) < len(ops):
        inner = ops[inner.parent]
        holders.append(inner)
    outermost = holders[-1] if holders else None
    top = [] if outermost is not None and outermost.type == "DELEGATE" else [INTERPRETER]
    names = [holder.name for holder in reversed(holders)]
    return [*top, *names, op.type, op.name, *([op.kernel] if op.kernel else [])]


def _host_facts(path: Path) -> dict[str, Any]:
    """The facts beside the stacks; none where there is no file."""
    facts = read_json(path) if path.is_file() else {}
    if not isinstance(facts, dict):
        raise StoreError(f"{path}: damaged, not an object; record the stacks anew")
    numbers: Sequence[str] = ("rate_hz", "samples", "errors", "slowdown")
    wrong = [n for n in numbers if facts.get(n) is not None and type(facts[n]) not in (int, float)]
    if wrong:
        raise StoreError(f"{path}: damaged, {wrong[0]} is no number; record the stacks anew")
    return facts


def _frames(stack: str) -> list[str]:
    """Outermost first. Unnamed code at the very start (of the C library: what calls main) tells nothing, and is there
    only where the unwinding reached it: with it, one stack would stand in two places."""
    frames = stack.split(";")
    named = next((i for i, frame in enumerate(frames) if not _ADDRESS.match(frame)), 0)
    return [_ADDRESS.sub("unnamed code", frame) for frame in frames[named:]]


def _folded_name(name: str) -> str:
    """A frame in a format where ";" parts frames and lines part stacks."""
    plain = "".join(c if c.isprintable() else " " for c in name.replace(";", ","))
    return " ".join(plain.split()) or "?"
