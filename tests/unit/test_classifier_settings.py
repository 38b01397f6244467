"""Settings of a Hugging Face classifier's folder that say nothing an image can be prepared by: told in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from qprof.errors import ModelError
from qprof.runtimes.torch_export.huggingface import exported
from torch_networks import write_image_folder

_UNFIT = "no image is prepared by its preprocessor_config.json and config.json"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "net"
    write_image_folder(path)
    return path


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"size": {"height": "x", "width": 16}}, _UNFIT),
        ({"size": [[], 16]}, _UNFIT),
        ({"size": {"shortest_edge": float("inf")}}, _UNFIT),
        ({"size": {"height": None, "width": 16}}, _UNFIT),
        ({"image_mean": ["x", 0.4, 0.3]}, _UNFIT),
        ({"image_std": [None]}, _UNFIT),
        ({"rescale_factor": 0}, _UNFIT),
        ({"rescale_factor": [1]}, _UNFIT),
        ({"size": {"height": -16, "width": 16}}, r"says that it takes images of \[3, -16, 16\] \(channels, height"),
        ({"size": {"height": 2**40, "width": 2**20}}, "says that it takes images of"),
    ],
)
def test_settings_of_no_image(folder: Path, settings: dict[str, Any], told: str) -> None:
    file = folder / "preprocessor_config.json"
    before = file.read_text(encoding="utf-8")
    try:
        file.write_text(json.dumps({**json.loads(before), **settings}), encoding="utf-8")
        with pytest.raises(ModelError, match=told) as raised:
            exported(folder, tokens=4)
    finally:
        file.write_text(before, encoding="utf-8")
    assert str(folder) in str(raised.value) and "\n" not in str(raised.value)
