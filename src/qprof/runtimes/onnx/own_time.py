"""What ONNX Runtime's profile costs an inference, measured on graphs that compute next to nothing.

Its executor reads the clock before a kernel, counts the kernel's inputs and writes their shapes out, runs the kernel,
writes down what it gave, and only then reads the clock again; the event is stored behind that. So every node pays
twice: inside its own time, the more the more inputs it has, and between the nodes. Chains of tiny nodes tell both,
each run with the profile and without it: from chain to longer chain, what a node adds to the inference without the
profile is all that a node can take, and what it adds beyond that with the profile is the profile's.

How long that takes changes with the machine, by a quarter from one millisecond to the next where other work shares the
core. What lies between the nodes of an inference is next to nothing but the profile, so that it tells by how much.
"""

from __future__ import annotations

import functools
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.runtimes.onnx.trace import Event, Inference, read_inferences
from qprof.store.own import OwnFolder

#: ONNX Runtime rounds a kernel's time down to whole microseconds. What was lost lies between nothing and one: the
#: estimate is half of one, which is as much as is not known.
FLOOR_LOSS_US = 0.5

#: The profile is taken for so much slower or faster than it was measured, at most: between the nodes of a large model
#: memory is asked for, too.
_SLOWER, _FASTER = 1.5, 0.5
#: Inferences that are looked at together: the profile's microseconds are whole.
_NEIGHBOURS = 15

_INPUTS = (1, 9)
_NODES = (1, 21)
_ROUNDS, _INFERENCES, _UNTIMED = 11, 12, 5
_OPSET, _IR = 17, 9


@dataclass(frozen=True, slots=True)
class ProfileCost:
    """Microseconds: inside a node's time, where it has no input and for each that it has; behind a node; and what an
    inference costs beside its nodes. `bare_us`: what an inference of a single tiny node takes without the profile."""

    node_us: float
    input_us: float
    between_us: float
    inference_us: float
    bare_us: float

    def times(self, factor: float) -> ProfileCost:
        """The same on a machine that takes so many times as long."""
        node, given, between, inference = (
            factor * one for one in (self.node_us, self.input_us, self.between_us, self.inference_us)
        )
        return ProfileCost(node, given, between, inference, self.bare_us)

    def inside_us(self, event: Event) -> float:
        return self.node_us + self.input_us * len(event.args.input_type_shape)


@functools.cache
def profile_cost(threads: int) -> ProfileCost:
    """Measured once in a process, in a quarter of a second; on as many threads as the model has."""
    with OwnFolder() as folder:
        chains = {(i, n): _Chain(i, n, threads, folder) for i in _INPUTS for n in _NODES}
        for _ in range(_ROUNDS):
            for chain in chains.values():
                chain.run()
        found = {key: chain.ended() for key, chain in chains.items()}
    return cost_of(found)


def cost_of(found: dict[tuple[int, int], tuple[float, float, float]]) -> ProfileCost:
    """`found`: (inputs, nodes) -> microseconds of an inference without the profile, with it, and of all its kernels as
    the profile has them."""
    few, many = _NODES

    def by_node(inputs: int) -> NDArray[np.float64]:
        difference: NDArray[np.float64] = np.subtract(found[inputs, many], found[inputs, few])
        return difference / (many - few)

    bare, profiled, kernel = zip(*(by_node(inputs) for inputs in _INPUTS), strict=True)
    inside = [max(0.0, kernel[n] + FLOOR_LOSS_US - bare[n]) for n in range(len(_INPUTS))]
    between = max(0.0, float(np.mean([profiled[n] - kernel[n] - FLOOR_LOSS_US for n in range(len(_INPUTS))])))
    slope = float(max(0.0, (inside[1] - inside[0]) / (_INPUTS[1] - _INPUTS[0])))
    alone, with_profile, _ = found[_INPUTS[0], few]
    inference = float(max(0.0, with_profile - alone - few * (inside[0] + between)))
    return ProfileCost(float(max(0.0, inside[0] - _INPUTS[0] * slope)), slope, between, inference, alone)


class _Chain:
    """So many nodes behind one another, each of so many inputs of one number, in a session with a profile and one
    without."""

    def __init__(self, inputs: int, nodes: int, threads: int, folder: Path) -> None:
        model = _chain(inputs, nodes)
        self._bare = _session(model, threads)
        # ONNX Runtime puts the second behind it: two chains of one second would write into one file.
        prefix = str(folder / f"cost-{secrets.token_hex(8)}")
        self._profiled = _session(model, threads, enable_profiling=True, profile_file_prefix=prefix)
        self._runs = [_bound(session) for session in (self._bare, self._profiled)]
        self._us: tuple[list[float], list[float]] = ([], [])

    def run(self) -> None:
        for run, kept in zip(self._runs, self._us, strict=True):
            for _ in range(_UNTIMED):
                run()
            for _ in range(_INFERENCES):
                start_ns = perf_counter_ns()
                run()
                kept.append((perf_counter_ns() - start_ns) / 1000)

    def ended(self) -> tuple[float, float, float]:
        file = Path(self._profiled.end_profiling())
        kernels = [sum(event.dur for event in one.kernels) for one in read_inferences(file)]
        bare, profiled = self._us
        # Whole microseconds each: their mean says more than their median.
        low, high = np.quantile(kernels, (0.25, 0.75))
        return median(bare), median(profiled), float(np.mean([one for one in kernels if low <= one <= high]))


def _chain(inputs: int, nodes: int) -> bytes:
    from onnx import TensorProto, helper

    one = [1, 1, 1, 1]
    # As most of an op's further inputs: weights, biases, scales, which the profile looks up one by one.
    constants = [f"c{n}" for n in range(inputs - 1)]
    made = [
        helper.make_node("Sum" if inputs > 1 else "Neg", [f"x{n}", *constants], [f"x{n + 1}"], name=f"n{n}")
        for n in range(nodes)
    ]
    graph = helper.make_graph(
        made,
        "cost",
        [helper.make_tensor_value_info("x0", TensorProto.FLOAT, one)],
        [helper.make_tensor_value_info(f"x{nodes}", TensorProto.FLOAT, one)],
        [helper.make_tensor(name, TensorProto.FLOAT, one, [1.0]) for name in constants],
    )
    opset = [helper.make_opsetid("", _OPSET)]
    model: bytes = helper.make_model(graph, opset_imports=opset, ir_version=_IR).SerializeToString()
    return model


def _session(model: bytes, threads: int, **settings: Any) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    for name, value in settings.items():
        setattr(options, name, value)
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _bound(session: Any) -> Callable[[], None]:
    import onnxruntime as ort

    binding = session.io_binding()
    binding.bind_ortvalue_input("x0", ort.OrtValue.ortvalue_from_numpy(np.ones((1, 1, 1, 1), np.float32)))
    binding.bind_output(session.get_outputs()[0].name, "cpu")
    return functools.partial(session.run_with_iobinding, binding)


def slowness(inferences: Sequence[Inference], cost: ProfileCost) -> NDArray[np.float64]:
    """How many times as long as measured the profile took in each of some inferences, which follow each other, by what
    lies between their nodes: float64[inferences]."""
    if cost.between_us <= 0 or not inferences:
        return np.ones(len(inferences))
    found = [
        (one.duration_us - cost.inference_us - sum(e.dur + FLOOR_LOSS_US for e in one.kernels)) / len(one.kernels)
        if one.kernels
        else cost.between_us
        for one in inferences
    ]
    half = _NEIGHBOURS // 2
    near = np.lib.stride_tricks.sliding_window_view(np.pad(found, half, mode="edge"), _NEIGHBOURS)
    factors: NDArray[np.float64] = np.clip(np.median(near, axis=1) / cost.between_us, _FASTER, _SLOWER)
    return factors


@dataclass(frozen=True, slots=True)
class OwnTimes:
    """Of the kernels of one inference: when each began and how long it took, in nanoseconds from the profile's
    beginning, without what the profile cost; `taken_ns`: what it cost the inference in all."""

    start_ns: Sequence[int]
    duration_ns: Sequence[int]
    taken_ns: int


def own_times(inference: Inference, cost: ProfileCost) -> OwnTimes:
    """Take the profile's cost out of an inference: out of each kernel what it holds of it, and what kernels inside it
    (in a loop's body) cost; later kernels move up. No kernel takes less than no time, and no more is taken from between
    the kernels than there is."""
    events = inference.kernels
    inside = [1000 * cost.inside_us(event) for event in events]
    raw = [1000 * (event.dur + FLOOR_LOSS_US) for event in events]
    above, open_ = [], list[int]()
    for number, event in enumerate(events):
        while open_ and event.ts >= events[open_[-1]].ts + events[open_[-1]].dur:
            open_.pop()
        above.append(open_[-1] if open_ else None)
        open_.append(number)
    durations, within = [0.0] * len(events), [0.0] * len(events)
    for number in reversed(range(len(events))):  # what lies inside another stands behind it
        durations[number] = max(0.0, raw[number] - inside[number] - within[number])
        if (outer := above[number]) is not None:
            within[outer] += raw[number] - durations[number] + 1000 * cost.between_us
    outermost = [number for number, outer in enumerate(above) if outer is None]
    gaps = max(0.0, 1000 * inference.duration_us - sum(raw[number] for number in outermost))
    between = min(gaps, 1000 * (cost.between_us * len(outermost) + cost.inference_us))
    starts, gone = [], 0.0
    for number, event in enumerate(events):
        starts.append(round(1000 * event.ts - gone))
        gone += min(inside[number], raw[number]) + (between / len(outermost) if above[number] is None else 0.0)
    taken = between + sum(raw[number] - durations[number] for number in outermost)
    return OwnTimes(starts, [round(duration) for duration in durations], round(taken))
