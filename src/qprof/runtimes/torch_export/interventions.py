"""What can be changed about variants of exported networks, so that what a cause predicts can be tested."""

from __future__ import annotations

from collections.abc import Sequence

from qprof.record.manifest import VariantEntry
from qprof.record.ops import OpMeta
from qprof.runtimes.interventions import READY_MADE, Impossible, Interventions, Section, method, more_in_float

#: Methods that can leave layers in float.
_SKIPPING = ("int8", "int8-dynamic", "int8-eager")


class TorchExportInterventions(Interventions):
    """Layers of quantized variants can be left in float."""

    def not_made_anew(self, entry: VariantEntry) -> str | None:
        return _not_made_anew(entry.section)

    def layers_in_float(self, section: Section, names: Sequence[str], what: str) -> Section | Impossible:
        reason = _not_made_anew(section)
        return Impossible(reason) if reason else more_in_float(section, names, what)

    def in_float(self, section: Section, ops: Sequence[OpMeta], every: Sequence[OpMeta]) -> Section | Impossible:
        reason = _not_made_anew(section)
        names = sorted({op.name for op in ops if op.macs and ";" not in op.name})
        if reason:
            return Impossible(reason)
        return more_in_float(section, names, "float") if names else section


def _not_made_anew(section: Section) -> str | None:
    if section.get("file"):
        return READY_MADE
    if method(section) not in _SKIPPING:
        return f"{method(section)} quantizes no layer that could be left in float"
    return None
