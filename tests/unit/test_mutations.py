"""A slice of tests/campaigns/mutations.py: damaged files of every kind are read, or refused in one line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "campaigns"))

import mutations

#: Seeds of the campaign that ended in tracebacks: offsets that lead out of the file, names that are
#: no UTF-8, weights without a type.
ONCE_WRONG = {"tflite": (652, 986), "onnx": (285, 971), "pt2-weights": (964, 983, 986), "npy": (971,)}
NEEDS = {"onnx": "onnx", "pt2": "torch", "gguf": "gguf", "safetensors": "transformers", "config": "transformers"}


@pytest.mark.parametrize("kind", mutations.KINDS, ids=lambda kind: kind.name)
def test_a_damaged_file_is_read_or_refused_in_one_line(kind: mutations.Kind) -> None:
    pytest.importorskip(NEEDS.get(kind.name.partition("-")[0], "numpy"))
    found = mutations.campaign(kind, 25, 0)
    for seed in ONCE_WRONG.get(kind.name, ()):
        found.update(mutations.campaign(kind, 1, seed))
    assert not [outcome for outcome in found if outcome.startswith(("WRONG", "DIED"))], found
    assert found["refused"]
