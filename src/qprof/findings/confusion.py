"""What a variant takes for what, and which samples it answers otherwise than the baseline, as recorded."""

from __future__ import annotations

from qprof.errors import DataError
from qprof.findings.accuracy import AccuracyChange, accuracy_change
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


def flips(run: Run, variant: str) -> AccuracyChange:
    """How the answers of a variant differ from the baseline's. Raises `DataError` where the run's task tells nothing of
    single answers, `StoreError` for a variant that it has not."""
    run.variant(variant)
    change = accuracy_change(run, run.baseline, variant)
    if not change.flip_kinds:
        why = next(iter(change.reasons.values()), "its task gives no sample a single answer")
        raise DataError(f"{run.folder}: {why}")
    return change
