"""A configuration that claims more than the files hold is refused while a library builds it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from checkpoints import save_llama, write_checkpoint, write_json
from made_variants import KeysMaker
from qprof.errors import ModelError
from qprof.runtimes import base
from qprof.runtimes.torch_export.huggingface import exported
from qprof.runtimes.torch_lm.build_bound import built_within, most_parameters, refuse_endless_counts
from qprof.runtimes.torch_lm.checkpoint import inspect
from qprof.runtimes.torch_lm.load import load_module
from unpacked_folders import COMPRESSED, quantized_llama, write_adapter

#: Enough to be told from a few too many, and few enough to be built in seconds where nothing stops it.
LAYERS = 300


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPROF_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    """A Llama of two layers that says it has many."""
    folder = save_llama(tmp_path / "deep")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    write_json(folder / "config.json", {**config, "num_hidden_layers": LAYERS})
    return folder


def assert_refused(error: ModelError, folder: Path) -> None:
    told = str(error)
    assert f"{folder}: its configuration claims more layers or experts than its files have weights of" in told
    assert "\n" not in told


def test_layers_that_are_not_stored_are_not_built(deep: Path) -> None:
    with pytest.raises(ModelError) as raised:
        load_module(deep)
    assert_refused(raised.value, deep)


@pytest.mark.parametrize("method", ["gptq-4bit", "bnb-nf4"])
def test_nothing_is_quantized_of_it(deep: Path, method: str) -> None:
    pytest.importorskip("gptqmodel" if method.startswith("gptq") else "bitsandbytes")
    calibration = base.Calibration(lambda: [[np.arange(64)]] * 2, "")
    with pytest.raises(ModelError) as raised:
        KeysMaker(deep).make({"name": method, "method": method}, calibration)
    assert_refused(raised.value, deep)


def test_no_adapter_is_merged_into_it(deep: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    write_adapter(tmp_path / "adapter", str(deep))
    with pytest.raises(ModelError) as raised:
        KeysMaker("").make({"name": "v", "file": str(tmp_path / "adapter")}, base.Calibration(lambda: [], ""))
    assert_refused(raised.value, deep)


@pytest.mark.parametrize(
    ("layers", "told"), [(LAYERS, "claims more layers or experts than its files"), (2**62, "which no model has")]
)
def test_a_checkpoint_that_is_unpacked_at_load(tmp_path: Path, layers: int, told: str) -> None:
    pytest.importorskip("compressed_tensors")
    folder = tmp_path / "packed"
    quantized_llama(folder, "compressed-tensors")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    settings = {"quant_method": "compressed-tensors", **COMPRESSED}
    write_json(folder / "config.json", {**config, "num_hidden_layers": layers, "quantization_config": settings})
    with pytest.raises(ModelError, match=told):
        load_module(folder)


@pytest.mark.parametrize(
    ("claimed", "told"),
    [
        ({"num_hidden_layers": LAYERS}, "claims more layers or experts than its files"),
        ({"num_labels": 2**62}, "no model"),
    ],
)
def test_a_classifier(tmp_path: Path, claimed: dict[str, int], told: str) -> None:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(vocab_size=16, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    BertForSequenceClassification(config).save_pretrained(str(tmp_path))
    stored = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    write_json(tmp_path / "config.json", {**stored, **claimed})
    with pytest.raises(ModelError, match=told):
        exported(tmp_path, tokens=4)


def test_the_bound_grows_with_the_files_and_ends_with_the_block(tmp_path: Path) -> None:
    import torch

    def build(count: int) -> list[Any]:
        return [torch.nn.Linear(1, 1, bias=False) for _ in range(count)]

    with built_within(tmp_path, 0):
        build(1000)
    with built_within(tmp_path, 100):
        build(2600)
    with pytest.raises(ModelError, match="they hold 100 parameters"), built_within(tmp_path, 100):
        build(2601)
    build(2601)
    folder = write_checkpoint(tmp_path / "folder")  # of four tensors
    with pytest.raises(ModelError, match="they hold 4 parameters"), built_within(folder):
        build(1065)


@pytest.mark.parametrize(
    ("shapes", "most"),
    [
        ([[64], [64, 64], []], 3),
        ([[128, 64, 64]], 128),  # experts in one piece
        ([[2**62, 0, 4], [0]], 1),  # sizes that stand for nothing
    ],
)
def test_what_tensors_can_fill(shapes: list[list[int]], most: int) -> None:
    assert most_parameters(shapes) == most


@pytest.mark.parametrize("value", [["llama"], {"a": 1}, 3, True])
def test_a_type_of_model_that_is_no_text(tmp_path: Path, value: Any) -> None:
    folder = write_checkpoint(tmp_path / "folder", model_type=value)
    with pytest.raises(ModelError, match=r"config\.json: its model_type is no text"):
        inspect(folder)


@pytest.mark.parametrize("key", ["num_hidden_layers", "n_layer", "num_labels", "n_routed_experts", "depth"])
@pytest.mark.parametrize("within", ["", "text_config"])
def test_a_count_that_no_model_has(tmp_path: Path, key: str, within: str) -> None:
    counted = {key: 100_001 if "lay" in key or key == "depth" else 10_000_001}
    folder = write_checkpoint(tmp_path / "folder", **({within: counted} if within else counted))
    with pytest.raises(ModelError, match=rf"config\.json: its {key} is above 10+, which no model has; write"):
        inspect(folder)


def test_numbers_that_may_be_large(tmp_path: Path) -> None:
    config = {"max_position_embeddings": 10**30, "max_window_layers": 10**9, "layers": [10**9], "n_params": 7 * 10**9}
    refuse_endless_counts(
        tmp_path, {**config, "num_hidden_layers": 100_000, "num_labels": 10_000_000, "rope_theta": 1e40}
    )
