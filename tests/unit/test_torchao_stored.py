"""Four-bit weights of torchao in qprof's own layout whose tensors do not fit the model: told when they are loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("torchao")
pytest.importorskip("accelerate")

from checkpoints import save_llama
from made_variants import KeysMaker
from qprof.errors import ModelError
from qprof.runtimes import base
from qprof.runtimes.torch_lm.load import load_module

METHOD = "torchao-int4-weight-only"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("torchao")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QPROF_CACHE", str(root / "cache"))
        maker = KeysMaker(save_llama(root / "source"))
        found = maker.make({"name": "v", "method": METHOD}, base.Calibration(lambda: [], ""))
        shutil.copytree(found.path, root / "folder")
    return root / "folder"


@pytest.mark.parametrize(
    ("operand", "told"),
    [
        ("weight_int4", r"weight_int4 of a linear is \[32, 128\], and has to be \[64, 64\]"),
        ("weight_scale_and_zero", r"weight_scale_and_zero of a linear is \[.*\], and has to be \[.*, 64, 2\]"),
    ],
)
def test_tensors_of_another_shape(made: Path, tmp_path: Path, operand: str, told: str) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(made, folder)
    file = folder / "model.safetensors"
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    entry = header[f"model.layers.0.self_attn.q_proj.{operand}"]
    first, second, *others = entry["shape"]
    entry["shape"] = [first // 2, second * 2, *others] if first > 1 else [first * 2, second // 2, *others]
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
    with pytest.raises(ModelError, match=told) as raised:
        load_module(folder)
    assert "\n" not in str(raised.value)


def test_as_it_was_made(made: Path) -> None:
    assert load_module(made).facts["quantized_layers"] == 14
