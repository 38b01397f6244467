"""Numbers of a packed weight whose rows do not fill its words."""

from __future__ import annotations

from pathlib import Path

from checkpoints import float_tensors, write_checkpoint
from qprof.findings.size import size_difference
from qprof.record.manifest import VariantEntry
from qprof.runtimes.torch_lm.parts import stored_files

ROWS, COLUMNS = 172, 64


def test_a_padded_weight_is_the_same_as_the_float_one(tmp_path: Path) -> None:
    """172 rows of 4 bits take 22 words of 8, which hold 176: another count of numbers, and yet the same layer."""
    module = "model.layers.0.mlp.down_proj"
    packed = {
        f"{module}.qweight": ("I32", [22, COLUMNS]),
        f"{module}.qzeros": ("I32", [1, 8]),
        f"{module}.scales": ("F16", [1, COLUMNS]),
        f"{module}.g_idx": ("I32", [ROWS]),
        "model.embed_tokens.weight": ("F32", [100, 64]),
    }
    settings = {"bits": 4, "group_size": -1, "desc_act": False, "sym": True, "quant_method": "gptq"}
    settings |= {"checkpoint_format": "gptq"}
    plain = write_checkpoint(tmp_path / "plain", float_tensors(inner=ROWS))
    four = write_checkpoint(tmp_path / "four", packed, quantization_config=settings)
    a, b = (VariantEntry(name=path.name, bytes=1, stored=stored_files(path)) for path in (plain, four))
    (weight,) = [part for part in (b.stored.parts if b.stored else []) if part.name.endswith("qweight")]
    assert weight.elements == ROWS * COLUMNS
    rows = {row.what: row for row in size_difference(a, b).rows}
    assert [part.name for part in rows["float32 -> int4"].parts] == [f"{module}.qweight"]
    assert all(module not in part.name for part in rows["only in plain"].parts)
