"""How a variant is made, in the format of the tool that makes it: for whoever makes it without qprof."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Recipe:
    """`tool`: what reads it; `content`: as JSON can hold it; `usage`: how it is given to the tool, in a line."""

    tool: str
    content: Any
    usage: str
