"""Texts of which the perplexity is taken: a text file, whole or cut at its titles, or the rows of a table."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from qprof.errors import DataError
from qprof.tasks.hub_data import HUB
from qprof.tasks.lastword.data import LINES, Source, read_rows

Cut = Literal["auto", "whole", "titles"]

#: A title of WikiText, " = Robert Boulter = "; of its sections, " = = Career = = ", none.
_TITLE = re.compile(r"^[ ]?= (?!=)[^\n]*[^=\s] =[ ]?$", re.MULTILINE)
#: White space, as lm-evaluation-harness counts words by it.
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Document:
    """A text; `where` says in words where it stands."""

    where: str
    text: str

    @property
    def words(self) -> int:
        """Pieces between white space, as lm-evaluation-harness counts: an empty one before and behind it as well."""
        return len(_SPACE.split(self.text))

    @property
    def bytes(self) -> int:
        """Of its UTF-8."""
        return len(self.text.encode())


def read_documents(source: Source, cut: Cut) -> list[Document]:
    """Every text of a source that is not blank. `cut`: of a text file, "whole" (one document), at its "titles" as
    WikiText writes them, or "auto", at titles where there are any. Raises `DataError`; see
    `qprof.tasks.lastword.data.read_rows` for tables.
    """
    path = Path(source.location)
    if source.location.startswith(HUB) or path.is_dir() or path.suffix.lower() in (*LINES, ".parquet"):
        rows = read_rows(source)
        found = [Document(f"{source.location}, {rows.unit} {row.place}", row.text) for row in rows.rows]
    else:
        found = _of_text(path, cut)
    kept = [one for one in found if one.text.strip()]
    if not kept:
        raise DataError(f"{source.location}: holds no text: give a file of text, or rows of it")
    return kept


def _of_text(path: Path, cut: Cut) -> list[Document]:
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}): correct the path of the text") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: is no text in UTF-8 (byte {error.start}): convert it, or give rows in a .jsonl or .parquet file"
        ) from error
    begins = [found.start() for found in _TITLE.finditer(text)] if cut != "whole" else []
    if cut == "titles" and not begins:
        raise DataError(f'{path}: has no line like " = Title = " to cut at: set documents to "whole"')
    if not begins:
        return [Document(str(path), text)]
    edges = [0, *(begin for begin in begins if begin), len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(edges)]
    return [Document(f"{path}, text {n}", piece) for n, piece in enumerate(pieces, 1)]


def held_back(documents: list[Document], share: float) -> tuple[list[Document], list[Document]]:
    """The documents without the last `share` of all their text, and that: cut between two documents, or between two
    lines or words of one."""
    total = sum(len(one.text) for one in documents)
    left = round((1.0 - share) * total)
    for number, one in enumerate(documents):
        if len(one.text) < left:
            left -= len(one.text)
            continue
        if len(documents) > 1 and number:  # whole documents where there are several
            return documents[:number], documents[number:]
        at = max(one.text.rfind("\n", 0, left), one.text.rfind(" ", 0, left))
        if at <= 0:
            raise DataError(
                f"{one.where}: cannot be cut in two to calibrate on its end: name other text for it (calibration_data)"
            )
        return [Document(one.where, one.text[:at])], [Document(one.where, one.text[at:]), *documents[1:]]
    return documents, []
