"""GPTQ checkpoints of every writer and layout: read to the weights that they stand for, or refused with the cause."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gptqmodel")

from checkpoints import write_checkpoint, write_json
from gptq_folders import AUTOGPTQ, GPTQFolder, fields_packed, float_llama, write_gptq
from made_variants import KeysMaker
from qprof.errors import ModelError
from qprof.runtimes import base
from qprof.runtimes.torch_lm import packed
from qprof.runtimes.torch_lm.checkpoint import inspect, normalised, origin
from qprof.runtimes.torch_lm.load import load_module, quantized_layers

OPTIMUM = {"bits": 4, "group_size": 32, "desc_act": False, "sym": True, "quant_method": "gptq", "use_exllama": True}
GPTQMODEL = {"bits": 4, "group_size": 32, "desc_act": False, "sym": True, "quant_method": "gptq"}
GPTQMODEL |= {"checkpoint_format": "gptq", "meta": {"quantizer": ["gptqmodel:7.6.0"]}}
MARKED = {**AUTOGPTQ, "is_marlin_format": False, "quant_method": "gptq"}

#: What differs from `write_gptq`'s own, and which settings lie where.
LAYOUTS: dict[str, dict[str, Any]] = {
    "AutoGPTQ 0.4": {"beside": AUTOGPTQ, "name": "gptq_model-4bit-32g"},
    "AutoGPTQ 0.4 with biases": {"beside": AUTOGPTQ, "bias": True},
    "AutoGPTQ 0.7 in shards": {"beside": MARKED, "inside": MARKED, "name": "gptq_model-4bit-32g", "shards": 2},
    "AutoGPTQ in shards, settings beside alone": {"beside": AUTOGPTQ, "name": "gptq_model-4bit-128g", "shards": 3},
    "AutoGPTQ, act order": {"beside": {**AUTOGPTQ, "desc_act": True}, "moved": True},
    "AutoGPTQ, asymmetric": {"beside": {**AUTOGPTQ, "sym": False}, "sym": False},
    "AutoGPTQ 0.8, v2 and asymmetric": {
        "inside": {**MARKED, "sym": False, "checkpoint_format": "gptq_v2"},
        "layout": "gptq_v2",
        "sym": False,
    },
    "AutoGPTQ, 8 bits, a group per row": {"beside": {**AUTOGPTQ, "bits": 8, "group_size": -1}, "bits": 8, "group": -1},
    "AutoGPTQ, 2 bits": {"beside": {**AUTOGPTQ, "bits": 2}, "bits": 2},
    "without g_idx": {"beside": AUTOGPTQ, "order": False},
    "optimum": {"inside": OPTIMUM},
    "optimum, in shards": {"inside": OPTIMUM, "shards": 2},
    "optimum, asymmetric": {"inside": {**OPTIMUM, "sym": False}, "sym": False},
    "gptqmodel": {"inside": GPTQMODEL},
    "gptqmodel, v2 and asymmetric": {
        "inside": {**GPTQMODEL, "checkpoint_format": "gptq_v2", "sym": False},
        "layout": "gptq_v2",
        "sym": False,
    },
    "gptqmodel, v2": {"inside": {**GPTQMODEL, "checkpoint_format": "gptq_v2"}, "layout": "gptq_v2"},
}


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPROF_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return float_llama(tmp_path_factory.mktemp("float") / "llama")


def made(folder: Path, **keys: Any) -> base.Made:
    return KeysMaker(folder).make({"name": "v", "file": str(folder), **keys}, base.Calibration(lambda: [], ""))


def assert_weights(found: GPTQFolder, path: Path) -> None:
    """As loaded from `path`, every linear stands for what it was packed from, in the arithmetic of float16."""
    layers = quantized_layers(load_module(path, dtype="float16").module)
    assert layers.keys() == found.weights.keys()
    for name, expected in found.weights.items():
        weight = layers[name].dequantize_weight().T.float().numpy()
        np.testing.assert_allclose(weight, expected, rtol=2e-3, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_read_to_its_weights(llama: Path, tmp_path: Path, layout: str) -> None:
    found = write_gptq(llama, tmp_path / "m", **LAYOUTS[layout])
    before = {path.name: path.read_bytes() for path in found.path.iterdir()}
    variant = made(found.path)
    assert_weights(found, variant.path)
    assert variant.notes == [] and "layout" not in variant.run
    assert {path.name: path.read_bytes() for path in found.path.iterdir()} == before
    assert variant.bytes == sum(len(data) for name, data in before.items() if name.endswith(".safetensors"))


def test_weights_by_another_name_are_found(llama: Path, tmp_path: Path) -> None:
    folder = tmp_path / "renamed"
    folder.mkdir()
    for file in llama.iterdir():
        (folder / file.name.replace("model.safetensors", "llama-fp16.safetensors")).write_bytes(file.read_bytes())
    variant = made(folder)
    assert load_module(variant.path).dtype == "float16" and variant.path != folder
    assert origin(variant.path) == folder


def test_settings_that_do_not_fit_are_told_with_both_shapes(llama: Path, tmp_path: Path) -> None:
    name = "model.layers.0.mlp.down_proj"
    cases: list[tuple[Mapping[str, Any], Mapping[str, Any], str]] = [
        (
            {"bits": 8},
            {},
            r"qweight is int32\[16, 64\], and bits = 8 of its settings means int32\[32, 64\]; .*bits = 4:",
        ),
        ({"bits": 4}, {"bits": 8}, r"int32\[32, 64\], and bits = 4 .* int32\[16, 64\]; its tensors say bits = 8"),
        ({"group_size": 64}, {}, r"scales is float16\[4, 64\], and group_size = 64 .*\[2, 64\]; .*group_size = 32:"),
        ({"group_size": -1}, {}, r"scales is float16\[4, 64\], and group_size = -1 .*\[1, 64\]; .*group_size = 32:"),
        ({"group_size": 32}, {"group": -1}, r"scales is float16\[1, 64\], .* float16\[4, 64\]; .*group_size = -1:"),
    ]
    for number, (settings, stored, text) in enumerate(cases):
        found = write_gptq(llama, tmp_path / f"m{number}", beside={**AUTOGPTQ, **settings}, **stored)
        with pytest.raises(ModelError, match=text) as raised:
            made(found.path)
        said = str(raised.value)
        assert "\n" not in said and said.startswith(f"{found.path}: {name}.") and "cache" not in said


def test_mixed_widths_are_no_contradiction(llama: Path, tmp_path: Path) -> None:
    mixed = {**GPTQMODEL, "dynamic": {r"+:.*down_proj.*": {"bits": 8, "group_size": 64}, "-:.*q_proj.*": {}}}
    found = write_gptq(llama, tmp_path / "m", bits=8, group=64, inside=mixed)
    assert inspect(found.path).quantization is not None
    mixed["dynamic"].pop(r"+:.*down_proj.*")  # type: ignore[attr-defined]
    config = json.loads((found.path / "config.json").read_text())
    write_json(found.path / "config.json", {**config, "quantization_config": mixed})
    with pytest.raises(ModelError, match="bits = 4 of its settings means"):
        inspect(found.path)


def test_packed_weights_without_settings_and_settings_without_packed_weights(llama: Path, tmp_path: Path) -> None:
    bare = write_gptq(llama, tmp_path / "bare", name="llama7b-4bit-32g")
    with pytest.raises(
        ModelError, match=r'quantize_config.json with \{"quant_method": "gptq", "bits": 4, "group_size": 32'
    ):
        made(bare.path)
    plain = write_checkpoint(tmp_path / "plain", quantization_config=GPTQMODEL)
    with pytest.raises(ModelError, match=r"say GPTQ with 4 bits, and it has no packed weights \(no .qweight\)"):
        inspect(plain)


def test_columns_that_were_moved_are_seen_though_the_settings_deny_it(llama: Path, tmp_path: Path) -> None:
    found = write_gptq(llama, tmp_path / "m", beside=AUTOGPTQ, moved=True)
    variant = made(found.path)
    (note,) = variant.notes
    assert "desc_act = false, and the columns of model.layers.0.mlp.down_proj.g_idx do not lie in the order" in note
    assert variant.facts["desc_act"] is True
    assert json.loads((variant.path / "config.json").read_text())["quantization_config"]["desc_act"] is True
    assert_weights(found, variant.path)


@pytest.mark.parametrize(("stored", "said"), [("gptq_v2", "gptq"), ("gptq", "gptq_v2")])
@pytest.mark.parametrize("bits", [4, 8])
def test_zero_points_read_by_the_wrong_rule(llama: Path, tmp_path: Path, stored: str, said: str, bits: int) -> None:
    settings = {**GPTQMODEL, "bits": bits, "checkpoint_format": said}
    found = write_gptq(llama, tmp_path / "m", bits=bits, layout=stored, inside=settings)
    wrong = made(found.path)
    middle = 2 ** (bits - 1) - (stored == "gptq")
    (note,) = wrong.notes
    assert f"read as {said}, and all of its zero points are stored as {middle}" in note
    assert f"layout = '{stored}'" in note
    layers = quantized_layers(load_module(wrong.path, dtype="float16").module)
    name, expected = next(iter(found.weights.items()))
    off = layers[name].dequantize_weight().T.float().numpy() - expected
    assert (off < 0).all() if stored == "gptq_v2" else (off > 0).all()  # by one step, everywhere
    right = made(found.path, layout=stored)
    assert right.notes == [] and right.run["layout"] == stored and right.sha256 == wrong.sha256
    assert_weights(found, right.path)


def test_asymmetric_zero_points_do_not_tell_their_layout(llama: Path, tmp_path: Path) -> None:
    settings = {**GPTQMODEL, "sym": False, "checkpoint_format": "gptq_v2"}
    variant = made(write_gptq(llama, tmp_path / "m", layout="gptq_v2", sym=False, inside=settings).path)
    assert variant.facts["layout_of_zero_points"] is None and len(variant.facts["zero_points"]["values"]) > 1


def test_layout_is_for_gptq_alone(llama: Path) -> None:
    with pytest.raises(ModelError, match="layout says how GPTQ layers are read, and it has none"):
        made(llama, layout="gptq_v2")


@pytest.mark.parametrize(
    ("zeros", "spilled", "borrowed"),
    [([7] * 8, 0.0, 0.0), ([7, 15, 15, 15, 15, 15, 15, 15], 1.0, 0.0), ([7, 15, 6, 7, 7, 7, 7, 7], 0.0, 1.0)],
)
def test_zero_points_that_ran_over_when_they_were_stored(
    llama: Path, tmp_path: Path, zeros: list[int], spilled: float, borrowed: float
) -> None:
    from safetensors.numpy import save_file

    save_file({"a.qzeros": fields_packed(np.array([zeros]).T, 4)}, str(tmp_path / "z.safetensors"))
    found = packed.zero_points([tmp_path / "z.safetensors"], 4)
    assert found is not None
    assert (found.spilled, found.borrowed, found.values) == (spilled, borrowed, tuple(sorted(set(zeros))))


def test_failures_of_the_library_name_the_folder_that_was_given(llama: Path, tmp_path: Path) -> None:
    found = write_gptq(llama, tmp_path / "m", beside=AUTOGPTQ, name="gptq_model-4bit-32g")
    config = json.loads((found.path / "config.json").read_text())
    write_json(found.path / "config.json", {**config, "hidden_size": 96})
    copy = normalised(inspect(found.path))
    with pytest.raises(ModelError) as raised:
        load_module(copy)
    assert str(raised.value).startswith(f"{found.path}: cannot be loaded") and str(copy) not in str(raised.value)
