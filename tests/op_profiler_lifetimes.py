"""What may end a process: interpreters, profilers and delegates that come and go in any order.

Run as a program, in a process of its own, so that a crash fails one test and names its signal:

    python op_profiler_lifetimes.py [--core LIBRARY] [--repeat N] SCENARIO...

`--core` takes another build of the compiled core (one with sanitizers). A scenario that finds something wrong raises;
the last line of a good run is "all well".
"""

from __future__ import annotations

import argparse
import atexit
import gc
import importlib.machinery
import importlib.util
import itertools
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import tflite_builder as builder

NETS: dict[str, bytes] = {
    "conv": builder.tiny_conv_net(),
    "int8": builder.tiny_int8_net(),
    "while": builder.while_net(count=3),
    "growing": builder.growing_while_net(count=3),
    "dynamic": builder.dynamic_batch_net(),
    "custom": builder.custom_op_net(),
    "chain": builder.chain_net(),
}
#: Nodes that are timed in these nets with XNNPACK.
TIMED_NODES = {"conv": 1, "int8": 2, "while": 4, "growing": 4, "dynamic": 1}

_folder = Path(tempfile.mkdtemp(prefix="qprof-lifetimes-"))
atexit.register(shutil.rmtree, _folder, ignore_errors=True)
for _net, _content in NETS.items():  # before any scenario starts its threads
    (_folder / f"{_net}.tflite").write_bytes(_content)


def path_of(net: str) -> Path:
    return _folder / f"{net}.tflite"


def load(net: str) -> Any:
    from qprof.runtimes.litert.profiled import ProfiledModel

    model = ProfiledModel(path_of(net))
    model.set_inputs([np.zeros(spec.shape, spec.dtype) for spec in model.loaded.inputs])
    return model


def attach(net: str) -> tuple[Any, Any]:
    """A profiler and its interpreter, allocated, not hooked; nothing else holds the delegate."""
    from ai_edge_litert.interpreter import Interpreter, load_delegate

    from qprof.core._op_profiler import PLUGIN_PATH, OpProfiler
    from qprof.runtimes.litert.flatbuffer import read_model

    facts = read_model(path_of(net))
    profiler = OpProfiler([(len(subgraph.tensors), len(subgraph.ops)) for subgraph in facts.subgraphs])
    plugin = load_delegate(PLUGIN_PATH, profiler.options)
    interpreter = Interpreter(str(path_of(net)), experimental_delegates=[plugin])
    interpreter.allocate_tensors()
    zero_inputs(interpreter)
    return profiler, interpreter


def zero_inputs(interpreter: Any) -> None:
    """A loop counter that starts anywhere would run for hours."""
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))


def check_records(model: Any, inference: int, what: str) -> None:
    """The records since the last call are this model's, of this inference, whole and in order."""
    records = model.profiler.drain()
    known = {
        (number, node[0]) for number in range(model.profiler.subgraph_count) for node in model.profiler.nodes(number)
    }
    seen = {(int(record["subgraph"]), int(record["node"])) for record in records}
    assert seen == known, f"{what}: records of {seen - known}, none of {known - seen}"
    assert set(records["inference"]) == {inference}, f"{what}: inferences {set(records['inference'])}"


def drop_in_every_order() -> None:
    """The profiler before the interpreter, the interpreter before the profiler, hooked or not."""
    for hooked, first in itertools.product((True, False), ("profiler", "interpreter")):
        profiler, interpreter = attach("conv")
        if hooked:
            assert profiler.hook() == TIMED_NODES["conv"]
        profiler.start(0)
        interpreter.invoke()
        if first == "profiler":
            del profiler
            gc.collect()
            interpreter.invoke()
            del interpreter
        else:
            del interpreter
            gc.collect()
            assert profiler.subgraph_count == 0
            assert profiler.hook() == 0
            profiler.unhook()
            profiler.stop()
            # XNNPACK reports its 7 kernels in any case, the node is timed where it is hooked.
            assert len(profiler.drain()) == (8 if hooked else 7)


def outlive_the_delegate() -> None:
    """The interpreter underneath is kept by its bound method alone: hooked, it must fail, not crash."""
    for hooked in (True, False):
        profiler, interpreter = attach("conv")
        if hooked:
            profiler.hook()
        profiler.start(0)
        invoke = interpreter._interpreter.Invoke
        del interpreter, profiler
        gc.collect()
        try:
            invoke()
        except (RuntimeError, ValueError) as error:
            assert hooked and "lost a node" in str(error), error
        else:
            assert not hooked, "an interpreter ran through the trampolines of a session that is gone"


def die_in_a_cycle() -> None:
    """The collector finalizes in an order of its own."""
    for net in TIMED_NODES:
        model = load(net)
        model.discover()
        model.itself = model
        model.also = [model.interpreter, model.profiler, model]
        del model
        gc.collect()


def fail_to_load() -> None:
    from qprof.errors import ModelError

    for input_shapes in ({}, {"image": (1, 2**30, 2**30, 3)}):
        try:
            from qprof.runtimes.litert.profiled import ProfiledModel

            ProfiledModel(path_of("custom"), input_shapes=input_shapes)
        except ModelError:
            continue
        raise AssertionError("a model with an unknown op was loaded")


def interleave() -> None:
    """Several interpreters at once, their inferences interleaved, one let go of while the others run."""
    models = {net: load(net) for net in TIMED_NODES}
    for net, model in models.items():
        assert model.hooked_nodes == TIMED_NODES[net], (net, model.hooked_nodes)
    for inference in range(4):
        for net, model in models.items():
            model.record(10 * inference + len(net))
        for net, model in models.items():
            check_records(model, 10 * inference + len(net), net)
        gone = sorted(models)[inference % len(models)]
        del models[gone], model
        gc.collect()


def run_in_threads() -> None:
    """Each thread loads, runs, resizes and drops models of its own, while the others do the same."""
    failures: list[BaseException] = []

    def work(nets: list[str]) -> None:
        try:
            for number, net in enumerate(nets):
                model = load(net)
                for inference in range(5):
                    model.record(100 * number + inference)
                    check_records(model, 100 * number + inference, net)
                if net == "dynamic":
                    model.resize({"image": (2, 16, 16, 3)})
                    model.record(7)
                    check_records(model, 7, net)
        except BaseException as error:
            failures.append(error)

    nets = list(TIMED_NODES)
    threads = [threading.Thread(target=work, args=(nets[i:] + nets[:i],)) for i in range(len(nets))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def allocate_behind_its_back() -> None:
    """Hooked twice, re-allocated and resized while hooked: nodes move, trampolines with them."""
    profiler, interpreter = attach("dynamic")
    assert profiler.hook() == profiler.hook() == TIMED_NODES["dynamic"]
    for batch in (2, 1, 5, 3):
        interpreter.resize_tensor_input(0, (batch, 16, 16, 3))
        interpreter.allocate_tensors()
        interpreter.invoke()
        assert profiler.hook() == TIMED_NODES["dynamic"]
        profiler.start(batch)
        interpreter.invoke()
        profiler.stop()
        assert len(profiler.drain()) == 8
    profiler.unhook()
    profiler.start(0)
    interpreter.invoke()
    assert not np.any(profiler.drain()["kind"] == 0)


def move_hooked_nodes() -> None:
    """The nodes are wrapped first, and XNNPACK's put behind them afterwards: beyond 128 LiteRT moves them all, as a
    rule to another address."""
    from ai_edge_litert.interpreter import Interpreter, load_delegate

    from qprof.core._op_profiler import PLUGIN_PATH, OpProfiler
    from qprof.runtimes.litert.flatbuffer import read_model

    for net in ("int8", "while", "chain"):
        facts = read_model(path_of(net))
        profiler = OpProfiler([(len(subgraph.tensors), len(subgraph.ops)) for subgraph in facts.subgraphs])
        interpreter = Interpreter(
            str(path_of(net)),
            experimental_delegates=[load_delegate(PLUGIN_PATH, profiler.options)],
            experimental_disable_delegate_node_fusion=True,
        )
        assert not profiler.refused and profiler.hook() > 0
        interpreter.allocate_tensors()
        zero_inputs(interpreter)
        profiler.start(0)
        interpreter.invoke()
        profiler.stop()
        own = profiler.drain()
        assert np.any(own["kind"] == 0)
        if net == "chain":
            # Only the ARG_MAX was still wrapped.
            assert [int(record["node"]) for record in own if record["kind"] == 0] == [80]
            assert profiler.hook() == 81
            profiler.start(1)
            interpreter.invoke()
            profiler.stop()
            assert sum(int(record["kind"] == 0) for record in profiler.drain()) == 81
        profiler.unhook()
        profiler.start(2)
        interpreter.invoke()
        assert not np.any(profiler.drain()["kind"] == 0)


def regrow_a_loop() -> None:
    """The body of a loop whose shapes change is allocated anew in every pass."""
    model = load("growing")
    model.discover()
    for inference in range(5):
        model.record(inference)
        check_records(model, inference, "growing")
    model.profiler.unhook()
    model.invoke()
    assert model.profiler.hook() == TIMED_NODES["growing"]


SCENARIOS: dict[str, Callable[[], None]] = {
    function.__name__: function
    for function in (
        drop_in_every_order,
        outlive_the_delegate,
        die_in_a_cycle,
        fail_to_load,
        interleave,
        run_in_threads,
        allocate_behind_its_back,
        move_hooked_nodes,
        regrow_a_loop,
    )
}


def use_core(library: Path) -> None:
    """Let `import qprof.core._op_profiler` find another build of it."""
    name = "qprof.core._op_profiler"
    loader = importlib.machinery.ExtensionFileLoader(name, str(library))
    spec = importlib.util.spec_from_file_location(name, library, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    loader.exec_module(module)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--core", type=Path)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("scenarios", nargs="*", choices=[*SCENARIOS, []])
    arguments = parser.parse_args()
    if arguments.core:
        use_core(arguments.core)
    for name in arguments.scenarios or SCENARIOS:
        for _ in range(arguments.repeat):
            SCENARIOS[name]()
    print("all well")


if __name__ == "__main__":
    main()
