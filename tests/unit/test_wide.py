"""Real tiny models whose numbers leave float16, and float32 from a module on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from checkpoints import save_llama
from qprof.errors import ModelError
from qprof.record.manifest import VariantEntry
from qprof.runtimes.interventions import Impossible

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from qprof.runtimes.torch_lm.model import CausalLM  # noqa: E402
from qprof.runtimes.torch_lm.other_forms import computing_in, wide_from  # noqa: E402
from qprof.runtimes.torch_lm.sections import TorchLMOptions  # noqa: E402
from qprof.runtimes.torch_lm.wide import load_wide, widen  # noqa: E402

TOKENS = np.arange(2, 26, dtype=np.int64)[None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama whose second MLP computes with numbers of up to a million: beyond float16, whose largest is 65504."""
    from safetensors.torch import load_file, save_file

    made = save_llama(tmp_path_factory.mktemp("llama"))
    file = made / "model.safetensors"
    tensors = load_file(file)
    tensors["model.layers.1.mlp.up_proj.weight"] *= 2e6
    tensors["model.layers.1.mlp.down_proj.weight"] /= 1e3
    tensors["model.layers.1.mlp.up_proj.weight"].clamp_(-6e4, 6e4)
    save_file(tensors, file, metadata={"format": "pt"})
    return made


def logits(model: CausalLM) -> Any:
    return model.target_logits(TOKENS, [1])


def test_from_the_block_on_it_is_finite_and_near_float32(folder: Path) -> None:
    reference = logits(CausalLM.load(folder, TorchLMOptions(dtype="float32")))
    assert not torch.isfinite(logits(CausalLM.load(folder, TorchLMOptions(dtype="float16")))).all()
    wide = load_wide(folder, TorchLMOptions(dtype="float16", wide_from="model.layers.1.mlp"))
    found = logits(wide)
    assert torch.isfinite(found).all() and found.dtype == torch.float32
    assert (found - reference).norm() / reference.norm() < 0.02
    assert "from model.layers.1.mlp on, compute in float32" in wide.loaded.notes[-1]
    # What stands before is as it was, the embedding as well, whose numbers the output layer shares.
    before = wide.module.model
    assert before.layers[0].mlp.up_proj.weight.dtype == before.embed_tokens.weight.dtype == torch.float16
    assert wide.module.lm_head.weight.dtype == before.layers[1].mlp.down_proj.weight.dtype == torch.float32


def test_it_decodes_too(folder: Path) -> None:
    options = TorchLMOptions(dtype="float16", wide_from="model.layers.1.mlp", prompt_tokens=4, generated_tokens=2)
    model = load_wide(folder, options)
    model.enter("decode")
    model.set_inputs([np.ones((1, 4), np.int64)])
    model.invoke()
    assert np.isfinite(model.outputs()[0]).all()


def test_a_module_that_is_not_there_is_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"runs no module 'model\.layers\.9'"):
        widen(CausalLM.load(folder, TorchLMOptions(dtype="float16")).module, "model.layers.9")


def entry(**changes: Any) -> VariantEntry:
    section = {"name": "a", "file": "/x", **changes.pop("section", {})}
    return VariantEntry(name="a", path="/x", section=section, options={"dtype": "float16", **changes})


def test_sections_of_other_types() -> None:
    section = wide_from(entry(), "model.layers.1.mlp")
    assert not isinstance(section, Impossible)
    assert section["wide_from"] == "model.layers.1.mlp" and section["dtype"] == "float16" and section["file"] == "/x"
    packed = wide_from(entry(kernel="torch"), "model.layers.1.mlp")
    assert not isinstance(packed, Impossible) and packed["dtype"] == "bfloat16" and "wide_from" not in packed
    made = computing_in(entry(section={"file": "", "method": "float16"}), "bfloat16")
    assert not isinstance(made, Impossible) and made["method"] == "bfloat16"
    for one, dtype in (
        (entry(), "float16"),
        (entry(kernel="torch"), "float32"),
        (entry(section={"library": "autogptq"}), "float32"),
    ):
        assert isinstance(computing_in(one, dtype), Impossible)
