"""What every variant of a detector found, in COCO's form of results: pycocotools' loadRes reads it."""

from __future__ import annotations

from pathlib import Path

from qprof.errors import StoreError
from qprof.report.export import write_json
from qprof.report.exports.base import Format, Wanted, chosen
from qprof.store.run import Run
from qprof.tasks import registry


def _write(run: Run, folder: Path, wanted: Wanted) -> list[Path]:
    kind = registry.of(run.manifest.task)
    paths = []
    for name in chosen(run, wanted):
        found = None if kind is None else kind.coco_results(run, name)
        if found is None:
            raise StoreError(f"{run.folder}: its task is not one of finding objects: there are no COCO results")
        path = folder / f"{name}.coco-results.json"
        write_json(path, found, indent=None)
        paths.append(path)
    return paths


FORMAT = Format("what each variant of a detector found, as COCO results", _write)
