"""The process that prepares a run's data and makes its variants."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from qprof.errors import WorkerError
from qprof.measure.parent.process import Bounds, WorkerProcess
from qprof.measure.parent.spare import SpareWorkers
from qprof.measure.requests import Answer, Request

_LABEL = "preparation"


class Maker:
    """Asks a process of its own, or one of `spare` that has imported what making takes seconds to import; when it dies
    of a request, another one takes its place for the next."""

    def __init__(self, log: Path, bounds: Bounds, spare: SpareWorkers | None) -> None:
        self._log, self._bounds, self._spare = log, bounds, spare
        lent = None if spare is None else spare.lend(_LABEL, bounds)
        self._is_lent = lent is not None
        self._worker = lent or self._new()

    def ask(self, request: Request[Answer], meanwhile: Callable[[], None] | None = None) -> Answer:
        """Its answer; `meanwhile` is called now and then until it comes. Raises what the worker does."""
        try:
            return self._worker.ask(request, meanwhile=meanwhile)
        except WorkerError:
            self._worker.stop()
            self._is_lent = False
            self._worker = self._new()
            raise

    def give_back(self) -> None:
        """Leave a process that was lent to the next run; any other is ended."""
        if self._is_lent and self._spare is not None:
            self._spare.give_back(self._worker)
        else:
            self.stop()

    def stop(self) -> None:
        """End the process."""
        self._worker.stop()

    def _new(self) -> WorkerProcess:
        return WorkerProcess(_LABEL, self._log, self._bounds)


@contextlib.contextmanager
def maker(log: Path, bounds: Bounds, spare: SpareWorkers | None) -> Iterator[Maker]:
    """One for a block. Its process outlives only a block that ends well: else it may be at work, for nobody."""
    made = Maker(log, bounds, spare)
    try:
        yield made
    except BaseException:
        made.stop()
        raise
    made.give_back()
