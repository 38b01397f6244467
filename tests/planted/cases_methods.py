"""Methods beside GPTQ: linears that multiply integers, and such whose kernel takes packed weights."""

from __future__ import annotations

from dataclasses import replace

from planted.cases_language import answering, linear, model, slowed, world
from planted.suite import Case, case
from planted.world import PlantedOp, PlantedVariant
from qprof.record.manifest import SplitFacts, Timing


def quantizing(number: int, us: float) -> PlantedOp:
    """What the time of an integer linear goes into before its product."""
    name = f"model.layers.{number}.mlp.up_proj/quantize"
    return PlantedOp(name, "quantize", us, weight_bytes=0, activation_bytes=200_000)


def _integers() -> tuple[PlantedVariant, PlantedVariant]:
    """Unquantized, and with 8 linears that quantize their activations for 50 us each before a product of 40 us."""
    products = [linear(n, 40.0, macs=2_000_000, weight_bytes=400_000) for n in range(8)]
    split = SplitFacts(how="in situ", quantize_ops={"aten::to": 0.1, "bitsandbytes::int8_vectorwise_quant": 0.9})
    packed = model(
        "bnb-int8",
        [op for n in range(8) for op in (quantizing(n, 50.0), products[n])],
        timing=Timing(split={"inference": split}),
    )
    return model("bfloat16", products), replace(packed, section={"method": "bnb-int8"})


@case("activations quantized in every inference")
def quantizing_costs() -> Case:
    plain, packed = _integers()
    respond = answering("+dequantized", plain)
    return Case(world([plain, packed], {}, respond=respond), {("quantized_activations", "bnb-int8")})


@case("quantizing of activations that is not what takes the time")
def quantizing_is_free() -> Case:
    plain, packed = _integers()
    respond = answering("+dequantized", slowed(packed, 0.97))
    return Case(world([plain, packed], {}, respond=respond))


def _packed(us: float) -> tuple[PlantedVariant, PlantedVariant]:
    """Unquantized, 40 us a product, and with 8 linears in a kernel that unpacks as it multiplies."""
    products = [linear(n, 40.0, macs=2_000_000, weight_bytes=400_000) for n in range(8)]
    kernel = {"kernel": "Linear4bit", "quantization": "nf4 weights, group 64"}
    ops = [replace(op, us=us, **kernel) for op in products]
    return model("bfloat16", products), replace(model("bnb-nf4", ops), section={"method": "bnb-nf4"})


@case("a kernel of packed weights that is slower")
def slower_packed_kernel() -> Case:
    plain, packed = _packed(90.0)
    respond = answering("+dequantized", plain)
    return Case(world([plain, packed], {}, respond=respond), {("packed_kernels", "bnb-nf4")})


@case("a kernel of packed weights that is not what takes the time")
def packed_kernel_is_free() -> Case:
    plain, packed = _packed(90.0)
    respond = answering("+dequantized", slowed(packed, 0.98))
    return Case(world([plain, packed], {}, respond=respond))
