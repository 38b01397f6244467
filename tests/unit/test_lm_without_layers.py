"""Decoder layers cut out of a checkpoint: what is left computes what the model without them does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from lm_families import save_family  # noqa: E402
from qprof.errors import ModelError  # noqa: E402
from qprof.record.manifest import VariantEntry  # noqa: E402
from qprof.runtimes.interventions import Impossible  # noqa: E402
from qprof.runtimes.torch_lm.interventions import TorchLMInterventions  # noqa: E402
from qprof.runtimes.torch_lm.load import load_module  # noqa: E402
from qprof.runtimes.torch_lm.without_layers import without_layers  # noqa: E402

LAYERS = 5


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPROF_CACHE", str(tmp_path / "cache"))


def module_of(folder: Path) -> Any:
    return load_module(folder, dtype="float32").module


def logits(module: Any) -> Any:
    with torch.inference_mode():
        return module(input_ids=torch.arange(2, 18)[None], use_cache=False).logits


def layers_of(module: Any) -> tuple[str, Any]:
    """The list of decoder layers and its name."""
    lists = ((name, found) for name, found in module.named_modules() if isinstance(found, torch.nn.ModuleList))
    return next((name, found) for name, found in lists if len(found) == LAYERS)


def names_in(module: Any, of: str, numbers: set[int]) -> set[str]:
    wanted = tuple(f"{of}.{number}" for number in numbers)
    return {name for name, _ in module.named_modules() if name.startswith(tuple(f"{one}." for one in wanted))} | set(
        wanted
    )


@pytest.mark.parametrize(
    ("family", "count"), [("llama", "num_hidden_layers"), ("gpt2", "n_layer"), ("gemma3", "num_hidden_layers")]
)
@pytest.mark.parametrize("gone", [{1}, {3, 4}])
def test_the_rest_computes_what_the_model_without_them_does(
    tmp_path: Path, family: str, count: str, gone: set[int]
) -> None:
    own_types = {"layer_types": None} if family == "gemma3" else {}
    folder = save_family(tmp_path / family, family, **{count: LAYERS, **own_types})
    whole = module_of(folder)
    of, layers = layers_of(whole)
    cut = module_of(without_layers(folder, names_in(whole, of, gone)))
    assert len(layers_of_length(cut, LAYERS - len(gone))) == LAYERS - len(gone)
    if family != "gemma3":  # its layers are of two kinds, by their number
        for number in sorted(gone, reverse=True):
            del layers[number]
        setattr(whole.config, count, LAYERS - len(gone))
        torch.testing.assert_close(logits(cut), logits(whole))
    assert not torch.equal(logits(cut), logits(module_of(folder)))


def layers_of_length(module: Any, length: int) -> Any:
    return next(m for m in module.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == length)


def test_less_than_a_layer_is_refused_in_one_line(tmp_path: Path) -> None:
    folder = save_family(tmp_path / "llama", "llama", num_hidden_layers=LAYERS)
    module = module_of(folder)
    of, _ = layers_of(module)
    part = {name for name in names_in(module, of, {2}) if not name.endswith("down_proj")}
    for names, message in (
        (part, "down_proj would stay"),
        ({"lm_head"}, "is in no layer"),
        (names_in(module, of, set(range(LAYERS))), "leave some in"),
    ):
        with pytest.raises(ModelError, match=message) as raised:
            without_layers(folder, names)
        assert "\n" not in str(raised.value)


def test_the_variant_runs_the_shorter_model_as_it_ran_the_whole(tmp_path: Path) -> None:
    folder = save_family(tmp_path / "llama", "llama", num_hidden_layers=LAYERS)
    module = module_of(folder)
    of, _ = layers_of(module)
    entry = VariantEntry(
        name="deep", path=str(folder), section={"name": "deep", "file": str(folder)}, options={"dtype": "bfloat16"}
    )
    after = TorchLMInterventions().bypassed(entry, names_in(module, of, {4}))
    assert not isinstance(after, Impossible) and after["dtype"] == "bfloat16"
    config = json.loads((Path(after["file"]) / "config.json").read_text(encoding="utf-8"))
    assert config["num_hidden_layers"] == LAYERS - 1
    refused = TorchLMInterventions().bypassed(entry, {"lm_head"})
    assert isinstance(refused, Impossible) and "cannot be cut out" in refused.reason
