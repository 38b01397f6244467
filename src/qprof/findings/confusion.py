"""What a variant takes for what, from its recorded predictions."""

from __future__ import annotations

from qprof.errors import DataError
from qprof.store.run import Run
from qprof.tasks import registry as tasks
from qprof.tasks.base import Confusion


def confusion(run: Run, variant: str) -> Confusion:
    """Samples by class and by the class they are taken for. Raises `DataError` where the run's task has no classes of
    whole samples, `StoreError` for a variant that it has not."""
    run.variant(variant)
    kind = tasks.of(run.manifest.task)
    found = None if kind is None else kind.confusion(run, variant)
    if found is None:
        raise DataError(f"{run.folder}: its task gives no sample a single class; a classifier's run has a confusion")
    return found
