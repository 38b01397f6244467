"""Layers: a range that is too wide, one that cuts off, precision that is lost evenly; and errors that cost nothing."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from planted.suite import Case, case
from planted.world import PlantedOp, PlantedVariant, World
from qprof.record.manifest import RecordedProfile
from qprof.record.rows import INPUT, LAYER_ERROR_COLUMNS, LayerErrorRow, input_id

LAYERS = 24
ROWS = 600
SOUND_DB = 38.0


@dataclass(frozen=True)
class LayerError:
    """What a layer adds by itself: SQNR in dB, and the share of its numbers that its range cuts off."""

    own_sqnr_db: float = SOUND_DB
    saturated: float = 0.001


@dataclass(frozen=True)
class LayerWorld(World):
    """A world whose runs hold layer errors of int8: number of a layer -> its error; others are sound, and scatter.
    `input`: what is lost as the input is stored."""

    errors: Mapping[int, LayerError] = field(default_factory=dict)
    input: LayerError | None = None

    def layer_errors(self, seed: int, profile: RecordedProfile) -> list[LayerErrorRow]:
        if not profile.protocol.layer_errors:
            return []
        rows = [self._row(number, seed) for number in range(LAYERS)]
        return rows if self.input is None else [_input_row(self.input), *rows]

    def _row(self, number: int, seed: int) -> LayerErrorRow:
        error = self.errors.get(number)
        scatter = 1.5 * float(np.random.default_rng((seed, number)).standard_normal())
        error = error or LayerError(SOUND_DB + scatter)
        op = f"inference/{layer(number)}"
        known: dict[str, Any] = {"variant": "int8", "op": op, "baseline_op": op, "name": layer(number)}
        known |= {"type": "CONV_2D", "own_sqnr_db": error.own_sqnr_db, "own_saturated_share": error.saturated}
        known |= {"sqnr_db": error.own_sqnr_db - 10.0, "saturated_share": error.saturated}
        known |= {"count": 1000, "samples": 8}
        return LayerErrorRow(**(dict.fromkeys(LAYER_ERROR_COLUMNS) | known))


def _input_row(error: LayerError) -> LayerErrorRow:
    known: dict[str, Any] = {"variant": "int8", "op": input_id(0), "name": "image", "type": INPUT, "count": 1000}
    known |= {"own_sqnr_db": error.own_sqnr_db, "own_saturated_share": error.saturated, "samples": 8}
    return LayerErrorRow(**(dict.fromkeys(LAYER_ERROR_COLUMNS) | known))


def layer(number: int) -> str:
    """The name of a layer; a conv in a block, as converters write it."""
    return f"block{number}/conv;block{number}/bn"


def variant(name: str, right: float, **others: Any) -> PlantedVariant:
    """A classifier that is right in this share of the rows, in mostly those that a better one has right, too."""
    easy = np.random.default_rng(7).random(ROWS)
    luck = np.random.default_rng(zlib.crc32(name.encode())).normal(0.0, 0.02, ROWS)
    correct = (easy + luck < right).astype(float)
    quantization = None if name == "float32" else "int8 per-channel weights, int8 activations"
    ops = [PlantedOp(layer(number), "CONV_2D", 20.0, quantization=quantization) for number in range(LAYERS)]
    scores = {"sample_scores": {"correct": correct.tolist()}, "summary_scores": {"accuracy": float(correct.mean())}}
    return PlantedVariant(name, ops, **scores, **others)


def world(errors: Mapping[int, LayerError], costs: Mapping[int, float], evenly: float = 0.0) -> LayerWorld:
    """float32 right in 80 %, int8 in less: `costs` (layer -> share of rows) of layers, and `evenly` of all together."""

    def respond(section: dict[str, Any]) -> PlantedVariant:
        left = section.get("skip_layers", [])
        lost = evenly + sum(cost for number, cost in costs.items() if layer(number) not in left)
        return variant(section["name"], 0.8 - lost)

    variants = [variant("float32", 0.8), respond({"name": "int8"})]
    manifest = {"score_columns": ["accuracy"]}
    return LayerWorld(variants, rounds=5, inferences=10, errors=errors, respond=respond, manifest=manifest)


@case("one layer with a bad range")
def bad_range() -> Case:
    return Case(world({7: LayerError(14.0)}, {7: 0.2}), {("bad_layer", "int8")})


@case("three bad layers and a little lost evenly")
def three_bad() -> Case:
    errors = {3: LayerError(12.0), 4: LayerError(16.0), 19: LayerError(18.0)}
    return Case(world(errors, {3: 0.12, 4: 0.08, 19: 0.05}, evenly=0.03), {("bad_layer", "int8")})


@case("saturated activations")
def saturated_activations() -> Case:
    return Case(world({4: LayerError(9.0, saturated=0.2)}, {4: 0.2}), {("saturated_activations", "int8")})


def clipping(lost: float, back: float) -> LayerWorld:
    """int8 that loses some by ranges which leave out what is rare; those that do not win back that part of it."""

    def respond(section: dict[str, Any]) -> PlantedVariant:
        whole = section.get("ranges") == "min-max"
        return variant(section["name"], 0.8 - lost * (1.0 - back * whole))

    variants = [variant("float32", 0.8), respond({"name": "int8"})]
    manifest = {"score_columns": ["accuracy"]}
    return LayerWorld(variants, rounds=5, inferences=10, respond=respond, manifest=manifest)


@case("ranges that leave out what is rare")
def clipped_ranges() -> Case:
    return Case(clipping(0.2, 0.6), {("clipped_ranges", "int8")})


@case("ranges that leave out what is rare, which costs nothing")
def clipped_ranges_innocent() -> Case:
    return Case(clipping(0.2, 0.0), set())


@case("a saturated layer, and a bad one that is innocent")
def saturated_and_innocent() -> Case:
    errors = {4: LayerError(9.0, saturated=0.2), 11: LayerError(15.0)}
    return Case(world(errors, {4: 0.2, 11: 0.0}), {("saturated_activations", "int8")})


@case("precision lost evenly in all layers")
def lost_evenly() -> Case:
    return Case(world({}, {}, evenly=0.2))


@case("a bad layer and a saturated one that cost nothing")
def costs_nothing() -> Case:
    return Case(world({7: LayerError(14.0), 9: LayerError(12.0, saturated=0.1)}, {7: 0.0, 9: 0.0}))


@case("a bad layer and a saturated one beside a loss from elsewhere")
def loss_from_elsewhere() -> Case:
    return Case(world({7: LayerError(14.0), 9: LayerError(12.0, saturated=0.1)}, {7: 0.0, 9: 0.0}, evenly=0.2))


@case("saturation that costs no precision")
def harmless_saturation() -> Case:
    # Zeros of a ReLU lie at an end by right; the layer's error is among the smallest.
    return Case(world({4: LayerError(45.0, saturated=0.4)}, {}, evenly=0.15))
