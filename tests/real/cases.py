"""The table of cases."""

from __future__ import annotations

from case import Case
from cases_edits import CASES as EDITS
from cases_float import CASES as FLOAT
from cases_language import CASES as LANGUAGE
from cases_machine import CASES as MACHINE
from cases_onnx import CASES as ONNX
from cases_quantized import CASES as QUANTIZED
from cases_rare import CASES as RARE
from cases_settings import CASES as SETTINGS

CASES: tuple[Case, ...] = (*EDITS, *QUANTIZED, *MACHINE, *LANGUAGE, *SETTINGS, *FLOAT, *RARE, *ONNX)
