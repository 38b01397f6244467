"""What binds each op: its products, its bytes or its launch, held against ceilings measured on the same machine.

The rule. Each kind of work has a floor, the time that it would take at its ceiling:

- compute: MACs over the throughput of the op's kind in its number format, or in float32 where that is faster. A
  format whose kernels are slower than float32's is no limit of the machine.
- memory: weights over the bandwidth of the level that holds the weights of all ops together, since between two
  inferences' uses of one all others pass; plus activations over that of the level that holds this op's, since they
  were only just written. What fits a cache is so never held against memory.
- dispatch: what launching an op costs when there is next to nothing to compute.

The shortest possible time is the dispatch and the larger of the other two, or the largest of all on a device that
computes while the next op is launched. An op that takes no more than 1 / `BINDING_SHARE` times that is bound by its
largest floor; one that takes longer is bound by "neither": its kernel is far from what the machine does. A layer of
several launches whose number is not known is held against one: where that does not bind it, the question is left open.

Williams, Waterman, Patterson: Roofline, CACM 52(4), 2009; the cache-aware form: Ilic, Pratas, Sousa, IEEE CAL 13(1),
2014.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from qprof.record.ceilings import DEPTHWISE, SINGLE, Ceiling, number_format
from qprof.record.ops import FUSED, OpMeta

Bound = Literal["compute", "memory", "dispatch", "neither"]

#: Part of an op's time that the shortest possible time must account for.
BINDING_SHARE = 0.5

#: Work that takes less than this part of an op's time is not what it waits for, however slow the kernel.
_HARDLY = 0.1

#: A part this much above the whole of the time is no longer the spread of the ceilings.
_DISTURBED = 1.2

#: Of a clock in whole microseconds, whose error is half of one, two: a share of a shorter time would say little.
_SHORTEST_IN_ERRORS = 4.0
#: The error of a delegate's clock in runs that did not record it.
_DELEGATE_ERROR_US = 0.5

#: Ops that read as many rows of a table as they put out.
_LOOKUPS = ("Embedding", "EMBEDDING_LOOKUP", "GATHER")

#: LiteRT's op types without a ceiling of their own -> the one whose kernels are the nearest.
_NEAREST = {"TRANSPOSE_CONV": "CONV_2D", "CONV_3D": "CONV_2D", "CONV_3D_TRANSPOSE": "CONV_2D"}

_ITEM_BYTES = {"float64": 8, "int64": 8, "float32": 4, "int32": 4, "float16": 2, "bfloat16": 2, "int16": 2}


@dataclass(frozen=True, slots=True)
class RooflineRow:
    """One op's place under the roofline.

    `intensity`: MACs per byte. Shares are floors over `time_us`; `None` where one does not apply or is not known.
    `shortest_us`: what no kernel can beat here, from the floors that are known. `level` holds the activations and
    `weights_level` the weights. `launches`: how many launches take as long. `bound` is `None` for a `reason`.
    `notes`: what puts a figure into perspective.
    """

    op: OpMeta
    time_us: float | None
    bytes: int | None
    intensity: float | None = None
    gmac_per_s: float | None = None
    gb_per_s: float | None = None
    compute_share: float | None = None
    memory_share: float | None = None
    dispatch_share: float | None = None
    launches: float | None = None
    shortest_us: float | None = None
    compute_ceiling: Ceiling | None = None
    level: Ceiling | None = None
    weights_level: Ceiling | None = None
    bound: Bound | None = None
    reason: str | None = None
    notes: tuple[str, ...] = ()


def roofline(
    ops: Sequence[OpMeta],
    op_us: Sequence[float | None],
    ceilings: Sequence[Ceiling],
    launches: Mapping[str, int] | None = None,
) -> list[RooflineRow]:
    """One row per op, in their order. `ops`: all ops of one phase that contain no other; `op_us`: their times.

    `ceilings` must be of the runtime, threads, delegate and device that the ops ran with. `launches`: `OpMeta.op` ->
    ops of torch that a layer launches; a plain linear is known to be one, and so is every op but torch's layers.
    """
    weights = [_moved_weight_bytes(op) for op in ops]
    machine = _Machine(ceilings, sum(size or 0 for size in weights), launches or {})
    return [_row_of_all_runs(op, us, size, machine) for op, us, size in zip(ops, op_us, weights, strict=True)]


class _Machine:
    """The ceilings, by what they apply to. `weight_bytes`: of all ops together."""

    def __init__(self, ceilings: Sequence[Ceiling], weight_bytes: int, launches: Mapping[str, int]) -> None:
        self._launches = launches
        known = [ceiling for ceiling in ceilings if ceiling.value]
        self._compute = {(c.name, c.dtype): c for c in known if c.kind == "compute"}
        self._dispatch = {(c.name, c.dtype): c for c in known if c.kind == "dispatch"}
        memory = [c for c in known if c.kind == "memory"]
        self._streams = {c.dtype: c for c in memory if c.name == "weights"}
        self._caches = sorted((c for c in memory if c.up_to_bytes is not None), key=lambda c: c.up_to_bytes or 0)
        # A kernel that reads slowly is no limit of the memory: the fastest way of reading it counts.
        self.behind = max((c for c in memory if c.up_to_bytes is None), key=_value, default=None)
        # Kinds of product are told apart by LiteRT's ceilings alone; elsewhere all are matrix products.
        self.torch = any(name == "matmul" for name, _ in self._compute)
        self._single = self._dispatch.get((SINGLE, "float32"))
        self.weights_level = self.level(weight_bytes)

    def level(self, working_set: int) -> Ceiling | None:
        """The nearest level that holds so many bytes."""
        return next((c for c in self._caches if working_set <= (c.up_to_bytes or 0)), self.behind)

    def compute(self, op: OpMeta) -> tuple[Ceiling | None, Ceiling | None]:
        """The ceiling of an op's kind in its own number format, and the one that it is held against."""
        name = self._product(op) if self.torch else _litert_kind(op)
        own = self._compute.get((name, _format(op, self.torch)))
        plain = self._compute.get((name, "float32"))
        return own, max((c for c in (own, plain) if c is not None), key=_value, default=None)

    def _product(self, op: OpMeta) -> str:
        """A convolution of single channels, which no matrix product is, where such a one was measured."""
        single = DEPTHWISE in (op.kernel or "") and (DEPTHWISE, _format(op, True)) in self._compute
        return DEPTHWISE if single else "matmul"

    def launches(self, op: OpMeta) -> int | None:
        """How many launches an op consists of, `None` where that is not known."""
        if not self.torch or self._single is not None or _is_plain_linear(op):
            return 1
        return self._launches.get(op.op)

    def dispatch(self, op: OpMeta) -> Ceiling | None:
        """What each launch of an op costs."""
        if self._single is not None:
            return self._single
        if not self.torch:
            return self._dispatch.get((op.delegate or "builtin", "float32"))
        own = None
        if _is_plain_linear(op):
            own = self._dispatch.get(("linear", _format(op, True)))
        elif self._launches.get(op.op, 1) > 1:
            own = self._dispatch.get(("norm", "bfloat16"))
        return own or self._dispatch.get(("op", "float32"))

    def stream(self, op: OpMeta) -> Ceiling | None:
        """How weights of an op's format are read at most, where it takes in a single row."""
        return self._streams.get(_format(op, self.torch)) if _is_one_row(op) else None


def _row_of_all_runs(op: OpMeta, us: float | None, weights: int | None, machine: _Machine) -> RooflineRow:
    """An op that runs several times in an inference is held against the ceilings run by run: each reads its weights and
    is launched anew, and a clock's error is that of one."""
    runs = op.runs
    if not runs or runs == 1.0:
        return _row(op, us, weights, machine)
    one = replace(op, macs=_part(op.macs, runs), activation_bytes=_part(op.activation_bytes, runs))
    row = _row(one, None if us is None else us / runs, weights, machine)
    return replace(
        row,
        op=op,
        time_us=us,
        bytes=None if row.bytes is None else round(row.bytes * runs),
        launches=None if row.launches is None else row.launches * runs,
        shortest_us=None if row.shortest_us is None else row.shortest_us * runs,
    )


def _part(count: int | None, runs: float) -> int | None:
    return None if count is None else round(count / runs)


def _row(op: OpMeta, us: float | None, weights: int | None, machine: _Machine) -> RooflineRow:
    moved = None if weights is None or op.activation_bytes is None else weights + op.activation_bytes
    unusable = _unusable(op, us)
    if unusable is not None or us is None:
        return RooflineRow(op, us, moved, reason=unusable)
    own, compute = machine.compute(op) if op.macs else (None, None)
    level = None if op.activation_bytes is None else machine.level(op.activation_bytes)
    dispatch = machine.dispatch(op)
    floors = {
        "compute": op.macs / _value(compute) / 1e3 if op.macs and compute else None,
        "memory": _memory_floor_us(op, weights, level, machine.weights_level),
        "dispatch": _value(dispatch) * (machine.launches(op) or 1) if dispatch else None,
    }
    shares = {kind: floor / us for kind, floor in floors.items() if floor is not None}
    work = max(shares.get("compute", 0.0), shares.get("memory", 0.0))
    launch = shares.get("dispatch", 0.0)
    explained = max(work, launch) if dispatch is not None and dispatch.overlaps else work + launch
    bound, reason = _bind(op, shares, explained, machine)
    notes = _notes(op, own, compute, level, machine, explained)
    if bound == "neither" and machine.torch and work < _HARDLY:
        notes.append("hardly any of it is work: most is spent between its launches, or in slow ones")
    return RooflineRow(
        op=op,
        time_us=us,
        bytes=moved,
        intensity=op.macs / moved if op.macs and moved else None,
        gmac_per_s=op.macs / us / 1e3 if op.macs else None,
        gb_per_s=moved / us / 1e3 if moved else None,
        compute_share=shares.get("compute"),
        memory_share=shares.get("memory"),
        dispatch_share=shares.get("dispatch"),
        launches=us / _value(dispatch) if dispatch else None,
        shortest_us=explained * us if shares else None,
        compute_ceiling=compute,
        level=level,
        weights_level=machine.weights_level if weights else None,
        bound=bound,
        reason=reason,
        notes=tuple(notes),
    )


def _unusable(op: OpMeta, us: float | None) -> str | None:
    """Why a time says nothing."""
    if op.kernel == FUSED:
        return "no kernel of its own: fused into a neighbour or folded when the model was loaded"
    if us is None or us <= 0:
        return "no time was measured"
    error_us = op.resolution_us if op.resolution_us is not None else _DELEGATE_ERROR_US if op.delegate else 0.0
    if us < _SHORTEST_IN_ERRORS * error_us:
        return f"too short for the clock of {op.delegate or 'the ops'}, which may be off by {error_us:.2g} µs"
    return None


def _bind(op: OpMeta, shares: dict[str, float], explained: float, machine: _Machine) -> tuple[Bound | None, str | None]:
    """What binds an op, or why that stays open."""
    if explained >= BINDING_SHARE:
        kinds: tuple[Bound, ...] = ("compute", "memory", "dispatch")
        return max(kinds, key=lambda kind: shares.get(kind, 0.0)), None
    if op.macs is None and not machine.torch:
        return None, "how much it multiplies is not known"
    if op.macs and "compute" not in shares:
        return None, "no ceiling was measured for this kind of product"
    if "memory" not in shares:
        return None, "how many bytes it moves, or how fast, is not known"
    if "dispatch" not in shares:
        return None, "what a launch costs was not measured"
    if machine.launches(op) is None:
        return None, f"takes as long as {1 / shares['dispatch']:.0f} launches; how many it makes is not recorded"
    return "neither", None


def _memory_floor_us(
    op: OpMeta, weights: int | None, level: Ceiling | None, weights_level: Ceiling | None
) -> float | None:
    if weights is None or op.activation_bytes is None or level is None or weights_level is None:
        return None
    return weights / _value(weights_level) / 1e3 + op.activation_bytes / _value(level) / 1e3


def _notes(
    op: OpMeta, own: Ceiling | None, held: Ceiling | None, level: Ceiling | None, machine: _Machine, explained: float
) -> list[str]:
    """What is to be known of the figures: of formats that are slower than they might be, of ceilings that are too low.
    `own`: the compute ceiling of the op's format, `held`: the one that it is held against."""
    notes = []
    if held is not None and own is None:
        notes.append(f"no ceiling of its number format was measured: held against {held.dtype}")
    elif own is not None and held is not None and own is not held:
        notes.append(f"{own.name}: {_at_most(own)}, {held.dtype} {_value(held):.3g}")
    stream, behind = machine.stream(op), machine.behind
    if stream is not None and behind is not None and _value(stream) < BINDING_SHARE * _value(behind):
        notes.append(f"weights times one row: {_at_most(stream)}, the memory {_value(behind):.3g}")
    if explained < BINDING_SHARE and own is not None and "weights, float" in own.dtype:
        notes.append("its activations are quantized as it runs, which no ceiling counts")
    used = (level, machine.weights_level if op.weight_bytes else None)
    notes += dict.fromkeys(ceiling.note for ceiling in used if ceiling is not None and ceiling.note)
    if explained > _DISTURBED:
        notes.append("faster than the ceilings allow: its data came from a nearer cache, or they were disturbed")
    return notes


def _at_most(ceiling: Ceiling) -> str:
    return f"{ceiling.dtype} does {_value(ceiling):.3g} {ceiling.unit} here at most"


def _is_one_row(op: OpMeta) -> bool:
    """Whether an op multiplies a matrix by a single row."""
    if not op.macs or not op.inputs or op.type not in ("Linear", "linear", "FULLY_CONNECTED", "Gemm", "MatMul"):
        return False
    return math.prod(_label(op.inputs[0])[1][:-1]) == 1


def _is_plain_linear(op: OpMeta) -> bool:
    """Whether a layer of torch is a single product: a linear, or what is left of a quantized one without the rest."""
    return op.type == "Linear" and (op.kernel == "torch.nn.Linear" or op.parent is not None)


def _litert_kind(op: OpMeta) -> str:
    kind = _NEAREST.get(op.type, op.type)
    if kind == "CONV_2D" and op.type == "CONV_2D" and len(op.inputs) > 1:
        return "CONV_2D 1x1" if _label(op.inputs[1])[1][1:3] == (1, 1) else kind
    return kind if kind in ("CONV_2D", "DEPTHWISE_CONV_2D") else "FULLY_CONNECTED"


def _format(op: OpMeta, torch: bool) -> str:
    """The `number_format` of an op's product. Torch's kernels compute in the format of the activations, and so do ONNX
    Runtime's, but for those that quantize them first; a sign makes no difference there."""
    dtypes = [_label(text)[0] for text in op.inputs]
    if torch and dtypes:
        return "int8" if dtypes[0] == "uint8" or op.type.startswith("DynamicQuantizeMatMul") else dtypes[0]
    if len(dtypes) < 2:
        return dtypes[0] if dtypes else ""
    activations = dtypes[2] if op.type == "TRANSPOSE_CONV" and len(dtypes) > 2 else dtypes[0]
    return number_format(activations, dtypes[1])


def _moved_weight_bytes(op: OpMeta) -> int | None:
    """Weight bytes that one execution reads, `None` where that is not known."""
    if op.type in _LOOKUPS and op.weight_bytes:
        return sum(_bytes(text) for text in op.outputs)
    stored = op.weight_bytes
    if stored and len(op.inputs) > 1 and _is_widened(op):
        return max(stored, _bytes(op.inputs[1]))
    return stored


def _is_widened(op: OpMeta) -> bool:
    """Whether weights are turned into the format of the activations once, when the model is loaded."""
    text = op.quantization or ""
    return "dequantized before use" in text or text.startswith("float16 weights")


def _label(text: str) -> tuple[str, tuple[int, ...]]:
    """ "float32[1,8]" -> ("float32", (1, 8))."""
    dtype, _, shape = text.partition("[")
    return dtype, tuple(int(extent) for extent in re.findall(r"-?\d+", shape))


def _bytes(text: str) -> int:
    dtype, shape = _label(text)
    return math.prod(shape) * _ITEM_BYTES.get(dtype, 1)


def _value(ceiling: Ceiling) -> float:
    assert ceiling.value is not None  # those without one were left out
    return ceiling.value
