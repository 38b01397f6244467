"""Tables that ops look rows up in and that a quantizer leaves in float: no weights of ops that multiply, and often most
of the file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from pathlib import Path

from qprof.runtimes.litert.parts import stored_files
from qprof.runtimes.litert.quantize import METHODS, TOOL

#: Ops that hand rows of a table on, which the policies of ai-edge-quantizer (default_policy.py) know as ops on
#: activations: with ranges from calibration their table is quantized, by the methods without it is not.
LOOKUPS = ("GATHER", "GATHER_ND")
_WITHOUT_RANGES = ("float-casting", "dynamic", "weight-only")


def notes(path: Path, method: str, ops: Collection[str] | None, skip_ops: Collection[str]) -> list[str]:
    """A remark where the file that a method made still holds such tables in float32, without being asked to; `ops`,
    `skip_ops`: as the method was limited. Raises `ModelError`."""
    if method not in METHODS or METHODS[method].how not in _WITHOUT_RANGES:
        return []
    asked = [op for op in LOOKUPS if op not in skip_ops and (ops is None or op in ops)]
    found = Counter(
        part.op
        for part in stored_files(path).parts
        if part.kind == "tensor" and part.dtype == "float32" and part.op in asked and part.at.endswith("#0")
    )
    if not found:
        return []
    listed = ", ".join(f"{op} x{count}" for op, count in sorted(found.items()))
    return [f"tables left in float32 by {TOOL}, whose {method} quantizes none that an op looks rows up in: {listed}"]
