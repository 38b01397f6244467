"""What the time of a quantized linear goes into: unpacking the weights, the matmul, the rest.

A dispatch pass of its own runs every ATen op inside the linears one by one and times it. An op belongs to
"dequantize" if its data come from the module alone and to the rest if an activation has gone into them; where these
two meet in a product is the "matmul". Where that multiplies integers by integers, no weights are unpacked: what comes
before it makes integers of the activations, and takes the place of "dequantize". Only the *shares* of the pass are
used: it slows the layers down.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter_ns
from typing import Any

from qprof.runtimes.torch_lm import forms
from qprof.runtimes.torch_lm.observe import bound, dispatched, is_view, op_name, storage_key, tensors_in
from qprof.runtimes.torch_lm.ops import PARTS
from qprof.runtimes.torch_lm.timing import Replacements

#: Names of ATen and library ops that multiply matrices ("aten::mm", "aten::_weight_int4pack_mm_for_cpu", ...).
_PRODUCT = re.compile(r"mm|mv|matmul|linear|gem[mv]|einsum|dot|marlin|machete")


@dataclass(frozen=True, slots=True)
class TimedOp:
    """One ATen op inside a quantized linear. `part`: one of `PARTS`; `computes`: it is more than a view."""

    part: str
    name: str
    ns: int
    computes: bool


@dataclass(slots=True)
class LinearCall:
    """One call of a quantized linear, op by op.

    `packed`: its product took integers for weights; `integer`: and integers that activations had become.
    `unseen`: it took weights that no op seen here has written, the work of a kernel that is launched past torch's
    dispatcher (Triton).
    """

    ops: list[TimedOp] = field(default_factory=list)
    packed: bool = False
    integer: bool = False
    unseen: bool = False

    def whole(self, module: Any, replayed: bool = False) -> str | None:
        """Why this linear's time cannot be divided, op by op or (`replayed`) by running its parts alone; `None` where
        it can."""
        form = forms.form_of(module)
        kernel = type(module).__name__ if form is None else form.kernel(module)
        products = [op.name for op in self.ops if op.part == "matmul"]
        if not products:
            return f"{kernel}: its kernel does not pass through torch's dispatcher"
        if self.unseen and not replayed:
            return f"{kernel}: what unpacks its weights does not pass through torch's dispatcher"
        if self.integer:
            return f"{kernel}: {products[0]} multiplies integers; no weights are unpacked" if replayed else None
        if not self.unseen and not any(op.part == "dequantize" and op.computes for op in self.ops):
            if self.packed:
                return f"{kernel}: {products[0]} unpacks the weights as it multiplies; no separable dequantization"
            return f"{kernel}: its dequantized weights are kept from an earlier inference"
        if replayed and not can_dequantize(module):
            return f"{kernel}: has no method that unpacks its weights alone"
        return None

    def settle(self) -> None:
        """Sort the ops of an integer product anew, once all have run."""
        if not self.integer:
            return
        product = next(place for place, op in enumerate(self.ops) if op.part == "matmul")
        for place, op in enumerate(self.ops):
            if op.part != "matmul":
                quantizes = place < product and op.part == "other"
                self.ops[place] = replace(op, part="dequantize" if quantizes else "other")


def can_dequantize(module: Any) -> bool:
    """Whether a quantized linear unpacks its weights when asked to."""
    return _unpack(module) is not None


def _unpack(module: Any) -> Callable[[], object] | None:
    form = forms.form_of(module)
    if form is not None:
        return form.unpack(module)
    found: Callable[[], object] | None = getattr(module, "dequantize_weight", None)
    return found


class _Provenance:
    """Sorts the ops of one call by where their data come from.

    Memory is known by its storage, which is held until the call ends, so that none is reused under another's name.
    Three kinds: touched by an activation; made in this call out of nothing (`empty`, `arange`), which becomes what is
    first written into it; all else belongs to the module: buffers, parameters, attributes, caches from earlier calls.
    """

    def __init__(self, inputs: Any) -> None:
        self.product_of_blank = False
        self._held: list[Any] = []
        self._activations: set[int] = set()
        self._blank: set[int] = set()
        for tensor in tensors_in(inputs):
            self._mark(tensor, self._activations)

    def part(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> str:
        """The part that an op which has just run belongs to."""
        keys = [storage_key(tensor) for tensor in tensors_in((args, kwargs))]
        changed = [*tensors_in(result), *_written(func, args, kwargs)]
        if any(key in self._activations for key in keys):
            others = [key for key in keys if key not in self._activations]
            for tensor in changed:
                if func._schema.is_mutable or storage_key(tensor) not in others:  # else a view of the weights
                    self._mark(tensor, self._activations)
            if not others or not _PRODUCT.search(op_name(func).split("::")[-1]):
                return "other"
            self.product_of_blank |= all(key in self._blank for key in others)
            return "matmul"
        if all(key in self._blank for key in keys):
            for tensor in changed:
                self._mark(tensor, self._blank)
            return "other"
        self._blank.difference_update(storage_key(tensor) for tensor in changed)
        return "dequantize"

    def is_activation(self, tensor: Any) -> bool:
        """Whether activations have gone into it."""
        return storage_key(tensor) in self._activations

    def _mark(self, tensor: Any, kind: set[int]) -> None:
        key = storage_key(tensor)
        self._blank.discard(key)
        kind.add(key)
        self._held.append(tensor.untyped_storage())


def _written(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Any]:
    """The tensors that an op wrote into, by its schema (in place, `out=`)."""
    if not func._schema.is_mutable:
        return []
    given = bound(func, args, kwargs)
    names = [a.name for a in func._schema.arguments if a.alias_info is not None and a.alias_info.is_write]
    return tensors_in([given.get(name) for name in names])


class SplitPass:
    """Times the ops inside some quantized linears."""

    def __init__(self, linears: Mapping[int, Any]) -> None:
        calls = [self._traced(number, module.forward) for number, module in linears.items()]
        self._calls = Replacements(list(linears.values()), calls)
        self._traces: dict[int, list[LinearCall]] = {}

    def run(self, inference: Callable[[], object]) -> dict[int, list[LinearCall]]:
        """Run one inference under the pass; quantized linear -> its calls, in order."""
        self._traces = {}
        self._calls.put()
        try:
            inference()
        finally:
            self._calls.take_away()
        return self._traces

    def _traced(self, number: int, forward: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            tracer = _Tracer(_Provenance((args, kwargs)))
            with dispatched(tracer.op):
                result = forward(*args, **kwargs)
            tracer.trace.settle()
            self._traces.setdefault(number, []).append(tracer.trace)
            return result

        return call


class _Tracer:
    def __init__(self, provenance: _Provenance) -> None:
        self.trace = LinearCall()
        self._provenance = provenance

    def op(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        start_ns = perf_counter_ns()
        result = func(*args, **kwargs)
        duration_ns = perf_counter_ns() - start_ns
        read, made = tensors_in((args, kwargs)), tensors_in(result)
        part = self._provenance.part(func, args, kwargs, result)
        if part == "matmul":
            self.trace.unseen |= self._provenance.product_of_blank
            integers = [tensor for tensor in read if not (tensor.is_floating_point() or tensor.is_complex())]
            of_activations = [self._provenance.is_activation(tensor) for tensor in integers]
            self.trace.packed |= bool(integers)
            self.trace.integer |= any(of_activations) and not all(of_activations)
        # What gives out no tensor has looked at one, if at all.
        computes = not is_view(func, read, made) and bool(made or func._schema.is_mutable)
        self.trace.ops.append(TimedOp(part, op_name(func), duration_ns, computes))
        return result


@dataclass(slots=True)
class Shares:
    """What quantized linears' time went into, by linear and altogether, in one or more dispatch passes."""

    by_layer: dict[int, tuple[float, float, float]] = field(default_factory=dict)  # in the order of `PARTS`
    total_ns: dict[str, float] = field(default_factory=dict)  # part -> of all linears, over all inferences
    dequantize_ns: dict[str, float] = field(default_factory=dict)  # ATen op -> within "dequantize"
    inferences: int = 0

    def of(self, number: int) -> tuple[float, float, float]:
        """A linear's shares; of one that no pass has met those of all together."""
        total = sum(self.total_ns.values()) or 1.0
        dequantize, matmul, other = (self.total_ns.get(part, 0.0) / total for part in PARTS)
        return self.by_layer.get(number, (dequantize, matmul, other))

    def add(self, other: Shares) -> None:
        """Take in a later pass; the shares by layer are the later one's."""
        self.by_layer = other.by_layer
        self.inferences += other.inferences
        for mine, theirs in ((self.total_ns, other.total_ns), (self.dequantize_ns, other.dequantize_ns)):
            for name, ns in theirs.items():
                mine[name] = mine.get(name, 0.0) + ns


def divide(passes: Sequence[Mapping[int, Sequence[LinearCall]]], untraced_ns: Mapping[int, Sequence[int]]) -> Shares:
    """The shares of the parts in each linear's time.

    `passes`: inferences under the dispatch pass; `untraced_ns`: each linear's time in inferences without it. Beside
    the time of its kernel every op costs the interpreter and the dispatcher some, and the pass adds to that and takes
    from it: the same for every op, and so much that the linears (their median) take what they take untraced. Of each
    linear's calls the quickest counts, traced and untraced.
    """
    met = [number for number in passes[0] if untraced_ns.get(number) and all(number in run for run in passes)]
    quickest = {number: _quickest([run[number] for run in passes]) for number in met}
    times = {number: float(min(untraced_ns[number])) for number in quickest}
    gaps = [(times[number] - sum(op.ns for op in ops)) / len(ops) for number, ops in quickest.items() if ops]
    each = statistics.median(gaps) if gaps else 0.0
    shares = Shares(total_ns=dict.fromkeys(PARTS, 0.0), inferences=1)
    for number, ops in quickest.items():
        costs = [max(0.0, op.ns + each) for op in ops]
        scale = times[number] / (sum(costs) or 1.0)
        parts = dict.fromkeys(PARTS, 0.0)
        for op, cost in zip(ops, costs, strict=True):
            parts[op.part] += cost * scale
            if op.part == "dequantize":
                shares.dequantize_ns[op.name] = shares.dequantize_ns.get(op.name, 0.0) + cost * scale
        for part, ns in parts.items():
            shares.total_ns[part] += ns
        whole = sum(parts.values()) or 1.0
        shares.by_layer[number] = (parts["dequantize"] / whole, parts["matmul"] / whole, parts["other"] / whole)
    return shares


def _quickest(runs: Sequence[Sequence[LinearCall]]) -> list[TimedOp]:
    """The ops of a linear in the run in which they took least."""
    return min(([op for trace in run for op in trace.ops] for run in runs), key=lambda ops: sum(op.ns for op in ops))


def time_dequantize(modules: Mapping[int, Any], repeats: int = 3) -> dict[int, int]:
    """What unpacks each linear's weights, alone, one linear after the other as in an inference: the median, in ns.
    Linears that cannot do it alone are left out."""
    import torch

    have = {number: unpack for number, module in modules.items() if (unpack := _unpack(module)) is not None}
    times: dict[int, list[int]] = {number: [] for number in have}
    with torch.inference_mode():
        for _ in range(repeats):
            for number, unpack in have.items():
                start_ns = perf_counter_ns()
                unpack()
                times[number].append(perf_counter_ns() - start_ns)
    return {number: int(statistics.median(found)) for number, found in times.items()}
