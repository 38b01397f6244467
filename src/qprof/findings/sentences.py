"""What happened, in a sentence, for each row of a decomposition."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from qprof.findings.decomposition import Decomposition, Mechanism, MechanismRow, OpPart, Settings

#: Types of op that a sentence names; the others are counted.
_TYPES_TOLD = 3
#: A change of work or rate that is told as such.
_TOLD = 0.02


def with_sentences(found: Decomposition, settings: Settings, same_file: bool) -> Decomposition:
    """The same decomposition, each of its rows with its sentence."""
    tell = _Teller(found, settings, same_file)
    return replace(found, rows=tuple(replace(row, sentence=tell.sentence(row)) for row in found.rows))


class _Teller:
    def __init__(self, found: Decomposition, settings: Settings, same_file: bool) -> None:
        self._a, self._b = found.baseline, found.variant
        self._resets = found.resets
        self._settings, self._same_file = settings, same_file

    def sentence(self, row: MechanismRow) -> str:
        """What the row's ops have in common."""
        tell: dict[Mechanism, Callable[[MechanismRow], str]] = {
            "work": self._work,
            "placement": self._placement,
            "conversions": self._conversions,
            "rate": self._rate,
            "neighbourhood": self._neighbourhood,
            "settings": self._of_settings,
        }
        if row.mechanism in tell:
            return tell[row.mechanism](row)
        return {
            "between the ops": "goes between the ops, into the runtime itself",
            "outside": "was taken by what else the machine did while they ran",
            "unattributed": "is not attributed: the clean inferences against the profiled ones",
        }[str(row.mechanism)]

    def _work(self, row: MechanismRow) -> str:
        inserted = [part for part in row.ops if part.a is None]
        removed = [part for part in row.ops if part.b is None]
        changed = [part for part in row.ops if part.a is not None and part.b is not None and not part.fused_in]
        told = []
        apart, fused = ([part for part in row.ops if part.fused_in == side] for side in ("a", "b"))
        if apart:
            told.append(f"{counted(apart)} {_run(apart)} in kernels of their own, which {self._a} does within others")
        if fused:
            told.append(f"{counted(fused)} {_are(fused)} done within others, with kernels of their own in {self._a}")
        if inserted:
            told.append(f"{counted(inserted)} {_are(inserted)} inserted")
        if removed:
            told.append(f"{counted(removed)} {_are(removed)} gone")
        if changed:
            factor = _total(changed, lambda p: (p.work or 1.0) * _weight(p)) / _total(changed, _weight)
            told.append(f"{counted(changed)} {_do(changed)} {factor:.3g} times the work")
        return " and ".join(told)

    def _placement(self, row: MechanismRow) -> str:
        left = [part for part in row.ops if part.a and part.a.delegate and not (part.b and part.b.delegate)]
        entered = [part for part in row.ops if part.b and part.b.delegate and not (part.a and part.a.delegate)]
        told = []
        for parts, where in ((left, "outside {}, in kernels of the interpreter's own"), (entered, "inside {}")):
            if parts:
                sides = [part.a if parts is left else part.b for part in parts]
                delegate = str(next(side.delegate for side in sides if side))
                told.append(f"{counted(parts)} {_run(parts)} {where.format(delegate)}")
        return " and ".join(told) or f"{counted(row.ops)} {_run(row.ops)} elsewhere"

    def _conversions(self, row: MechanismRow) -> str:
        inserted = [part for part in row.ops if part.a is None]
        removed = [part for part in row.ops if part.b is None]
        told = []
        if inserted:
            told.append(
                f"{counted(inserted)} {_are(inserted)} inserted, which only change{'s' * (len(inserted) == 1)} the "
                "number format"
            )
        if removed:
            told.append(f"no {counted(removed, numbers=False)} any more ({len(removed)} in {self._a})")
        return " and ".join(told)

    def _rate(self, row: MechanismRow) -> str:
        groups: dict[str, list[OpPart]] = {}
        for part in row.ops:
            groups.setdefault(part.type, []).append(part)
        first = max(groups.values(), key=lambda parts: abs(math.fsum(part.delta_us for part in parts)))
        multiplying = [part for part in first if part.a and part.b and part.a.macs and part.b.macs]
        if len(multiplying) == len(first):
            rates = [_rate_of(first, side) for side in ("a", "b")]
            if rates[0] and rates[1] and abs(rates[1] / rates[0] - 1.0) > _TOLD:
                alike = all(part.a and part.b and part.a.macs == part.b.macs for part in first)
                told = (
                    f"{counted(first)} {_do(first)} {'the same' if alike else 'their'} multiplications at "
                    f"{rates[1] / rates[0]:.2g} times the rate ({rates[0]:.3g} -> {rates[1]:.3g} GMAC/s)"
                )
                return told + self._others(groups, first)
        slower = math.fsum(part.delta_us for part in first) > 0.0
        return f"{counted(first)} {_do(first)} the same work {'more slowly' if slower else 'faster'}" + self._others(
            groups, first
        )

    def _others(self, groups: dict[str, list[OpPart]], first: Sequence[OpPart]) -> str:
        rest = [part for parts in groups.values() if parts is not first for part in parts]
        return f"; the rest: {counted(rest)}" if rest else ""

    def _neighbourhood(self, row: MechanismRow) -> str:
        debts = [part for part in row.ops if part.by]
        same = [part for part in row.ops if not part.by]
        told = []
        if debts:
            saved = _total(debts, lambda part: part.delta_us)
            told.append(
                f"{counted(debts)} {_pay(debts)} for {self._resets} that the ops before them leave in use "
                f"({saved:+.0f} µs, gone where these are reset before each op)"
            )
        if same:
            rest = _total(same, lambda part: part.delta_us)
            told.append(
                f"{counted(same)} {_run(same)} in the same kernels on the same shapes, in other surroundings "
                f"({rest:+.0f} µs: caches, alignment or chance)"
            )
        return "; ".join(told)

    def _of_settings(self, row: MechanismRow) -> str:
        others = ", ".join(f"{name} {b} instead of {a}" for name, a, b in self._settings.others)
        if self._settings.runtimes:
            a, b = self._settings.runtimes
            told = f"{counted(row.ops)} {_run(row.ops)} by another runtime, {b} instead of {a}"
            told += f", and with {others}" if others else ""
            return f"{told}: what it owes to that and what to the graph that was made for it is not told apart"
        both = [part for part in row.ops if part.a is not None and part.b is not None]
        one = [part for part in row.ops if part.a is None or part.b is None]
        told = f"{counted(both)} {_run(both)} with {others}" if both else f"the model is run with {others}"
        if self._same_file:
            is_or_are = "is" if len(one) == 1 else "are"
            return f"{told}, and {counted(one)} {is_or_are} in one of the two graphs alone" if one else told
        return f"{told}; the file is another as well, and only a run that changes one of the two can tell them apart"


#: What a layer is divided into has no name of its own in a model.
_PARTS = {"dequantize": "unpackings of weights", "other in linear": "other parts of linears"}


def counted(parts: Iterable[OpPart], numbers: bool = True) -> str:
    """ "17 DEPTHWISE_CONV_2D", "2 QUANTIZE and 2 DEQUANTIZE": the most frequent types, the others as "3 others"."""
    types = Counter(_PARTS.get(part.type, part.type) for part in parts).most_common()
    told = [f"{count} {name}" if numbers else name for name, count in types[:_TYPES_TOLD]]
    others = sum(count for _, count in types[_TYPES_TOLD:])
    told += [f"{others} other{'s' * (others > 1)}"] if others else []
    return told[0] if len(told) == 1 else f"{', '.join(told[:-1])} and {told[-1]}"


def _rate_of(parts: Sequence[OpPart], which: str) -> float | None:
    """Billions of multiplications per second of some ops in one variant."""
    sides = [getattr(part, which) for part in parts]
    time_us = math.fsum(side.time_us for side in sides)
    return math.fsum(side.macs for side in sides) / time_us / 1e3 if time_us > 0.0 else None


def _weight(part: OpPart) -> float:
    return float(part.a.macs or 1) if part.a else 1.0


def _total(parts: Sequence[OpPart], of: Callable[[OpPart], float]) -> float:
    return math.fsum(of(part) for part in parts)


def _are(parts: Sequence[OpPart]) -> str:
    return "is" if len(parts) == 1 else "are"


def _do(parts: Sequence[OpPart]) -> str:
    return "does" if len(parts) == 1 else "do"


def _run(parts: Sequence[OpPart]) -> str:
    return "runs" if len(parts) == 1 else "run"


def _pay(parts: Sequence[OpPart]) -> str:
    return "pays" if len(parts) == 1 else "pay"
