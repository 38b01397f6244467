"""What a command line says of the inputs of model files: ones from files, made ones, their shapes, a signature."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qprof.errors import ProfileError

#: Stands for all inputs that are not named.
_EVERY = "*"
_EXTENT = re.compile(r"0*[1-9][0-9]{0,9}")


@dataclass(frozen=True, slots=True)
class InputOptions:
    """`files`: what is run; `calibration`: what static variants are calibrated on; `random`: input -> recipe, for what
    is run on made inputs; `shapes`: input -> shape; `signature`: what is run of the files."""

    files: Sequence[str] = ()
    calibration: Sequence[str] = ()
    random: Mapping[str, str] = field(default_factory=dict)
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    signature: str = ""

    def __bool__(self) -> bool:
        return bool(self.files or self.calibration or self.random or self.shapes or self.signature)

    def task(self) -> dict[str, Any]:
        """The keys of a profile's task that say this."""
        keys: dict[str, Any] = {
            "inputs": [str(Path(name).resolve()) for name in self.files],
            "calibration_inputs": [str(Path(name).resolve()) for name in self.calibration],
            "random": dict(self.random),
        }
        return {key: value for key, value in keys.items() if value}

    def model(self) -> dict[str, Any]:
        """The keys of a profile's model that say this."""
        keys: dict[str, Any] = {
            "input_shapes": {name: list(shape) for name, shape in self.shapes.items()},
            "signature": self.signature,
        }
        return {key: value for key, value in keys.items() if value}


def recipes(texts: Sequence[str]) -> dict[str, str]:
    """ "ids=tokens:30522,mask=mask" as input -> recipe; a recipe alone is for every input that is not named. Raises
    `ProfileError`."""
    found: dict[str, str] = {}
    for text in (part.strip() for whole in texts for part in whole.split(",")):
        name, _, recipe = text.rpartition("=")
        if not recipe or text.startswith("="):
            raise ProfileError(f"--random {text}: write it as INPUT=RECIPE, such as ids=tokens:30522, or as pixels")
        if (name or _EVERY) in found:
            raise ProfileError(f"--random {text}: {name or 'every input'} has a recipe already; give one")
        found[name or _EVERY] = recipe
    return found


def shapes(texts: Sequence[str]) -> dict[str, list[int]]:
    """ "ids=1x128,mask=1x128" as input -> shape. Raises `ProfileError`."""
    found: dict[str, list[int]] = {}
    for text in (part.strip() for whole in texts for part in whole.split(",")):
        name, _, extents = text.rpartition("=")
        if not name or not all(_EXTENT.fullmatch(extent) for extent in extents.split("x")):
            raise ProfileError(f"--shape {text}: write it as INPUT=SHAPE, such as ids=1x128")
        if name in found:
            raise ProfileError(f"--shape {text}: {name} has a shape already; give one")
        found[name] = [int(extent) for extent in extents.split("x")]
    return found
