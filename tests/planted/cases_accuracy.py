"""Accuracy: labels exchanged, metrics that mislead, output that collapsed; and losses that are none of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from planted.detector import Detector, DetectorWorld, called, exchanged
from planted.suite import Case, case
from planted.world import PlantedOp, PlantedVariant, World

ROWS = 400
GOOD = Detector()


def detectors(**variant: Any) -> DetectorWorld:
    """float32, and int8 that differs from it as said; its boxes scatter a little by themselves."""
    return DetectorWorld.of({"float32": GOOD, "int8": Detector(**variant)})


@case("two labels exchanged")
def exchanged_labels() -> Case:
    return Case(detectors(relabel=exchanged(2, 5)), {("mislabelled_class", "int8")})


@case("labels exchanged in a detector that also finds less")
def exchanged_and_worse() -> Case:
    return Case(detectors(relabel=exchanged(2, 5), found=0.85), {("mislabelled_class", "int8")})


@case("one class called another that keeps its own")
def merged_labels() -> Case:
    # No change of labels takes them apart: nothing can be confirmed.
    return Case(detectors(relabel=called(2, 5)))


@case("two classes that are hard to tell")
def hard_classes() -> Case:
    return Case(detectors(relabel=called(2, 5, share=0.3)))


@case("objects missed in every class")
def missed_evenly() -> Case:
    return Case(detectors(found=0.7))


@case("boxes of equal worth")
def equal_detectors() -> Case:
    return Case(detectors(seed=7))


@case("the same boxes")
def same_boxes() -> Case:
    return Case(detectors())


@case("worse boxes that IoU 0.01 cannot tell")
def blind_precision() -> Case:
    return Case(detectors(jitter=0.12), {("metric_protocol", "int8")})


@case("worse boxes and fewer of them: the most precise")
def flattering_precision() -> Case:
    return Case(detectors(jitter=0.11, false=7), {("metric_protocol", "int8")})


@dataclass(frozen=True)
class Reader:
    """A language model: right on a share of the words of one token and of several; beyond, `junk` of the misses are no
    words, and the right token is about as far away as said."""

    one: float
    several: float
    junk: float = 0.1
    place: float = 3.0
    of_several: float = 0.35

    def variant(self, name: str, seed: int = 1, **more: Any) -> PlantedVariant:
        """The words and their difficulty are the same for all; `seed` is of the variant's own luck."""
        words, own = np.random.default_rng(0), np.random.default_rng(seed)
        several, hard = words.random(ROWS) < self.of_several, words.random(ROWS)
        chance = np.where(several, self.several, self.one)
        right = hard + 0.05 * own.standard_normal(ROWS) < chance
        ranks = np.where(right, 0.0, np.ceil(self.place * own.exponential(1.0, ROWS)))
        miss = float(np.mean(~right))
        likelihood = np.where(right, -0.2, -np.log(2.0 + ranks) - 1.0)
        scores = {
            "correct": right,
            "naive_top1": right & ~several,
            "target_tokens": np.where(several, 2.0, 1.0),
            "first_rank": ranks,
            "log_likelihood": likelihood,
        }
        summary = {
            "accuracy": float(np.mean(right)),
            "naive_top1": float(np.mean(right & ~several)),
            "perplexity": float(np.exp(-np.mean(likelihood))),
            "miss_punctuation": miss * self.junk / 2.0,
            "miss_fragment": miss * self.junk / 2.0,
            "miss_other": miss * (1.0 - self.junk),
        }
        return PlantedVariant(
            name,
            [PlantedOp("linear", "LINEAR", 400.0)],
            runtime="torch_lm",
            sample_scores={metric: values.astype(float).tolist() for metric, values in scores.items()},
            summary_scores=summary,
            **more,
        )


SHORT = {"of_several": 0.02}  # next to no words of several tokens: both protocols say the same


def readers(variants: Sequence[PlantedVariant], wider: Reader | None = None) -> World:
    """`wider`: what the next width up makes of the model."""
    return World(variants, rounds=5, respond=lambda section: wider.variant(section["name"], 3) if wider else None)


def two_bits(reader: Reader) -> list[PlantedVariant]:
    return [Reader(0.7, 0.7, **SHORT).variant("bfloat16"), reader.variant("gptq-2bit", 2)]


@case("collapsed output")
def collapsed() -> Case:
    variants = two_bits(Reader(0.1, 0.1, junk=0.85, place=300.0, **SHORT))
    return Case(readers(variants, Reader(0.66, 0.66, **SHORT)), {("collapsed_output", "gptq-2bit")})


@case("collapsed output that more bits do not mend")
def not_the_bits() -> Case:
    broken = Reader(0.1, 0.1, junk=0.85, place=300.0, **SHORT)
    return Case(readers(two_bits(broken), broken))


@case("fewer words right, and words in their place")
def other_words() -> Case:
    return Case(readers(two_bits(Reader(0.3, 0.3, junk=0.1, place=20.0, **SHORT)), Reader(0.68, 0.68, **SHORT)))


@case("a few more fragments")
def few_fragments() -> Case:
    return Case(readers(two_bits(Reader(0.62, 0.62, junk=0.8, place=300.0, **SHORT)), Reader(0.68, 0.68, **SHORT)))


@case("equally right")
def equally_right() -> Case:
    return Case(readers(two_bits(Reader(0.7, 0.7, **SHORT))))


@case("words of several tokens under the next-token protocol")
def next_token() -> Case:
    variants = [Reader(0.7, 0.6).variant("bfloat16"), Reader(0.68, 0.58).variant("gptq-4bit", 2)]
    return Case(readers(variants), {("metric_protocol", "gptq-4bit")})


@case("next-token protocol that turns the verdict")
def next_token_turns() -> Case:
    few = 0.3
    variants = [
        Reader(0.60, 0.25, of_several=few).variant("bfloat16"),
        Reader(0.68, 0.0, of_several=few).variant("gptq-4bit", 2),
    ]
    return Case(readers(variants), {("metric_protocol", "gptq-4bit")})
