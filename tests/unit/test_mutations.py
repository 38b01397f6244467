"""A slice of tests/campaigns/mutations.py: damaged files of every kind are read, or refused in one line."""

from __future__ import annotations

import copy
import random
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "campaigns"))

import mutations
import structured
from kinds import KINDS

#: Seeds of the campaign that ended in tracebacks: offsets that lead out of the file, names that are no UTF-8, weights
#: without a type, numbers that none holds, records that are no arrays, pages that cannot be decoded.
ONCE_WRONG = {
    ("tflite", "bytes"): (652, 986),
    ("onnx", "bytes"): (285, 971),
    ("pt2-weights", "bytes"): (964, 983, 986),
    ("npy", "bytes"): (971,),
    ("npy", "structure"): (32,),
    ("npz", "structure"): (5, 33),
    ("labelled-arrays", "structure"): (8, 32),
    ("labelled-parquet", "bytes"): (57,),
    ("labelled-parquet", "structure"): (38,),
    ("rows-parquet", "structure"): (39,),
}
#: Beginning of a kind's name -> what it needs.
NEEDS = {
    "onnx": "onnx",
    "pt2": "torch",
    "gguf": "gguf",
    "bnb": "bitsandbytes",
    "gptq": "gptqmodel",
    "compressed": "compressed_tensors",
    "adapter": "transformers",
    "safetensors": "transformers",
    "config": "transformers",
    "index": "transformers",
}
CASES = [
    (kind, how)
    for kind in KINDS
    for how in ("bytes", "structure")
    if not kind.in_worker and (how == "bytes" or kind.change is not None)
]


@pytest.mark.parametrize(("kind", "how"), CASES, ids=[f"{kind.name}-{how}" for kind, how in CASES])
def test_a_damaged_file_is_read_or_refused_in_one_line(kind: mutations.Kind, how: str) -> None:
    pytest.importorskip(NEEDS.get(kind.name.partition("-")[0], "numpy"))
    found = mutations.campaign(kind, 25, 0, how)
    for seed in ONCE_WRONG.get((kind.name, how), ()):
        found.update(mutations.campaign(kind, 1, seed, how))
    assert not [outcome for outcome in found if outcome.startswith(("WRONG", "DIED"))], found
    assert found["refused"] + found["read"]


def test_no_change_reaches_the_values_that_files_are_changed_to() -> None:
    """Else a file depended on those before it, and one could come to hold itself, which has no end."""
    as_they_were = copy.deepcopy(structured.ODD)
    for seed in range(60):
        structured.values({"a": {"b": 1}}, random.Random(seed))
        assert as_they_were == structured.ODD


def test_what_hangs_is_ended_and_what_has_no_core_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(mutations.Late), mutations.limited(0.05):
        time.sleep(60)
    denied = iter(range(0, 1000, 10))
    monkeypatch.setattr(mutations, "_denied_s", lambda: next(denied))
    with mutations.limited(0.05):
        time.sleep(0.3)
    assert next(denied) > 10
