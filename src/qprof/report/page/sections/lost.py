"""Where accuracy, size and memory went, in the lines of `qprof explain`."""

from __future__ import annotations

from collections.abc import Iterator

from qprof.findings.explanation import Explanation
from qprof.report.distance import distance_line
from qprof.report.explain import accuracy_lines, along_lines
from qprof.report.page.data import Lost


def lost(explanation: Explanation) -> Iterator[Lost]:
    """Of each variant that lost some of the leading score, and how near the outputs are of those without labels."""
    divided = {one.variant: one for one in explanation.along}
    for change in explanation.accuracy:
        first, *rest = [line.strip() for line in accuracy_lines(change)]
        if change.variant in divided:
            rest += [line.strip() for line in along_lines(divided[change.variant])]
        yield Lost(variant=change.variant, title=f"{first[:1].upper()}{first[1:]}", lines=rest)
    for one in explanation.distances:
        yield Lost(
            variant=one.variant,
            title=f"How near the outputs of {one.variant} are to those of {one.baseline}",
            lines=[distance_line(one)],
        )
