"""Are two variants the same model? Their multiplications say so, whatever their ops are called, and the functions
between these that no other ops can make."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from qprof.findings.comparison import Comparison
from qprof.findings.measured import leaves
from qprof.record.ops import OpMeta
from qprof.record.rows import LayerErrorRow

#: A quantizer keeps every op that multiplies; a hundredth is left for what converters fold into constants.
_LEAST_COMMON = 0.99
#: How far above an op the module may be in which both do the same in sum: "mlp.experts.3.up_proj" is in "mlp.experts",
#: which stands for all experts in one model, and is a list of them in another.
_LEVELS = 2
#: Weights of the same model are its numbers, rounded: two bits leave some 7 dB. Below this they are others.
_LEAST_WEIGHT_SQNR_DB = 0.0
#: Unless what they give points the same way, and is too large or too small: a wrong scale makes no other model. What
#: unlike weights give has a cosine of 0, and of 2 / pi where a ReLU leaves nothing below zero.
_SAME_WAY = 0.9
#: What the last product gives is the same number, computed in another order: float32 leaves more than 100 dB of a
#: network, and its rounding to anything shorter less than this.
_SAME_NUMBERS_DB = 80.0
#: Ops of LiteRT that compute a transcendental function. Converters write one as another (GELU by TANH, SOFTMAX by EXP),
#: never by ADD, MUL, MINIMUM and their like, and no kernel of a product holds one, as it does a RELU.
_TRANSCENDENTAL = frozenset(["LOGISTIC", "TANH", "ELU", "GELU", "EXP", "LOG", "SOFTMAX", "LOG_SOFTMAX", "SIN", "COS"])
#: Written in parts, one is up to three of them (mish: TANH, LOG and EXP); a fourth is not the same number by any means.
_FEWEST_OF = 1 / 4
#: Parts of the types of ops that compute functions of their own inside.
_HIDING = ("LSTM", "RNN", "GRU", "SVDF", "CUSTOM", "COMPOSITE", "STABLEHLO", "FLEX", "CALL", "WHILE", "IF", "TABLE")


@dataclass(frozen=True, slots=True)
class Sameness:
    """Whether two variants are one model, and in a sentence why. `common`: part of all multiplications (of all numbers
    written, where nothing multiplies) that both do in ops of the same size; `None` for the same file. `same_numbers`:
    whether their last product gives the same numbers, which two graphs of unlike work may do as well."""

    same: bool
    says: str
    common: float | None = None
    same_numbers: bool = False


def sameness(comparison: Comparison) -> Sameness | None:
    """`None` where the ops of one are not known."""
    names = f"{comparison.baseline} and {comparison.variant}"
    if comparison.same_file:
        return Sameness(True, f"{names} are the same file")
    first, second = (_computing(comparison.ops(name)) for name in (comparison.baseline, comparison.variant))
    if not first or not second:
        return None
    common, ratio = _common(first, second, comparison.a.structure == comparison.b.structure == "modules")
    given = _last_product(comparison, second)
    equal = given is not None and _same_numbers(given)
    if common < _LEAST_COMMON:
        told = "compute the same numbers by graphs that differ" if equal else "are not the same model"
        times = f"{ratio:.3g} times the work of {comparison.baseline}"
        return Sameness(
            False,
            f"{names} {told}: {comparison.variant} does {times}, and {common:.0%} of the work of both is done in ops "
            "of the same size",
            common,
            equal,
        )
    if given is not None and equal:
        return Sameness(
            True,
            f"{names} are the same model: {given.name} gives the same numbers in both, of {given.samples} inputs",
            common,
            equal,
        )
    sqnr_db = _weights(comparison)
    if sqnr_db is not None and sqnr_db < _LEAST_WEIGHT_SQNR_DB and not _same_way(comparison):
        return Sameness(
            False,
            f"{names} are not the same model: their ops do the same work with other weights (in half of the "
            f"layers or more these differ by what they are themselves, or more: {sqnr_db:.0f} dB)",
            common,
        )
    functions = _other_functions(comparison, first, second)
    if functions:
        return Sameness(False, f"{names} are not the same model: between the ops that multiply, {functions}", common)
    return Sameness(
        True, f"{names} are the same model: {common:.0%} of the work is done in ops of the same size", common
    )


def _computing(ops: Sequence[OpMeta]) -> list[OpMeta]:
    return [op for op, is_leaf in zip(ops, leaves(list(ops)), strict=True) if is_leaf]


def _other_functions(comparison: Comparison, a: Sequence[OpMeta], b: Sequence[OpMeta]) -> str:
    """That one computes transcendental functions where the other does not, as swish and ReLU differ; "" where both do.

    Only before the last op that multiplies: a softmax or sigmoid at the end is left out of a file as often as not."""
    if comparison.a.runtime != comparison.b.runtime or any(_hides(op) for op in (*a, *b)):
        return ""
    found = [Counter(op.type for op in _before_last_product(ops) if op.type in _TRANSCENDENTAL) for ops in (a, b)]
    counts = [counted.total() for counted in found]
    if min(counts) >= _FEWEST_OF * max(counts):
        return ""
    has, lacks = (comparison.variant, comparison.baseline)
    if counts[0] > counts[1]:
        has, lacks = lacks, has
    listed = ", ".join(f"{count} {kind}" for kind, count in max(found, key=Counter.total).most_common())
    return f"{has} computes {listed}, and {lacks} {min(counts) or 'none'} of such functions"


def _hides(op: OpMeta) -> bool:
    return any(part in op.type.upper().split("_") for part in _HIDING) or op.type.upper().startswith(("FLEX", "CUSTOM"))


def _before_last_product(ops: Sequence[OpMeta]) -> list[OpMeta]:
    ordered = sorted(ops, key=lambda op: op.index)
    last = max((number for number, op in enumerate(ordered) if op.macs), default=-1)
    return ordered[: last + 1]


def _common(a: Sequence[OpMeta], b: Sequence[OpMeta], modules: bool) -> tuple[float, float]:
    """Part of the work that both do in ops of the same size, and how many times the work of `a` that of `b` is.

    `modules`: names tell which module an op is in, and an op runs as often as its tokens pick it. Where one has an op
    that the other has in parts (a list of experts, fused projections), the work of both is compared in sum.
    """
    first, second = (Counter(work for op in ops if (work := _work(op, modules))) for ops in (a, b))
    if not first and not second:
        types = [Counter(op.type for op in ops) for ops in (a, b)]
        counts = [counted.total() for counted in types]
        return (types[0] & types[1]).total() / max(counts), counts[1] / counts[0]
    shared = math.fsum(macs * count for macs, count in (first & second).items())
    totals = [math.fsum(macs * count for macs, count in counted.items()) for counted in (first, second)]
    if modules:
        shared = max(shared, _shared_by_module(a, b))
    return shared / max(totals), totals[1] / totals[0] if totals[0] else math.inf


def _work(op: OpMeta, modules: bool) -> float:
    """Multiplications of an op in an inference, as it was when the ops were discovered."""
    return float(op.macs or 0) * (op.runs if modules and op.runs is not None else 1.0)


def _shared_by_module(a: Sequence[OpMeta], b: Sequence[OpMeta]) -> float:
    """Multiplications of ops of the same name, and, of those left over, in modules that do the same number in sum: the
    innermost such."""
    left: list[dict[str, float]] = []
    for ops in (a, b):
        named: dict[str, float] = {}
        for op in ops:
            named[op.name] = named.get(op.name, 0.0) + _work(op, modules=True)
        left.append({name: work for name, work in named.items() if work})
    shared = 0.0
    for depth in range(max((name.count(".") for named in left for name in named), default=-1), -1, -1):
        sums: list[dict[str, float]] = [{}, {}]
        for named, inside in zip(left, sums, strict=True):
            for name, work in named.items():
                if name.count(".") <= depth + _LEVELS:
                    inside[_module(name, depth)] = inside.get(_module(name, depth), 0.0) + work
        same = {name for name, work in sums[0].items() if math.isclose(work, sums[1].get(name, 0.0), rel_tol=1e-6)}
        shared += math.fsum(sums[0][name] for name in same)
        left = [{name: work for name, work in named.items() if _module(name, depth) not in same} for named in left]
    return shared


def _module(name: str, depth: int) -> str:
    """The module of a name that many dots deep: "mlp" is 0 deep, "mlp.up_proj" 1."""
    return ".".join(name.split(".")[: depth + 1])


def _weights(comparison: Comparison) -> float | None:
    """Middle of what the variant's weights keep of the baseline's, in dB; `None` where they were not compared.

    Weights that are the baseline's bit by bit count too: one layer with others makes no other model."""
    known = [
        math.inf if row.weight_sqnr_db is None else row.weight_sqnr_db
        for row in _compared(comparison)
        if row.weight_sqnr_db is not None or row.weight_identical
    ]
    return median(known) if known else None


def _same_way(comparison: Comparison) -> bool:
    """Whether the layers in the middle give, of the same inputs, what the baseline's give but for its size."""
    known = [row.own_cosine for row in _compared(comparison) if row.weight_sqnr_db is not None]
    cosines = [cosine for cosine in known if cosine is not None]
    return bool(cosines) and median(cosines) >= _SAME_WAY


def _last_product(comparison: Comparison, ops: Sequence[OpMeta]) -> LayerErrorRow | None:
    """What the variant's last op that multiplies gives, in use; `None` where that was not compared. Modules were
    compared in one phase, and are the same in the others."""
    products = [op for op in _before_last_product(ops)[-1:] if op.macs]
    by_name = comparison.b.structure == "modules"
    keys = {op.name if by_name else op.op for op in products}
    return next((row for row in _compared(comparison) if (row.name if by_name else row.op) in keys), None)


def _same_numbers(row: LayerErrorRow) -> bool:
    return bool(row.identical) or (row.sqnr_db is not None and row.sqnr_db >= _SAME_NUMBERS_DB)


def _compared(comparison: Comparison) -> list[LayerErrorRow]:
    return [row for row in comparison.run.layer_errors if row.variant == comparison.variant]
