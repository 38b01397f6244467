"""What other libraries print and complain, made fit for a log and for messages of one line."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

_log = logging.getLogger(__name__)

#: Characters of another library's message that one of ours quotes.
_LONGEST_REASON = 200


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
