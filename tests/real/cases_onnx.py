"""Cases in ONNX Runtime: ops that are put in, a wider layer, and nothing at all."""

from __future__ import annotations

import makers_onnx as makers
from case import Case, Planted, Timed

BASE = {"name": "base", "file": "base.onnx", "threads": 1}
PLANTED = {"name": "planted", "file": "planted.onnx", "threads": 1}
WORK = ("other work", "more work", "insert", "in the place of", r"\bMACs\b")


def planted(*ops: str, mechanisms: tuple[str, ...] = ("work",)) -> tuple[Planted, ...]:
    return (Planted(words=WORK, truth=Timed(PLANTED, BASE), direction=1, mechanisms=mechanisms, ops=ops),)


CASES = (
    Case("onnx_same_files", makers.copied, (BASE, PLANTED)),
    Case("onnx_relu_by_where", makers.pair(makers.by_where), (BASE, PLANTED), planted("Where", "Greater", "Reorder")),
    Case(
        "onnx_transposes",
        makers.pair(makers.transposes),
        (BASE, PLANTED),
        planted("Transpose", "Reorder", mechanisms=("work", "conversions")),
    ),
    Case("onnx_wider", makers.wider, (BASE, PLANTED), planted("body[23]", "Conv"), same_model=False),
)
