"""A causal language model whose every layer is timed, and its quantized linears divided."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import ModelError
from qprof.record.model import Loaded
from qprof.record.ops import SOURCES, OpEvents, OpMeta
from qprof.runtimes.torch_lm.cuda import CUDAClock, DeviceClock, DeviceLayerTimer
from qprof.runtimes.torch_lm.cuda_audit import clock_audit
from qprof.runtimes.torch_lm.cuda_kernels import kernels
from qprof.runtimes.torch_lm.cuda_replay import replay, replayed_shares
from qprof.runtimes.torch_lm.experts import unseen_experts
from qprof.runtimes.torch_lm.model import CausalLM
from qprof.runtimes.torch_lm.observe import is_quantized_linear, observe
from qprof.runtimes.torch_lm.ops import PARTS, QUANTIZE, describe, find_layers
from qprof.runtimes.torch_lm.products import products_alone
from qprof.runtimes.torch_lm.split import Shares, SplitPass, divide, time_dequantize
from qprof.runtimes.torch_lm.timing import Timer, layer_timer

#: Inferences under the dispatch pass, and without it, from which one set of shares is taken.
_SPLIT_INFERENCES = 2

#: Inferences that each clock of an audit times.
_AUDIT_INFERENCES = 15

_LAYER, _OWN, _SPLIT = (SOURCES.index(name) for name in ("layer", "own", "split"))
_DEVICE, _REPLAYED = (SOURCES.index(name) for name in ("device", "replayed"))


class ProfiledCausalLM:
    """The same module as the clean model's, with layer timers that are in its way only between `begin` and `end`.

    Satisfies `base.ProfiledModel`. Ops are flat: a module that contains others is an op of its own time alone, so that
    all ops and the rest add up to the end-to-end time. A quantized linear whose inside can be seen is a container of
    three ops (see `ops.describe`), which share its measured time as a dispatch pass found it divided: that pass runs in
    `reserve`, anew for every block. On an accelerator, where a host's clock tells nothing of an op, layers are timed by
    events, and divided as their parts take when they are run alone: once, when the ops are discovered. Latency is never
    taken from this model.
    """

    def __init__(self, model: CausalLM, device_clock: DeviceClock | None = None) -> None:
        """`device_clock`: what times layers instead of the host; by default events, where the model is on CUDA."""
        self.model = model
        if device_clock is None and model.device.type == "cuda":
            device_clock = CUDAClock(model.device)
        self._device_clock = device_clock
        self._leaf_source = _LAYER if device_clock is None else _DEVICE
        self.loaded: Loaded = model.loaded
        self.run_once: Callable[[], None] = model.run_once
        self.layers = find_layers(model.module)
        self.ops: list[OpMeta] = []
        self._inputs: Sequence[NDArray[Any]] = [np.zeros(i.shape, np.dtype(i.dtype)) for i in model.loaded.inputs]
        self._quantized = {n: layer.module for n, layer in enumerate(self.layers) if is_quantized_linear(layer.module)}
        self._timer, self._timer_kind = self._make_timer()
        self._phases: dict[str, _Phase] = {}
        self._integer: set[int] = set()  # linears that multiply integers
        self._alone_ns: dict[int, int] = {}  # each linear's dequantization alone, the same in every phase

    def _make_timer(self) -> tuple[Timer, str]:
        modules = [layer.module for layer in self.layers]
        if self._device_clock is not None:
            return DeviceLayerTimer(modules, self._device_clock), "device events"
        return layer_timer(modules)

    # -- base.Model, as the clean model does it -----------------------------------------------------------------------

    def enter(self, phase: str) -> None:
        self.model.enter(phase)
        self.run_once = self.model.run_once

    def set_inputs(self, arrays: Sequence[NDArray[Any]]) -> None:
        self._inputs = arrays
        self.model.set_inputs(arrays)

    def invoke(self) -> None:
        self.model.invoke()

    def outputs(self) -> list[NDArray[Any]]:
        return self.model.outputs()

    def memory_bytes(self) -> dict[str, int]:
        return self.model.memory_bytes()

    # -- base.ProfiledModel -------------------------------------------------------------------------------------------

    def discover(self) -> list[OpMeta]:
        """Run some inferences of every phase on the present inputs; the ops of all phases, in execution order."""
        entered = self.model.phase
        self.ops, self._phases, self._alone_ns = [], {}, {}
        for phase in self.loaded.phases:
            self.enter(phase.name)
            self._phases[phase.name] = self._discover_phase(phase.name)
        self.enter(entered)
        self._again()
        return self.ops

    def _discover_phase(self, phase: str) -> _Phase:
        self._again()
        self.model.invoke()  # what is only built on first use (caches of unpacked tables) is none of the ops
        self._again()
        seen = observe(self.layers, self.model.invoke)
        seen |= unseen_experts(self.layers, seen)
        called = {number: module for number, module in self._quantized.items() if number in seen}
        whole = self._undivided(called)
        divided = {number: module for number, module in called.items() if whole[number] is None}
        ops, positions = describe(self.layers, phase, seen, divided, len(self.ops), self._integer)
        found = _Phase(
            records=sum(max(1, observation.calls) for observation in seen.values()),
            op={number: len(self.ops) + position for number, position in positions.items()},
            divided=divided,
            reasons=sorted({reason for reason in whole.values() if reason is not None}),
            replayed=self._device_clock is not None,
            integer=bool(divided) and self._integer.issuperset(divided),
        )
        self.ops.extend(ops)
        rows = {number: seen[number].rows for number in divided}
        if self._device_clock is not None:
            self._replay(found, rows, self._device_clock)
        else:
            self._divide(found)
            found.products_us = {} if found.integer else products_alone(divided, rows, self.model.module.dtype)
        return found

    def _undivided(self, linears: Mapping[int, Any]) -> dict[int, str | None]:
        """Why each of these linears cannot be divided, `None` for those that can."""
        if not linears:
            return {}
        self._again()
        traces = SplitPass(linears).run(self.model.invoke)
        self._integer |= {number for number, calls in traces.items() if all(call.integer for call in calls)}
        replayed = self._device_clock is not None
        found: dict[int, str | None] = {}
        alike: dict[type, str | None] = {}  # what is known of a kernel stands for experts that were not picked here
        for number, module in linears.items():
            if number in traces:
                reasons = (trace.whole(module, replayed) for trace in traces[number])
                found[number] = alike[type(module)] = next(filter(None, reasons), None)
        not_run = "no linear of its kernel ran in the inference that was looked into"
        return {n: found.get(n, alike.get(type(module), not_run)) for n, module in linears.items()}

    def _timed_once(self) -> dict[int, int]:
        """Layer -> the time of its calls in one inference, timers in place, without a dispatch pass."""
        self._again()
        self._timer.start(0)
        try:
            self.model.invoke()
        finally:
            self._timer.stop()
        return _by_layer(self._timer.drain(), len(self.layers))

    def _replay(self, phase: _Phase, rows: Mapping[int, int], clock: DeviceClock) -> None:
        """Divide linears on an accelerator, as their parts take alone."""
        alone = replay({number: (module, rows[number]) for number, module in phase.divided.items()}, clock)
        whole = [self._timed_once() for _ in range(_SPLIT_INFERENCES)]
        shares = Shares(total_ns=dict.fromkeys(PARTS, 0.0), inferences=1)
        for number, parts in alone.items():
            took = min(times.get(number, 0) for times in whole)
            shares.by_layer[number] = replayed_shares(parts, took)
            for part, share in zip(PARTS, shares.by_layer[number], strict=True):
                shares.total_ns[part] += share * took
        phase.shares = shares
        ran = {number for times in whole for number in times}
        phase.alone_ns = sum(parts.dequantize_ns for number, parts in alone.items() if number in ran)

    def _divide(self, phase: _Phase) -> None:
        if not phase.divided or self._device_clock is not None:
            return
        missing = {number: module for number, module in phase.divided.items() if number not in self._alone_ns}
        self._alone_ns |= time_dequantize(missing)
        shares = self._pass(phase)
        phase.alone_ns = float(sum(self._alone_ns.get(number, 0) for number in shares.by_layer)) or None
        phase.shares.add(shares)

    def _pass(self, phase: _Phase) -> Shares:
        """What the linears' time goes into, measured anew: untraced and traced inferences in turn."""
        tracer, traced = SplitPass(phase.divided), []
        untraced: dict[int, list[int]] = {number: [] for number in phase.divided}
        for _ in range(_SPLIT_INFERENCES):
            for number, duration_ns in self._timed_once().items():
                if number in untraced:
                    untraced[number].append(duration_ns)
            self._again()
            traced.append(tracer.run(self.model.invoke))
        return divide(traced, untraced)

    def _again(self) -> None:
        """Make ready for the first inference on the present inputs once more: the same tokens, which go to the same
        experts."""
        self.model.set_inputs(self._inputs)
        self.model.rewind()

    def reserve(self, inferences: int) -> None:
        """Make room for that many inferences of the present phase, and divide its quantized linears anew."""
        phase = self._present()
        self._timer.reserve(inferences * phase.records)
        self._divide(phase)

    def divided(self) -> dict[int, Any]:
        """The quantized linears that are divided in the present phase."""
        return dict(self._present().divided)

    def divide(self) -> Shares:
        """One dispatch pass more over the present phase, by itself; what blocks are divided by stays."""
        return self._pass(self._present())

    def begin(self, inference: int) -> None:
        """Put the timers in place and record under that number."""
        self._timer.start(inference)

    def end(self) -> None:
        """Take the timers away."""
        self._timer.stop()

    def drain(self) -> OpEvents:
        """Op events since the last call, all of the present phase; a layer's own time, and its parts'."""
        phase = self._present()
        sources = [_OWN if layer.contains else self._leaf_source for layer in self.layers]
        return to_events(self._timer.drain(), phase, np.array(sources, np.uint8))

    def arena_bytes(self) -> int | None:
        """`None`: torch allocates tensor by tensor."""
        return None

    def lost_events(self) -> int:
        """Calls of layers that could not be kept."""
        return self._timer.lost

    def timing_facts(self) -> dict[str, Any]:
        """What the manifest keeps of the instrumentation; "split" by phase."""
        facts: dict[str, Any] = {
            "timer": self._timer_kind,
            "timed_layers": len(self.layers),
            "lost_calls": self._timer.lost,
            "foreign_calls": self._timer.foreign_calls,
            "unlisted_calls": sum(phase.unlisted for phase in self._phases.values()),
        }
        if isinstance(self._timer, DeviceLayerTimer):
            facts["device"] = self._timer.facts()
        return {"facts": facts, "split": {name: phase.facts() for name, phase in self._phases.items()}}

    def audit(self) -> dict[str, Any]:
        """On a device "clocks": the forward by three clocks, and on CUDA "kernels": what ran for each layer, both by
        phase (see `cuda.clock_audit` and `cuda.PhaseKernels`). Nothing on a host, which has no second clock."""
        if self._device_clock is None:
            return {}
        found: dict[str, Any] = {"clocks": clock_audit(self.model, _AUDIT_INFERENCES, self._device_clock)}
        if self.model.device.type == "cuda":
            seen = kernels(self.model)
            # A profiler without access to the device's counters sees no kernel: unknown, not none.
            found["kernels"] = {phase: asdict(of) for phase, of in seen.items() if of.launches}
        self.enter(self.model.phase)
        self._again()
        return found

    def _present(self) -> _Phase:
        phase = self._phases.get(self.model.phase)
        if phase is None:
            raise ModelError(f"{self.model.path}: layers are timed before they were discovered")
        return phase


@dataclass(slots=True)
class _Phase:
    """What was discovered of one phase. `op`: layer -> position of its op; the parts of a divided linear follow it."""

    records: int  # calls of layers in one inference
    op: dict[int, int]
    divided: dict[int, Any]  # layer -> the quantized linear
    reasons: list[str]  # why the other quantized linears are not
    shares: Shares = field(default_factory=Shares)
    integer: bool = False  # whether they multiply integers, so that activations are quantized and no weights unpacked
    replayed: bool = False  # whether the shares are from running the parts alone
    alone_ns: float | None = None  # of all divided linears of an inference: their dequantization, run alone
    products_us: dict[str, float] = field(default_factory=dict)  # kernel -> their products, run alone in it
    unlisted: int = 0  # calls of layers that discovery had not seen

    def facts(self) -> dict[str, Any]:
        """The split, as the manifest keeps it; milliseconds are of one inference."""
        total = sum(self.shares.total_ns.values())
        if not self.divided or not total:
            reason = "; ".join(self.reasons) or "it has no quantized linears"
            return {"how": None, "reason": reason if not self.divided else "their parts took no time that can be read"}
        dequantize = self.shares.total_ns["dequantize"]
        ranked = sorted(self.shares.dequantize_ns.items(), key=lambda item: -item[1])
        first_ops = {name: ns / dequantize for name, ns in ranked if dequantize}
        if self.integer:
            parts = (QUANTIZE, *PARTS[1:])
            return {
                "how": "in situ",
                "reason": "; ".join(self.reasons) or None,
                "linears": len(self.divided),
                "passes": self.shares.inferences,
                "shares": {part: self.shares.total_ns[slot] / total for part, slot in zip(parts, PARTS, strict=True)},
                "quantize_ops": first_ops,
            }
        return {
            "how": "replayed" if self.replayed else "in situ",
            "reason": "; ".join(self.reasons) or None,
            "linears": len(self.divided),
            "passes": self.shares.inferences,
            "shares": {part: ns / total for part, ns in self.shares.total_ns.items()},
            "dequantize_ops": first_ops,
            "in_situ_ms": None if self.replayed else dequantize / self.shares.inferences / 1e6,
            "replayed_ms": None if self.alone_ns is None else self.alone_ns / 1e6,
            "products_us": self.products_us or None,
        }


def to_events(records: NDArray[Any], phase: _Phase, sources: NDArray[np.uint8]) -> OpEvents:
    """The timer's records as op events: of every layer its own time, behind it that of a divided linear's parts, one
    after the other from the linear's start. `sources`: of each layer's events."""
    ops = np.full(len(sources), -1, np.int32)
    ops[list(phase.op)] = list(phase.op.values())
    listed = ops[records["layer"]] >= 0
    phase.unlisted += int((~listed).sum())
    records = records[listed]
    layer = records["layer"]
    layers = OpEvents(
        inference=records["inference"].astype(np.int32),
        op=ops[layer],
        start_ns=records["start_ns"].astype(np.int64),
        duration_ns=records["own_ns"].astype(np.int64),
        source=sources[layer],
    )
    if not phase.divided:
        return layers
    shares = np.zeros((len(sources), len(PARTS)))
    shares[list(phase.divided)] = [phase.shares.of(number) for number in phase.divided]
    inside = np.isin(layer, list(phase.divided))
    return _joined([layers, *_parts(layers, inside, shares[layer[inside]], _REPLAYED if phase.replayed else _SPLIT)])


def _parts(layers: OpEvents, inside: NDArray[np.bool_], shares: NDArray[np.float64], source: int) -> list[OpEvents]:
    duration_ns = layers.duration_ns[inside]
    ends = np.rint(duration_ns[:, None] * np.cumsum(shares, axis=1)).astype(np.int64)
    ends[:, -1] = duration_ns
    starts = np.concatenate([np.zeros((len(ends), 1), np.int64), ends[:, :-1]], axis=1)
    return [
        OpEvents(
            inference=layers.inference[inside],
            op=(layers.op[inside] + 1 + part).astype(np.int32),
            start_ns=layers.start_ns[inside] + starts[:, part],
            duration_ns=ends[:, part] - starts[:, part],
            source=np.full(len(ends), source, np.uint8),
        )
        for part in range(len(PARTS))
    ]


def _joined(events: Sequence[OpEvents]) -> OpEvents:
    names = ("inference", "op", "start_ns", "duration_ns", "source")
    return OpEvents(**{name: np.concatenate([getattr(e, name) for e in events]) for name in names})


def _by_layer(records: NDArray[Any], count: int) -> dict[int, int]:
    totals = np.bincount(records["layer"], weights=records["duration_ns"].astype(np.float64), minlength=count)
    return {int(number): int(totals[number]) for number in np.unique(records["layer"])}
