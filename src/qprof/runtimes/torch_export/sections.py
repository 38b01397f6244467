"""What a profile may say of exported networks and of their variants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import field

from qprof.errors import ProfileError
from qprof.record.model import RunOptions
from qprof.record.nearest import nearest
from qprof.record.sections import FileVariantSection, MadeVariantSection, ModelSection, Positive, VariantSection
from qprof.runtimes.interventions import method as method_of

#: "inductor": compiled once, weights frozen in; "eager": node by node through torch's dispatcher.
Engine = Literal["inductor", "eager"]

FILE = "file"

#: Methods and the engine that runs what they make. A name without "-eager" is compiled.
METHODS: Mapping[str, Engine] = {
    "float32": "inductor",
    "bfloat16": "inductor",
    "int8": "inductor",
    "int8-dynamic": "inductor",
    "float32-eager": "eager",
    "bfloat16-eager": "eager",
    "int8-eager": "eager",
}

#: Methods that take samples to calibrate on.
CALIBRATED = ("int8",)


class TorchExportModelSection(ModelSection, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`path`: a `.pt2` of torch.export, or a Hugging Face folder of a classifier. `tokens`: the length that a folder's
    text classifier is exported for."""

    tokens: Positive = 128


class MadeTorchVariant(MadeVariantSection, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A variant that is made of the float model. `skip_layers`: layers to leave in float, by the names that
    `qprof layers` lists."""

    skip_layers: list[str] = field(default_factory=list)


class TorchExportFile(FileVariantSection, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A ready-made `.pt2`. `engine`: what runs it."""

    engine: Engine = "inductor"


class TorchExportOptions(RunOptions, frozen=True, kw_only=True):
    """How torch runs a variant."""

    engine: Engine = "inductor"


def variant_section(keys: Mapping[str, Any]) -> type[VariantSection]:
    """See `Runtime.variant_section`."""
    if keys.get("file"):
        return TorchExportFile
    name = method_of(keys)
    if name not in METHODS:
        raise ProfileError(f"there is no method {name!r} for an exported network; {nearest(name, list(METHODS))}")
    return MadeTorchVariant
