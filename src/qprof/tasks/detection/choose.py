"""Which decoder a detector's outputs take: the configured one, or the one that op types, names and shapes speak for."""

from __future__ import annotations

from dataclasses import replace

from qprof.errors import DataError
from qprof.tasks.detection.heads import Binding, Head, HeadConfig, get, kinds
from qprof.tasks.detection.heads.base import describe
from qprof.tasks.detection.heads.config import BOX_UNITS


def build_head(binding: Binding) -> tuple[str, Head, list[str]]:
    """The kind, the decoder, and remarks on the choice; `DataError` where outputs fit no kind or several, and for a
    setting that the kind does not take."""
    config, notes = binding.config, []
    if config.roles is not None and len(config.roles) != len(binding.outputs):
        raise DataError(
            f"head.roles names {len(config.roles)} outputs, the model has {len(binding.outputs)}: "
            f"{describe(binding.outputs)}"
        )
    if config.kind == "auto":
        kind, reason = choose_kind(binding)
        notes.append(f"head.kind 'auto' chose {kind!r} ({reason}): set head.kind if that is wrong")
        binding = replace(binding, config=replace(config, kind=kind))
    chosen = get(binding.config.kind)
    refused = chosen.refused(binding.config)
    if refused is not None:
        raise DataError(refused)
    head = chosen.make(binding)
    return chosen.name, head, notes + head.notes()


def suppression_iou(config: HeadConfig, kind: str) -> float | None:
    """The NMS threshold: the configured one, else that of the kind's reference implementation."""
    return config.nms_iou if config.nms_iou is not None else get(kind).nms_iou


def unit_settings(kind: str) -> dict[str, str]:
    """What to set where boxes turn out to be "normalized" or "pixels", by unit; empty where the kind leaves no choice.

    Boxes that are tiny or huge for another reason, such as a head that decodes what is decoded already, are told too.
    """
    settings = get(kind).settings
    if "box_units" not in settings:
        return {}
    also = ", head.decoded" if "decoded" in settings else ""
    return {units: f'set head.box_units = "{units}"{also} or another head.kind' for units in BOX_UNITS}


def choose_kind(binding: Binding) -> tuple[str, str]:
    """The kind that op types, names and output shapes speak for most, with the reason."""
    matches = {name: match for name, kind in kinds().items() if (match := kind.recognize(binding)) is not None}
    if not matches:
        raise DataError(
            f"outputs fit no known detection head ({describe(binding.outputs)}): set head.kind to one of "
            f"{', '.join(kinds())}"
        )
    strongest = max(match.strength for match in matches.values())
    best = [name for name, match in matches.items() if match.strength == strongest]
    if len(best) > 1:
        raise DataError(
            f"outputs fit the heads {' and '.join(best)} alike ({describe(binding.outputs)}): set head.kind to one of "
            "them"
        )
    if matches[best[0]].lacks:
        raise DataError(matches[best[0]].lacks)
    return best[0], matches[best[0]].reason
