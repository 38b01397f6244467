"""Language models, and what binds any model: unpacking, launches, bytes, arithmetic, clocks that do not wait."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from planted.suite import Case, case
from planted.world import Noise, PlantedOp, PlantedVariant, World
from qprof.record.ceilings import COMPUTE_UNIT, DISPATCH_UNIT, MEMORY_UNIT, Ceiling
from qprof.record.manifest import ClockAudit, SplitFacts, Timing
from qprof.record.phases import Phase

_NOISE = Noise(relative=0.02, ar1=0.3)

#: What the machine of these worlds does at most: 50 GMAC/s, 10 GB/s, 2 us to start an op.
_GMAC_PER_S, _GB_PER_S, _LAUNCH_US = 50.0, 10.0, 2.0


def ceilings(runtime: str = "torch_lm") -> dict[str, list[dict[str, Any]]]:
    """Those of that machine as a run records them."""
    product, launched = ("matmul", "op") if runtime == "torch_lm" else ("CONV_2D", "builtin")
    found = [
        Ceiling("compute", product, "float32", COMPUTE_UNIT, "", _GMAC_PER_S),
        Ceiling("memory", "memory", "float32", MEMORY_UNIT, "", _GB_PER_S),
        Ceiling("dispatch", launched, "float32", DISPATCH_UNIT, "", _LAUNCH_US),
    ]
    return {runtime: [asdict(ceiling) for ceiling in found]}


def linear(number: int, us: float, *, macs: int = 1000, weight_bytes: int = 100, phase: str = "inference") -> PlantedOp:
    """A product with some weights that takes `us` microseconds."""
    return PlantedOp(
        *(f"model.layers.{number}.mlp.up_proj", "Conv1D", us),
        kernel="aten::addmm",
        macs=macs,
        weight_bytes=weight_bytes,
        activation_bytes=100,
        phase=phase,
    )


def unpacking(number: int, us: float) -> PlantedOp:
    """What the time of a quantized linear goes into before its product."""
    name = f"model.layers.{number}.mlp.up_proj/dequantize"
    return PlantedOp(name, "dequantize", us, weight_bytes=200_000, activation_bytes=800_000)


def model(name: str, ops: Sequence[PlantedOp], dtype: str = "bfloat16", **changes: Any) -> PlantedVariant:
    """A variant of a language model, which takes a row at a time."""
    options = {"batch": 1, "dtype": dtype, "kernel": ""}
    return PlantedVariant(name, ops, runtime="torch_lm", options=options, section={"method": dtype}, **changes)


def slowed(variant: PlantedVariant, factor: float) -> PlantedVariant:
    """All ops of a variant take so many times as long."""
    return replace(variant, ops=[replace(op, us=factor * op.us) for op in variant.ops])


def answering(suffix: str, answer: PlantedVariant) -> Callable[[dict[str, Any]], PlantedVariant]:
    """The world's answer to the one intervention that is expected."""

    def respond(section: dict[str, Any]) -> PlantedVariant:
        if not section["name"].endswith(suffix):
            raise AssertionError(f"no answer to {section}")
        return answer

    return respond


def world(variants: Sequence[PlantedVariant], manifest: Mapping[str, Any], **changes: Any) -> World:
    return World(variants, noise=_NOISE, manifest=manifest, **changes)


# -- unpacking --------------------------------------------------------------------------------------------------------


def _unpacked() -> tuple[PlantedVariant, PlantedVariant]:
    """Unquantized, and with 8 linears that unpack for 60 us each in front of a product of 40 us."""
    products = [linear(n, 40.0, macs=2_000_000, weight_bytes=400_000) for n in range(8)]
    split = SplitFacts(how="in situ", dequantize_ops={"aten::mul": 0.2, "aten::index": 0.8}, replayed_ms=0.47)
    packed = model(
        "gptq-4bit",
        [op for n in range(8) for op in (unpacking(n, 60.0), products[n])],
        timing=Timing(split={"inference": split}),
    )
    return model("bfloat16", products), replace(packed, section={"method": "gptq-4bit"})


@case("weights unpacked in every inference")
def unpacking_costs() -> Case:
    plain, packed = _unpacked()
    respond = answering("+dequantized", plain)
    return Case(world([plain, packed], {}, respond=respond), {("dequantization", "gptq-4bit")})


@case("unpacking that is not what takes the time")
def unpacking_is_free() -> Case:
    plain, packed = _unpacked()
    respond = answering("+dequantized", slowed(packed, 0.97))
    return Case(world([plain, packed], {}, respond=respond))


@case("weights that only the baseline unpacks")
def unpacked_no_more() -> Case:
    plain, packed = _unpacked()
    respond = answering("+dequantized", replace(plain, name="gptq-4bit+dequantized"))
    return Case(world([packed, plain], {}, respond=respond), {("unpacks_no_more", "bfloat16")})


@case("unpacking of the baseline that is not what takes its time")
def unpacked_no_more_for_nothing() -> Case:
    plain, packed = _unpacked()
    return Case(world([packed, plain], {}, respond=answering("+dequantized", slowed(packed, 0.97))))


# -- launches ---------------------------------------------------------------------------------------------------------


def _tiny_ops(us: float = 2.3) -> list[PlantedVariant]:
    return [model(name, [linear(n, us) for n in range(60)]) for name in ("bfloat16", "float16")]


@case("launches of ops that do next to nothing")
def launches() -> Case:
    variants = _tiny_ops()
    respond = answering("+batch2", slowed(variants[1], 1.06))
    planted = {("dispatch_bound", "float16")}
    return Case(world(variants, {"ceilings": ceilings()}, respond=respond), planted)


@case("launches, seen without ceilings")
def launches_without_ceilings() -> Case:
    variants = _tiny_ops(9.0)
    respond = answering("+batch4", slowed(variants[1], 1.06))
    return Case(world(variants, {}, respond=respond), {("dispatch_bound", "float16")})


def _phases(prefill_us: float) -> dict[str, Any]:
    """Layers that take 30 us for a token, and `prefill_us` for 64, with weights too small to be waited for."""
    op = linear(0, 30.0, phase="decode")
    ops = [
        replace(op, name=f"model.layers.{n}.norm", phase=phase, us=us, activation_bytes=size)
        for phase, us, size in (("prefill", prefill_us, 64_000), ("decode", 30.0, 1000))
        for n in range(20)
    ]
    phases = [Phase("prefill", tokens=64), Phase("decode", tokens=1, steps=8)]
    return {"variants": [model(name, ops) for name in ("bfloat16", "float16")], "phases": phases}


@case("layers that take as long for one token as for many")
def launches_in_both_phases() -> Case:
    made = _phases(150.0)
    respond = answering("+batch4", slowed(made["variants"][1], 1.09))
    return Case(world(manifest={}, respond=respond, **made), {("dispatch_bound", "float16")})


@case("layers that take far longer for many tokens")
def work_in_prefill() -> Case:
    made = _phases(900.0)
    respond = answering("+batch2", slowed(made["variants"][1], 1.9))
    return Case(world(manifest={}, respond=respond, **made))


@case("tiny ops that compute slowly")
def slow_kernels() -> Case:
    variants = _tiny_ops(9.0)
    respond = answering("+batch4", slowed(variants[1], 3.8))
    return Case(world(variants, {}, respond=respond))


# -- arithmetic and bytes ---------------------------------------------------------------------------------------------


def _computing() -> list[PlantedVariant]:
    """Products at nine tenths of the machine's throughput, and a tenth of the time elsewhere."""
    ops = [linear(n, 100.0, macs=4_500_000, weight_bytes=50_000) for n in range(9)]
    return [model(name, [*ops, linear(9, 100.0, macs=10)]) for name in ("bfloat16", "float16")]


@case("products at the machine's ceiling")
def arithmetic() -> Case:
    variants = _computing()
    respond = answering("+batch2", slowed(variants[1], 1.9))
    planted = {("compute_bound", "float16")}
    return Case(world(variants, {"ceilings": ceilings()}, respond=respond), planted)


@case("products at a ceiling that is not what binds")
def no_arithmetic() -> Case:
    variants = _computing()
    respond = answering("+batch2", slowed(variants[1], 1.1))
    return Case(world(variants, {"ceilings": ceilings()}, respond=respond))


@case("products of LiteRT at the machine's ceiling")
def arithmetic_of_litert() -> Case:
    ops = [
        PlantedOp(f"conv{n}", "CONV_2D", 100.0, macs=4_500_000, weight_bytes=1000, activation_bytes=1000)
        for n in range(9)
    ]
    variants = [PlantedVariant(name, ops) for name in ("float32", "float16")]
    respond = answering("+2-threads", slowed(variants[1], 0.55))
    planted = {("compute_bound", "float16")}
    return Case(world(variants, {"ceilings": ceilings("litert")}, respond=respond), planted)


def _reading(dtype: str, baseline: str) -> list[PlantedVariant]:
    """Products that read their weights at nine tenths of the memory's bandwidth, in two types."""
    ops = [linear(n, 1000.0, macs=400_000, weight_bytes=9_000_000) for n in range(6)]
    return [model(baseline, ops, baseline), model(dtype, ops, dtype)]


@case("weights at the memory's bandwidth")
def bytes_bind() -> Case:
    variants = _reading("bfloat16", "float16")
    respond = answering("+float32", slowed(variants[1], 1.94))
    planted = {("memory_bound", "bfloat16")}
    return Case(world(variants, {"ceilings": ceilings()}, respond=respond), planted)


@case("half the bytes in half the time")
def half_the_bytes() -> Case:
    variants = _reading("float32", "float16")
    respond = answering("+bfloat16", slowed(variants[1], 0.53))
    planted = {("memory_bound", "float32")}
    return Case(world(variants, {"ceilings": ceilings()}, respond=respond), planted)


@case("bytes that are not waited for")
def bytes_do_not_bind() -> Case:
    variants = _reading("bfloat16", "float16")
    respond = answering("+float32", slowed(variants[1], 1.03))
    return Case(world(variants, {"ceilings": ceilings()}, respond=respond))


# -- clocks -----------------------------------------------------------------------------------------------------------


def _on_device(name: str, us: float, unsynchronized_us: float, waiting_us: float | None = None) -> PlantedVariant:
    """A variant whose inference takes `us`, and what the audit's clocks showed."""
    waiting_us = us if waiting_us is None else waiting_us
    clocks = ClockAudit(
        unsynchronized_us=unsynchronized_us,
        synchronized_us=waiting_us,
        events_us=waiting_us,
        asynchronous_error=(waiting_us - unsynchronized_us) / waiting_us,
    )
    op = linear(0, us - 20.0, macs=int(1e4 * us), weight_bytes=int(1e4 * us))
    return model(name, [op], timing=Timing(clocks={"inference": clocks}))


@case("a clock that does not wait for the device")
def asynchronous() -> Case:
    variants = [_on_device("bfloat16", 1000.0, 980.0), _on_device("float16", 900.0, 300.0)]
    return Case(world(variants, {}), {("asynchronous_timing", "float16")})


@case("a clock that does not wait swaps two variants")
def asynchronous_order() -> Case:
    variants = [_on_device("bfloat16", 1000.0, 990.0), _on_device("float16", 1100.0, 930.0)]
    return Case(world(variants, {}), {("asynchronous_timing", "float16")})


@case("clocks of an audit that the blocks do not bear out")
def asynchronous_refuted() -> Case:
    variants = [_on_device("bfloat16", 1000.0, 990.0), _on_device("float16", 900.0, 880.0, waiting_us=1500.0)]
    return Case(world(variants, {}))


@case("a clock that does not wait and shows the same")
def synchronous() -> Case:
    return Case(world([_on_device("bfloat16", 1000.0, 980.0), _on_device("float16", 900.0, 890.0)], {}))
