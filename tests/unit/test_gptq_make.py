"""Variants of a language model: what a name and its keys mean, and what is really made, loaded and refused."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from checkpoints import float_tensors, quantized_tensors, save_llama, write_checkpoint
from made_variants import KeysMaker
from qprof.errors import DataError, ModelError, ProfileError, QprofError
from qprof.measure.keys import converted
from qprof.runtimes import base
from qprof.runtimes.torch_lm import gptq
from qprof.runtimes.torch_lm.checkpoint import inspect, normalised
from qprof.runtimes.torch_lm.gptq import (
    DEFAULT_GROUP_SIZES,
    Settings,
    check,
    default_group_size,
    failures_named,
    settings_of,
)
from qprof.runtimes.torch_lm.methods import gptqmodel
from qprof.runtimes.torch_lm.methods.base import token_rows
from qprof.runtimes.torch_lm.runtime import RUNTIME
from qprof.runtimes.torch_lm.sections import GPTQVariant, TorchLMOptions

needs_gptqmodel = pytest.mark.skipif(importlib.util.find_spec("gptqmodel") is None, reason="gptqmodel is not installed")


class Samples:
    """Calibration that counts how often it was drawn."""

    def __init__(self, count: int = 12, tokens: int = 32) -> None:
        self.drawn, self._count, self._tokens = 0, count, tokens

    def __call__(self) -> Iterator[Sequence[NDArray[Any]]]:
        self.drawn += 1
        random = np.random.default_rng(3)
        for _ in range(self._count):
            yield [random.integers(2, 258, (1, self._tokens))]


def calibration(samples: Samples | None = None, digest: str = "digest") -> base.Calibration:
    return base.Calibration(samples or Samples(), digest)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache and one model for all tests of this file: quantizing is what takes time here."""
    return tmp_path_factory.mktemp("gptq")


@pytest.fixture(autouse=True)
def _cache(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPROF_CACHE", str(root / "cache"))


@pytest.fixture(scope="module")
def llama(root: Path) -> Path:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    return save_llama(root / "llama")


@pytest.fixture
def maker(llama: Path) -> KeysMaker:
    return KeysMaker(llama)


def logits(made: base.Made, **options: Any) -> NDArray[Any]:
    model = RUNTIME.load(made.path, TorchLMOptions(prompt_tokens=8, generated_tokens=2, **dict(made.run) | options))
    model.set_inputs([np.arange(2, 10)[None]])
    model.invoke()
    return model.outputs()[0][0]


# -- names and keys ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "keys", "wanted"),
    [
        ("gptq-4bit", {}, Settings(4, 64)),
        ("gptq-2bit-g128", {}, Settings(2, 128)),
        ("gptq-8bit", {"group_size": -1, "desc_act": True, "sym": False}, Settings(8, -1, True, False)),
        ("gptq", {"bits": 3}, Settings(3, 64)),
        ("gptq-g32", {"bits": 3}, Settings(3, 32)),
        ("gptq-4bit-g32", {"bits": 4, "group_size": 32}, Settings(4, 32)),
    ],
)
def test_what_a_method_and_its_keys_mean(tmp_path: Path, method: str, keys: dict[str, Any], wanted: Settings) -> None:
    keys = {"name": "v", "method": method, **keys}
    source = inspect(write_checkpoint(tmp_path / "m"))
    assert settings_of(converted(keys, RUNTIME.variant_section(keys), "variant"), lambda: source) == (wanted, [])


@pytest.mark.parametrize(
    ("inner", "sizes", "size", "note"),
    [
        (192, DEFAULT_GROUP_SIZES, 64, ""),
        (160, DEFAULT_GROUP_SIZES, 32, "groups of 32: groups of 64 do not divide the 160 in_features of "),
        (144, DEFAULT_GROUP_SIZES, -1, "one group per row (group_size -1): groups of 64 do not divide the 144 "),
        (172, DEFAULT_GROUP_SIZES, -1, "one group per row (group_size -1): groups of 64 do not divide the 172 "),
        (144, (16, 32, 64, 128), 16, "groups of 16: "),
        (172, (16, 32, 64, 128), 64, ""),  # none fits: the method refuses the usual one
    ],
)
def test_a_group_size_that_nobody_named_divides_all_layers(
    tmp_path: Path, inner: int, sizes: Sequence[int], size: int, note: str
) -> None:
    source = inspect(write_checkpoint(tmp_path / "m", float_tensors(inner=inner), intermediate_size=inner))
    found, notes = default_group_size(source, sizes)
    assert found == size and len(notes) == bool(note)
    assert all(one.startswith(note) and (inner != 160 or one.endswith("mlp.down_proj")) for one in notes)


def test_a_layer_that_stays_in_float_does_not_change_the_groups_of_others(tmp_path: Path) -> None:
    source = inspect(write_checkpoint(tmp_path / "m", float_tensors(inner=144), intermediate_size=144))
    for skipped in ([], ["model.layers.0.mlp.down_proj"]):
        section = GPTQVariant(name="gptq-4bit", skip_layers=skipped)
        settings, notes = settings_of(section, lambda: source)
        assert settings.group_size == -1 and len(notes) == 1


def test_a_group_size_that_was_named_is_not_changed(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m", float_tensors(inner=144), intermediate_size=144)
    for variant in ({"name": "gptq-4bit-g64"}, {"name": "gptq-4bit", "group_size": 64}, {"name": "rtn-4bit-g64"}):
        with pytest.raises(ModelError, match=r"group_size 64 does not divide the 144 in_features"):
            KeysMaker(folder).make(variant, calibration())


def test_the_recipe_has_the_group_size_that_is_made(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m", float_tensors(inner=160), intermediate_size=160)
    made = RUNTIME.recipe(folder, GPTQVariant(name="gptq-4bit"))
    assert made is not None and made.content["group_size"] == 32


@needs_gptqmodel
def test_where_no_group_divides_a_layer_rows_are_quantized_as_a_whole(root: Path) -> None:
    folder = save_llama(root / "odd", inner=172)
    made = KeysMaker(folder).make({"name": "gptq-4bit"}, calibration())
    assert made.facts["group_size"] == -1
    assert [note.partition(":")[0] for note in made.notes] == ["one group per row (group_size -1)"]
    assert np.isfinite(logits(made)).all()
    named = KeysMaker(folder).make({"name": "gptq-4bit", "group_size": -1}, calibration())
    assert (named.path, named.notes) == (made.path, [])


@pytest.mark.parametrize(
    ("method", "keys", "error", "text"),
    [
        ("int8", {}, ProfileError, r"no method 'int8' .*gptq-<bits>bit\[-g<group size>\]"),
        ("gptq-4bits", {}, ProfileError, "no method 'gptq-4bits'"),
        ("gptq-4bit\n", {}, ProfileError, r"no method 'gptq-4bit\\n'"),
        ("gptq", {}, ModelError, "names no bits; write gptq-4bit, or bits = 4"),
        ("gptq-4bit", {"bits": 8}, ModelError, "its method says 4 and its key bits says 8"),
        ("gptq-4bit-g32", {"group_size": 64}, ModelError, "its method says 32 and its key group_size says 64"),
    ],
)
def test_methods_that_mean_nothing(method: str, keys: dict[str, Any], error: type[QprofError], text: str) -> None:
    keys = {"name": "v", "method": method, **keys}
    with pytest.raises(error, match=text):
        settings_of(converted(keys, RUNTIME.variant_section(keys), "variant"), lambda: pytest.fail("not asked for"))


@pytest.mark.parametrize(
    ("variant", "text"),
    [
        ({"name": "float32", "ops": ["CONV_2D"]}, "unknown key variant.ops"),
        ({"name": "float32", "skip_ops": ["CONV_2D"]}, "unknown key variant.skip_ops"),
        ({"name": "float32", "io": "int8"}, "unknown key variant.io"),
        ({"name": "float32", "delegate": "xnnpack"}, "unknown key variant.delegate"),
        ({"name": "float32", "kernel": "marlin"}, "unknown key variant.kernel"),
        ({"name": "float32", "bits": 4}, "unknown key variant.bits"),
        ({"name": "float32", "dtype": "float16"}, "method float32 and dtype float16 disagree"),
        ({"name": "float32", "skip_layers": ["a"]}, "unknown key variant.skip_layers"),
        ({"name": "gptq-5bit"}, "bits may be 2, 3, 4, 8"),
        (
            {"name": "gptq-4bit", "skip_layers": ["model.layers.0.mlp.down_prj"]},
            r"'model.layers.0.mlp.down_prj', which is no linear layer .* mean 'model.layers.0.mlp.down_proj'\?",
        ),
        (
            {
                "name": "gptq-4bit",
                "skip_layers": ["model.layers.0.self_attn.q_proj", "model.layers.0.mlp.down_proj"],
            },
            "skip_layers names all 2 linear layers; leave one to GPTQ",
        ),
        (
            {"name": "gptq-4bit", "library": "autogptq", "skip_layers": ["model.layers.0.mlp.down_proj"]},
            "unknown key variant.skip_layers",
        ),
        ({"name": "gptq-4bit", "kernel": "torch-aten", "group_size": -1}, "group sizes 16, 32, 64 and 128 only"),
        ({"name": "gptq-4bit", "dtype": "float32"}, "in float16 and bfloat16 only"),
        ({"name": "gptq-4bit-g128"}, r"group_size 128 does not divide the 64 in_features of .*choose 32 or 64 or -1"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_made(
    tmp_path: Path, variant: dict[str, Any], text: str
) -> None:
    maker = KeysMaker(write_checkpoint(tmp_path / "m"))
    samples = Samples()
    with pytest.raises(ProfileError if text.startswith("unknown key") else ModelError, match=text):
        maker.make(variant, calibration(samples))
    assert samples.drawn == 0


def test_a_quantized_model_is_no_source(tmp_path: Path) -> None:
    quantized = {"bits": 4, "group_size": 64, "quant_method": "gptq", "checkpoint_format": "gptq"}
    folder = write_checkpoint(tmp_path / "m", quantized_tensors(), quantization_config=quantized)
    for name in ("float16", "gptq-2bit"):
        with pytest.raises(ModelError, match="already quantized"):
            KeysMaker(folder).make({"name": name}, calibration())
    made = KeysMaker("").make({"name": "ready", "file": str(folder)}, calibration())
    assert (made.path, made.facts["bits"], made.run) == (folder, 4, {"dtype": "bfloat16", "kernel": "torch"})
    with pytest.raises(ProfileError, match=r"unknown key variant\.bits"):
        KeysMaker("").make({"name": "ready", "file": str(folder), "bits": 4}, calibration())


def test_a_file_without_quantized_layers_takes_no_kernel(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m")
    with pytest.raises(
        ModelError, match=r"variant ready: kernel = 'marlin' computes quantized layers, and this .* none"
    ):
        KeysMaker("").make({"name": "ready", "file": str(folder), "kernel": "marlin"}, calibration())
    made = KeysMaker("").make({"name": "ready", "file": str(folder), "dtype": "float16"}, calibration())
    assert (made.method, made.tool, made.run) == ("file", None, {"dtype": "float16", "kernel": ""})


def test_only_files_can_do_without_a_model() -> None:
    with pytest.raises(ModelError, match=r"model\.path is missing: only a variant with a file"):
        KeysMaker("").make({"name": "gptq-4bit"}, calibration())


def test_three_bits_need_whole_words(tmp_path: Path) -> None:
    source = inspect(write_checkpoint(tmp_path / "m", {"model.layers.0.a.weight": ("F32", (64, 172))}))
    with pytest.raises(ModelError, match=r"3 bits are packed 32 at a time, and model\.layers\.0\.a has 172 inputs"):
        check(source, Settings(3, -1))
    check(source, Settings(4, -1))


# -- samples and failures ---------------------------------------------------------------------------------------------


def test_samples_become_rows() -> None:
    rows = token_rows([[np.array([[1, 2, 3]], np.int32)], [np.array([4, 5])]])
    assert [(row.tolist(), row.dtype) for row in rows] == [([1, 2, 3], np.int64), ([4, 5], np.int64)]


@pytest.mark.parametrize(
    ("samples", "text"),
    [
        ([], "needs calibration samples, and the data set gives none"),
        ([[np.zeros((1, 0), np.int64)]], r"a calibration sample is int64\[1, 0\]"),
        ([[np.zeros((2, 4), np.int64)]], r"is int64\[2, 4\]; each must be int64\[1, tokens\]"),
        ([[np.zeros((1, 4), np.float32)]], "is float32"),
    ],
)
def test_samples_that_are_none(samples: list[Any], text: str) -> None:
    with pytest.raises(DataError, match=text):
        token_rows(samples)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (MemoryError(), "quantizing to 4 bits, group size 64: out of memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "out of memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate"), "out of memory"),
        (IndexError("index out of range in self"), "failed: index out of range in self; other variants go on"),
        (AssertionError(), "failed: AssertionError; other variants go on"),
    ],
)
def test_a_quantizer_that_fails_stops_one_variant(tmp_path: Path, error: Exception, text: str) -> None:
    source = inspect(write_checkpoint(tmp_path / "m"))
    with pytest.raises(ModelError, match=text) as raised, failures_named(source, Settings(4)):
        raise error
    assert raised.value.__cause__ is error


# -- what is made -----------------------------------------------------------------------------------------------------


def test_unquantized_variants_are_as_large_as_their_type(maker: KeysMaker, llama: Path) -> None:
    whole = maker.make({"name": "float32"}, calibration())
    assert whole.path == llama and whole.run == {"dtype": "float32", "kernel": ""}
    for dtype in ("float16", "bfloat16"):
        half = maker.make({"name": dtype}, calibration())
        assert inspect(half.path).dtype == half.facts["stored_dtype"] == dtype
        assert json.loads((half.path / "config.json").read_text())["dtype"] == dtype
        assert half.bytes == pytest.approx(whole.bytes / 2, rel=0.05)
        assert maker.make({"name": dtype}, calibration()) == half
        assert np.allclose(logits(half), logits(whole), atol=0.02)
    other = KeysMaker(half.path).make({"name": "float32"}, calibration())
    assert other.path != half.path and inspect(other.path).dtype == "float32"


def test_a_value_beyond_float16_is_refused(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file, save_file

    folder = save_llama(tmp_path / "m", dtype="bfloat16")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][3] = 1e6
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert torch.isfinite(tensors["model.norm.weight"]).all()
    maker = KeysMaker(folder)
    with pytest.raises(ModelError, match=r"model.norm.weight holds 999\d+.*, beyond what float16 can hold"):
        maker.make({"name": "float16"}, calibration())
    assert maker.make({"name": "bfloat16"}, calibration()).path == folder


def test_a_checkpoint_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from safetensors.torch import load_file, save_file

    folder = save_llama(tmp_path / "m")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 weights of LlamaForCausalLM \(model.layers.1.mlp.up_proj.weight\)"):
        RUNTIME.load(folder, TorchLMOptions())


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"kernel": "torch"}, "is not quantized, so kernel = 'torch' has nothing to compute"),
        ({"dtype": "int8"}, "models are computed in float32, bfloat16, float16"),
        ({"device": "cuda:77"}, "device 'cuda:77': torch .* sees"),
        ({"device": "tpu"}, "language models run on 'cpu' and 'cuda'"),
    ],
)
def test_what_a_model_cannot_be_run_on(llama: Path, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ModelError, match=text):
        RUNTIME.load(llama, TorchLMOptions(**options))


@needs_gptqmodel
def test_widths_are_made_once_and_run(maker: KeysMaker, llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = Samples()
    exact = logits(maker.make({"name": "float32"}, calibration()))
    made = {bits: maker.make({"name": f"gptq-{bits}bit"}, calibration(samples)) for bits in (8, 2)}
    errors = {bits: float(np.linalg.norm(logits(variant) - exact)) for bits, variant in made.items()}
    assert errors[8] < 0.2 * errors[2]
    assert errors[8] < 0.05 * np.linalg.norm(exact)
    assert made[8].bytes > made[2].bytes
    assert samples.drawn == 1  # one drawing serves all widths
    facts = made[2].facts
    assert (facts["bits"], facts["group_size"], facts["sym"], facts["desc_act"]) == (2, 64, True, False)
    assert (made[2].method, made[2].tool) == ("gptq-2bit", "gptqmodel")
    assert (
        facts["library"] == "gptqmodel"
        and made[2].make_seconds
        and made[2].make_seconds > 0
        and facts["calibration_tokens"] == 12 * 32
    )
    assert list(facts["losses"]) == list(inspect(llama).linears)
    assert all(loss > made[8].facts["losses"][name] >= 0 for name, loss in facts["losses"].items())
    monkeypatch.setattr(gptqmodel, "quantize", None)  # a second making would fail
    assert KeysMaker(llama).make({"name": "gptq-2bit"}, calibration(samples)) == made[2]


@needs_gptqmodel
def test_layers_that_are_skipped_stay_as_they_are(maker: KeysMaker, llama: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file

    skipped = "model.layers.1.mlp.down_proj"
    plain = maker.make({"name": "gptq-2bit"}, calibration())
    made = maker.make({"name": "v", "method": "gptq-2bit", "skip_layers": [skipped]}, calibration())
    assert made.path != plain.path and made.bytes > plain.bytes
    assert set(plain.facts["losses"]) - set(made.facts["losses"]) == {skipped}
    model: Any = RUNTIME.load(made.path, TorchLMOptions(**made.run))
    assert model.loaded.facts["quantized_layers"] == 13
    own = load_file(llama / "model.safetensors")[f"{skipped}.weight"]
    assert torch.equal(model.module.get_submodule(skipped).weight, own.to(torch.bfloat16))
    assert np.isfinite(logits(made)).all()


@needs_gptqmodel
def test_what_is_loaded_is_what_was_asked_for(maker: KeysMaker) -> None:
    made = maker.make({"name": "gptq-2bit"}, calibration())
    model = RUNTIME.load(made.path, TorchLMOptions(**made.run))
    facts = model.loaded.facts
    assert (facts["kernel"], facts["dtype"], facts["attention"]) == ("torch", "bfloat16", "sdpa")
    assert (facts["quantized_layers"], facts["architecture"]) == (14, "LlamaForCausalLM")
    unquantized = RUNTIME.load(maker.source.checkpoint().path, TorchLMOptions())
    assert facts["parameters"] == unquantized.loaded.facts["parameters"]
    assert facts["footprint_bytes"] < unquantized.loaded.facts["footprint_bytes"] / 2
    with pytest.raises(ModelError, match="kernel torch-aten computes 4 bits only; for 2 bits choose torch"):
        RUNTIME.load(made.path, TorchLMOptions(kernel="torch-aten"))


@needs_gptqmodel
def test_a_kernel_that_was_swapped_is_found_out(maker: KeysMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from qprof.runtimes.torch_lm import kernels

    made = maker.make({"name": "gptq-2bit"}, calibration())
    other = replace(kernels.KERNELS["torch-int8"], backend="GPTQ_TORCH")
    monkeypatch.setattr(kernels, "choose", lambda *arguments, **keywords: other)
    with pytest.raises(ModelError, match="kernel torch-int8 was asked for, and gptqmodel put TorchLinear in its place"):
        RUNTIME.load(made.path, TorchLMOptions())


@needs_gptqmodel
def test_an_error_in_a_thread_of_gptqmodel_is_an_error_here(maker: KeysMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends the process where a task of its thread pool fails; qprof takes that out."""
    from qprof.runtimes.torch_lm.library import import_gptqmodel

    import_gptqmodel()
    monkeypatch.setattr(gptq, "_refuse_unpackable", lambda source, settings: None)
    folder = save_llama(maker.source.checkpoint().path.parent / "odd", inner=80)
    with pytest.raises(ModelError, match=r"quantizing to 3 bits, group size -1 failed: .*other variants go on"):
        KeysMaker(folder).make({"name": "gptq-3bit", "group_size": -1}, calibration())


@needs_gptqmodel
def test_a_checkpoint_in_autogptqs_words_runs_the_same(maker: KeysMaker, tmp_path: Path) -> None:
    made = maker.make({"name": "gptq-2bit"}, calibration())
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
    old = maker.make({"name": "old", "file": str(folder)}, calibration())
    assert old.path == normalised(inspect(folder)) != folder
    assert np.array_equal(logits(old), logits(made))


# -- the runtime ------------------------------------------------------------------------------------------------------


def test_what_the_runtime_takes(tmp_path: Path) -> None:
    assert RUNTIME.accepts(write_checkpoint(tmp_path / "m"))
    (tmp_path / "m" / "config.json").write_text("{")  # what is wrong with it, `inspect` says
    assert RUNTIME.accepts(tmp_path / "m")
    (tmp_path / "m" / "saved_model.pb").write_bytes(b"")
    assert not RUNTIME.accepts(tmp_path / "m")
    (tmp_path / "keras").mkdir()
    (tmp_path / "keras" / "config.json").write_text('{"class_name": "Functional"}')
    assert not RUNTIME.accepts(tmp_path / "keras")
    assert not RUNTIME.accepts(tmp_path / "absent")
