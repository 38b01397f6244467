"""AutoGPTQ in a process of its own, what it writes, and the same checkpoint run by it and by its successor."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from checkpoints import save_llama, write_checkpoint
from made_variants import KeysMaker
from qprof.errors import MissingExtraError, ModelError, ProfileError
from qprof.runtimes import base
from qprof.runtimes.torch_lm.autogptq import library
from qprof.runtimes.torch_lm.checkpoint import inspect
from qprof.runtimes.torch_lm.gptq import Settings
from qprof.runtimes.torch_lm.methods import autogptq, method_for
from qprof.runtimes.torch_lm.runtime import RUNTIME
from qprof.runtimes.torch_lm.sections import AutoGPTQCheckpointVariant, AutoGPTQVariant, TorchLMOptions

needs_autogptq = pytest.mark.skipif(importlib.util.find_spec("auto_gptq") is None, reason="auto_gptq is not installed")


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPROF_CACHE", str(tmp_path / "cache"))


def calibration() -> base.Calibration:
    return base.Calibration(lambda: ([np.random.default_rng(n).integers(2, 258, (1, 32))] for n in range(8)), "digest")


def logits(path: Path, **options: Any) -> NDArray[Any]:
    model = RUNTIME.load(path, TorchLMOptions(prompt_tokens=8, generated_tokens=2, **options))
    model.set_inputs([np.arange(2, 10)[None]])
    model.invoke()
    return model.outputs()[0][0]


def test_it_is_asked_for_by_name_alone(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m")
    for keys, section in (({"name": "gptq-4bit"}, AutoGPTQVariant), ({"file": str(folder)}, AutoGPTQCheckpointVariant)):
        assert RUNTIME.variant_section({**keys, "library": "autogptq"}) is section
        assert not issubclass(RUNTIME.variant_section(keys), section)
        assert method_for(keys).section is RUNTIME.variant_section({**keys, "library": "gptqmodel"})
    with pytest.raises(ModelError, match="is not quantized; AutoGPTQ runs GPTQ checkpoints alone"):
        RUNTIME.load(folder, TorchLMOptions(library="autogptq"))
    with pytest.raises(ModelError, match="AutoGPTQ chooses its kernel by itself"):
        RUNTIME.load(folder, TorchLMOptions(library="autogptq", kernel="torch"))
    with pytest.raises(ProfileError, match=r"unknown key variant\.kernel"):
        KeysMaker(folder).make({"name": "gptq-4bit", "library": "autogptq", "kernel": "torch"}, calibration())


def test_models_that_it_does_not_have(tmp_path: Path) -> None:
    config = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"}
    with pytest.raises(ModelError, match=r"AutoGPTQ has no qwen3; it has bloom, .*leave library out"):
        library.check(inspect(write_checkpoint(tmp_path / "new", **config)), 4, 64)
    odd = inspect(write_checkpoint(tmp_path / "odd", {"model.layers.0.a.weight": ("F32", (64, 172))}))
    with pytest.raises(
        ModelError, match=r"packs multiples of 32, and model\.layers\.0\.a has 172 inputs and 64 outputs"
    ):
        library.check(odd, 4, -1)


def test_without_it_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "auto_gptq" else object())
    maker = KeysMaker(write_checkpoint(tmp_path / "m"))
    with pytest.raises(
        MissingExtraError, match=r"library = 'autogptq' needs auto_gptq: pip install 'qprof\[autogptq\]'"
    ):
        maker.make({"name": "gptq-4bit", "library": "autogptq"}, calibration())


def test_a_process_that_dies_is_told_with_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autogptq, "__name__", "qprof.no_such_module")
    source = inspect(write_checkpoint(tmp_path / "m"))
    rows = [np.arange(4)]
    with pytest.raises(ModelError, match=r"AutoGPTQ quantizing to 4 bits died with exit code 1: .*No module named"):
        autogptq.quantize_in_process(source, tmp_path / "out", Settings(4), rows)


@needs_autogptq
def test_what_it_writes_runs_by_it_and_by_its_successor(tmp_path: Path) -> None:
    import torch

    initializers = [torch.nn.init.normal_, torch.nn.init.uniform_, torch.nn.init.kaiming_uniform_]
    source = save_llama(tmp_path / "llama")
    maker = KeysMaker(source)
    made = maker.make({"name": "gptq-8bit", "library": "autogptq"}, calibration())
    assert (made.tool, made.run["library"], made.facts["library"]) == ("autogptq", "autogptq", "autogptq")
    assert made.facts["bits"] == 8
    assert list(made.facts["losses"]) and set(made.facts["losses"]) == set(inspect(source).linears)
    settings = json.loads((made.path / "quantize_config.json").read_text())
    assert settings["is_marlin_format"] is False and "model_name_or_path" not in settings
    own = logits(made.path, **made.run)
    if importlib.util.find_spec("gptqmodel"):
        exact = logits(source)
        successor = maker.make({"name": "again", "file": str(made.path)}, calibration())
        assert "library" not in successor.run
        assert np.linalg.norm(logits(successor.path) - own) < 0.02 * np.linalg.norm(exact)
    exact = logits(made.path, library="autogptq", dtype="float32")
    assert np.linalg.norm(own - exact) < 0.03 * np.linalg.norm(exact)
    model = RUNTIME.load(made.path, TorchLMOptions(library="autogptq", dtype="float32"))
    assert (model.loaded.facts["kernel"], model.loaded.facts["quantized_layers"]) == ("qlinear_cuda_old", 14)
    assert [torch.nn.init.normal_, torch.nn.init.uniform_, torch.nn.init.kaiming_uniform_] == initializers
