"""What speaks against the latencies of a run, above all figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qprof.findings.doubts import Doubt


def doubt_lines(doubts: Sequence[Doubt]) -> Iterator[str]:
    """One line per kind of doubt, with the variant in which it is worst; nothing where there is none."""
    kinds: dict[str, list[Doubt]] = {}
    for doubt in doubts:
        kinds.setdefault(doubt.what, []).append(doubt)
    for found in kinds.values():
        # One that withholds a verdict is the worse one.
        worst = max(found, key=lambda doubt: doubt.withholds)
        where = worst.variant if worst.phase == "inference" else f"{worst.variant} {worst.phase}"
        others = sorted({doubt.variant for doubt in found} - {worst.variant})
        more = f"; likewise {', '.join(others)}" if others else ""
        verdict = " No verdict on latency is given." if any(doubt.withholds for doubt in found) else ""
        yield f"DOUBT  {where}: {worst.says}{more}.{verdict}"
