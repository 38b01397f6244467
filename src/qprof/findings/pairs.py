"""Any two variants of a run against each other, each pair looked at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qprof.findings.doubts import doubts, withheld, withholding
from qprof.findings.verdicts import FigureVerdict, figures_between, request_verdict
from qprof.stats.verdict import Kind
from qprof.store.run import Run


class RunPairs:
    """`qprof.findings.choice.Pairs` of a run. `judged`: its verdicts against the baseline, which are known already.

    Figures come one by one and are kept: who asks for the first that is worse does not wait for the others, of which
    scores of a whole data set may take seconds.
    """

    def __init__(self, run: Run, judged: Sequence[FigureVerdict] = ()) -> None:
        self._run = run
        self._known: dict[tuple[str, str], list[FigureVerdict]] = {}
        self._more: dict[tuple[str, str], Iterator[FigureVerdict]] = {}
        for one in judged:
            self._known.setdefault((run.baseline, one.variant), []).append(one)
        for pair in self._known:
            self._more[pair] = iter(())

    def figures(self, a: str, b: str) -> Iterator[FigureVerdict]:
        """Every figure of `b` against `a`."""
        pair = (a, b)
        more = self._more.setdefault(pair, figures_between(self._run, a, b))
        known = self._known.setdefault(pair, [])
        position = 0
        while True:
            if position == len(known):
                found = next(more, None)
                if found is None:
                    return
                known.append(withheld([found], doubts(self._run), a)[0])
            yield known[position]
            position += 1

    def request(self, a: str, b: str) -> Kind | None:
        """The latency of a whole request with `b` against `a`."""
        if withholding(self._run, a, b):
            return "inconclusive"
        verdict = request_verdict(self._run, a, b)
        return None if verdict is None else verdict.kind
