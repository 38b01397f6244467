"""What this machine does at most through torch, on a CPU or a CUDA device: products, bandwidth, launching an op."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from qprof.errors import ModelError
from qprof.probes.machine import describe_machine
from qprof.record.ceilings import COMPUTE_UNIT, DISPATCH_UNIT, MEMORY_UNIT, SINGLE, Ceiling
from qprof.record.model import RunOptions
from qprof.runtimes.ceilings import Bench, CallTimer, Level, levels, measure, on_the_host, slope, throughput
from qprof.runtimes.tool_output import first_line
from qprof.runtimes.torch_lm.cuda import CUDAClock, DeviceClock
from qprof.runtimes.torch_lm.kernels import device_kind
from qprof.runtimes.torch_lm.load import DTYPES, refuse_missing_device

#: Rows, depth and columns of a product that fills a device.
_SIDES = {"cpu": (256, 1024, 1024), "cuda": (8192, 4096, 4096)}

_CHAIN, _LONGER_BY = 8, 128  # ops
_OPS_OF_NORM = 8
#: Features of a linear layer whose product takes a fraction of its launch, and that no library has a special way for.
_TINY = 128
_LARGEST_ON_DEVICE = 2 << 30
_LARGEST_WEIGHTS = 128 << 20
_DRAWN = 1 << 20


def measure_all(options: RunOptions, *, layers: bool = True) -> list[Ceiling]:
    """Every ceiling of torch on the device, with these threads; sets torch's threads for the whole process. `layers`:
    whether what is timed are layers of several ops, or single ops.

    Raises:
        ModelError: torch does not see the device, or it has no room.
    """
    import torch

    refuse_missing_device(options.device)
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    if device_kind(options.device) == "cuda":
        clock = CUDAClock(device)
        cache_bytes = {"L2": int(torch.cuda.get_device_properties(device).L2_cache_size)}
        builder = _Builder(device, device_timer(clock), levels(cache_bytes, _LARGEST_ON_DEVICE), str(device))
    else:
        threads = f"{options.threads} thread{'s' * (options.threads > 1)}"
        builder = _Builder(device, on_the_host, levels(describe_machine().cache_bytes), threads)
    try:
        with torch.inference_mode():
            dispatch = builder.dispatch() if layers else [builder.single()]
            measured = measure([*builder.compute(), *builder.bandwidth(), *builder.weights(), *dispatch])
    except RuntimeError as error:
        raise ModelError(f"ceilings of {device}: {first_line(error)}; free its memory and try again") from error
    return [*measured, *builder.missing]


def device_timer(clock: DeviceClock) -> CallTimer:
    """The time of many calls between one pair of events: a pair around each would show mostly itself."""

    def timer(call: Callable[[], Any], calls: int) -> float:
        clock.synchronize()
        first = clock.mark()
        for _ in range(calls):
            call()
        last = clock.mark()
        clock.synchronize()
        seconds = clock.between_ns(first, last) / 1e9
        clock.give_back([first, last])
        return seconds

    return timer


class _Builder:
    """`missing`: the ceilings of formats that torch does not compute on this device, with the reason."""

    def __init__(self, device: Any, timer: CallTimer, found: Sequence[Level], how: str) -> None:
        self._device, self._timer, self._levels, self._how = device, timer, found, how
        self.missing: list[Ceiling] = []

    def compute(self) -> Iterator[Bench]:
        import torch

        rows, depth, columns = _SIDES[self._device.type]
        for dtype in (*DTYPES, "int8"):
            given, weights = self._random((rows, depth), dtype), self._random((columns, depth), dtype)
            multiply = torch._int_mm if dtype == "int8" else torch.matmul
            how = f"{multiply.__name__} of [{rows},{depth}] and [{depth},{columns}]; {self._how}"
            ceiling = Ceiling("compute", "matmul", dtype, COMPUTE_UNIT, how)
            yield from self._possible(ceiling, rows * depth * columns, _applied(multiply, given, weights.t()))

    def bandwidth(self) -> Iterator[Bench]:
        import torch

        for level in self._levels:
            elements = level.bytes // 12  # three tensors of four bytes each
            a, b, c = (self._random((elements,), "float32") for _ in range(3))
            how = f"torch.add of two float32 tensors, {elements * 12 / 2**20:.1f} MiB with the result; {self._how}"
            ceiling = Ceiling(
                "memory", level.name, "float32", MEMORY_UNIT, how, up_to_bytes=level.capacity, note=level.note
            )
            yield throughput(ceiling, elements * 12, _applied(torch.add, a, b, out=c), self._timer)

    def weights(self) -> Iterator[Bench]:
        """A matrix times one row, as in decoding: each weight is read for a single product."""
        import torch

        caches = max((level.capacity or 0 for level in self._levels), default=0)
        wanted = min(max(2 * caches, 32 << 20), _LARGEST_WEIGHTS)
        note = "a good part of the weights fits the caches" if wanted < 2 * caches else None
        for dtype in DTYPES:
            depth = 4096
            given = self._random((1, depth), dtype)
            weights = self._random((wanted // depth // given.element_size(), depth), dtype)
            how = f"linear of one row, {wanted >> 20} MiB of weights; {self._how}"
            ceiling = Ceiling("memory", "weights", dtype, MEMORY_UNIT, how, note=note)
            call = _applied(torch.nn.functional.linear, given, weights)
            yield from self._possible(ceiling, weights.numel() * weights.element_size(), call)

    def single(self) -> Bench:
        """An op alone."""
        import torch

        a, b = self._random((4,), "float32"), self._random((4,), "float32")
        what = "torch.add of 4 numbers, called as an op of an uncompiled graph"
        return self._chain(SINGLE, "float32", what, _applied(torch.add, a, b))

    def dispatch(self) -> Iterator[Bench]:
        """An op, a linear layer of hardly any work, and the ops of a layer, of which converting takes the longest."""
        import torch

        a, b = self._random((4,), "float32"), self._random((4,), "float32")
        yield self._chain("op", "float32", "torch.add of 4 numbers", _applied(torch.add, a, b))
        for dtype in DTYPES:
            given, weights = self._random((1, _TINY), dtype), self._random((_TINY, _TINY), dtype)
            link = _applied(torch.nn.functional.linear, given, weights)
            yield self._chain("linear", dtype, f"linear of one row, {_TINY} x {_TINY}", link)
        given = self._random((1, _TINY), "bfloat16")
        what = f"each of the {_OPS_OF_NORM} ops of an RMS norm of {_TINY} numbers"
        yield self._chain("norm", "bfloat16", what, _applied(_norm, given, given), _OPS_OF_NORM)

    def _chain(self, name: str, dtype: str, what: str, link: Callable[[], Any], ops: int = 1) -> Bench:
        """A chain whose links are so many ops each."""

        def chain(length: int) -> Callable[[], None]:
            def run() -> None:
                for _ in range(length // ops):
                    link()

            return run

        how = f"{what}, {_LONGER_BY} more in a chain; {self._how}"
        ceiling = Ceiling("dispatch", name, dtype, DISPATCH_UNIT, how, overlaps=self._device.type != "cpu")
        return slope(ceiling, _LONGER_BY, chain(_CHAIN), chain(_CHAIN + _LONGER_BY), self._timer)

    def _possible(self, ceiling: Ceiling, work: float, call: Callable[[], Any]) -> Iterator[Bench]:
        """The bench, unless torch has no kernel for it here."""
        try:
            bench = throughput(ceiling, work, call, self._timer)
        except (RuntimeError, NotImplementedError) as error:
            self.missing.append(replace(ceiling, reason=f"torch does not compute it here: {first_line(error)}"))
            return
        yield bench

    def _random(self, shape: tuple[int, ...], dtype: str) -> Any:
        import torch

        # The same numbers over and over: to draw as many as fill the memory benches took a second.
        count = math.prod(shape)
        drawn = torch.randint(-100, 100, (min(count, _DRAWN),), dtype=torch.int8, device=self._device)
        values = drawn if dtype == "int8" else drawn.to(getattr(torch, dtype)) / 100
        return values.repeat(-(-count // _DRAWN))[:count].reshape(shape)


def _norm(x: Any, weight: Any) -> Any:
    """An RMS norm as models compute it, in `_OPS_OF_NORM` ops: to, pow, mean, add, rsqrt, mul, to, mul."""
    wide = x.float()
    return weight * (wide * (wide.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt()).to(x.dtype)


def _applied(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Callable[[], Any]:
    return lambda: function(*args, **kwargs)
