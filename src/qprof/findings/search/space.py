"""What can be left in float, what rounding it loses, and what it costs not to round it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from qprof.errors import StoreError
from qprof.findings.float_layers import error_rows, layer_errors
from qprof.findings.layers import layers
from qprof.store.run import Run

#: What a trial is to save: the latency of an inference, or the bytes of the file.
Cost = Literal["latency", "size"]

#: The least that a layer is taken to cost, as a share of the whole variant: some are faster in float, but then what is
#: around them is converted, and times of single ops are too uncertain for less.
_LEAST_SHARE: dict[Cost, float] = {"latency": 1e-2, "size": 1e-3}


@dataclass(frozen=True)
class Space:
    """The choices. `groups`: layers that can only be in float together, by name, the most worth their cost first.
    `noise`: group -> the error that goes away with it; `costs`: layer -> what it costs in float, in microseconds or
    bytes; none is taken to cost less than `least`."""

    groups: tuple[frozenset[str], ...]
    noise: Mapping[frozenset[str], float]
    costs: Mapping[str, float]
    least: float

    @cached_property
    def names(self) -> frozenset[str]:
        """All layers of all groups."""
        return frozenset().union(*self.groups)

    def cost(self, names: Iterable[str]) -> float:
        """What these layers are expected to cost in float, at least the least of each."""
        return sum(max(self.costs.get(name, 0.0), self.least) for name in names)

    def prefix(self, count: int) -> frozenset[str]:
        """The layers of the first groups."""
        return frozenset().union(*self.groups[:count])


def space_of(run: Run, variant: str, figure: Cost) -> Space:
    """The choices for a variant of a run in which its layers were compared with the baseline's.

    Raises `StoreError` where they were not, or where none of them is quantized.
    """
    known = [layer for layer in layer_errors(run, variant) if layer.skip_layers]
    if not known:
        raise StoreError(
            f"{run.folder}: its layer_errors.parquet has no errors of quantized layers of {variant}, so nothing can be "
            "chosen"
        )
    costs, total = _latencies(run, variant) if figure == "latency" else _sizes(run, variant)
    noise: dict[frozenset[str], float] = {}
    for layer in known:
        group = frozenset(layer.skip_layers)
        noise[group] = max(noise.get(group, 0.0), layer.noise)
    unordered = Space(tuple(noise), noise, costs, total * _LEAST_SHARE[figure])
    return replace(unordered, groups=tuple(_ordered(unordered)))


def _ordered(space: Space) -> list[frozenset[str]]:
    """Group after group that takes away the most error for what it costs more than those before it."""
    left = sorted(space.groups, key=lambda group: (-space.noise[group], sorted(group)))
    taken: frozenset[str] = frozenset()
    found = []
    while left:
        best = max(left, key=lambda group: _gain(space, left, taken | group) / space.cost(group - taken or group))
        taken |= best
        found.append(best)
        left = [group for group in left if not group <= taken]
    return found


def _gain(space: Space, left: Sequence[frozenset[str]], taken: frozenset[str]) -> float:
    return sum(space.noise[group] for group in left if group <= taken)


def _pairs(run: Run, variant: str) -> dict[str, str]:
    """Op of the baseline -> its counterpart in the variant."""
    return {row.baseline_op: row.op for row in error_rows(run, variant) if row.baseline_op is not None}


def _latencies(run: Run, variant: str) -> tuple[dict[str, float], float]:
    """Microseconds that each op of the baseline takes more than its counterpart in the variant, by name."""
    try:
        tables = {name: layers(run, name) for name in (run.baseline, variant)}
    except StoreError:
        return {}, 1.0  # ops are not timed: every layer counts alike
    own, other = ({row.meta.op: row for row in tables[name].rows if row.meta} for name in (variant, run.baseline))
    pairs = _pairs(run, variant)
    totals = {name: table.end_to_end_us.value for name, table in tables.items()}
    costs = {}
    for op, row in other.items():
        assert row.meta is not None  # as chosen
        pair = own.get(pairs.get(op, ""))
        less = 0.0 if pair is None else pair.share * totals[variant]
        costs[row.meta.name] = row.share * totals[run.baseline] - less
    return costs, totals[variant]


def _sizes(run: Run, variant: str) -> tuple[dict[str, float], float]:
    """Bytes of weights that each op of the baseline has more than its counterpart, by name."""
    own = {op.op: op.weight_bytes or 0 for op in run.op_meta.get(variant, [])}
    pairs = _pairs(run, variant)
    costs = {
        op.name: float((op.weight_bytes or 0) - own.get(pairs.get(op.op, ""), 0))
        for op in run.op_meta.get(run.baseline, [])
    }
    return costs, float(run.variant(variant).bytes or 1)
