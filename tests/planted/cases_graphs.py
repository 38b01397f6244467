"""Ops that the delegate takes in one variant alone, and gains that only look as if it were that."""

from __future__ import annotations

from typing import Any

from planted.suite import Case, case
from planted.world import PlantedOp, PlantedVariant, World

_INSIDE: dict[str, Any] = {"delegate": "XNNPACK", "kernel": "Convolution (NHWC, F32) IGEMM"}
_OUTSIDE: dict[str, Any] = {"delegate": None, "kernel": "builtin"}
_FAST_OUTSIDE_US, _SLOW_OUTSIDE_US = 300.0, 1100.0


def variant(name: str, second: PlantedOp, first: PlantedOp | None = None, **section: Any) -> PlantedVariant:
    first = first or PlantedOp("a", "CONV_2D", 500.0, macs=1_000_000, **_INSIDE)
    options = {"threads": 1, "delegate": section.get("delegate", "xnnpack"), "device": "cpu"}
    return PlantedVariant(
        name, [first, second], section={"file": f"/nowhere/{name}.tflite", **section}, options=options
    )


def world(without_us: float) -> World:
    """An op of the variant is in the delegate, and not of the baseline; `without_us`: what the variant's takes where
    neither has one."""

    def respond(asked: dict[str, Any]) -> PlantedVariant:
        if asked.get("delegate") != "none":
            raise AssertionError(f"no answer to {asked}")
        us = without_us if asked["name"].startswith("fixed") else _SLOW_OUTSIDE_US
        first = PlantedOp("a", "CONV_2D", 900.0, macs=1_000_000, **_OUTSIDE)
        second = PlantedOp("b", "CONV_2D", us, macs=1_000_000, **_OUTSIDE)
        return variant(asked["name"], second, first, delegate="none")

    made = [
        variant("float32", PlantedOp("b", "CONV_2D", _SLOW_OUTSIDE_US, macs=1_000_000, **_OUTSIDE)),
        variant("fixed", PlantedOp("b", "CONV_2D", _FAST_OUTSIDE_US, macs=1_000_000, **_INSIDE)),
    ]
    return World(made, respond=respond)


@case("an op that the delegate takes in the variant alone")
def entered() -> Case:
    return Case(world(_SLOW_OUTSIDE_US), {("entered_delegate", "fixed")})


@case("an op that is faster in the variant, inside the delegate or not")
def faster_anyway() -> Case:
    return Case(world(_FAST_OUTSIDE_US))
