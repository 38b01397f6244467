"""What makes LiteRT slow: ops outside the delegate, run-time quantization, conversions, fixed parts, threads."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import tflite_builder
from planted.litert_machine import Layer, Machine
from planted.suite import Case, case
from planted.world import Noise, PlantedOp, PlantedVariant, Readings, World
from qprof.record.readings import Reading


def conv(name: str = "conv", dynamic: float = 300.0, weight_only: float = 400.0) -> Layer:
    inside = {"float": 400.0, "dynamic": dynamic, "weight-only": weight_only, "static": 120.0}
    return Layer(name, "CONV_2D", inside, {"float": 1600.0, "dynamic": 700.0, "static": 800.0})


def depthwise(name: str, float_outside: float = 330.0) -> Layer:
    """The delegate has no kernel for dynamic range; the builtin one takes 300 us."""
    inside = {"float": 50.0, "weight-only": 50.0, "static": 40.0}
    return Layer(name, "DEPTHWISE_CONV_2D", inside, {"float": float_outside, "dynamic": 300.0, "static": 200.0})


MOBILE = Machine([conv("first"), depthwise("dw1"), conv("second"), depthwise("dw2"), conv("third"), depthwise("dw3")])


#: What stayed in the delegate is faster with int8 weights there.
GAINED_INSIDE = {("other_kernels", "int8-dynamic")}


@case("depthwise convolutions left the delegate")
def left() -> Case:
    return Case(MOBILE.world("int8-dynamic"), {("left_delegate", "int8-dynamic")}, GAINED_INSIDE)


@case("left the delegate, 5 % noise and outliers")
def left_in_noise() -> Case:
    noise = Noise(0.05, spikes=0.02)
    return Case(MOBILE.world("int8-dynamic", noise=noise, rounds=12), {("left_delegate", "int8-dynamic")})


@case("some convolutions left the delegate, others gained inside it")
def some_left() -> Case:
    """All of the type in float would gain nothing: 280 us more for those inside, 250 us less for the one outside."""
    alone = Layer("dilated", "CONV_2D", {"float": 50.0}, {"float": 330.0, "dynamic": 300.0})
    machine = Machine([conv("first", dynamic=260.0), alone, conv("second", dynamic=260.0)])
    return Case(machine.world("int8-dynamic"), {("left_delegate", "int8-dynamic"), *GAINED_INSIDE})


@case("an op of a static model left the delegate")
def left_static() -> Case:
    softmax = Layer("probabilities", "SOFTMAX", {"float": 20.0}, {"float": 90.0, "static": 150.0})
    return Case(Machine([conv(), softmax]).world("int8"), {("left_delegate", "int8")})


@case("left the delegate in a finished file")
def left_in_file() -> Case:
    machine = replace(MOBILE, files={"/nowhere/finished.tflite": "int8-dynamic"})
    machine = replace(machine, layers=[conv("first", dynamic=120.0), *MOBILE.layers[1:2]])
    section = {"name": "finished", "file": "/nowhere/finished.tflite"}
    return Case(machine.world(section), {("left_delegate", "finished")})


@case("nothing: a finished file whose kernels are slow wherever they run")
def slow_file() -> Case:
    layers = [conv("first", dynamic=120.0), Layer("dw", "DEPTHWISE_CONV_2D", {"float": 50.0}, {"float": 60.0})]
    layers = [replace(layers[0], outside={"float": 410.0, "dynamic": 405.0}), layers[1]]
    layers[1] = replace(layers[1], outside={"float": 60.0, "dynamic": 300.0})
    machine = Machine(layers, files={"/nowhere/finished.tflite": "int8-dynamic"})
    return Case(machine.world({"name": "finished", "file": "/nowhere/finished.tflite"}))


@case("the builtin hybrid kernel is slow by itself")
def slow_hybrid() -> Case:
    machine = Machine([conv("first"), depthwise("dw1", 55.0), depthwise("dw2", 55.0), conv("second")])
    return Case(
        machine.world("int8-dynamic"),
        {("hybrid_kernels", "int8-dynamic")},
        # In float they are back inside the delegate, too.
        allowed={("left_delegate", "int8-dynamic"), *GAINED_INSIDE},
    )


@case("nothing: ops outside the delegate that no float brings back")
def left_for_another_reason() -> Case:
    conv_int8 = PlantedOp("conv", "CONV_2D", 400.0, "XNNPACK", quantization="int8 weights per-channel")
    slow = [conv_int8, PlantedOp("dw", "DEPTHWISE_CONV_2D", 300.0)]

    def respond(section: Mapping[str, Any]) -> PlantedVariant:
        return PlantedVariant(section["name"], slow)

    fast = [PlantedOp("conv", "CONV_2D", 400.0, "XNNPACK"), PlantedOp("dw", "DEPTHWISE_CONV_2D", 50.0, "XNNPACK")]
    variants = [PlantedVariant("float32", fast), PlantedVariant("int8-dynamic", slow)]
    return Case(World(variants, Noise(0.01), respond=respond))


@case("activations quantized at run time inside the delegate")
def hybrid_inside() -> Case:
    machine = Machine([conv("first", dynamic=700.0), conv("second", dynamic=650.0)])
    return Case(machine.world("int8-dynamic"), {("hybrid_kernels", "int8-dynamic")})


@case("run-time quantization inside the delegate, and ops that left it")
def hybrid_and_left() -> Case:
    machine = replace(MOBILE, layers=[conv("first", dynamic=900.0), *MOBILE.layers[1:]])
    causes = {("left_delegate", "int8-dynamic"), ("hybrid_kernels", "int8-dynamic")}
    return Case(machine.world("int8-dynamic"), causes)


@case("nothing: slow with integer weights in whatever arithmetic")
def not_the_arithmetic() -> Case:
    machine = Machine([conv("first", 700.0, 690.0), conv("second", 650.0, 660.0)])
    return Case(machine.world("int8-dynamic"))


@case("nothing: dynamic range that is faster")
def fast_dynamic() -> Case:
    return Case(Machine([conv("first"), conv("second")]).world("int8-dynamic"))


@case("conversions at inputs and outputs")
def border() -> Case:
    machine = Machine([conv()], conversion_us=60.0)
    return Case(machine.world("int8"), {("inserted_conversions", "int8")})


@case("conversions around ops that the profile leaves in float")
def islands() -> Case:
    add = Layer("add", "ADD", {"float": 20.0, "static": 10.0}, {"float": 40.0, "static": 40.0})
    section = {"name": "int8", "skip_ops": ["ADD"]}
    machine = Machine([conv("first"), add, conv("second")], conversion_us=45.0)
    return Case(machine.world(section), {("inserted_conversions", "int8")})


@case("nothing: conversions that integer inputs do not take away")
def stubborn_conversions() -> Case:
    machine = Machine([conv()], conversion_us=60.0)

    def respond(section: Mapping[str, Any]) -> PlantedVariant:
        return machine.respond({**section, "io": "float"})

    return Case(machine.world("int8", respond=respond))


@case("nothing: conversions that take next to nothing")
def cheap_conversions() -> Case:
    return Case(Machine([conv("first"), conv("second")], conversion_us=1.0).world("int8"))


# -- a part that quantization does not touch


@functools.cache
def _files() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="qprof-planted-")


def _finished(name: str, weights: float) -> str:
    """A file with the ops "features" and "boxes", whose cut is looked up by the ops' names."""
    path = Path(_files().name) / f"{name}.tflite"
    graph = tflite_builder.Graph()
    image = graph.input("image", (1, 8, 8, 3))
    kernel = graph.constant("kernel", np.full((4, 3, 3, 3), weights, np.float32))
    graph.outputs = [graph.softmax("boxes", graph.conv_2d("features", image, kernel))]
    path.write_bytes(tflite_builder.build_model([graph]))
    return str(path)


def _with_tail(name: str, features: float, boxes: float, weights: float) -> PlantedVariant:
    ops = [
        PlantedOp("features", "CONV_2D", features, "XNNPACK", quantization="int8" if weights > 1.0 else None),
        PlantedOp("boxes", "CUSTOM:TFLite_Detection_PostProcess", boxes),
    ]
    return PlantedVariant(name, ops, section={"file": _finished(name, weights)})


def _cut(cut_int8_us: float) -> World:
    variants = [_with_tail("float32", 900.0, 600.0, 1.0), _with_tail("int8", 300.0, 610.0, 2.0)]

    def respond(section: Mapping[str, Any]) -> PlantedVariant | None:
        name, plus, what = section["name"].partition("+")
        if not plus:
            return None
        assert what == "cut" and section["task"]["kind"] == "latency"
        us = 900.0 if name == "float32" else cut_int8_us
        return PlantedVariant(section["name"], [PlantedOp("features", "CONV_2D", us, "XNNPACK")])

    return World(variants, Noise(0.01), respond=respond)


@case("post-processing that quantization does not touch")
def fixed() -> Case:
    return Case(_cut(300.0), {("fixed_part", "int8")})


@case("nothing: a rest that gains no more by itself")
def not_fixed() -> Case:
    return Case(_cut(620.0))


@case("nothing: a fixed part too small to matter")
def small_fixed() -> Case:
    variants = [_with_tail("float32", 900.0, 30.0, 1.0), _with_tail("int8", 300.0, 30.0, 2.0)]
    return Case(World(variants, Noise(0.01)))


# -- threads


def switches(per_s: float) -> Readings:
    """What a worker tells of its context switches."""

    def read(_: int, start_ns: int, end_ns: int) -> list[Reading]:
        seconds = (end_ns - start_ns) / 1e9
        return [
            Reading("host.involuntary_switches", end_ns, per_s * seconds, "count", "measured"),
            Reading("host.cpu_s", end_ns, 3.9 * seconds, "s", "measured"),
        ]

    return read


def _threaded(factor: float) -> Case:
    machine = Machine(
        [conv("first"), conv("second")],
        threads_factor={4: 0.4, 16: factor},
        readings={4: switches(3.0), 16: switches(400.0)},
    )
    return Case(machine.world({"name": "int8", "threads": 16}))


@case("sixteen threads on four cores")
def starved() -> Case:
    return replace(_threaded(1.5), planted={("thread_starvation", "int8")})


@case("nothing: sixteen threads on four cores that do no harm")
def harmless_threads() -> Case:
    return _threaded(0.4)
