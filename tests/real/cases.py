"""The table of cases."""

from __future__ import annotations

from case import Case
from cases_edits import CASES as EDITS

CASES: tuple[Case, ...] = (*EDITS,)
