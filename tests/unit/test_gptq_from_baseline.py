"""Parts of the baseline in a language model's variant: weights of linears, and outputs of modules."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from checkpoints import save_llama  # noqa: E402
from lm_layers import OPTIONS, llama, loaded, packed_llama, prompt  # noqa: E402
from made_variants import KeysMaker  # noqa: E402
from qprof.errors import ModelError, ProfileError  # noqa: E402
from qprof.measure.profile_file import load_profile  # noqa: E402
from qprof.record.manifest import VariantEntry  # noqa: E402
from qprof.record.model import Model  # noqa: E402
from qprof.record.sections import ModelSection, ProtocolSection  # noqa: E402
from qprof.runtimes import base  # noqa: E402
from qprof.runtimes.interventions import Impossible, Section  # noqa: E402
from qprof.runtimes.torch_lm.from_baseline import PatchedCausalLM, put_weights  # noqa: E402
from qprof.runtimes.torch_lm.model import DECODE, PREFILL, CausalLM  # noqa: E402
from qprof.runtimes.torch_lm.runtime import RUNTIME  # noqa: E402
from qprof.runtimes.torch_lm.sections import CheckpointVariant, FromBaseline, TorchLMOptions  # noqa: E402

needs_gptqmodel = pytest.mark.skipif(importlib.util.find_spec("gptqmodel") is None, reason="gptqmodel is not installed")

DOWN, UP = "model.layers.1.mlp.down_proj", "model.layers.1.mlp.up_proj"
LAST = "model.layers.1"

CALIBRATION = base.Calibration(
    lambda: ([np.random.default_rng(n).integers(2, 258, (1, 32))] for n in range(8)), "digest"
)


def logits(model: Model, seed: int = 0) -> NDArray[Any]:
    model.set_inputs(prompt(seed))
    model.invoke()
    return model.outputs()[0]


def patched(variant: Any, theirs: Any, names: Mapping[str, str]) -> PatchedCausalLM:
    model = PatchedCausalLM(variant, None, OPTIONS)
    model.patch(theirs, names)
    return model


def rough() -> Any:
    """The small Llama, packed, with a linear that is far from what it was."""
    module = packed_llama()
    module.get_submodule(UP).scales.mul_(3)
    return module


# -- on modules made by hand ----------------------------------------------------------------------------------------


def test_the_last_layers_output_decides_all() -> None:
    reference, spoiled = logits(loaded(llama())), logits(loaded(rough()))
    assert not np.allclose(reference, spoiled, atol=1e-3)
    np.testing.assert_array_equal(logits(patched(rough(), llama(), {LAST: LAST})), reference)


def test_what_is_beside_a_patched_module_is_the_variants_own() -> None:
    """The spoiled up_proj healed alone: the packed weights of the others remain."""
    healed = logits(patched(rough(), llama(), {UP: UP}))
    sound, spoiled, reference = (logits(loaded(module)) for module in (packed_llama(), rough(), llama()))
    assert not np.array_equal(healed, reference)
    assert np.abs(healed - sound).max() < np.abs(spoiled - sound).max() / 20


def test_decoding_goes_on_as_the_baseline() -> None:
    """Token after token, and anew behind the same prompt, where both caches have to be cropped."""
    models = loaded(llama()), patched(rough(), llama(), {LAST: LAST})
    steps: list[list[NDArray[Any]]] = [[], []]
    for model, found in zip(models, steps, strict=True):
        model.enter(DECODE)
        for _ in range(2 * OPTIONS.generated_tokens + 1):
            model.set_inputs(prompt(3))
            model.invoke()
            found.append(model.outputs()[0])
        model.enter(PREFILL)
        found.append(logits(model, 4))
    for mine, its in zip(*steps, strict=True):
        np.testing.assert_allclose(mine, its, atol=1e-6)


def test_scoring_sees_the_baselines_output() -> None:
    tokens = np.random.default_rng(0).integers(0, 50, (3, 9))
    reference = loaded(llama()).target_logits(tokens, [2, 5, 8])
    found = patched(rough(), llama(), {LAST: LAST}).target_logits(tokens, [2, 5, 8])
    assert torch.equal(found, reference)
    assert not torch.allclose(loaded(rough()).target_logits(tokens, [2, 5, 8]), reference, atol=1e-3)


def test_the_head_can_be_patched() -> None:
    np.testing.assert_array_equal(logits(patched(rough(), llama(), {"lm_head": "lm_head"})), logits(loaded(llama())))


def test_what_the_baseline_does_to_an_output_later_is_not_taken() -> None:
    theirs = llama()
    model = patched(rough(), theirs, {LAST: LAST})
    theirs.get_submodule(LAST).register_forward_hook(lambda _, __, result: result.zero_())
    np.testing.assert_array_equal(logits(model), logits(loaded(llama())))


def test_outputs_in_another_type() -> None:
    half = rough().to(torch.bfloat16)
    found = patched(half, llama(), {LAST: LAST})
    assert np.abs(logits(found) - logits(loaded(llama()))).max() < 0.02
    assert found.module.dtype == torch.bfloat16


def test_an_attentions_output_is_a_tuple() -> None:
    attention = "model.layers.0.self_attn"
    spoiled = llama()
    spoiled.get_submodule(attention).o_proj.weight.data.mul_(3)
    np.testing.assert_array_equal(logits(patched(spoiled, llama(), {attention: attention})), logits(loaded(llama())))


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ({"model.layers.7": LAST}, r"has no module 'model.layers.7'"),
        ({LAST: "model.layers.7"}, r"has no module 'model.layers.7'"),
        ({UP: DOWN}, r"gives a tensor \[1, 6, 48\], the baseline's a tensor \[1, 6, 32\]"),
        ({UP: "model.layers.1.self_attn"}, "the baseline's a tuple"),
    ],
)
def test_outputs_that_do_not_fit_are_told(names: dict[str, str], told: str) -> None:
    with pytest.raises(ModelError, match=told):
        logits(patched(rough(), llama(), names))


def test_weights_of_all_linears_make_it_the_baseline() -> None:
    module = rough()
    names = [f"model.layers.{n}.{name}" for n in range(2) for name in _LINEARS]
    put_weights(module, llama(), {name: name for name in names}, torch.float32)
    np.testing.assert_array_equal(logits(loaded(module)), logits(loaded(llama())))


_LINEARS = [f"self_attn.{part}_proj" for part in "qkvo"] + [f"mlp.{part}_proj" for part in ("gate", "up", "down")]


def test_weights_of_one_linear_heal_it_alone() -> None:
    module = rough()
    put_weights(module, llama(), {UP: UP}, torch.float32)
    assert type(module.get_submodule(UP)) is torch.nn.Linear
    assert type(module.get_submodule(DOWN)) is type(rough().get_submodule(DOWN))
    sound, spoiled = logits(loaded(packed_llama())), logits(loaded(rough()))
    assert np.abs(logits(loaded(module)) - sound).max() < np.abs(spoiled - sound).max() / 20


def test_weights_of_a_packed_baseline_are_unpacked() -> None:
    module = llama()
    put_weights(module, packed_llama(), {UP: UP}, torch.float32)
    expected = packed_llama().get_submodule(UP).dequantize_weight().T
    assert torch.equal(module.get_submodule(UP).weight, expected)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ({LAST: LAST}, "LlamaDecoderLayer, no linear"),
        ({UP: DOWN}, r"takes and gives \(32, 48\), the baseline's .* \(48, 32\)"),
        ({"model.layers.7.a": UP}, "has no module"),
    ],
)
def test_weights_that_do_not_fit_are_told(names: dict[str, str], told: str) -> None:
    with pytest.raises(ModelError, match=told):
        put_weights(rough(), llama(), names, torch.float32)


# -- on checkpoints -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("from-baseline")


@pytest.fixture(autouse=True)
def _cache(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPROF_CACHE", str(root / "cache"))


@pytest.fixture(scope="module")
def source(root: Path) -> Path:
    return save_llama(root / "llama")


def entry(made: base.Made, **section: Any) -> VariantEntry:
    """What a manifest has of a variant that was made and loaded."""
    return VariantEntry(name=section["name"], path=str(made.path), section=section, options={"batch": 1, **made.run})


def load(section: Section) -> CausalLM:
    """As a run does: made, and loaded with the options that follow from it."""
    made = KeysMaker("").make(section, CALIBRATION)
    typed = msgspec.convert(section, CheckpointVariant)
    asked = base.Asked(ProtocolSection(), ModelSection(), None, made.run)
    options = RUNTIME.options(typed, asked)
    assert isinstance(options, TorchLMOptions)
    # Through plain data, as the manifest keeps them.
    options = msgspec.convert(msgspec.to_builtins(options), TorchLMOptions)
    model = RUNTIME.load(made.path, msgspec.structs.replace(options, prompt_tokens=6, generated_tokens=2))
    assert isinstance(model, CausalLM)
    return model


def finished(made: base.Made, folder: Path) -> Path:
    """A copy of a GPTQ checkpoint with its settings in `quantize_config.json`, as older libraries leave it."""
    folder.mkdir()
    for file in made.path.iterdir():
        if file.is_file():
            (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    settings = config.pop("quantization_config")
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "quantize_config.json").write_text(json.dumps(settings))
    return folder


@needs_gptqmodel
def test_a_finished_checkpoint(source: Path, tmp_path: Path) -> None:
    """GPTQ to 2 bits, as a folder that cannot be quantized anew; its baseline in bfloat16."""
    maker = KeysMaker(source)
    plain = {"name": "bfloat16"}
    baseline = entry(maker.make(plain, CALIBRATION), **plain)
    folder = finished(maker.make({"name": "gptq-2bit"}, CALIBRATION), tmp_path / "finished")
    keys = {"name": "ready", "file": str(folder)}
    variant = entry(KeysMaker("").make(keys, CALIBRATION), **keys)
    assert RUNTIME.interventions.not_made_anew(variant) is not None

    reference, before = logits(load(_file(baseline))), logits(load(keys))
    assert np.abs(before - reference).max() > 0
    names = [f"model.layers.{n}.{name}" for n in range(2) for name in _LINEARS]
    for intervene, pairs in (
        (RUNTIME.interventions.constants_from, [(name, name) for name in names]),
        (RUNTIME.interventions.patched, [(LAST, LAST)]),
    ):
        section = intervene(variant, baseline, pairs)
        assert not isinstance(section, Impossible)
        model = load(section)
        np.testing.assert_array_equal(logits(model), reference)
        assert any("baseline" in note or "in float" in note for note in model.loaded.notes)
    one = RUNTIME.interventions.constants_from(variant, baseline, [(DOWN, DOWN)])
    assert not isinstance(one, Impossible)
    partly = load(one)
    assert partly.loaded.facts["quantized_layers"] == 13
    assert not np.array_equal(logits(partly), before)


def _file(found: VariantEntry) -> dict[str, Any]:
    return {"name": found.name, "file": found.path, "dtype": found.options["dtype"]}


@needs_gptqmodel
def test_a_made_variant_and_what_is_not_timed(source: Path) -> None:
    maker = KeysMaker(source)
    keys = {"name": "gptq-4bit", "threads": 1}
    made, plain = maker.make(keys, CALIBRATION), {"name": "bfloat16"}
    variant, baseline = entry(made, **keys), entry(maker.make(plain, CALIBRATION), **plain)
    section = RUNTIME.interventions.patched(variant, baseline, [(LAST, LAST)])
    assert not isinstance(section, Impossible)
    assert section["file"] == str(made.path) and section["kernel"] == made.run["kernel"] and section["threads"] == 1
    model = load(section)
    options = TorchLMOptions(parts=FromBaseline(baseline=str(source), outputs={LAST: LAST}))
    with pytest.raises(ModelError, match="not timed"):
        RUNTIME.instrument(model, model.path, options)
    with pytest.raises(ModelError, match="not compared"):
        RUNTIME.compare_layers(base.Side(model, TorchLMOptions()), base.Side(model, options), [])
    again = RUNTIME.interventions.constants_from(entry(made, **section), baseline, [(UP, UP)])
    assert isinstance(again, Impossible) and "parts of a baseline already" in again.reason


def test_what_cannot_be_replaced_is_told(source: Path, tmp_path: Path) -> None:
    variant = VariantEntry(name="v", path=str(source), section={"name": "v", "file": str(source)})
    gone = VariantEntry(name="w", path=str(tmp_path / "gone"), section={"name": "w"})
    interventions = RUNTIME.interventions
    for found, told in (
        (interventions.constants_from(variant, variant, [(LAST, LAST)]), "no linear of its layers is called"),
        (interventions.constants_from(variant, variant, [(UP, DOWN)]), "takes and gives"),
        (interventions.constants_from(variant, gone, [(UP, UP)]), "gone"),
        (interventions.patched(gone, variant, [(UP, UP)]), "gone"),
        (interventions.patched(variant, variant, []), "no layer is named"),
    ):
        assert isinstance(found, Impossible) and told in found.reason


def test_the_key_of_a_profile(source: Path, tmp_path: Path) -> None:
    (tmp_path / "base").symlink_to(source)
    profile = tmp_path / "parts.toml"
    profile.write_text(
        f'name = "a"\n[task]\nkind = "lastword"\ndataset = "passages"\n[[variants]]\nname = "b"\nfile = "{source}"\n'
        f'parts = {{ baseline = "base", weights = {{ "{UP}" = "{UP}" }} }}\n'
    )
    read = load_profile(profile).variants[0]
    assert isinstance(read, CheckpointVariant)
    assert read.parts == FromBaseline(baseline=str(source.resolve()), weights={UP: UP})
    profile.write_text(profile.read_text().replace("weights =", "weight ="))
    with pytest.raises(ProfileError, match=r"unknown key variants\[0\].parts.weight"):
        load_profile(profile)


def test_no_part_is_an_error(source: Path) -> None:
    keys = {"name": "b", "file": str(source), "parts": {"baseline": str(source)}}
    with pytest.raises(ModelError, match="takes no part of its baseline"):
        KeysMaker("").make(keys, CALIBRATION)
    keys["parts"] = {"baseline": str(source), "weights": {UP: DOWN}}
    with pytest.raises(ModelError, match="takes and gives"):
        KeysMaker("").make(keys, CALIBRATION)
