"""What a wrong word was probably meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str], where: str = "") -> str:
    """ "did you mean X?", or "known here: X, Y" where nothing is near; `where` stands before what is meant."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"did you mean {where}{near[0]}?" if near else f"known here: {', '.join(names)}"
