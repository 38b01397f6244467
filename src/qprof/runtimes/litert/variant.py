"""What making a variant yields, and the helpers that every maker of variants shares."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qprof.errors import ModelError

_log = logging.getLogger(__name__)

#: Characters of another library's message that one of ours quotes.
_LONGEST_REASON = 200


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


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal.

    Raises:
        ModelError: the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); check the path of the model") from error


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


def first_line(error: BaseException) -> str:
    """The first line of an exception's text, or its type where it has none, for a message of one line.

    LiteRT repeats a complaint for every tensor without a line break: what is beyond `_LONGEST_REASON` is cut.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    line = lines[0] if lines else type(error).__name__
    return line if len(line) <= _LONGEST_REASON else f"{line[:_LONGEST_REASON].rstrip()} ..."


@contextlib.contextmanager
def tool_output_to_log() -> Iterator[None]:
    """Send what Python code prints or warns to the log: stdout belongs to the program that calls, and the progress
    bars of the quantizer would fill its stderr."""
    text = io.StringIO()
    try:
        with (
            contextlib.redirect_stdout(text),
            contextlib.redirect_stderr(text),
            warnings.catch_warnings(record=True) as caught,
        ):
            yield
    finally:
        for line in text.getvalue().replace("\r", "\n").splitlines():
            if line.strip():
                _log.debug("%s", line.strip())
        for warning in caught:
            _log.debug("%s", warning.message)


def _umask() -> int:
    current = os.umask(0o077)
    os.umask(current)
    return current
