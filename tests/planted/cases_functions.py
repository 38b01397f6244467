"""Ops in the place of others that compute another thing, in files that are there; and such that cost nothing."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from planted.cases_layouts import scored
from planted.suite import Case, case
from planted.world import PlantedOp, PlantedVariant, World
from tflite_builder import Graph, build_model

FILE = "exported"
#: The ops of both files by their names there, but for the one that differs.
FIRST, MIDDLE, LAST = "first", "larger", "last"
SMOOTH, NEAREST = "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"


@cache
def _files() -> dict[str, str]:
    """Type of the op in the middle -> a file: two convolutions, and maps that are made larger between them."""
    root = Path(_kept().name)
    options = {SMOOTH: schema.ResizeBilinearOptionsT(), NEAREST: schema.ResizeNearestNeighborOptionsT()}
    made = {}
    for kind, option in options.items():
        graph = Graph("main")
        image = graph.input("image", (1, 4, 4, 3))
        kernel = graph.constant("kernel", np.ones((3, 1, 1, 3), np.float32))
        small = graph.conv_2d(FIRST, image, kernel)
        large = graph.tensor(MIDDLE, (1, 8, 8, 3))
        graph.op(kind, [small, graph.constant("size", np.asarray([8, 8], np.int32))], [large], option)
        graph.outputs = [graph.conv_2d(LAST, large, kernel)]
        path = root / f"{kind}.tflite"
        path.write_bytes(build_model([graph]))
        made[kind] = str(path)
    return made


@cache
def _kept() -> tempfile.TemporaryDirectory[str]:
    """There for as long as this process."""
    return tempfile.TemporaryDirectory(prefix="qprof-planted-")


def variant(name: str, middle: str, right: float, section: dict[str, Any]) -> PlantedVariant:
    kinds = (FIRST, "CONV_2D", 300.0, 432), (MIDDLE, middle, 40.0, 0), (LAST, "CONV_2D", 700.0, 1728)
    ops = [
        PlantedOp(op, kind, us, macs=macs, id=str(number), activation_bytes=1000)
        for number, (op, kind, us, macs) in enumerate(kinds)
    ]
    made = scored(name, right, section)
    return PlantedVariant(**{**vars(made), "ops": ops, "runtime": "litert", "options": {}})


def world(middle: str, right: float, behind: float, before: float) -> World:
    """The baseline right in 80 %, the variant in so many, and in others with the baseline's numbers behind the op in
    the middle, and before it."""
    files = _files()

    def respond(asked: dict[str, Any]) -> PlantedVariant:
        names = set(asked["patch"]["ops"])
        if names not in ({MIDDLE}, {FIRST}):
            raise AssertionError(f"no answer to {asked}")
        return variant(asked["name"], middle, behind if names == {MIDDLE} else before, asked)

    made = [
        variant("float32", SMOOTH, 0.8, {"file": files[SMOOTH]}),
        variant(FILE, middle, right, {"file": files[middle]}),
    ]
    return World(made, rounds=5, inferences=10, respond=respond, manifest={"score_columns": ["accuracy"]})


@case("an op in the place of another that computes another thing")
def another_function() -> Case:
    return Case(world(NEAREST, 0.5, behind=0.79, before=0.5), {("other_function", FILE)})


@case("an op in the place of another, behind what loses the score")
def lost_before_it() -> Case:
    return Case(world(NEAREST, 0.5, behind=0.79, before=0.79))


@case("an op in the place of another, before what loses the score")
def lost_behind_it() -> Case:
    return Case(world(NEAREST, 0.5, behind=0.5, before=0.5))


@case("a score that is lost by a file of the same ops")
def of_the_same_ops() -> Case:
    return Case(world(SMOOTH, 0.5, behind=0.79, before=0.5))
