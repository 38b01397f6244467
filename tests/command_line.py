"""The command line as a user meets it: in a process of its own, with runs, cache and workers apart from all others."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import qprof

#: A run that is over in about a second: what is tested is the protocol, not the figures.
QUICK = (
    "--set=protocol.rounds=2",
    "--set=protocol.block_ms=2",
    "--set=protocol.profiled_block_ms=2",
    "--set=protocol.warmup_max_s=0.05",
    "--set=protocol.energy=off",
    "--set=protocol.stacks_s=0",
    "--set=protocol.layer_errors=0",
    "--set=protocol.ceilings=false",
    "--set=protocol.plausibility=0",
)


@dataclass
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


@dataclass
class CommandLine:
    """Runs `qprof` in `folder`; every process that it starts can be told by a token in its environment."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    patience_s: float = 120.0
    token: str = field(default_factory=lambda: f"QPROF_TEST_{uuid.uuid4().hex}")

    def variables(self) -> dict[str, str]:
        """Runs and cache of the test's own, and no terminal's settings."""
        kept = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "TERM")}
        own = {"QPROF_RUNS": str(self.folder / "runs"), "QPROF_CACHE": str(self.folder / "cache"), self.token: "1"}
        given = {**kept, "TERM": "xterm-256color", **own, **self.environment}
        # The qprof under test, wherever else another is installed.
        paths = [*filter(None, [given.get("PYTHONPATH")]), str(Path(qprof.__file__).parents[1])]
        return {**given, "PYTHONPATH": os.pathsep.join(paths)}

    @staticmethod
    def arguments(*words: str | Path) -> list[str]:
        # -P: the script `qprof` does not have the folder that it is started in on its path either.
        return [sys.executable, "-P", "-m", "qprof.cli.main", *map(str, words)]

    def start(self, *words: str | Path) -> subprocess.Popen[str]:
        """Begin a command, to be waited for or killed by the test."""
        return subprocess.Popen(
            self.arguments(*words),
            cwd=self.folder,
            env=self.variables(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *words: str | Path) -> Done:
        """A command from beginning to end."""
        with self.start(*words) as process:
            out, err = process.communicate(timeout=self.patience_s)
        return Done(process.returncode, out, err)

    def left_behind(self, within_s: float = 20) -> list[int]:
        """Processes of this command line that have not ended in time."""
        deadline = time.monotonic() + within_s
        while (found := self._living()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return found

    def _living(self) -> list[int]:
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:  # a zombie has no environment left, and counts as ended
                if self.token.encode() in (folder / "environ").read_bytes():
                    found.append(int(folder.name))
            except OSError:
                continue
        return found
