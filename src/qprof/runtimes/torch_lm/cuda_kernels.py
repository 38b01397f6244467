"""The kernels behind every layer on a CUDA device, by a profiler pass of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from qprof.runtimes.torch_lm.cuda import clock_of, zeros
from qprof.runtimes.torch_lm.model import CausalLM
from qprof.runtimes.torch_lm.ops import find_layers
from qprof.runtimes.torch_lm.timing import Replacements

_LAYER_RANGE = "qprof layer: "
_INFERENCE_RANGE = "qprof inference"


@dataclass(slots=True)
class LayerKernels:
    """The kernels that ran for a layer itself (not for those inside it): name -> (launches, device microseconds)."""

    kernels: dict[str, tuple[int, float]] = field(default_factory=dict)

    def add(self, name: str, us: float) -> None:
        count, total = self.kernels.get(name, (0, 0.0))
        self.kernels[name] = (count + 1, total + us)


@dataclass(slots=True)
class PhaseKernels:
    """What a profiler pass saw on the device in one phase; all figures are of one inference, the mean over the pass.

    `idle_share`: of the time from an inference's first kernel to the end of its last, the part in which no kernel ran,
    which is what waiting for launches costs. `None` where nothing ran on the device.
    """

    launches: float
    busy_us: float
    span_us: float
    idle_share: float | None
    layers: dict[str, dict[str, tuple[float, float]]]  # layer -> kernel -> (launches, device microseconds)


def kernels(model: CausalLM, inferences: int = 3) -> dict[str, PhaseKernels]:
    """The kernels behind every layer, by a pass of torch.profiler (CUPTI) of its own, per phase.

    Never a source of latency: the profiler slows launches down, and bills its own work to the device. Raises
    `ModelError` where the model does not run on an accelerator.
    """
    clock_of(model)
    import torch

    entered = model.phase
    layers = find_layers(model.module)
    calls = Replacements([layer.module for layer in layers], [_ranged(layer.name, layer.module) for layer in layers])
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    found = {}
    try:
        for phase in model.loaded.phases:
            model.enter(phase.name)
            prompt = zeros(model)
            model.set_inputs(prompt)
            model.invoke()
            calls.put()
            with torch.profiler.profile(activities=activities) as profiler:
                for _ in range(inferences):
                    model.set_inputs(prompt)
                    with torch.profiler.record_function(_INFERENCE_RANGE):
                        model.invoke()
            calls.take_away()
            found[phase.name] = attribute_kernels(profiler.events(), inferences)
    finally:
        calls.take_away()
        model.enter(entered)
    return found


def _ranged(name: str, module: Any) -> Callable[..., Any]:
    import torch

    forward = module.forward

    def call(*args: Any, **kwargs: Any) -> Any:
        with torch.profiler.record_function(_LAYER_RANGE + name):
            return forward(*args, **kwargs)

    return call


def attribute_kernels(events: Sequence[Any], inferences: int) -> PhaseKernels:
    """A profiler's events (`torch.autograd.profiler_util.FunctionEvent`) as kernels by layer.

    A kernel belongs to the host event that launched it (`linked_correlation_id`), and through its parents to the
    innermost layer and the inference around it; kernels outside of any inference are left out.
    """
    hosts = {event.id: event for event in events if not _on_device(event) and event.linked_correlation_id <= 0}
    layers: dict[str, LayerKernels] = {}
    spans: dict[int, list[tuple[float, float]]] = {}
    for event in events:
        if not _on_device(event) or event.is_user_annotation:
            continue
        layer, inference = _home(hosts.get(event.linked_correlation_id))
        if inference is None:
            continue
        start, end = event.time_range.start, event.time_range.end
        spans.setdefault(inference, []).append((start, end))
        layers.setdefault(layer or "", LayerKernels()).add(event.name, end - start)
    busy = sum(_covered(intervals) for intervals in spans.values())
    span = sum(max(e for _, e in intervals) - min(s for s, _ in intervals) for intervals in spans.values())
    return PhaseKernels(
        launches=sum(len(intervals) for intervals in spans.values()) / inferences,
        busy_us=busy / inferences,
        span_us=span / inferences,
        idle_share=(span - busy) / span if span else None,
        layers={
            name: {kernel: (count / inferences, us / inferences) for kernel, (count, us) in of.kernels.items()}
            for name, of in layers.items()
        },
    )


def _on_device(event: Any) -> bool:
    return str(event.device_type).rpartition(".")[2] == "CUDA"


def _home(event: Any) -> tuple[str | None, int | None]:
    """The innermost layer around a host event, and the inference, by its id."""
    layer = None
    while event is not None:
        if layer is None and event.name.startswith(_LAYER_RANGE):
            layer = event.name.removeprefix(_LAYER_RANGE)
        if event.name == _INFERENCE_RANGE:
            return layer, int(event.id)
        event = event.cpu_parent
    return layer, None


def _covered(intervals: Sequence[tuple[float, float]]) -> float:
    """Length of the union."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
