"""The commands that print what the page shows."""

from __future__ import annotations

import shlex


class Commands:
    """Of one run, quoted for a shell."""

    def __init__(self, reference: str) -> None:
        self._reference = reference

    def of(self, command: str, *words: str) -> str:
        """ "qprof COMMAND RUN WORDS"."""
        return shlex.join(["qprof", command, self._reference, *words])
