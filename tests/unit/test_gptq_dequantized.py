"""Quantized linears unpacked once: the numbers are those of the kernel that unpacks in every inference."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from checkpoints import save_llama  # noqa: E402
from lm_layers import PackedLinear, loaded, packed_llama, prompt  # noqa: E402
from made_variants import KeysMaker  # noqa: E402
from qprof.record.model import Model  # noqa: E402
from qprof.runtimes import base  # noqa: E402
from qprof.runtimes.torch_lm.checkpoint import inspect  # noqa: E402
from qprof.runtimes.torch_lm.dequantized import dequantize_linears  # noqa: E402
from qprof.runtimes.torch_lm.model import PREFILL, CausalLM  # noqa: E402
from qprof.runtimes.torch_lm.profiled import ProfiledCausalLM  # noqa: E402
from qprof.runtimes.torch_lm.runtime import RUNTIME  # noqa: E402
from qprof.runtimes.torch_lm.sections import TorchLMOptions  # noqa: E402

needs_gptqmodel = pytest.mark.skipif(importlib.util.find_spec("gptqmodel") is None, reason="gptqmodel is not installed")

CALIBRATION = base.Calibration(
    lambda: ([np.random.default_rng(n).integers(2, 258, (1, 32))] for n in range(8)), "digest"
)


def logits(model: Model) -> NDArray[Any]:
    model.set_inputs([np.arange(2, 10)[None]])
    model.invoke()
    return model.outputs()[0]


def packed_layers(model: Any) -> dict[str, Any]:
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, PackedLinear)}


def run(module: Any) -> NDArray[Any]:
    model = loaded(module)
    model.set_inputs(prompt())
    model.invoke()
    return model.outputs()[0]


def test_the_same_product_of_the_same_weights() -> None:
    model = packed_llama()
    wanted, packed = run(model), packed_layers(model)
    assert len(packed) == 14
    dequantize_linears(model, packed, torch.float32)
    assert np.array_equal(run(model), wanted)
    assert not packed_layers(model)
    plain = model.model.layers[0].mlp.up_proj
    assert type(plain) is torch.nn.Linear and (plain.in_features, plain.out_features) == (32, 48)
    assert plain.weight.shape == (48, 32) and not plain.weight.requires_grad


def test_a_bias_stays() -> None:
    linear = torch.nn.Linear(8, 4)
    packed = torch.nn.Sequential(PackedLinear(linear))
    x = torch.randn(3, 8)
    wanted = packed(x)
    dequantize_linears(packed, {"0": packed[0]}, torch.float32)
    assert torch.equal(packed[0].bias, linear.bias)
    assert torch.allclose(packed(x), wanted, atol=1e-6)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dequantized")


@pytest.fixture(autouse=True)
def _cache(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPROF_CACHE", str(root / "cache"))


@pytest.fixture(scope="module")
def llama(root: Path) -> Path:
    return save_llama(root / "llama")


def load(made: base.Made) -> CausalLM:
    options = TorchLMOptions(prompt_tokens=8, generated_tokens=2, **made.run)
    model = RUNTIME.load(made.path, options)
    assert isinstance(model, CausalLM)
    return model


@needs_gptqmodel
@pytest.mark.parametrize("keys", [{"bits": 2}, {"bits": 3}, {"bits": 4, "desc_act": True}])
def test_gptqmodels_checkpoints(llama: Path, keys: dict[str, Any]) -> None:
    maker = KeysMaker(llama)
    section = {"name": "v", "method": "gptq", **keys}
    packed = maker.make(section, CALIBRATION)
    unpacked = maker.make({**section, "kernel": "dequantized"}, CALIBRATION)
    assert unpacked.path == packed.path  # one checkpoint, loaded in two ways
    model = load(unpacked)
    assert np.array_equal(logits(model), logits(load(packed)))
    plain = load(maker.make({"name": "bfloat16"}, CALIBRATION))
    facts = model.loaded.facts
    assert (facts["kernel"], facts["quantized_layers"]) == ("dequantized", 0)
    assert model.memory_bytes() == plain.memory_bytes() == {"footprint": facts["footprint_bytes"]}
    assert facts["parameters"] == plain.loaded.facts["parameters"]
    assert any("keeps all weights unpacked" in note for note in model.loaded.notes)


@needs_gptqmodel
def test_no_op_dequantizes_any_more(llama: Path) -> None:
    made = KeysMaker(llama).make({"name": "gptq-2bit", "kernel": "dequantized"}, CALIBRATION)
    profiled = ProfiledCausalLM(load(made))
    profiled.set_inputs([np.arange(2, 10)[None]])
    ops = [op for op in profiled.discover() if op.phase == PREFILL]
    linears = [op for op in ops if op.type == "Linear"]
    assert len(linears) == 15  # the model's head too
    assert {op.kernel for op in linears} == {"torch.nn.Linear"} and not any(op.quantization for op in ops)
    assert not [op for op in ops if op.type == "dequantize"]


@needs_gptqmodel
def test_a_checkpoint_in_autogptqs_words(llama: Path, tmp_path: Path) -> None:
    maker = KeysMaker(llama)
    made = maker.make({"name": "gptq-2bit"}, CALIBRATION)
    folder = tmp_path / "old"
    folder.mkdir()
    for file in made.path.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    settings = {"bits": 2, "group_size": 64, "desc_act": False, "sym": True, "quant_method": "gptq"}
    settings |= {"is_marlin_format": False, "model_name_or_path": "/x", "model_file_base_name": "gptq_model-2bit-64g"}
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": settings}))
    (folder / "quantize_config.json").write_text(json.dumps(settings))
    (folder / "model.safetensors").rename(folder / "gptq_model-2bit-64g.safetensors")
    assert inspect(folder).quantization is not None
    old = maker.make({"name": "old", "file": str(folder), "kernel": "dequantized"}, CALIBRATION)
    assert np.array_equal(logits(load(old)), logits(load(made)))
