"""Size rows of a checkpoint that was really quantized: the embedded language model, by GPTQ to 4 bits."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from made_variants import KeysMaker
from qprof.findings.size import size_difference
from qprof.measure.models import model_path
from qprof.record.manifest import VariantEntry
from qprof.runtimes.base import Calibration
from qprof.runtimes.torch_lm.runtime import RUNTIME


def samples() -> Iterator[Sequence[NDArray[Any]]]:
    random = np.random.default_rng(3)
    for _ in range(12):
        yield [random.integers(2, 258, (1, 32))]


@pytest.mark.skipif(importlib.util.find_spec("gptqmodel") is None, reason="gptqmodel is not installed")
def test_the_embedded_model_in_four_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPROF_CACHE", str(tmp_path))
    from safetensors import safe_open

    maker = KeysMaker(model_path("embedded:passages_lm"))
    made = [maker.make({"name": name}, Calibration(samples, "digest")) for name in ("bfloat16", "gptq-4bit")]
    entries, weights = [], []
    for one in made:
        stored = RUNTIME.stored(one.path)
        assert stored is not None and sum(part.bytes for part in stored.parts) == stored.bytes
        assert one.bytes == sum(p.bytes for p in stored.parts if p.kind in ("tensor", "scales", "structure"))
        entries.append(VariantEntry(name=one.path.name, sha256=one.sha256, stored=stored))
        found = {}
        for file in one.path.glob("*.safetensors"):
            with safe_open(file, "pt") as opened:
                for name in opened.keys():  # noqa: SIM118
                    found[name] = opened.get_tensor(name).nbytes
        weights.append(found)
    plain, packed = weights
    found_rows = size_difference(*entries)
    rows = {row.what: row for row in found_rows.rows}
    assert sum(row.delta_bytes for row in found_rows.rows) == found_rows.delta_bytes
    linears = [name.removesuffix(".qweight") for name in packed if name.endswith(".qweight")]
    changed = rows["bfloat16 -> int4"]
    assert changed.a_bytes == sum(plain[f"{name}.weight"] for name in linears)
    assert changed.b_bytes == sum(packed[f"{name}.qweight"] for name in linears)
    ends = (".scales", ".qzeros", ".g_idx")
    assert rows["scales and zero points"].b_bytes == sum(size for name, size in packed.items() if name.endswith(ends))
    left = [part for what in rows if "left in" in what or "-> float16" in what for part in rows[what].parts]
    embedding = next(part for part in left if part.name == "model.embed_tokens.weight")
    assert embedding.b_bytes == packed["model.embed_tokens.weight"] and "GPTQ" in embedding.why
