"""Other values of the settings that several heads take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qprof.tasks.detection.boxes import BOX_FORMATS
from qprof.tasks.detection.heads.base import Trial
from qprof.tasks.detection.heads.config import BOX_UNITS, HeadConfig


def other_formats(config: HeadConfig, default: str | None) -> Iterator[Trial]:
    """Every other way to write a box; all where boxes are written otherwise (`default` is `None`)."""
    for other in BOX_FORMATS:
        if other != (config.box_format or default):
            yield Trial("box_format", other, f"boxes are {other}")


def other_units(config: HeadConfig, default: str | None) -> Iterator[Trial]:
    """The other unit of boxes; both where the values are what settles it (`default` is `None`)."""
    for units in BOX_UNITS:
        if units != (config.box_units or default):
            yield Trial("box_units", units, f"boxes are {units}{' of the input' if units == 'pixels' else ''}")


def other_activation(config: HeadConfig, possible: Sequence[str]) -> Iterator[Trial]:
    """Scores as logits, or as they are."""
    says = {
        "none": "scores are probabilities already",
        "sigmoid": "scores are logits",
        "softmax": "scores are logits, one class shuts out the others",
    }
    now = config.score_activation or "none"
    for other in possible:
        if other != now and not (other == "softmax" and now == "sigmoid"):
            yield Trial("score_activation", other, says[other])
