"""What making a variant yields, and the helpers that every maker of variants shares."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qprof.errors import ModelError
from qprof.runtimes.tool_output import first_line, tool_output_to_log
from qprof.store.cache import file_sha256

__all__ = ["MadeVariant", "file_sha256", "refuse_unloadable", "write_atomically"]


@dataclass(frozen=True, slots=True)
class MadeVariant:
    """One variant as a .tflite file, with what is needed to say where it came from.

    `seconds` is the time spent on making it, calibration included, as measured when it was made: a variant taken
    from the cache keeps the figure of its making. `settings` are the options that shaped the content; `notes` are
    remarks about the result, each with a remedy where there is one.
    """

    path: Path
    sha256: str
    bytes: int
    method: str
    seconds: float
    tool: str
    tool_version: str
    settings: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """All fields but `path`, which belongs to the machine and not to the variant."""
        return {
            "sha256": self.sha256,
            "bytes": self.bytes,
            "method": self.method,
            "seconds": self.seconds,
            "tool": self.tool,
            "tool_version": self.tool_version,
            "settings": self.settings,
            "notes": self.notes,
        }

    @classmethod
    def from_json(cls, path: Path, fields: Mapping[str, Any]) -> MadeVariant:
        """The inverse of `to_json`.

        Raises:
            KeyError, TypeError, ValueError: `fields` is not what `to_json` writes.
        """
        return cls(
            path=path,
            sha256=str(fields["sha256"]),
            bytes=int(fields["bytes"]),
            method=str(fields["method"]),
            seconds=float(fields["seconds"]),
            tool=str(fields["tool"]),
            tool_version=str(fields["tool_version"]),
            settings=dict(fields["settings"]),
            notes=[str(note) for note in fields["notes"]],
        )


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that no reader ever sees a part of it: a temporary file beside it, then a rename.

    Raises:
        ModelError: the folder cannot be made or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            # mkstemp makes the file private; a variant is as readable as any other file of its owner.
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise ModelError(f"{path}: cannot be written ({error.strerror}); choose a writable folder") from error


def refuse_unloadable(content: bytes, what: str, remedy: str) -> None:
    """Load a model in LiteRT and allocate its tensors, which is where a combination it cannot run comes out.

    Raises:
        ModelError: LiteRT refuses the model; `what` begins the message and `remedy` ends it.
    """
    from ai_edge_litert.interpreter import Interpreter  # type: ignore[import-untyped,unused-ignore]

    try:
        with tool_output_to_log():
            Interpreter(model_content=content).allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"{what}: LiteRT cannot load it: {first_line(error)}; {remedy}") from error


def _umask() -> int:
    current = os.umask(0o077)
    os.umask(current)
    return current
