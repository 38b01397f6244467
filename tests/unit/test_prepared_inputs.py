"""Inputs that several variants in one process share."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from qprof.measure.worker.prepared_inputs import OfVariant, PreparedInputs
from qprof.record.manifest import PreparedTask
from qprof.record.tensors import TensorSpec
from qprof.tasks.classification.pixels import ImageConfig, Pixels
from qprof.tasks.images.preprocess import PreprocessConfig, Preprocessor
from qprof.tasks.latency import LatencyTask
from qprof.tasks.latency.kind import LatencySection

PREPARED = PreparedTask(section=msgspec.to_builtins(LatencySection(samples=8)))
FLOAT = TensorSpec("x", (1, 4, 4, 3), "float32")
INT8 = replace(FLOAT, dtype="int8", scale=0.5, zero_point=3)


class CountedTask(LatencyTask):
    """Counts what it makes."""

    def __init__(self) -> None:
        super().__init__(samples=8)
        self.made: list[int] = []

    def inputs(self, sample: int) -> list[NDArray[Any]]:
        self.made.append(sample)
        return super().inputs(sample)


class SilentTask(CountedTask):
    """Does not say what its inputs depend on."""

    def inputs_alike(self) -> None:
        return None


def task(spec: TensorSpec = FLOAT, kind: type[CountedTask] = CountedTask) -> CountedTask:
    made = kind()
    made.bind(SimpleNamespace(loaded=SimpleNamespace(inputs=[spec], outputs=[])))
    return made


def of(shared: PreparedInputs, *tasks: CountedTask, prepared: PreparedTask = PREPARED) -> list[OfVariant]:
    return [shared.of(prepared, one) for one in tasks]


def test_variants_that_are_given_the_same_numbers_have_them_made_once() -> None:
    tasks = [task(), task()]
    first, second = of(PreparedInputs(), *tasks)
    for samples in ((0, 1, 2), (3, 4)):
        assert first.inputs(samples) is second.inputs(samples) is first.inputs(list(samples))
    assert [one.made for one in tasks] == [[0, 1, 2, 3, 4], []]
    assert np.array_equal(first.inputs((3, 4))[1][0], tasks[1].inputs(4)[0])


@pytest.mark.parametrize(
    ("spec", "kind", "prepared"),
    [
        (INT8, CountedTask, PREPARED),
        (replace(FLOAT, name="other"), CountedTask, PREPARED),
        (FLOAT, SilentTask, PREPARED),
        (FLOAT, CountedTask, PreparedTask(section=msgspec.to_builtins(LatencySection(samples=9)))),
    ],
    ids=["quantized", "of another name", "that do not say", "of another task"],
)
def test_others_have_their_own(spec: TensorSpec, kind: type[CountedTask], prepared: PreparedTask) -> None:
    shared, one, other = PreparedInputs(), task(kind=kind), task(spec, kind)
    first, second = *of(shared, one), *of(shared, other, prepared=prepared)
    for _ in range(2):  # and those of one do not take the place of the other's
        first.inputs((0, 1))
        second.inputs((0, 1))
    assert one.made == other.made == [0, 1]


def pixels(outputs: int = 10, **config: Any) -> Pixels:
    return Pixels(ImageConfig(**config), replace(FLOAT, name=f"input of {outputs}"), outputs)


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (pixels(10), pixels(20), True),
        (pixels(10), pixels(1000), False),  # ImageNet's: cut to the centre
        (pixels(10, mean=0.0, std=1.0), pixels(10), False),
        (pixels(1000), pixels(1000, crop=0.5), False),
    ],
)
def test_classifiers_store_an_image_alike_only_where_they_say_so(one: Pixels, other: Pixels, alike: bool) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 64, 3)).astype(np.uint8))
    assert (one.alike() == other.alike()) is alike
    assert np.array_equal(one.stored(image), other.stored(image)) is alike


def test_detectors_store_an_image_alike_whatever_their_input_is_called() -> None:
    made = [Preprocessor(PreprocessConfig(), spec) for spec in (FLOAT, replace(FLOAT, name="other"), INT8)]
    assert made[0].alike() == made[1].alike() != made[2].alike()
