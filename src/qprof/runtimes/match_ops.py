"""Which op of one variant is which op of another.

The name of an op (its first output tensor) is mostly stable: a quantizer that rewrites an existing file keeps it, and
adds ops for its conversions. A separate conversion renames: "Identity" becomes "Identity_int8", the parts of a fused
name "x;y;z" change, a prefix comes or goes. So ops are aligned in stages, the surest first, and what no stage can
place is removed or inserted: a wrong pair would put a measured difference on the wrong op.

    1 "name"              same name and type; the only stage whose pairs may cross, since a name outweighs order
      "name, other type"  same name and a compatible type (AVERAGE_POOL_2D and MEAN)
    2 "part of name"      same type and shape, sharing a part of the name that no other op of the type has
    3 "order"             same type and shape, in the gap between pairs already found
    4 "order, other type" compatible type, same shape but for axes of 1, in such a gap

Stages 2 to 4 are alignments that keep the order (Needleman & Wunsch, J. Mol. Biol. 48(3), 1970) within each gap.
QUANTIZE and DEQUANTIZE are compatible with nothing but themselves.

Where the two have no type in common they are of different runtimes, which have words of their own and keep channels
first or last: then compatible types count as the same, and shapes as alike that hold the same extents.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qprof.record.ops import OpMeta
from qprof.runtimes.op_families import family

#: Names that a converter hands out by number: equal by chance, so they never pair ops across others.
_GENERIC_NAME = re.compile(
    r"(Identity|(Stateful)?PartitionedCall|tfl\.\w+|arith\.constant|Const|unknown)([_:]?\d+)*(_\w+)?"
)
#: What quantizers and converters append to the name of a tensor they rewrite.
_REWRITTEN = re.compile(
    r"(_(quantized|quantize|quant|dequantized|dequantize|dequant|requantized|requantize|requant"
    r"|u?int(4|8|16)|float(16|32)|fp(16|32)))+$|:\d+$",
    re.IGNORECASE,
)
#: Number that TFLiteConverter appends to make a name unique ("Conv2D1"); "conv2d_1" is the model's own name.
_UNIQUIFIER = re.compile(r"(?<=[A-Za-z])\d+$")
_CALL_PREFIX = re.compile(r"^((Stateful)?PartitionedCall/)+")
#: Ids of nodes in a graph.
_NODE = re.compile(r"((?P<subgraph>\d{1,9})/)?(?P<node>\d{1,9})(?P<call>@.*)?", re.DOTALL)
_SHAPE = re.compile(r"\[([-\d, ?]*)\]")

#: A part of a name that pairs up more ops than this tells nothing about any of them.
_MAX_SHARED = 64

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class OpMatch:
    """The alignment of two op lists, as positions in them.

    `pairs`: (position in a, position in b), ascending in a; `stages`: for each pair, the stage that found it;
    `removed`: positions in a without a partner; `inserted`: positions in b without one.
    """

    pairs: list[tuple[int, int]]
    removed: list[int]
    inserted: list[int]
    stages: list[str] = field(default_factory=list)


def match_ops(a: Sequence[OpMeta], b: Sequence[OpMeta]) -> OpMatch:
    """Align the ops of variant b with those of baseline a; both in execution order, partitions left out.

    Shapes are those of `OpMeta.outputs`, data types ignored, a dimension of -1 equal to any. Ops of different
    subgraphs are never paired.
    """
    places = _graph_order(a), _graph_order(b)
    found = _matched([a[i] for i in places[0]], [b[j] for j in places[1]])
    stage = {(places[0][i], places[1][j]): one for (i, j), one in zip(found.pairs, found.stages, strict=True)}
    pairs = sorted(stage)
    return OpMatch(
        pairs=pairs,
        removed=sorted(places[0][i] for i in found.removed),
        inserted=sorted(places[1][j] for j in found.inserted),
        stages=[stage[pair] for pair in pairs],
    )


def _graph_order(ops: Sequence[OpMeta]) -> list[int]:
    """Positions of the ops in the order of the model's graph, where their ids tell it ("12", or "2/5" and "2/5@12" in
    other subgraphs), else as they are. A delegate's partition runs as a whole, before or behind ops between its own:
    what is in it, and so what runs when, differs between variants; the graph's order does not."""
    nodes = [_NODE.fullmatch(op.op) for op in ops]
    if any(node is None for node in nodes):
        return list(range(len(ops)))
    calls: dict[tuple[str, str], int] = {}
    keys = []
    for node in nodes:
        assert node is not None  # it was asked for above
        call = (node["subgraph"] or "", node["call"] or "")
        keys.append((calls.setdefault(call, len(calls)), int(node["node"])))
    return sorted(range(len(ops)), key=keys.__getitem__)


def _matched(a: Sequence[OpMeta], b: Sequence[OpMeta]) -> OpMatch:
    types = {op.type for op in a}, {op.type for op in b}
    # LiteRT alone has names in capitals throughout.
    across = types[0].isdisjoint(types[1]) and not all(name.isupper() for name in types[0] | types[1])
    found = _Matching([_Op.of(op, across) for op in a], [_Op.of(op, across) for op in b])
    found.pair_names("name", lambda op: (op.subgraph, op.type, op.name))
    found.pair_names("name, other type", lambda op: (op.subgraph, op.family, op.name))
    found.pair_in_order("part of name", _shared_parts)
    found.pair_in_order("order", _same_type)
    found.pair_in_order("order, other type", _compatible_type)
    return found.result()


@dataclass(frozen=True, slots=True)
class _Op:
    name: str
    type: str
    family: str
    subgraph: int
    shape: Shape | None  # of the first output; None where the runtime does not tell
    parts: frozenset[str]

    @classmethod
    def of(cls, op: OpMeta, across: bool) -> _Op:
        shape = _shape(op.outputs[0]) if op.outputs else None
        return cls(
            name=op.name,
            type=family(op.type) if across else op.type,
            family=family(op.type),
            subgraph=op.subgraph,
            shape=tuple(sorted(_squeezed(shape) or ())) if across and shape is not None else shape,
            parts=_name_parts(op.name),
        )

    @property
    def named(self) -> bool:
        return bool(self.name) and _GENERIC_NAME.fullmatch(self.name) is None


class _Matching:
    """The pairs found so far, and the gaps between those of them that keep the order."""

    def __init__(self, a: list[_Op], b: list[_Op]) -> None:
        self.a, self.b = a, b
        self.partner: dict[int, int] = {}
        self.taken: set[int] = set()
        self.stage: dict[int, str] = {}

    def pair(self, i: int, j: int, stage: str) -> None:
        self.partner[i] = j
        self.taken.add(j)
        self.stage[i] = stage

    def pair_names(self, stage: str, key: Callable[[_Op], Hashable]) -> None:
        of_a, of_b = defaultdict(list), defaultdict(list)
        for i, op in enumerate(self.a):
            if op.named and i not in self.partner:
                of_a[key(op)].append(i)
        for j, op in enumerate(self.b):
            if op.named and j not in self.taken:
                of_b[key(op)].append(j)
        for name, rows in of_a.items():
            # Where one side has more ops of that name, order has to tell which one is new.
            if len(rows) == len(of_b.get(name, ())):
                for i, j in zip(rows, of_b[name], strict=True):
                    self.pair(i, j, stage)

    def pair_in_order(self, stage: str, weigh: Callable[[list[_Op], list[_Op]], NDArray[np.float64]]) -> None:
        for rows, columns in list(self._gaps()):
            weights = weigh([self.a[i] for i in rows], [self.b[j] for j in columns])
            for row, column in _heaviest_alignment(weights):
                self.pair(rows[row], columns[column], stage)

    def _gaps(self) -> Iterator[tuple[list[int], list[int]]]:
        """Unpaired positions of a and of b between neighbouring pairs of the longest chain that keeps the order."""
        pairs = sorted(self.partner.items())
        chain = [pairs[k] for k in _longest_increasing([j for _, j in pairs])]
        previous = (-1, -1)
        for here in [*chain, (len(self.a), len(self.b))]:
            rows = [i for i in range(previous[0] + 1, here[0]) if i not in self.partner]
            columns = [j for j in range(previous[1] + 1, here[1]) if j not in self.taken]
            if rows and columns:
                yield rows, columns
            previous = here

    def result(self) -> OpMatch:
        pairs = sorted(self.partner.items())
        return OpMatch(
            pairs=pairs,
            removed=[i for i in range(len(self.a)) if i not in self.partner],
            inserted=[j for j in range(len(self.b)) if j not in self.taken],
            stages=[self.stage[i] for i, _ in pairs],
        )


def _shared_parts(a: list[_Op], b: list[_Op]) -> NDArray[np.float64]:
    """Number of name parts shared by two ops of one type and shape that no other op of the type has."""
    return np.where(_same(a, b, lambda op: op.type), _part_votes(a, b, most=1), 0.0)


def _same_type(a: list[_Op], b: list[_Op]) -> NDArray[np.float64]:
    """1 for ops of one type and shape, and a little more the more they share of their names."""
    votes = _part_votes(a, b, most=_MAX_SHARED)
    return np.where(_same(a, b, lambda op: op.type), 1.0 + 0.5 * votes / (1.0 + votes), 0.0)


def _compatible_type(a: list[_Op], b: list[_Op]) -> NDArray[np.float64]:
    return _same(a, b, lambda op: op.family, _squeezed).astype(np.float64)


def _same(
    a: list[_Op],
    b: list[_Op],
    kind: Callable[[_Op], str],
    shape: Callable[[Shape | None], Shape | None] = lambda shape: shape,
) -> NDArray[np.bool_]:
    """Which ops are of one subgraph, kind and output shape: bool[len(a), len(b)]."""
    keys: dict[tuple[int, str, Shape | None], int] = {}
    of_a = [keys.setdefault((op.subgraph, kind(op), shape(op.shape)), len(keys)) for op in a]
    of_b = [keys.setdefault((op.subgraph, kind(op), shape(op.shape)), len(keys)) for op in b]
    alike = np.array([[p[:2] == q[:2] and _shapes_fit(p[2], q[2]) for q in keys] for p in keys])
    return alike[np.ix_(of_a, of_b)]


def _part_votes(a: list[_Op], b: list[_Op], most: int) -> NDArray[np.float64]:
    """Per pair of ops: sum over the shared name parts of 1 / (pairs of that type which share the part)."""
    of_a: defaultdict[Hashable, list[int]] = defaultdict(list)
    of_b: defaultdict[Hashable, list[int]] = defaultdict(list)
    for ops, index in ((a, of_a), (b, of_b)):
        for position, op in enumerate(ops):
            for part in op.parts:
                index[op.subgraph, op.type, part].append(position)
    votes = np.zeros((len(a), len(b)))
    for key, rows in of_a.items():
        columns = of_b.get(key, [])
        if 0 < len(rows) * len(columns) <= most:
            votes[np.ix_(rows, columns)] += 1.0 / (len(rows) * len(columns))
    return votes


def _heaviest_alignment(weights: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Pairs (row, column) of positive weight, both ascending, whose weights have the largest sum."""
    rows, columns = weights.shape
    best = np.zeros((rows + 1, columns + 1))
    for i in range(rows):
        paired = np.where(weights[i] > 0, best[i, :-1] + weights[i], 0.0)
        best[i + 1, 1:] = np.maximum.accumulate(np.maximum(best[i, 1:], paired))
    pairs = []
    i, j = rows, columns
    while i and j:
        if best[i, j] == best[i - 1, j]:
            i -= 1
        elif best[i, j] == best[i, j - 1]:
            j -= 1
        else:
            i, j = i - 1, j - 1
            pairs.append((i, j))
    return pairs[::-1]


def _longest_increasing(values: Sequence[int]) -> list[int]:
    """Positions of a longest strictly increasing subsequence (patience sorting)."""
    tails: list[int] = []  # tails[n]: position of the smallest end of an increasing run of n + 1
    ends: list[int] = []
    previous: list[int | None] = []
    for position, value in enumerate(values):
        length = bisect_left(ends, value)
        previous.append(tails[length - 1] if length else None)
        tails[length : length + 1] = [position]
        ends[length : length + 1] = [value]
    chain = []
    at = tails[-1] if tails else None
    while at is not None:
        chain.append(at)
        at = previous[at]
    return chain[::-1]


def _shape(tensor: str) -> Shape | None:
    """The shape in "float32[1,112,112,32]"; `None` where there is none."""
    found = _SHAPE.search(tensor)
    if found is None:
        return None
    return tuple(-1 if size.strip() in ("?", "-1") else int(size) for size in found[1].split(",") if size.strip())


def _squeezed(shape: Shape | None) -> Shape | None:
    return None if shape is None else tuple(size for size in shape if size != 1)


def _shapes_fit(a: Shape | None, b: Shape | None) -> bool:
    if a is None or b is None:
        return True
    return len(a) == len(b) and all(x == y or -1 in (x, y) for x, y in zip(a, b, strict=True))


def _name_parts(name: str) -> frozenset[str]:
    """What may survive a renaming: the ;-joined parts, without call prefix, rewriting suffix, number, model name."""
    parts = set()
    for part in filter(None, name.split(";")):
        bare = _REWRITTEN.sub("", _CALL_PREFIX.sub("", part))
        forms = {part, bare, _UNIQUIFIER.sub("", bare)}
        forms |= {form.split("/", 1)[1] for form in forms if form.count("/") > 1}
        parts |= forms
    return frozenset(parts - {""})
