"""Where the time of every variant nests, for https://www.speedscope.app: as `qprof flame` has it, all in one file."""

from __future__ import annotations

from pathlib import Path

from qprof.errors import StoreError
from qprof.findings.flame import Flame, model_flame
from qprof.report.export import write_json
from qprof.report.exports.base import Format, Wanted, chosen
from qprof.report.speedscope import speedscope
from qprof.store.run import Run


def flames(run: Run, wanted: Wanted) -> list[Flame]:
    """One per variant and phase, of those whose ops were timed. Raises `StoreError` where that is none, or one that was
    asked for was not."""
    phases = [run.phase(wanted.phase)] if wanted.phase else [phase.name for phase in run.phases()]
    found, refused = [], None
    for name in chosen(run, wanted):
        try:
            found += [model_flame(run, name, phase) for phase in phases]
        except StoreError as error:
            refused = error
            if wanted.variants:
                raise
    if not found:
        raise refused or StoreError(f"{run.folder}: no variant whose ops were timed")
    return found


def _write(run: Run, folder: Path, wanted: Wanted) -> list[Path]:
    path = folder / "profile.speedscope.json"
    write_json(path, speedscope(flames(run, wanted), f"qprof {run.name}"), indent=None)
    return [path]


FORMAT = Format("flames of all variants, for https://www.speedscope.app", _write)
