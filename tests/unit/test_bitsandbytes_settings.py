"""Folders of bitsandbytes whose settings are not what their weights are: told when they are loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("bitsandbytes")
pytest.importorskip("accelerate")

from checkpoints import save_llama, write_json
from made_variants import KeysMaker
from qprof.errors import ModelError
from qprof.runtimes import base
from qprof.runtimes.torch_lm.load import load_module


@pytest.mark.parametrize("method", ["bnb-nf4", "bnb-int8"])
def test_a_layer_that_is_stored_in_float_and_not_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setenv("QPROF_CACHE", str(tmp_path / "cache"))
    made = KeysMaker(save_llama(tmp_path / "source")).make(
        {"name": method, "method": method}, base.Calibration(lambda: [], "")
    )
    folder = tmp_path / "folder"
    shutil.copytree(made.path, folder)
    assert load_module(folder).facts["quantized_layers"] == 14
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    settings = {**config["quantization_config"], "llm_int8_skip_modules": ["nothing"]}
    write_json(folder / "config.json", {**config, "quantization_config": settings})
    with pytest.raises(
        ModelError, match=r"have lm_head quantized by bitsandbytes, and it is stored in float"
    ) as raised:
        load_module(folder)
    assert str(folder) in str(raised.value) and "\n" not in str(raised.value)
