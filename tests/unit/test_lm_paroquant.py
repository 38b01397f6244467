"""ParoQuant on a tiny Llama: made once, loaded, and by kernel, form and plain products one and the same model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from lm_families import save_family  # noqa: E402
from made_variants import KeysMaker  # noqa: E402
from qprof.errors import ModelError  # noqa: E402
from qprof.runtimes import base  # noqa: E402
from qprof.runtimes.torch_lm import forms  # noqa: E402
from qprof.runtimes.torch_lm.forms import paroquant  # noqa: E402
from qprof.runtimes.torch_lm.model import CausalLM  # noqa: E402
from qprof.runtimes.torch_lm.runtime import RUNTIME  # noqa: E402
from qprof.runtimes.torch_lm.safetensors_header import StoredTensor  # noqa: E402
from qprof.runtimes.torch_lm.sections import TorchLMOptions  # noqa: E402

METHOD = {"name": "paroquant-4bit-g32", "epochs": 1}
LAYER = "model.layers.1.mlp.up_proj"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_family(tmp_path_factory.mktemp("paroquant") / "float", "llama")


@pytest.fixture(autouse=True)
def _cache(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPROF_CACHE", str(source.parent / "cache"))


def made(source: Path, **keys: Any) -> base.Made:
    random = np.random.default_rng(0)
    rows = [random.integers(2, 250, (1, 32)) for _ in range(4)]
    return KeysMaker(source).make({**METHOD, **keys}, base.Calibration(lambda: ([row] for row in rows), "random"))


def loaded(variant: base.Made) -> CausalLM:
    model = RUNTIME.load(variant.path, TorchLMOptions(**dict(variant.run)))
    assert isinstance(model, CausalLM)
    return model


def logits(model: CausalLM) -> Any:
    with torch.inference_mode():
        return model.module(input_ids=torch.arange(2, 18)[None]).logits.float()


def test_it_runs_as_the_weights_that_it_stands_for(source: Path) -> None:
    pytest.importorskip("gptqmodel")
    variant = made(source)
    model = loaded(variant)
    assert (model.loaded.facts["quantized_layers"], variant.facts["bits"], variant.facts["group_size"]) == (14, 4, 32)
    assert any("rotates the inputs in every inference" in note for note in model.loaded.notes)
    assert len(variant.facts["losses"]) == 14
    linear = model.module.get_submodule(LAYER)
    form = forms.form_of(linear)
    assert form is paroquant.FORM and form.scheme(linear) == "int4 weights rotated 8 times, group 32"
    weight = form.weight(linear).float()
    x = torch.randn(3, linear.in_features, dtype=torch.bfloat16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert (linear(x).float() - x.float() @ weight.T).norm() < 0.02 * (x.float() @ weight.T).norm()
    # Without the rotation the packed numbers are other weights: 4 bits are off by less.
    plain = CausalLM.load(source, TorchLMOptions(dtype="bfloat16")).module.get_submodule(LAYER).weight.float()
    unpack = form.unpack(linear)
    assert unpack is not None
    packed: Any = unpack()
    assert (weight - plain).norm() < 0.2 * plain.norm() < (packed.t().float() - plain).norm()
    stored = RUNTIME.stored(variant.path)
    assert stored is not None and sum(part.bytes for part in stored.parts) == stored.bytes
    dequantized = loaded(made(source, kernel="dequantized"))
    assert dequantized.loaded.facts["quantized_layers"] == 0
    assert (logits(dequantized) - logits(model)).norm() < 0.05 * logits(model).norm()


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"name": "paroquant-3bit"}, "ParoQuant with 3 bits: its layout holds 4 bits"),
        ({"dtype": "float32"}, "computes in float16 and bfloat16 only"),
        ({"name": "paroquant-4bit-g48"}, "group_size 48 does not fit the 128 in_features"),
        ({"skip_layers": ["lm_tail"]}, "skip_layers names 'lm_tail'"),
    ],
)
def test_what_does_not_fit_is_said_before_minutes_are_spent(source: Path, keys: Mapping[str, Any], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        made(source, **keys)


def test_a_checkpoint_of_it_is_told_by_its_rotations() -> None:
    def tensor(*shape: int) -> StoredTensor:
        return StoredTensor("int32", shape, 4)

    rotated = {"a.qweight": tensor(64, 4), "a.scales": tensor(2, 32), "a.theta": tensor(8, 32)}
    others = {"b.qweight": tensor(64, 4), "b.scales": tensor(2, 32), "c.weight": tensor(3, 3)}
    assert paroquant.FORM.linears([], rotated | others) == {"a": (64, 32)}
    assert paroquant.FORM.stored_as("a.theta") == ("a", "scales") and paroquant.FORM.stored_as("c.weight") is None
    settings = paroquant.FORM.settings({"bits": 4, "group_size": 128})
    assert (settings.bits, settings.group_size, settings.scheme, settings.sym) == (4, 128, "int4", True)
