"""Methods beside GPTQ on the embedded language model: made once, loaded from the cache, timed, weighed, and right."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import qprof  # noqa: E402
from made_variants import KeysMaker  # noqa: E402
from qprof.errors import ModelError  # noqa: E402
from qprof.runtimes import base  # noqa: E402
from qprof.runtimes.torch_lm import forms  # noqa: E402
from qprof.runtimes.torch_lm.model import CausalLM  # noqa: E402
from qprof.runtimes.torch_lm.profiled import ProfiledCausalLM  # noqa: E402
from qprof.runtimes.torch_lm.runtime import RUNTIME  # noqa: E402
from qprof.runtimes.torch_lm.sections import TorchLMOptions  # noqa: E402
from qprof.store.cache import Cache  # noqa: E402
from qprof.tasks.lastword.passages import passages  # noqa: E402

FOLDER = Path(qprof.__file__).parent / "embedded" / "passages_lm"
PARAMETERS = 861_312
#: Perplexity of the unquantized model over the same texts.
PLAIN = 2.1439

#: Method -> the package it needs, the most that perplexity may rise, bytes of weights as loaded, how a linear's time is
#: divided ("" where it is not).
METHODS: dict[str, tuple[str, float, int, str]] = {
    "bnb-int8": ("bitsandbytes", 0.003, 1_085_824, "quantize"),
    "bnb-nf4": ("bitsandbytes", 0.01, 782_464, ""),
    "bnb-fp4": ("bitsandbytes", 0.03, 782_464, ""),
    "torchao-int8-weight-only": ("torchao", 0.003, 1_090_432, "dequantize"),
    "torchao-int8-dynamic": ("torchao", 0.003, 1_090_432, "quantize"),
    "torchao-int4-weight-only": ("torchao", 0.01, 780_672, ""),
    "hqq-8bit": ("hqq", 0.003, 1_108_352, "dequantize"),
    "hqq-4bit": ("hqq", 0.03, 780_672, "dequantize"),
    "hqq-2bit": ("hqq", 2.5, 616_832, "dequantize"),
    "awq-4bit": ("gptqmodel", 0.03, 765_312, ""),
    "fp8": ("gptqmodel", 0.003, 1_731_968, "dequantize"),
    "rtn-4bit": ("gptqmodel", 0.01, 783_488, "dequantize"),
    "gptaq-4bit": ("gptqmodel", 0.01, 783_488, "dequantize"),
    "foem-4bit": ("gptqmodel", 0.01, 783_488, "dequantize"),
}


def needs(method: str) -> None:
    package = METHODS[method][0]
    if importlib.util.find_spec(package) is None or importlib.util.find_spec("accelerate") is None:
        pytest.skip(f"{package} is not installed")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("methods")


@pytest.fixture(autouse=True)
def _cache(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("QPROF_CACHE", str(root / "cache"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return transformers.AutoTokenizer.from_pretrained(str(FOLDER))


@pytest.fixture(scope="module")
def rows(tokenizer: Any) -> list[NDArray[Any]]:
    return [tokenizer(text, return_tensors="np").input_ids for text in passages("calibration", 64)]


def made(keys: dict[str, Any], rows: Sequence[NDArray[Any]]) -> base.Made:
    return KeysMaker(FOLDER).make(keys, base.Calibration(lambda: ([row] for row in rows), "passages"))


def loaded(variant: base.Made) -> CausalLM:
    model = RUNTIME.load(variant.path, TorchLMOptions(**dict(variant.run)))
    assert isinstance(model, CausalLM)
    return model


def perplexity(model: CausalLM) -> float:
    loss, tokens = 0.0, 0
    with torch.inference_mode():
        for text in passages("test", 60):
            ids = model.tokenizer(text, return_tensors="pt").input_ids
            logits = model.module(input_ids=ids).logits[0, :-1].float()
            loss += float(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum"))
            tokens += ids.shape[1] - 1
    return float(np.exp(loss / tokens))


def test_a_folder_of_autoawq_from_before_its_settings_were_in_config_json(
    root: Path, rows: list[NDArray[Any]], tokenizer: Any
) -> None:
    needs("awq-4bit")
    variant = made({"name": "awq-4bit"}, rows)
    old = root / "old-awq"
    shutil.copytree(variant.path, old)
    (old / "quantize_config.json").unlink()
    config = json.loads((old / "config.json").read_text())
    group = config.pop("quantization_config")["group_size"]
    (old / "config.json").write_text(json.dumps(config))
    said = {"zero_point": True, "q_group_size": group, "w_bit": 4, "version": "GEMM"}
    (old / "quant_config.json").write_text(json.dumps(said))
    (old / "model.safetensors").rename(old / "awq_model_w4_g64.safetensors")
    again = made({"name": "theirs", "file": str(old)}, rows)
    assert again.facts["group_size"] == group and again.facts["bits"] == 4 and RUNTIME.is_finished(old)
    ids = tokenizer(next(iter(passages("test", 1))), return_tensors="pt").input_ids
    with torch.inference_mode():
        wanted, found = (loaded(one).module(input_ids=ids).logits for one in (variant, again))
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("method", ["bnb-nf4", "bnb-int8", "torchao-int8-weight-only", "fp8"])
def test_a_ready_made_folder_of_a_method_runs(method: str, rows: list[NDArray[Any]], tokenizer: Any) -> None:
    needs(method)
    variant = made({"name": method}, rows)
    again = made({"name": "theirs", "file": str(variant.path)}, rows)
    assert again.run["library"] == variant.run["library"] == again.facts["library"]
    ids = tokenizer(next(iter(passages("test", 1))), return_tensors="pt").input_ids
    with torch.inference_mode():
        wanted, found = (loaded(one).module(input_ids=ids).logits for one in (variant, again))
    assert torch.equal(found, wanted)
    with pytest.raises(ModelError, match="has no kernel 'marlin'; it has"):
        made({"name": "theirs", "file": str(variant.path), "kernel": "marlin"}, rows)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_is_made_once_and_stands_for_the_model(
    method: str, rows: list[NDArray[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    needs(method)
    _, rise, footprint, part = METHODS[method]
    first = made({"name": method}, rows)
    assert len(first.sha256) == 64 and first.bytes < FOLDER.joinpath("model.safetensors").stat().st_size
    with monkeypatch.context() as patched:
        patched.setattr(Cache, "store", lambda *_: pytest.fail("was made again"))
        again = made({"name": method}, rows)
    assert (again.path, again.sha256, again.run) == (first.path, first.sha256, first.run)
    stored = RUNTIME.stored(first.path)
    assert stored is not None and sum(part.bytes for part in stored.parts) == stored.bytes
    packed = [part for part in stored.parts if part.at.endswith("down_proj.weight") and part.kind == "tensor"]
    assert [part.elements for part in packed] == [256 * 128] * 4

    model = loaded(again)
    facts = model.loaded.facts
    assert (facts["parameters"], facts["quantized_layers"]) == (PARAMETERS, 28)
    assert facts["footprint_bytes"] == footprint
    assert PLAIN - 0.003 < perplexity(model) < PLAIN + rise
    _check_times(model, part)


def _check_times(model: CausalLM, part: str) -> None:
    """Layers and the rest close, in both phases, and linears are divided as they can be."""
    profiled = ProfiledCausalLM(model)
    profiled.set_inputs([np.random.default_rng(0).integers(2, 1000, (1, 64))])
    profiled.discover()
    top = np.array([op.parent is None for op in profiled.ops])
    for phase in ("prefill", "decode"):
        profiled.enter(phase)
        profiled.set_inputs(profiled._inputs)
        profiled.reserve(16)
        spans = []
        for number in range(9):
            profiled.set_inputs(profiled._inputs)
            profiled.begin(number)
            start = perf_counter_ns()
            profiled.run_once()
            spans.append(perf_counter_ns() - start)
            profiled.end()
        events = profiled.drain()
        sums = np.bincount(events.inference, weights=np.where(top[events.op], events.duration_ns, 0))
        # On a machine that does other things, too, some inference is left alone.
        assert (sums / spans).max() >= 0.95
        split = profiled.timing_facts()["split"][phase]
        if part:
            assert split["how"] == "in situ" and 0.02 < split["shares"][part] < 0.95, split
        else:
            assert split["how"] is None and "unpacks the weights as it multiplies" in split["reason"]


def linear_and_source(model: CausalLM, name: str = "model.layers.1.mlp.up_proj") -> tuple[Any, Any]:
    plain = transformers.AutoModelForCausalLM.from_pretrained(str(FOLDER), dtype=torch.bfloat16)
    return model.module.get_submodule(name), plain.get_submodule(name).weight.detach()


def by_library(method: str, source: Any) -> Any:
    """The weights as the library itself quantizes and dequantizes them."""
    if method == "bnb-int8":
        from bitsandbytes import functional

        codes, scales, _ = functional.int8_vectorwise_quant(source.to(torch.float16))
        return functional.int8_vectorwise_dequant(codes, scales)
    if method in ("bnb-nf4", "bnb-fp4"):
        from bitsandbytes import functional

        return functional.dequantize_4bit(*functional.quantize_4bit(source, quant_type=method[4:], blocksize=64))
    linear = torch.nn.Linear(source.shape[1], source.shape[0], bias=False, dtype=torch.bfloat16)
    linear.weight = torch.nn.Parameter(source.clone(), requires_grad=False)
    if method.startswith("hqq"):
        from hqq.core.quantize import BaseQuantizeConfig, HQQLinear

        config = BaseQuantizeConfig(nbits=int(method[4]), group_size=64)
        return HQQLinear(linear, config, compute_dtype=torch.bfloat16, device="cpu").dequantize()
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    if method.startswith("torchao-int8"):
        quantize_(linear, Int8WeightOnlyConfig(set_inductor_config=False))
        return linear.weight.dequantize()
    from torchao.prototype.quantization.int4 import PrototypeInt4WeightOnlyConfig

    quantize_(linear, PrototypeInt4WeightOnlyConfig(group_size=64))
    return linear(torch.eye(source.shape[1], dtype=torch.bfloat16)).T


@pytest.mark.parametrize("method", [name for name in METHODS if name.split("-")[0] in ("bnb", "torchao", "hqq")])
def test_weights_are_those_of_the_library(method: str, rows: list[NDArray[Any]]) -> None:
    """Before and after the first inference, in which bitsandbytes packs four bits anew, with scales in bfloat16."""
    needs(method)
    model = loaded(made({"name": method}, rows))
    linear, source = linear_and_source(model)
    form = forms.form_of(linear)
    assert form is not None
    wanted = by_library(method, source).float()
    assert torch.equal(form.weight(linear).float(), wanted)
    x = torch.randn(3, source.shape[1], dtype=torch.bfloat16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = linear(x).float()
    # Eight bits of the activations for those that multiply integers, and of a sum in bfloat16 for all.
    assert (found - x.float() @ wanted.T).norm() < 0.02 * found.norm()
    assert (form.weight(linear).float() - wanted).norm() < 0.004 * wanted.norm()


@pytest.mark.parametrize("kernel", ["torch-aten", "torch", "torch-int8"])
def test_awq_has_the_same_weights_in_every_kernel(kernel: str, rows: list[NDArray[Any]]) -> None:
    needs("awq-4bit")
    model = loaded(made({"name": "v", "method": "awq-4bit", "kernel": kernel}, rows))
    assert model.loaded.facts["kernel"] == kernel
    linear, source = linear_and_source(model)
    form = forms.form_of(linear)
    assert form is not None
    weight = form.weight(linear).float()
    x = torch.randn(3, source.shape[1], dtype=torch.bfloat16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert (linear(x).float() - x.float() @ weight.T).norm() < 0.01 * (x.float() @ weight.T).norm()


@pytest.mark.parametrize("method", ["bnb-nf4", "bnb-int8", "torchao-int8-weight-only", "hqq-4bit", "awq-4bit", "fp8"])
def test_unpacked_once_it_is_a_plain_model_with_the_same_weights(method: str, rows: list[NDArray[Any]]) -> None:
    needs(method)
    model = loaded(made({"name": "v", "method": method, "kernel": "dequantized"}, rows))
    packed = loaded(made({"name": "v", "method": method}, rows))
    assert model.loaded.facts["quantized_layers"] == 0
    assert model.loaded.facts["footprint_bytes"] == 2 * PARAMETERS + 128  # bfloat16, and the frequencies of positions
    assert perplexity(model) == pytest.approx(perplexity(packed), abs=0.004)


def test_layers_to_skip_stay_as_they_are(rows: list[NDArray[Any]]) -> None:
    skipped = "model.layers.1.mlp.up_proj"
    for method in ("bnb-int8", "bnb-nf4", "torchao-int8-dynamic", "torchao-int4-weight-only", "hqq-4bit", "awq-4bit"):
        needs(method)
        model = loaded(made({"name": "v", "method": method, "skip_layers": [skipped]}, rows))
        linear, source = linear_and_source(model, skipped)
        assert model.loaded.facts["quantized_layers"] == 27
        assert type(linear) is torch.nn.Linear and not type(linear.weight).__module__.startswith("torchao")
        # AWQ scales the channels that lead into it all the same.
        assert method.startswith("awq") or torch.equal(linear.weight, source)


def test_scales_can_be_quantized_too(rows: list[NDArray[Any]]) -> None:
    needs("bnb-nf4")
    model = loaded(made({"name": "v", "method": "bnb-nf4", "double_quant": True}, rows))
    linear, _ = linear_and_source(model)
    form = forms.form_of(linear)
    assert form is not None and form.scheme(linear) == "nf4 weights, group 64, scales in 8 bits"
    single = loaded(made({"name": "v", "method": "bnb-nf4"}, rows))
    assert model.loaded.facts["footprint_bytes"] < single.loaded.facts["footprint_bytes"]
