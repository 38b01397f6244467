"""Checkpoints whose weights are right, and whose settings beside them are not; and settings that mean nothing."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from checkpoints import write_checkpoint
from planted.cases_layouts import scored
from planted.suite import Case, case
from planted.world import PlantedVariant, World

FILE = "gptq"


@cache
def _folders() -> Path:
    """Checkpoints that are alike but for a setting: they are there for as long as this process."""
    root = Path(_kept().name)
    write_checkpoint(root / "plain", rms_norm_eps=1e-6)
    write_checkpoint(root / "wide", rms_norm_eps=0.5)
    write_checkpoint(root / "told", rms_norm_eps=1e-6, transformers_version="4.1.0", use_cache=False)
    return root


@cache
def _kept() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="qprof-planted-")


def world(folder: str, right: float, with_settings: float) -> World:
    """The baseline right in 80 %; the checkpoint in `folder` in so many, with the baseline's settings in others."""
    root = _folders()
    variants = [
        scored("bfloat16", 0.8, {"file": str(root / "plain")}),
        scored(FILE, right, {"file": str(root / folder)}),
    ]

    def respond(asked: dict[str, Any]) -> PlantedVariant:
        if not asked["name"].endswith("+other-configuration"):
            raise AssertionError(f"no answer to {asked}")
        return scored(asked["name"], with_settings, asked)

    manifest = {"score_columns": ["accuracy"]}
    return World(variants, rounds=5, inferences=10, respond=respond, manifest=manifest)


@case("right weights with another configuration beside them")
def another_configuration() -> Case:
    return Case(world("wide", 0.1, 0.79), {("settings_beside_weights", FILE)})


@case("another configuration that is not why the score was lost")
def another_configuration_and_another_reason() -> Case:
    return Case(world("wide", 0.5, 0.5))


@case("a configuration that differs in what nothing is computed with")
def a_configuration_that_says_the_same() -> Case:
    return Case(world("told", 0.5, 0.8))
