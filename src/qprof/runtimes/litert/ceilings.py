"""What this machine does at most through LiteRT: models of a single op, run by the interpreter that runs variants."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from qprof.probes.machine import describe_machine
from qprof.record.ceilings import COMPUTE_UNIT, DISPATCH_UNIT, MEMORY_UNIT, Ceiling, number_format
from qprof.runtimes.ceilings import Bench, Level, levels, measure, slope, throughput
from qprof.runtimes.litert.interpreter import LiteRTModel
from qprof.runtimes.litert.sections import LiteRTOptions
from qprof.runtimes.litert.tiny_models import Format, add_chain, random_values, weighted_op
from qprof.store.own import OwnFolder

FORMATS: dict[Format, str] = {
    "float32": "float32",
    "int8": "int8",
    "dynamic": number_format("float32", "int8"),
}

#: Name -> op, input and weights. Every extent fills the kernels' tiles, and each byte serves far more products than the
#: caches hand out bytes; 256 or more outputs per input value leave little of quantizing it at run time. (A depthwise
#: convolution cannot have that: nine products per value, whatever its size.)
_COMPUTE = {
    "CONV_2D 1x1": ("CONV_2D", (1, 14, 14, 256), (512, 1, 1, 256)),
    "CONV_2D": ("CONV_2D", (1, 14, 14, 128), (256, 3, 3, 128)),
    "DEPTHWISE_CONV_2D": ("DEPTHWISE_CONV_2D", (1, 28, 28, 128), (1, 3, 3, 128)),
    "FULLY_CONNECTED": ("FULLY_CONNECTED", (128, 256), (1024, 256)),
}

_CHAIN, _LONGER_BY = 8, 128  # links
_LARGEST_WEIGHTS = 128 << 20


def measure_all(options: LiteRTOptions) -> list[Ceiling]:
    """Every ceiling of LiteRT with these threads and this delegate. Raises `ModelError` where LiteRT does not run."""
    cache_bytes = describe_machine().cache_bytes
    found = levels(cache_bytes)
    with OwnFolder() as folder:
        builder = _Builder(folder, options)
        benches = [*builder.compute(), *builder.bandwidth(found), *builder.weights(found), *builder.dispatch()]
        return measure(benches)


class _Builder:
    def __init__(self, folder: Path, options: LiteRTOptions) -> None:
        self._folder = folder
        self._options = options
        self._how = f"{options.threads} thread{'s' * (options.threads > 1)}, delegate {options.delegate}"

    def compute(self) -> Iterator[Bench]:
        for name, (op, input_shape, weights_shape) in _COMPUTE.items():
            for format, dtype in FORMATS.items():
                model = self._load(weighted_op(op, input_shape, weights_shape, format))
                # The filters slide over all positions; a depthwise one takes one channel in.
                macs = math.prod(input_shape[:-1]) * math.prod(weights_shape)
                how = f"{op}, input {_text(input_shape)}, weights {_text(weights_shape)}; {self._how}"
                yield throughput(Ceiling("compute", name, dtype, COMPUTE_UNIT, how), macs, model.run_once)

    def bandwidth(self, found: Sequence[Level]) -> Iterator[Bench]:
        for level in found:
            elements = level.bytes // 12  # three tensors of four bytes each
            model = self._load(add_chain(elements))
            how = f"ADD of two float32 tensors, {elements * 12 / 2**20:.1f} MiB with the result; {self._how}"
            ceiling = Ceiling("memory", level.name, "float32", MEMORY_UNIT, how, note=level.note)
            yield throughput(_up_to(ceiling, level), elements * 12, model.run_once)

    def weights(self, found: Sequence[Level]) -> Iterator[Bench]:
        """A matrix times one row: each weight is read for a single product."""
        caches = max((level.capacity or 0 for level in found), default=0)
        formats: tuple[tuple[Format, int], ...] = (("float32", 4), ("dynamic", 1))
        for format, itemsize in formats:
            wanted = min(max(2 * caches, 32 << 20), _LARGEST_WEIGHTS)
            inputs, outputs = 4096, wanted // 4096 // itemsize
            model = self._load(weighted_op("FULLY_CONNECTED", (1, inputs), (outputs, inputs), format))
            how = f"FULLY_CONNECTED of one row, {wanted >> 20} MiB of weights; {self._how}"
            note = "a good part of the weights fits the caches" if wanted < 2 * caches else None
            ceiling = Ceiling("memory", "weights", FORMATS[format], MEMORY_UNIT, how, note=note)
            yield throughput(ceiling, inputs * outputs * itemsize, model.run_once)

    def dispatch(self) -> Iterator[Bench]:
        delegates = {"none": "builtin", "xnnpack": "XNNPACK"}
        for delegate in dict.fromkeys(("none", self._options.delegate)):
            short, long = (self._load(add_chain(4, length), delegate) for length in (_CHAIN, _CHAIN + _LONGER_BY))
            how = f"ADDs of 4 numbers, {_LONGER_BY} more in a chain; {self._options.threads} threads"
            ceiling = Ceiling("dispatch", delegates[delegate], "float32", DISPATCH_UNIT, how)
            yield slope(ceiling, _LONGER_BY, short.run_once, long.run_once)

    def _load(self, content: bytes, delegate: str | None = None) -> LiteRTModel:
        path = self._folder / "model.tflite"
        path.unlink(missing_ok=True)  # the model before it is still mapped
        path.write_bytes(content)
        model = LiteRTModel(path, threads=self._options.threads, delegate=delegate or self._options.delegate)
        # Not zeros: the builtin hybrid kernel skips rows of them, and memory never written to is one page.
        model.set_inputs(
            [random_values(math.prod(spec.shape), spec.dtype).reshape(spec.shape) for spec in model.loaded.inputs]
        )
        return model


def _up_to(ceiling: Ceiling, level: Level) -> Ceiling:
    return replace(ceiling, up_to_bytes=level.capacity)


def _text(shape: Sequence[int]) -> str:
    return f"[{','.join(map(str, shape))}]"
