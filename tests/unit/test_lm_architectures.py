"""What of a checkpoint's folder decides how, and whether, it is run: its class, its settings, its own code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from lm_families import save_family  # noqa: E402
from qprof.errors import ModelError  # noqa: E402
from qprof.runtimes.torch_lm.checkpoint import inspect  # noqa: E402
from qprof.runtimes.torch_lm.experts import unseen_experts  # noqa: E402
from qprof.runtimes.torch_lm.from_baseline import PatchedCausalLM  # noqa: E402
from qprof.runtimes.torch_lm.load import load_module  # noqa: E402
from qprof.runtimes.torch_lm.model import DECODE, CausalLM  # noqa: E402
from qprof.runtimes.torch_lm.observe import Layer, Observation  # noqa: E402
from qprof.runtimes.torch_lm.sections import TorchLMOptions  # noqa: E402
from qprof.runtimes.torch_lm.text_config import text_alone  # noqa: E402


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPROF_CACHE", str(tmp_path / "cache"))


def change_config(folder: Path, **changed: Any) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, **changed}), encoding="utf-8")


def logits(folder: Path) -> Any:
    module = load_module(folder, dtype="float32").module
    with torch.inference_mode():
        return module(input_ids=torch.arange(2, 20)[None]).logits


def test_an_encoder_is_refused(tmp_path: Path) -> None:
    folder = save_family(tmp_path / "bert", "bert_decoder", is_decoder=False)
    with pytest.raises(ModelError, match="BertLMHeadModel is an encoder as it is set") as raised:
        load_module(folder)
    assert "\n" not in str(raised.value)


def test_a_setting_that_the_architecture_does_not_read_refuses_nothing(tmp_path: Path) -> None:
    folder = save_family(tmp_path / "gpt_neox", "gpt_neox")
    assert json.loads((folder / "config.json").read_text(encoding="utf-8"))["is_decoder"] is False
    assert logits(folder).shape[1] == 18


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"vocab_size": 5, "pad_token_id": 0}, "BertLMHeadModel is an encoder as it is set"),
        ({"max_position_embeddings": 4}, "six tokens cannot be run: "),
    ],
)
def test_an_encoder_that_takes_few_tokens(tmp_path: Path, changed: dict[str, int], told: str) -> None:
    folder = save_family(tmp_path / "bert", "bert_decoder", is_decoder=False, **changed)
    with pytest.raises(ModelError, match=told) as raised:
        load_module(folder)
    assert str(folder) in str(raised.value) and "\n" not in str(raised.value)


def test_an_encoder_with_a_decoder_is_refused(tmp_path: Path) -> None:
    folder = save_family(tmp_path / "t5", "llama")
    change_config(folder, architectures=["T5ForConditionalGeneration"], model_type="t5")
    with pytest.raises(ModelError, match="T5ForConditionalGeneration is no causal language model") as raised:
        inspect(folder)
    assert "\n" not in str(raised.value)


def test_code_of_its_own_is_left_alone_where_transformers_has_the_class(tmp_path: Path) -> None:
    folder = save_family(tmp_path / "phi3", "phi3")
    wanted = logits(folder)
    (folder / "modeling_phi3.py").write_text("raise SystemExit('this was run')\n", encoding="utf-8")
    change_config(
        folder,
        auto_map={"AutoConfig": "modeling_phi3.Phi3Config", "AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"},
    )
    assert torch.equal(logits(folder), wanted)
    change_config(folder, architectures=["Phi3ForSomethingCausalLM"])
    with pytest.raises(ModelError, match=r"wants Python code of its own to be run \(auto_map\)"):
        inspect(folder)


def test_the_text_part_of_a_model_for_pictures(tmp_path: Path) -> None:
    folder = save_family(tmp_path / "gemma3", "gemma3")
    wanted = logits(folder)
    assert text_alone(inspect(folder)) == folder
    change_config(folder, model_type="gemma3", architectures=["Gemma3ForConditionalGeneration"])
    assert torch.equal(logits(folder), wanted)
    config = json.loads((text_alone(inspect(folder)) / "config.json").read_text(encoding="utf-8"))
    assert (config["model_type"], config["architectures"]) == ("gemma3_text", ["Gemma3ForCausalLM"])


def test_experts_that_no_token_picked_are_known_by_their_siblings() -> None:
    names = [
        "mlp.experts.0.up_proj",
        "mlp.experts.1.up_proj",
        "mlp.experts.1.act_fn",
        "other.experts.1.up_proj",
        "norm",
    ]
    layers = [Layer(name, None, contains=False) for name in names]
    seen = {0: Observation(inputs=("float32[6,4]",), calls=3, rows=6, outside_bytes=30, macs=9)}
    found = unseen_experts(layers, seen)
    assert list(found) == [1]
    assert (found[1].calls, found[1].rows, found[1].outside_bytes, found[1].macs) == (0, 2, 10, 3)


@pytest.mark.parametrize("name", ["mistral_window", "recurrent_gemma", "openai_gpt"])
def test_a_patched_model_decodes_with_a_state_that_cannot_be_cut(name: str, tmp_path: Path) -> None:
    folder = save_family(tmp_path / name, name)
    options = TorchLMOptions(batch=1, prompt_tokens=12, generated_tokens=3)
    modules = [load_module(folder, dtype="float32").module for _ in range(2)]
    with torch.no_grad():
        next(iter(modules[0].parameters())).add_(1.0)
    head = "lm_head" if hasattr(modules[0], "lm_head") else "head"
    model = PatchedCausalLM(modules[0], None, options)
    model.patch(modules[1], {head: head})
    plain = CausalLM(load_module(folder, dtype="float32").module, None, options)
    given = np.arange(2, 14)[None]
    found = []
    for one in (model, plain):
        one.enter(DECODE)
        found.append([])
        for _ in range(7):
            one.set_inputs([given])
            one.invoke()
            found[-1].append(one.outputs()[0])
    assert all(np.array_equal(mine, wanted) for mine, wanted in zip(*found, strict=True))
    assert all(np.array_equal(found[0][step], found[0][step % 3]) for step in range(7))
