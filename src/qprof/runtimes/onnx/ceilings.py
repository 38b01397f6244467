"""What this machine does at most through ONNX Runtime: models of a single op, run by the session that runs variants."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from qprof.probes.machine import describe_machine
from qprof.record.ceilings import COMPUTE_UNIT, DEPTHWISE, DISPATCH_UNIT, MEMORY_UNIT, SINGLE, Ceiling
from qprof.runtimes.ceilings import Bench, Level, levels, measure, slope, throughput
from qprof.runtimes.onnx.sections import OnnxOptions
from qprof.runtimes.onnx.session import OnnxModel
from qprof.store.own import OwnFolder

#: Number format -> the op that multiplies in it, and what its operands are. Int8 as static and dynamic variants have it
#: on a processor: activations of 8 bits without a sign, products in int32.
_FORMATS = {"float32": ("MatMul", "float32", "float32"), "int8": ("MatMulInteger", "uint8", "int8")}

#: Rows, depth and columns of a product that fills a core.
_SIDES = (256, 1024, 1024)
_DEPTH = 4096
#: Channels, and rows and columns of the image and of a filter; how many of them are run behind one another.
_DEPTHWISE = (128, 28, 3)
_DEPTHWISE_LINKS = 8

_CHAIN, _LONGER_BY = 8, 128  # links
_LARGEST_WEIGHTS = 128 << 20
_OPSET, _IR = 17, 9


def measure_all(options: OnnxOptions) -> list[Ceiling]:
    """Every ceiling of ONNX Runtime with these threads and this provider. Raises `ModelError` where it does not run."""
    found = levels(describe_machine().cache_bytes)
    with OwnFolder() as folder:
        builder = _Builder(folder, options)
        return measure([*builder.compute(), *builder.bandwidth(found), *builder.weights(found), builder.dispatch()])


class _Builder:
    def __init__(self, folder: Path, options: OnnxOptions) -> None:
        self._folder = folder
        # What else a variant's options say is of its own inputs and outputs.
        self._options = msgspec.structs.replace(options, input_shapes={}, batch=1, quantization={}, last_ops=[])
        self._random = np.random.default_rng(0)
        self._loaded: list[OnnxModel] = []  # the bare call of a session keeps nothing alive of what it reads
        self._how = f"{options.threads} thread{'s' * (options.threads > 1)}, provider {options.provider}"

    def compute(self) -> Iterator[Bench]:
        rows, depth, columns = _SIDES
        for dtype, (op, given, weights) in _FORMATS.items():
            model = self._product(op, (rows, depth), given, self._values((depth, columns), weights))
            how = f"{op} of [{rows},{depth}] and [{depth},{columns}]; {self._how}"
            yield throughput(
                Ceiling("compute", "matmul", dtype, COMPUTE_UNIT, how), rows * depth * columns, model.run_once
            )
        channels, side, filter_side = _DEPTHWISE
        for dtype in _FORMATS:
            model = self._depthwise(dtype)
            macs = _DEPTHWISE_LINKS * channels * side * side * filter_side * filter_side
            shapes = f"[1,{channels},{side},{side}] and [{channels},1,{filter_side},{filter_side}]"
            how = f"{_DEPTHWISE_LINKS} depthwise convolutions of {shapes}, one after the other; {self._how}"
            yield throughput(Ceiling("compute", DEPTHWISE, dtype, COMPUTE_UNIT, how), macs, model.run_once)

    def bandwidth(self, found: Sequence[Level]) -> Iterator[Bench]:
        for level in found:
            elements = level.bytes // 12  # three tensors of four bytes each
            model = self._adds(elements, 1)
            how = f"Add of two float32 tensors, {elements * 12 / 2**20:.1f} MiB with the result; {self._how}"
            ceiling = Ceiling(
                "memory", level.name, "float32", MEMORY_UNIT, how, up_to_bytes=level.capacity, note=level.note
            )
            yield throughput(ceiling, elements * 12, model.run_once)

    def weights(self, found: Sequence[Level]) -> Iterator[Bench]:
        """A matrix times one row: each weight is read for a single product."""
        caches = max((level.capacity or 0 for level in found), default=0)
        wanted = min(max(2 * caches, 32 << 20), _LARGEST_WEIGHTS)
        note = "a good part of the weights fits the caches" if wanted < 2 * caches else None
        for dtype, (op, given, weights) in _FORMATS.items():
            matrix = self._values((_DEPTH, wanted // _DEPTH // np.dtype(weights).itemsize), weights)
            model = self._product(op, (1, _DEPTH), given, matrix)
            how = f"{op} of one row, {wanted >> 20} MiB of weights; {self._how}"
            ceiling = Ceiling("memory", "weights", dtype, MEMORY_UNIT, how, note=note)
            yield throughput(ceiling, matrix.nbytes, model.run_once)

    def dispatch(self) -> Bench:
        how = f"Adds of 4 numbers, {_LONGER_BY} more in a chain; {self._how}"
        overlaps = self._options.provider == "cuda"
        ceiling = Ceiling("dispatch", SINGLE, "float32", DISPATCH_UNIT, how, overlaps=overlaps)
        short, long = (self._adds(4, length).run_once for length in (_CHAIN, _CHAIN + _LONGER_BY))
        return slope(ceiling, _LONGER_BY, short, long)

    def _product(self, op: str, shape: tuple[int, int], given: str, matrix: NDArray[Any]) -> OnnxModel:
        from onnx import TensorProto, helper, numpy_helper

        out = TensorProto.FLOAT if given == "float32" else TensorProto.INT32
        graph = helper.make_graph(
            [helper.make_node(op, ["x", "w"], ["y"])],
            "ceiling",
            [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(np.dtype(given)), shape)],
            [helper.make_tensor_value_info("y", out, [shape[0], matrix.shape[1]])],
            [numpy_helper.from_array(matrix, "w")],
        )
        return self._load(graph)

    def _depthwise(self, dtype: str) -> OnnxModel:
        """Several, so that what is done to the channels' order before the first and behind the last hardly counts."""
        from onnx import TensorProto, helper, numpy_helper

        channels, side, filter_side = _DEPTHWISE
        kind = TensorProto.FLOAT if dtype == "float32" else TensorProto.UINT8
        weights = self._values((channels, 1, filter_side, filter_side), _FORMATS[dtype][2])
        constants = {"w": weights}
        behind = ["w"]
        if dtype != "float32":
            # Scales that keep the sums in the eight bits' range, and a scale per channel, as static variants have them.
            constants |= {"s": np.array(0.05, np.float32), "z": np.array(128, np.uint8)}
            constants |= {"ws": np.full(channels, 0.01, np.float32), "wz": np.zeros(channels, np.int8)}
            behind = ["s", "z", "w", "ws", "wz", "s", "z"]
        names = ["x", *(f"x{n}" for n in range(1, _DEPTHWISE_LINKS)), "y"]
        settings = {"group": channels, "pads": [filter_side // 2] * 4}
        op = "Conv" if dtype == "float32" else "QLinearConv"
        nodes = [helper.make_node(op, [names[n], *behind], [names[n + 1]], **settings) for n in range(_DEPTHWISE_LINKS)]
        x, y = (helper.make_tensor_value_info(name, kind, [1, channels, side, side]) for name in "xy")
        tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
        return self._load(helper.make_graph(nodes, "ceiling", [x], [y], tensors))

    def _adds(self, elements: int, links: int) -> OnnxModel:
        from onnx import TensorProto, helper

        names = ["x", *(f"x{n}" for n in range(1, links)), "y"]
        nodes = [helper.make_node("Add", [names[n], "z"], [names[n + 1]]) for n in range(links)]
        x, y, z = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [elements]) for name in "xyz")
        return self._load(helper.make_graph(nodes, "ceiling", [x, z], [y]))

    def _load(self, graph: Any) -> OnnxModel:
        from onnx import helper

        path = self._folder / "model.onnx"
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
        path.write_bytes(made.SerializeToString())
        model = OnnxModel(path, self._options)
        self._loaded.append(model)
        model.set_inputs([self._values(spec.shape, spec.dtype) for spec in model.loaded.inputs])
        return model

    def _values(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Not zeros: memory never written to is one page."""
        low = 0 if dtype == "uint8" else -100
        values = self._random.integers(low, 100, shape, np.uint8 if dtype == "uint8" else np.int8)
        return values.astype(np.float32) / 100 if dtype == "float32" else values
