"""GGUF files and LoRA adapters: run with the weights that they stand for, or refused in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from checkpoints import save_llama, write_json
from gguf_files import Q4_K_M, VOCABULARY, write_gguf
from lastword_models import byte_tokenizer
from made_variants import KeysMaker
from qprof.errors import ModelError
from qprof.runtimes import base
from qprof.runtimes.torch_lm.formats import format_of
from qprof.runtimes.torch_lm.load import load_module
from qprof.runtimes.torch_lm.runtime import RUNTIME
from unpacked_folders import COMPRESSED, quantized_llama, write_adapter


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPROF_CACHE", str(tmp_path / "cache"))


def made(path: Path, **keys: Any) -> base.Made:
    return KeysMaker("").make({"name": "v", "file": str(path), **keys}, base.Calibration(lambda: [], ""))


def assert_weights(module: Any, expected: dict[str, Any], rtol: float = 1e-6) -> None:
    state = module.state_dict()
    assert set(state) - {"lm_head.weight"} <= expected.keys() <= state.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(state[name].float().numpy(), array, rtol=rtol, atol=1e-7, err_msg=name)


@pytest.fixture(scope="module")
def q4_k_m(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    pytest.importorskip("gguf")
    folder = tmp_path_factory.mktemp("gguf")
    byte_tokenizer(["Ġdog"]).save_pretrained(folder)
    return folder / "tiny-q4_k_m.gguf", write_gguf(folder / "tiny-q4_k_m.gguf", "Q4_K", Q4_K_M)


def test_a_gguf_file_is_run_with_its_own_numbers(q4_k_m: tuple[Path, dict[str, Any]]) -> None:
    file, expected = q4_k_m
    assert RUNTIME.accepts(file) and RUNTIME.is_finished(file) and RUNTIME.accepts(file.parent)
    variant = made(file, dtype="float32")
    assert (variant.bytes, variant.path) == (file.stat().st_size, file)
    assert variant.facts["tensor_types"] == {"F32": 6, "Q4_K": 10, "Q6_K": 4}
    assert variant.facts["file_type"] == "MOSTLY_Q4_K_M"
    (note,) = variant.notes
    assert (
        "turns into float numbers when it loads it" in note and "speed, memory and energy are a float model's" in note
    )
    loaded = load_module(file, dtype="float32")
    assert_weights(loaded.module, expected)
    assert loaded.module.lm_head.weight is loaded.module.model.embed_tokens.weight
    assert loaded.tokenizer(" dog")["input_ids"] == byte_tokenizer(["Ġdog"])(" dog")["input_ids"]


def test_q8_0_in_a_folder_with_an_output_of_its_own(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    byte_tokenizer([]).save_pretrained(tmp_path)
    expected = write_gguf(tmp_path / "tiny.gguf", "Q8_0", output=True)
    variant = made(tmp_path)
    assert variant.path == tmp_path / "tiny.gguf" and variant.run["dtype"] == "bfloat16"
    assert variant.facts["file_type"] == "MOSTLY_Q8_0"
    assert_weights(load_module(variant.path, dtype="float32").module, expected)


def test_a_gguf_file_alone_has_a_tokenizer_of_its_own(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    expected = byte_tokenizer(["Ġdog", "Ġcat"])
    write_gguf(tmp_path / "alone.gguf", "Q8_0", tokenizer=expected)
    found = load_module(tmp_path / "alone.gguf").tokenizer
    for text in (" dog cat", "hello dog", " The dog's bone"):
        assert found(text)["input_ids"] == expected(text)["input_ids"]
        assert found.decode(found(text)["input_ids"]) == text


def test_every_byte_of_a_gguf_file_is_in_one_part(q4_k_m: tuple[Path, dict[str, Any]]) -> None:
    file, expected = q4_k_m
    stored = RUNTIME.stored(file)
    assert stored is not None
    assert stored.bytes == file.stat().st_size == sum(part.bytes for part in stored.parts)
    kinds = {part.name: part.dtype for part in stored.parts}
    assert (kinds["blk.0.ffn_down.weight"], kinds["blk.0.attn_q.weight"]) == ("q6_k", "q4_k")
    assert sum(part.elements for part in stored.parts) == sum(array.size for array in expected.values())


def test_gguf_files_that_cannot_be_run(q4_k_m: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    whole = q4_k_m[0].read_bytes()
    count = whole.index(key := b"llama.block_count") + len(key) + 4  # its type, uint32, lies between
    cases = {
        "blocks.gguf": (whole[:count] + b"\xff\xff\xff\x7f" + whole[count + 4 :], "= 2147483647, and has tensors of"),
        "cut.gguf": (whole[:5000], "damaged or cut off"),
        "short.gguf": (whole[:-64], "damaged or cut off"),
        "empty.gguf": (b"GGUF\3\0\0\0" + bytes(56), "holds no tensor"),
        "other.gguf": (b"PK\3\4" + bytes(60), "no GGUF file"),
        "m-00001-of-00003.gguf": (whole, "one of 3 parts of a model"),
    }
    for name, (data, text) in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ModelError, match=text) as raised:
            made(tmp_path / name)
        assert "\n" not in str(raised.value) and name in str(raised.value)
    with pytest.raises(ModelError, match=r"has 6 GGUF files \(blocks.gguf, cut.gguf, .*name one of them"):
        made(tmp_path)
    with pytest.raises(ModelError, match="computes GPTQ layers, and this has none"):
        made(q4_k_m[0], kernel="torch")


def test_a_gguf_file_may_call_itself_what_it_likes(q4_k_m: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    whole = q4_k_m[0].read_bytes()
    assert made(q4_k_m[0]).facts["file_type"] == "MOSTLY_Q4_K_M"
    told = whole.index(key := b"general.file_type") + len(key)
    float32, nan = (6).to_bytes(4, "little"), b"\0\0\xc0\x7f"
    (tmp_path / "m.gguf").write_bytes(whole[:told] + float32 + nan + whole[told + 8 :])
    assert made(tmp_path / "m.gguf").facts["file_type"] is None


def test_fields_of_a_gguf_file_that_are_no_text(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    path = tmp_path / "a.gguf"
    out = gguf.GGUFWriter(str(path), "llama")
    for key in ("llama.block_count", "general.file_type"):
        out.add_string(key, "abcdefgh")
    out.add_tensor("token_embd.weight", np.ones((4, 4), np.float32))
    for write in (out.write_header_to_file, out.write_kv_data_to_file, out.write_tensors_to_file, out.close):
        write()
    path.write_bytes(path.read_bytes().replace(b"abcdefgh", b"abc\xff\xfefgh"))
    assert made(path).facts["file_type"] is None


@pytest.mark.parametrize("named", ["absolute", "beside"])
def test_an_adapter_is_merged_with_its_base(tmp_path: Path, named: str) -> None:
    pytest.importorskip("peft")
    source = save_llama(tmp_path / "base")
    base_name = str(source) if named == "absolute" else "base"
    deltas = write_adapter(tmp_path / "adapter", base_name, megatron_config=None, megatron_core="megatron.core")
    assert RUNTIME.accepts(tmp_path / "adapter") and RUNTIME.is_finished(tmp_path / "adapter")
    variant = made(tmp_path / "adapter")
    expected = {name: tensor.numpy() for name, tensor in load_module(source).module.state_dict().items()}
    for name, delta in deltas.items():
        expected[name] = expected[name] + delta
    assert_weights(load_module(variant.path).module, expected, rtol=1e-5)
    assert variant.bytes == (variant.path / "model.safetensors").stat().st_size
    assert variant.facts["base"] and "merged into its base base" in variant.notes[0]
    assert made(tmp_path / "adapter").path == variant.path  # taken from the cache


def test_adapters_that_cannot_be_merged(tmp_path: Path) -> None:
    source = save_llama(tmp_path / "base")
    write_adapter(tmp_path / "a", "nobody/nothing")
    with pytest.raises(ModelError, match="a LoRA adapter of 'nobody/nothing', which is not on this machine; download"):
        made(tmp_path / "a")
    write_adapter(tmp_path / "long", "x" * 5000)
    with pytest.raises(ModelError, match="which is not on this machine; download"):
        made(tmp_path / "long")
    write_adapter(tmp_path / "b", str(source), peft_type="PROMPT_TUNING")
    with pytest.raises(ModelError, match="an adapter of the kind PROMPT_TUNING; qprof merges LoRA adapters alone"):
        made(tmp_path / "b")
    write_adapter(tmp_path / "c", str(source))
    for name, changed in (
        ("megatron", {"megatron_config": {"x": 1}, "megatron_core": "antigravity"}),
        ("core", {"megatron_core": "antigravity"}),
    ):
        write_adapter(tmp_path / name, str(source), **changed)
        with pytest.raises(ModelError, match="names a Python module to be imported"):
            made(tmp_path / name)
    for number, (changed, told) in enumerate(
        (
            ({"revision": ["main"]}, r"adapter_config\.json: its revision is no text; write the branch"),
            ({"revision": 5}, r"adapter_config\.json: its revision is no text; write the branch"),
            ({"init_lora_weights": "pissa_niter_1" + "0" * 30}, r"init_lora_weights asks for 10{19} turns"),
            ({"init_lora_weights": "loftq", "loftq_config": {"loftq_iter": 10**9}}, "loftq_iter asks for 1000000000"),
        )
    ):
        write_adapter(tmp_path / f"d{number}", "nobody/nothing", **changed)
        with pytest.raises(ModelError, match=told) as raised:
            made(tmp_path / f"d{number}")
        assert "\n" not in str(raised.value)
    write_adapter(tmp_path / "pissa", "nobody/nothing", init_lora_weights="pissa_niter_16", loftq_config={})
    with pytest.raises(ModelError, match="which is not on this machine"):
        made(tmp_path / "pissa")
    (tmp_path / "c" / "adapter_model.safetensors").rename(tmp_path / "c" / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"has adapter_model.bin, which is pickled: .*safe_serialization=True"):
        made(tmp_path / "c")


def test_other_folders_are_of_no_such_format(tmp_path: Path) -> None:
    source = save_llama(tmp_path / "base")
    assert format_of(source) is None and not RUNTIME.is_finished(source)
    shutil.copy(source / "config.json", tmp_path / "adapter_config.json")
    assert format_of(tmp_path / "absent") is None
    assert json.loads((source / "config.json").read_text())["vocab_size"] == VOCABULARY


FP8 = {"activation_scheme": "dynamic", "fmt": "e4m3", "weight_block_size": [32, 32]}


@pytest.mark.parametrize(
    ("method", "key", "settings"),
    [
        ("compressed-tensors", "quantization_config", {"quant_method": "compressed-tensors", **COMPRESSED}),
        ("compressed-tensors", "compression_config", COMPRESSED),  # before there was another place
        ("fp8", "quantization_config", {"quant_method": "fp8", **FP8}),
    ],
)
def test_what_transformers_unpacks_is_run_and_named(tmp_path: Path, method: str, key: str, settings: Any) -> None:
    if method == "compressed-tensors":
        pytest.importorskip("compressed_tensors")
    folder = tmp_path / "m"
    expected = quantized_llama(folder, method)
    config = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", {**config, key: settings})
    assert RUNTIME.is_finished(folder)
    variant = made(folder, dtype="float32")
    assert variant.bytes == (folder / "model.safetensors").stat().st_size
    assert "turns into float numbers when it loads it" in variant.notes[0]
    assert_weights(load_module(folder, dtype="float32").module, expected)
    stored = RUNTIME.stored(folder)
    assert stored is not None and stored.bytes == sum(part.bytes for part in stored.parts)
    assert any(part.kind == "scales" for part in stored.parts)


#: The numbers of MXFP4 (OCP Microscaling Formats 1.0): a sign, two bits of exponent, one of mantissa.
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)


def test_mxfp4(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import GptOssConfig, GptOssForCausalLM

    sizes = {"hidden_size": 64, "intermediate_size": 64, "head_dim": 16, "num_attention_heads": 4}
    heads = {"num_key_value_heads": 2, "num_local_experts": 2, "num_experts_per_tok": 1, "num_hidden_layers": 1}
    config = GptOssConfig(vocab_size=VOCABULARY, max_position_embeddings=256, **sizes, **heads)
    torch.manual_seed(0)
    GptOssForCausalLM(config).save_pretrained(str(tmp_path))
    byte_tokenizer([]).save_pretrained(tmp_path)
    tensors, expected = load_file(str(tmp_path / "model.safetensors")), dict[str, Any]()
    rng = np.random.default_rng(0)
    for name in [found for found in tensors if found.endswith(("experts.gate_up_proj", "experts.down_proj"))]:
        experts, into, out = tensors.pop(name).shape
        blocks = rng.integers(0, 256, (experts, out, into // 32, 16), np.uint8)
        scales = rng.integers(118, 124, (experts, out, into // 32), np.uint8)
        nibbles = np.stack([blocks & 15, blocks >> 4], axis=-1)
        values = E2M1[nibbles & 7] * np.where(nibbles & 8, -1.0, 1.0)
        values = values.reshape(experts, out, into // 32, 32) * np.exp2(scales.astype(np.float32) - 127)[..., None]
        expected[name] = values.reshape(experts, out, into).swapaxes(1, 2)
        tensors[f"{name}_blocks"], tensors[f"{name}_scales"] = torch.from_numpy(blocks), torch.from_numpy(scales)
    save_file(tensors, str(tmp_path / "model.safetensors"), metadata={"format": "pt"})
    written = json.loads((tmp_path / "config.json").read_text())
    plain = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]
    quantization = {"quant_method": "mxfp4", "modules_to_not_convert": plain}
    write_json(tmp_path / "config.json", {**written, "quantization_config": quantization})
    assert "quantized as MXFP4" in made(tmp_path).notes[0]
    state = load_module(tmp_path, dtype="float32").module.state_dict()
    for name, array in expected.items():
        np.testing.assert_array_equal(state[name].numpy(), array, err_msg=name)


def test_weights_that_the_library_refuses_are_told_in_one_line(tmp_path: Path) -> None:
    """Two tensors in the same bytes: a header that fits its file, and yet is none to safetensors."""
    file = save_llama(tmp_path / "m") / "model.safetensors"
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    first, second = "model.layers.0.self_attn.q_proj.weight", "model.layers.1.self_attn.q_proj.weight"
    header[first]["data_offsets"] = header[second]["data_offsets"]
    text = json.dumps(header, separators=(",", ":")).encode().ljust(length)
    file.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
    with pytest.raises(ModelError, match=r"cannot be loaded: .*; check the files") as caught:
        load_module(tmp_path / "m")
    assert "\n" not in str(caught.value)
