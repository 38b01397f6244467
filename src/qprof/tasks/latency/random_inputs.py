"""Random inputs for a model: what its types and its graph allow, or by a recipe that says what an input stands for.

A sample's numbers depend on the seed, the sample, the input's place and its shape alone, so that every variant of a
model is given the same real numbers, whatever it stores them as.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError, ProfileError
from qprof.record.nearest import nearest
from qprof.record.quantization import FLOAT_DTYPES, is_quantized, quantize, real_range
from qprof.record.tensors import TensorSpec

Reals = NDArray[np.float64]

#: Random integers that nothing bounds lie in [0, this): they may be indices or shapes, for which larger values fail or
#: allocate.
INTEGER_LIMIT = 8

#: Random values of float inputs lie in [low, high).
FLOAT_RANGE = (-1.0, 1.0)

INDEX_DTYPES = ("int32", "int64", "uint32", "uint64")
PIXEL_DTYPES = ("int8", "uint8", "int16", "uint16")
KNOWN_DTYPES = (*FLOAT_DTYPES, *PIXEL_DTYPES, *INDEX_DTYPES, "bool")

#: Stands for every input that has no recipe of its own.
EVERY = "*"

#: Part of a sequence that a mask leaves in, unless it or the tokens beside it say otherwise.
_FILLED = 0.75
#: Spread of an image's values, as a part of their range: photographs have some 0.2 to 0.25.
_IMAGE_SPREAD = 0.22
#: Speech as it is sampled for models: 80 to 4,000 of 16,000 samples a second.
_BAND = (0.005, 0.25)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What an input stands for: "tokens:30522" is `kind` "tokens" with the argument "30522"."""

    kind: str
    arguments: tuple[str, ...]

    @property
    def text(self) -> str:
        return ":".join((self.kind, *self.arguments))

    def number(self, position: int, default: float) -> float:
        return float(self.arguments[position]) if position < len(self.arguments) else default

    def integers(self, spec: TensorSpec) -> tuple[int, int]:
        """Least and largest token id for an input. Raises `DataError` where neither recipe nor graph tells."""
        low, high = spec.valid_range or (None, None)
        if self.arguments and self.arguments[0]:
            wanted = int(float(self.arguments[0]))
            if high is not None and wanted > high + 1:
                raise DataError(
                    f"{self.text} for input {spec.name!r}, with which the model looks up rows up to {high}: give "
                    f"tokens:{high + 1} or less"
                )
            high = wanted - 1
        if high is None:
            raise DataError(f"input {spec.name!r} shows no table that it indexes: say how many tokens, as tokens:30522")
        return max(0, low or 0), high


@dataclass(frozen=True, slots=True)
class Kind:
    """A recipe that can be named. `form`: how it is written; `least`, `most`: arguments that it needs, and takes."""

    form: str
    says: str
    least: int
    most: int
    make: Callable[[Recipe, TensorSpec, np.random.Generator, float], Reals]


def _tokens(recipe: Recipe, spec: TensorSpec, random: np.random.Generator, filled: float) -> Reals:
    low, high = recipe.integers(spec)
    ids = _whole(random.random(spec.shape), low, high)
    ids[~_first_part(spec, recipe.number(1, 1.0))] = low
    return ids


def _mask(recipe: Recipe, spec: TensorSpec, random: np.random.Generator, filled: float) -> Reals:
    return _first_part(spec, recipe.number(0, filled)).astype(np.float64)


def _segments(recipe: Recipe, spec: TensorSpec, random: np.random.Generator, filled: float) -> Reals:
    length = spec.shape[-1] if spec.shape else 1
    return np.broadcast_to(np.arange(length) * int(recipe.number(0, 2)) // length, spec.shape).astype(np.float64)


def _positions(recipe: Recipe, spec: TensorSpec, random: np.random.Generator, filled: float) -> Reals:
    length = spec.shape[-1] if spec.shape else 1
    first = (spec.valid_range or (0, None))[0] or 0
    return np.broadcast_to(np.arange(length) + int(recipe.number(0, first)), spec.shape).astype(np.float64)


def _normal(recipe: Recipe, spec: TensorSpec, random: np.random.Generator, filled: float) -> Reals:
    return recipe.number(0, 0.0) + recipe.number(1, 1.0) * random.standard_normal(spec.shape)


def _uniform(recipe: Recipe, spec: TensorSpec, random: np.random.Generator, filled: float) -> Reals:
    low, high = recipe.number(0, FLOAT_RANGE[0]), recipe.number(1, FLOAT_RANGE[1])
    drawn = random.random(spec.shape)
    if _counts(spec):
        return _whole(drawn, math.ceil(low), math.floor(high))
    return low + (high - low) * drawn


def _constant(recipe: Recipe, spec: TensorSpec, random: np.random.Generator, filled: float) -> Reals:
    return np.full(spec.shape, recipe.number(0, 0.0))


def _pixels(recipe: Recipe, spec: TensorSpec, random: np.random.Generator, filled: float) -> Reals:
    """Noise whose amplitudes fall with their frequency, as those of photographs do (D. J. Field, "Relations between the
    statistics of natural images and the response properties of cortical cells", JOSA A 4(12), 1987), most of it common
    to all channels."""
    low, high = recipe.number(0, 0.0), recipe.number(1, 255.0)
    shape = spec.shape
    channels_first = len(shape) >= 3 and shape[-1] not in (1, 3, 4) and shape[-3] in (1, 3, 4)
    one = len(shape) < 3
    planes = (*shape, 1) if one else ((*shape[:-3], *shape[-2:], shape[-3]) if channels_first else shape)
    if len(shape) < 2 or 0 in shape:
        raise DataError(f"input {spec.name!r} of {list(shape)} has no height and width: it takes no pixels")
    height, width = planes[-3], planes[-2]
    common = random.standard_normal((*planes[:-1], 1))
    white = math.sqrt(0.8) * common + math.sqrt(0.2) * random.standard_normal(planes)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    frequency[0, 0] = math.inf  # the mean is set below
    shaped = np.fft.irfft2(np.fft.rfft2(white, axes=(-3, -2)) / frequency[..., None], (height, width), axes=(-3, -2))
    spread = shaped.std(axis=(-3, -2, -1), keepdims=True)
    image = (low + high) / 2 + _IMAGE_SPREAD * (high - low) * shaped / np.where(spread > 0, spread, 1.0)
    image = np.clip(image, low, high)
    return image.reshape(shape) if one else (np.moveaxis(image, -1, -3) if channels_first else image)


def _audio(recipe: Recipe, spec: TensorSpec, random: np.random.Generator, filled: float) -> Reals:
    """Noise in the band of speech along the longest axis."""
    low, high = recipe.number(0, -1.0), recipe.number(1, 1.0)
    if not spec.shape or max(spec.shape) < 2:
        raise DataError(f"input {spec.name!r} of {list(spec.shape)} has no time axis: it takes no audio")
    axis = int(np.argmax(spec.shape))
    length = spec.shape[axis]
    frequency = np.fft.rfftfreq(length)
    inside = (frequency >= _BAND[0]) & (frequency <= _BAND[1])
    if not inside.any():
        inside[1:] = True  # too short for the band
    kept = np.expand_dims(inside, tuple(i for i in range(len(spec.shape)) if i != axis))
    noise = np.fft.irfft(np.fft.rfft(random.standard_normal(spec.shape), axis=axis) * kept, length, axis=axis)
    loudest = np.abs(noise).max()
    return (low + high) / 2 + (high - low) / 2 * 0.9 * noise / (loudest if loudest > 0 else 1.0)


#: The recipes by name.
KINDS: Mapping[str, Kind] = {
    "tokens": Kind("tokens[:COUNT[:FILLED]]", "token ids below COUNT; 0 behind the FILLED part", 0, 2, _tokens),
    "mask": Kind("mask[:FILLED]", "ones, and zeros behind the FILLED part (0 to 1)", 0, 1, _mask),
    "segments": Kind("segments[:COUNT]", "0 in the first part of a sequence, 1 in the second", 0, 1, _segments),
    "positions": Kind("positions[:FIRST]", "0, 1, 2 and so on", 0, 1, _positions),
    "pixels": Kind("pixels[:LOW:HIGH]", "noise like that of photographs, in 0..255", 0, 2, _pixels),
    "audio": Kind("audio[:LOW:HIGH]", "noise in the band of speech, in -1..1", 0, 2, _audio),
    "normal": Kind("normal[:MEAN:STD]", "normally distributed numbers", 0, 2, _normal),
    "uniform": Kind("uniform:LOW:HIGH", "uniformly distributed numbers; HIGH included for integers", 2, 2, _uniform),
    "constant": Kind("constant:VALUE", "one number everywhere", 1, 1, _constant),
}


def parse(text: str) -> Recipe:
    """A recipe from its text. Raises `ProfileError`."""
    kind, *arguments = text.split(":")
    if kind not in KINDS:
        raise ProfileError(f"there is no recipe {kind!r}; {nearest(kind, KINDS)}")
    known = KINDS[kind]
    recipe = Recipe(kind, tuple(arguments))
    # "tokens::0.5": as many tokens as the model's graph shows, half of them filled.
    counted = kind == "tokens" and arguments[:1] == [""]
    numbers = [_number(argument) for argument in arguments[counted:]]
    wrong = not known.least <= len(arguments) <= known.most or any(n is None for n in numbers)
    if wrong or not _sensible(kind, [math.inf] * counted + [n for n in numbers if n is not None]):
        raise ProfileError(f"{text}: write it as {known.form} ({known.says})")
    return recipe


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _sensible(kind: str, numbers: Sequence[float]) -> bool:
    if kind in ("tokens", "segments", "positions") and numbers:
        whole = numbers[0] == math.inf or numbers[0] % 1 == 0
        if not whole or numbers[0] < (0 if kind == "positions" else 1):
            return False
    if kind == "mask" or (kind == "tokens" and len(numbers) == 2):
        return all(0 < n <= 1 for n in numbers[-1:])
    if kind in ("pixels", "audio", "uniform") and numbers:
        return len(numbers) == 2 and numbers[0] < numbers[1]
    return kind != "normal" or len(numbers) < 2 or numbers[1] >= 0


class RandomInputs:
    """Inputs of a model, made. `recipes`: name, argument or position of an input, or `EVERY`, -> recipe."""

    def __init__(self, recipes: Mapping[str, str], seed: int) -> None:
        self._recipes = {key: parse(text) for key, text in recipes.items()}
        self._seed = seed
        filled = [recipe.number(1, 1.0) for recipe in self._recipes.values() if recipe.kind == "tokens"]
        given = [part for part in filled if part < 1.0]
        self._filled = given[0] if given else _FILLED  # a mask beside padded tokens is theirs

    def check(self, specs: Sequence[TensorSpec]) -> None:
        """Raise `DataError` where a recipe is for no input, or an input has none and needs one."""
        for key in self._recipes:
            found = key == EVERY or any(spec.called(key, position) for position, spec in enumerate(specs))
            if not found:
                names = ", ".join(f"{n} = {spec.argument or spec.name}" for n, spec in enumerate(specs))
                raise DataError(f"random: the model has no input {key!r}; its inputs are {names}")
        for position, spec in enumerate(specs):
            if spec.dtype not in KNOWN_DTYPES:
                raise DataError(
                    f"input {spec.name!r} is {_in_words(spec.dtype)}, for which no random values are made: give its "
                    "values by files (--inputs)"
                )
            self.stored(0, position, spec)  # what a recipe cannot do is said before anything is measured

    def recipe(self, spec: TensorSpec, position: int) -> Recipe | None:
        """The recipe of an input, `None` where it has none."""
        own = [recipe for key, recipe in self._recipes.items() if key != EVERY and spec.called(key, position)]
        return own[0] if own else self._recipes.get(EVERY)

    def stored(self, sample: int, position: int, spec: TensorSpec) -> NDArray[Any]:
        """An input of a sample as the variant stores it."""
        recipe = self.recipe(spec, position)
        if recipe is None:
            return _by_type(spec, self._drawn(sample, position, spec))
        values = self._by_recipe(recipe, sample, position, spec)
        if spec.dtype in FLOAT_DTYPES or is_quantized(spec):
            return quantize(values.astype(np.float32), spec)
        return _as_integers(values, spec, recipe)

    def real(self, sample: int, position: int, spec: TensorSpec) -> NDArray[Any]:
        """An input of a sample as real numbers, where it stands for such; inputs of other types keep theirs."""
        if spec.dtype not in FLOAT_DTYPES and not (is_quantized(spec) and spec.dtype in PIXEL_DTYPES):
            return self.stored(sample, position, spec)
        recipe = self.recipe(spec, position)
        if recipe is None:
            return _stretched(spec, self._drawn(sample, position, spec))
        return self._by_recipe(recipe, sample, position, spec).astype(np.float32)

    def _by_recipe(self, recipe: Recipe, sample: int, position: int, spec: TensorSpec) -> Reals:
        random = np.random.default_rng([self._seed, sample, position])
        return KINDS[recipe.kind].make(recipe, spec, random, self._filled)

    def _drawn(self, sample: int, position: int, spec: TensorSpec) -> NDArray[np.float32]:
        """Numbers in [0, 1) that depend on seed, sample, position and shape alone."""
        return np.random.default_rng([self._seed, sample, position]).random(spec.shape, dtype=np.float32)

    def says(self) -> str:
        """What the numbers are, in words."""
        if not self._recipes:
            return "random numbers"
        told = [text.text if key == EVERY else f"{key} = {text.text}" for key, text in self._recipes.items()]
        return f"random numbers ({', '.join(told)})"

    def notes(self, specs: Sequence[TensorSpec]) -> list[str]:
        """A remark where a quantized input spans another range than float inputs get."""
        low, high = FLOAT_RANGE
        notes = []
        for position, spec in enumerate(specs):
            if not is_quantized(spec) or self.recipe(spec, position) is not None:
                continue
            floor, ceiling = real_range(spec)
            if abs(floor - low) + abs(ceiling - high) > 0.02 * (high - low):
                notes.append(
                    f"random inputs {spec.name!r} span {floor:.4g}..{ceiling:.4g}, those of a float variant "
                    f"{low:g}..{high:g}; to time all on the same, give inputs by files, or a recipe (random). "
                    "Outputs are compared on the same, those of the quantized one"
                )
        return notes


def _in_words(dtype: str) -> str:
    return "text" if dtype == "bytes" else dtype


def _counts(spec: TensorSpec) -> bool:
    """Whether an input holds whole numbers as they are."""
    return spec.dtype not in FLOAT_DTYPES and not is_quantized(spec)


def _whole(uniform: NDArray[Any], low: int, high: int) -> Reals:
    """Numbers in [0, 1) as whole numbers from `low` to `high`."""
    numbers: Reals = np.minimum(np.floor(uniform.astype(np.float64) * (high - low + 1)) + low, high)
    return numbers


def _first_part(spec: TensorSpec, part: float) -> NDArray[np.bool_]:
    """Of every sequence (the last axis), the first part; one place at least."""
    length = spec.shape[-1] if spec.shape else 1
    return np.broadcast_to(np.arange(length) < max(1, round(part * length)), spec.shape)


def _as_integers(values: Reals, spec: TensorSpec, recipe: Recipe) -> NDArray[Any]:
    if spec.dtype == "bool":
        return np.not_equal(values, 0.0)
    whole, limits = np.rint(values), np.iinfo(spec.dtype)
    low, high = (whole.min(), whole.max()) if whole.size else (0.0, 0.0)
    if low < limits.min or high > limits.max:
        raise DataError(
            f"{recipe.text} gives {low:g} to {high:g}, and input {spec.name!r} is {spec.dtype}: give numbers from "
            f"{limits.min} to {limits.max}"
        )
    least, most = spec.valid_range or (None, None)
    if (least is not None and low < least) or (most is not None and high > most):
        allowed = " and ".join([f"{least} at least"] * (least is not None) + [f"{most} at most"] * (most is not None))
        raise DataError(f"{recipe.text} gives {low:g} to {high:g}, and the model takes {allowed} for {spec.name!r}")
    return whole.astype(spec.dtype)


def _by_type(spec: TensorSpec, uniform: NDArray[np.float32]) -> NDArray[Any]:
    if spec.dtype == "bool":
        return uniform < 0.5
    if spec.dtype in FLOAT_DTYPES or is_quantized(spec):
        return quantize(_stretched(spec, uniform), spec)
    limits = np.iinfo(spec.dtype)
    if spec.dtype in INDEX_DTYPES or spec.valid_range is not None:
        low, high = spec.valid_range or (0, None)
        least = max(0 if low is None else low, int(limits.min))
        most = least + INTEGER_LIMIT - 1 if high is None else min(high, int(limits.max))
        return _whole(uniform, least, max(least, most)).astype(spec.dtype)
    return _whole(uniform, int(limits.min), int(limits.max)).astype(spec.dtype)


def _stretched(spec: TensorSpec, uniform: NDArray[np.float32]) -> NDArray[np.float32]:
    low, high = real_range(spec) if is_quantized(spec) else FLOAT_RANGE
    return np.float32(low) + np.float32(high - low) * uniform
