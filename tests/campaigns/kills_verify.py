"""What kills.py kills with `--of verify`: `qprof explain --verify` of a finished run, begun again afterwards.

Held beside what kills.py holds of a run: the run that is explained stays as it was, byte for byte; a verification that
was interrupted is gone on with, and not begun anew beside it; none is left half done; what is explained is whole or
absent.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kills import Stage, blocks_of, debris, on_disk, starts, wrong_with

from qprof.errors import StoreError
from qprof.findings.verify import VERIFY
from qprof.store.run import Run

_WHOLE = "whole"

#: What explaining a run writes beside its verifications.
_EXPLAINED = ("findings.json", "report.json", "report.html")


def recorded(folder: Path) -> dict[str, str]:
    """The files of a run itself, without what explaining adds -> a digest."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    own = [path for path in files if path.relative_to(folder).parts[0] not in (VERIFY, *_EXPLAINED)]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in own}


def verifications(folder: Path) -> list[Path]:
    """Folders of verifications that hold a run, finished or not."""
    return sorted(path.parent for path in (folder / VERIFY).glob("*/manifest.json"))


def blocks_kept(folder: Path) -> dict[int, list[int]]:
    """Block -> when its inferences began, of a run that may be finished."""
    return starts(Run(folder)) if Run(folder).complete else on_disk(folder)


@dataclass
class VerifyStage(Stage):
    """A finished run whose causes are verified but for one verification, and what it takes to make that."""

    own: dict[str, str] = field(default_factory=dict)

    @classmethod
    def set_up(cls, folder: Path) -> VerifyStage:
        stage = super().set_up(folder)
        assert isinstance(stage, cls)
        stage.own = recorded(folder / _WHOLE)
        done = stage.line(*stage.command(_WHOLE))
        if done.code != 0 or len(verifications(folder / _WHOLE)) < 2:
            raise SystemExit(f"an undisturbed verification fails, or there are too few: {done.err}")
        stage.ready("undisturbed")
        began = time.monotonic()
        done = stage.line(*stage.command("undisturbed"))
        stage.wall_s = time.monotonic() - began
        if done.code != 0:
            raise SystemExit(f"an undisturbed verification fails: {done.err}")
        stage.plan = [block for one in verifications(folder / "undisturbed") for block in blocks_of(Run(one))]
        return stage

    def command(self, name: str) -> Sequence[str | Path]:
        return ["explain", name, "--verify", "-q"]

    def ready(self, name: str) -> None:
        folder = self.line.folder / name
        shutil.copytree(self.line.folder / _WHOLE, folder)
        for file in _EXPLAINED:
            (folder / file).unlink(missing_ok=True)
        shutil.rmtree(random.Random(name).choice(verifications(folder)))

    def finished(self, out: str, err: str) -> bool:
        return bool(out)  # it prints when all is verified

    def wrong_after(self, name: str) -> list[str]:
        folder = self.line.folder / name
        before = {path: blocks_kept(path) for path in verifications(folder)}
        half = [path for path in before if not Run(path).complete]
        self.resumptions += bool(half)
        self.kept += sum(len(before[path]) for path in half)
        done = self.line(*self.command(name))
        if done.code != 0:
            return [f"explained again, it ends with {done.code}: {done.err[-400:]}"]
        wrong = [f"{text} is left" for text in (*debris(folder), *self.scratch_left())]
        if recorded(folder) != self.own:
            wrong.append("the run that was explained is another")
        for path in verifications(folder):
            wrong += wrong_with_one(path, before.get(path, {}))
        wrong += [f"{path.name}: was interrupted and is not finished" for path in half if not Run(path).complete]
        try:
            found = json.loads((folder / "findings.json").read_bytes())
        except (OSError, ValueError) as error:
            return [*wrong, f"findings.json: {error}"]
        told = [one["because"] for comparison in found["comparisons"] for one in comparison["findings"]]
        failed = [text for text in told if "its intervention failed" in text]
        return wrong + [f"a claim that a dead worker left untested stays so: {text}" for text in failed]


def wrong_with_one(folder: Path, kept: dict[int, list[int]]) -> list[str]:
    """What is wrong with one verification: it has all blocks of its own manifest, each once, and what was kept. One
    that a dead worker spoiled is left as it is: what it should have told is measured once more beside it."""
    try:
        run = Run(folder)
        plan = sorted((entry.number, entry.variant, entry.kind) for entry in run.manifest.blocks)
        spoiled = any(entry.failed or entry.unscored for entry in run.variants)
    except StoreError as error:
        return [f"{folder.name} cannot be read: {error}"]
    found = wrong_with(folder, plan, kept)
    return [f"{folder.name}: {text}" for text in found if not (spoiled and ("failed" in text or "parts left" in text))]
