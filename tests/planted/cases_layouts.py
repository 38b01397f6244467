"""Files that are read by another rule than they were written by; and such as only look so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from planted.cases_layers import ROWS
from planted.suite import Case, case
from planted.world import PlantedOp, PlantedVariant, World
from qprof.record.manifest import Making, RecordedProfile, VariantEntry
from qprof.record.rows import LAYER_ERROR_COLUMNS, LayerErrorRow

LAYERS = 16
FILE = "gptq"
#: What a finished file's making tells of its zero points; symmetric ones tell which layout they are in.
V2_READ_AS_V1 = {"layout": "gptq", "layout_of_zero_points": "gptq_v2", "zero_points": {"values": [8]}}
ASYMMETRIC = {"layout": "gptq", "layout_of_zero_points": None, "zero_points": {"values": [5, 6, 7, 8]}}


@dataclass(frozen=True)
class LayoutWorld(World):
    """A world whose finished file has weights with an error of which `offset_share` is one offset."""

    offset_share: float = 0.001
    making: Mapping[str, Any] = field(default_factory=dict)

    def layer_errors(self, seed: int, profile: RecordedProfile) -> list[LayerErrorRow]:
        if not profile.protocol.layer_errors:
            return []
        return [self._row(f"model.layers.{number}.mlp.up_proj", seed) for number in range(LAYERS)]

    def _row(self, name: str, seed: int) -> LayerErrorRow:
        scatter = float(np.random.default_rng((seed, len(name))).normal(0.0, 0.5))
        op = f"inference/{name}"
        known: dict[str, Any] = {"variant": FILE, "op": op, "baseline_op": op, "name": name, "type": "Linear"}
        known |= {"own_sqnr_db": 18.0 + scatter, "sqnr_db": 10.0, "weight_sqnr_db": 18.0 + scatter}
        known |= {"weight_offset_share": self.offset_share, "count": 1000, "samples": 8}
        return LayerErrorRow(**(dict.fromkeys(LAYER_ERROR_COLUMNS) | known))

    def _entry(self, made: PlantedVariant | tuple[str, str], profile: RecordedProfile) -> VariantEntry:
        entry = super()._entry(made, profile)
        return msgspec.structs.replace(entry, making=Making(facts=dict(self.making)))


def scored(name: str, right: float, section: Mapping[str, Any]) -> PlantedVariant:
    """A language model that is right in this share of the rows."""
    correct = (np.random.default_rng(7).random(ROWS) < right).astype(float).tolist()
    quantization = "int4 weights, group 64" if name != "bfloat16" else None
    names = (f"model.layers.{number}.mlp.up_proj" for number in range(LAYERS))
    ops = [PlantedOp(one, "Linear", 20.0, kernel="aten::mm", quantization=quantization) for one in names]
    scores = {"sample_scores": {"correct": correct}, "summary_scores": {"accuracy": float(np.mean(correct))}}
    return PlantedVariant(name, ops, runtime="torch_lm", section=section, options={"dtype": "bfloat16"}, **scores)


def world(as_it_is: float, otherwise: float, **changes: Any) -> LayoutWorld:
    """The baseline right in 80 %, the file as its settings say in `as_it_is`, read by the other rule in `otherwise`."""
    section = {"file": "/nowhere/checkpoint"}
    variants = [scored("bfloat16", 0.8, {"method": "bfloat16"}), scored(FILE, as_it_is, section)]

    def respond(asked: dict[str, Any]) -> PlantedVariant:
        if asked.get("layout") != "gptq_v2":
            raise AssertionError(f"no answer to {asked}")
        return scored(asked["name"], otherwise, asked)

    manifest = {"score_columns": ["accuracy"]}
    return LayoutWorld(variants, rounds=5, inferences=10, respond=respond, manifest=manifest, **changes)


@case("zero points read one step off")
def read_one_step_off() -> Case:
    made = world(0.1, 0.79, offset_share=0.85, making=V2_READ_AS_V1)
    return Case(made, {("misread_weights", FILE)})


@case("asymmetric zero points read one step off")
def asymmetric_and_one_step_off() -> Case:
    made = world(0.1, 0.79, offset_share=0.8, making=ASYMMETRIC)
    return Case(made, {("misread_weights", FILE)})


@case("weights off by an offset that is not their layout's")
def another_offset() -> Case:
    return Case(world(0.5, 0.1, offset_share=0.6, making=ASYMMETRIC))


@case("few bits in a file that is read as it was written")
def few_bits_in_a_file() -> Case:
    return Case(world(0.5, 0.1, making=ASYMMETRIC))
