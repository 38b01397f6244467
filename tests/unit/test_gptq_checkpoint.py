"""What is read off a checkpoint folder, and what is refused with which remedy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from checkpoints import float_tensors, quantized_tensors, write_checkpoint, write_json, write_safetensors
from qprof.errors import ModelError
from qprof.runtimes.torch_lm.checkpoint import QuantizedFormat, inspect, normalised
from qprof.runtimes.torch_lm.gptq import Settings, check

GPTQMODEL = {
    "bits": 4,
    "group_size": 64,
    "desc_act": False,
    "sym": True,
    "quant_method": "gptq",
    "checkpoint_format": "gptq",
    "meta": {"quantizer": ["gptqmodel:7.6.0"]},
}
AUTOGPTQ = {
    "bits": 2,
    "group_size": 32,
    "desc_act": True,
    "sym": True,
    "quant_method": "gptq",
    "is_marlin_format": False,
    "model_name_or_path": "/somewhere/else",
    "model_file_base_name": "gptq_model-2bit-32g",
}


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPROF_CACHE", str(tmp_path / "cache"))


def test_an_unquantized_checkpoint(tmp_path: Path) -> None:
    found = inspect(write_checkpoint(tmp_path / "m", float_tensors("BF16")))
    assert (found.architecture, found.model_type, found.dtype) == ("LlamaForCausalLM", "llama", "bfloat16")
    assert found.quantization is None and found.tied_embeddings
    assert found.parameters == 100 * 64 + 64 * 64 + 64 * 128 + 64
    assert found.weight_bytes == (tmp_path / "m" / "model.safetensors").stat().st_size
    assert found.linears == {"model.layers.0.self_attn.q_proj": (64, 64), "model.layers.0.mlp.down_proj": (128, 64)}


def test_the_dtype_is_that_of_most_bytes(tmp_path: Path) -> None:
    tensors = {**float_tensors("F16"), "model.norm.weight": ("F32", [64])}
    assert inspect(write_checkpoint(tmp_path / "m", tensors)).dtype == "float16"


def test_gpt2_stores_its_linears_the_other_way_round(tmp_path: Path) -> None:
    tensors = {"transformer.h.0.attn.c_attn.weight": ("F32", (64, 192))}
    config = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"}
    found = inspect(write_checkpoint(tmp_path / "m", tensors, **config))
    assert found.linears == {"transformer.h.0.attn.c_attn": (64, 192)}


def test_shards_are_joined_by_their_index(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m")
    (folder / "model.safetensors").unlink()
    tensors = list(float_tensors().items())
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    write_safetensors(folder / names[0], dict(tensors[:2]))
    write_safetensors(folder / names[1], dict(tensors[2:]))
    weight_map = {name: names[number // 2] for number, (name, _) in enumerate(tensors)}
    write_json(folder / "model.safetensors.index.json", {"weight_map": weight_map})
    found = inspect(folder)
    assert [file.name for file in found.weight_files] == names
    assert len(found.linears) == 2
    before = found.sha256()
    (folder / names[1]).unlink()
    with pytest.raises(ModelError, match=rf"{names[1]}: this shard is missing"):
        inspect(folder)
    write_safetensors(folder / names[1], {**dict(tensors[2:]), "model.norm.weight": ("F32", [64])})
    assert inspect(folder).sha256() != before


@pytest.mark.parametrize("place", ["config.json", "quantize_config.json"])
def test_a_quantized_checkpoint(tmp_path: Path, place: str) -> None:
    settings = {"quantization_config": GPTQMODEL} if place == "config.json" else {}
    folder = write_checkpoint(tmp_path / "m", quantized_tensors(), **settings)
    if place != "config.json":
        write_json(folder / place, GPTQMODEL)
    found = inspect(folder)
    assert found.quantization == QuantizedFormat(4, 64, False, True, "gptqmodel", "gptq")
    assert found.linears == {"model.layers.0.mlp.down_proj": (128, 64)}
    assert found.parameters is None  # packed
    assert normalised(found) == folder


def autogptq_folder(folder: Path, **changed: Any) -> Path:
    settings = AUTOGPTQ | changed
    write_checkpoint(folder, quantized_tensors(2, 32), quantization_config=settings)
    (folder / "model.safetensors").rename(folder / "gptq_model-2bit-32g.safetensors")
    write_json(folder / "quantize_config.json", settings)
    return folder


def test_an_autogptq_checkpoint_is_rewritten_beside_the_original(tmp_path: Path) -> None:
    folder = autogptq_folder(tmp_path / "m")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    found = inspect(folder)
    assert found.quantization == QuantizedFormat(2, 32, True, True, "autogptq", None)
    rewritten = normalised(found)
    assert rewritten != folder and normalised(found) == rewritten
    again = inspect(rewritten)
    assert again.quantization == QuantizedFormat(2, 32, True, True, "unknown", "gptq")
    assert [file.name for file in again.weight_files] == ["model.safetensors"]
    assert again.weight_files[0].resolve() == folder / "gptq_model-2bit-32g.safetensors"
    for name in ("config.json", "quantize_config.json"):
        assert "marlin" not in (rewritten / name).read_text()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_rewritten_checkpoint_follows_its_original(tmp_path: Path) -> None:
    folder = autogptq_folder(tmp_path / "m")
    first = normalised(inspect(folder))
    folder.rename(tmp_path / "moved")
    second = normalised(inspect(tmp_path / "moved"))
    assert second != first and inspect(second).linears
    (tmp_path / "moved").rename(folder)
    assert normalised(inspect(folder)) == first


def test_asymmetric_checkpoints_of_autogptq_are_read_as_gptqmodel_reads_its_own(tmp_path: Path) -> None:
    rewritten = normalised(inspect(autogptq_folder(tmp_path / "m", sym=False)))
    assert inspect(rewritten).quantization == QuantizedFormat(2, 32, True, False, "gptqmodel", "gptq")


def replace_weights(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        if name:
            (folder / name).write_bytes(b"\x80\x02")

    return change


def cut_weights(size: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:size])

    return change


def change_config(**changed: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        write_json(path, {**json.loads(path.read_text()), **changed})

    return change


def overlong_header(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((1 << 62).to_bytes(8, "little") + b"{}" * 50)


def damaged_header(entry: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        text = json.dumps({"a": entry}).encode()
        (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))

    return change


def outside_shard(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    write_json(folder / "model.safetensors.index.json", {"weight_map": {"a": "../other/model.safetensors"}})


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
    "config is no JSON": (lambda folder: (folder / "config.json").write_text("{"), "config.json: not valid JSON"),
    "config is a list": (lambda folder: write_json(folder / "config.json", []), "config.json: holds no JSON object"),
    "config is binary": (lambda folder: (folder / "config.json").write_bytes(b"\xff"), "config.json: not valid JSON"),
    "no architecture": (change_config(architectures=None), "names no architecture"),
    "no causal model": (change_config(architectures=["BertModel"]), "BertModel is no causal language model"),
    "code of its own": (
        change_config(auto_map={"AutoModel": "x.Y"}, architectures=["MyForCausalLM"]),
        "wants Python code of its own",
    ),
    "code of its tokenizer": (
        lambda folder: write_json(folder / "tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["x", None]}}),
        "tokenizer_config.json: wants Python code",
    ),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "has no tokenizer"),
    "no weights": (replace_weights(""), "has no weights"),
    "pickled weights": (
        replace_weights("pytorch_model.bin"),
        r"pickled \(pytorch_model.bin\), and unpickling runs code",
    ),
    "pickled checkpoint": (replace_weights("consolidated.00.pth"), "unpickling runs code"),
    "shard outside": (outside_shard, "no .safetensors file beside it"),
    "empty weights": (cut_weights(0), "no .safetensors file, or cut off"),
    "header cut off": (cut_weights(100), "no .safetensors file, or cut off within its header"),
    "header of exabytes": (overlong_header, "no .safetensors file, or cut off within its header"),
    "data cut off": (cut_weights(-10), "10 bytes are missing"),
    "header of nonsense": (damaged_header(3), "its header is damaged"),
    "negative shape": (
        damaged_header({"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}),
        "its header is damaged",
    ),
    "infinite offset": (
        damaged_header({"dtype": "F32", "shape": [2], "data_offsets": [0, float("inf")]}),
        "its header is damaged",
    ),
    "more dimensions than a tensor has": (
        damaged_header({"dtype": "F32", "shape": [0, *[10**4000] * 20_000], "data_offsets": [0, 0]}),
        "its header is damaged",
    ),
    "a size beyond all numbers": (
        damaged_header({"dtype": "F32", "shape": [0, 10**4000], "data_offsets": [0, 0]}),
        "its header is damaged",
    ),
    "shape and bytes disagree": (
        damaged_header({"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}),
        "its header is damaged",
    ),
    "awq": (
        change_config(quantization_config={"quant_method": "awq", "bits": 4}),
        "quantized with awq, and its quantization_config lacks 'group_size'",
    ),
    "awq in another layout": (
        change_config(quantization_config={"quant_method": "awq", "bits": 4, "group_size": 64, "version": "gemv"}),
        "lacks the layout 'gemm' .it is in 'gemv'.",
    ),
    "bitsandbytes": (
        change_config(quantization_config={"quant_method": "bitsandbytes"}),
        "quantized with bitsandbytes, and its quantization_config lacks 'load_in_8bit or load_in_4bit'",
    ),
    "bitsandbytes before it said so": (
        change_config(quantization_config={"load_in_8bit": True, "llm_int8_threshold": 6.0}),
        "its settings say that it is quantized with bitsandbytes, and none of its tensors is",
    ),
    "awq before it said so": (
        lambda folder: write_json(folder / "quant_config.json", {"zero_point": True, "q_group_size": 64, "w_bit": 4}),
        "its settings say that it is quantized with AWQ, and none of its tensors is",
    ),
    "compressed-tensors": (
        change_config(compression_config={"quant_method": "compressed-tensors", "format": "pack-quantized"}),
        "quantized with compressed-tensors",
    ),
    "fp8": (change_config(quantization_config={"fmt": "e4m3", "weight_block_size": [128, 128]}), "quantized with fp8"),
    "exl2": (change_config(quantization_config={"quant_method": "exl2"}), r"exl2 \(ExLlamaV2's own layout; .*a GPU"),
    "a method that came later": (
        change_config(quantization_config={"quant_method": "qubits"}),
        "quantized with qubits; variants are made of an unquantized model, so name the original",
    ),
    "unnamed method": (change_config(quantization_config={"bits": 4}), "quantized with an unnamed method"),
    "marlin": (change_config(quantization_config={**AUTOGPTQ, "is_marlin_format": True}), "layout 'marlin'"),
    "no bits": (change_config(quantization_config={"quant_method": "gptq", "group_size": 64}), "settings lack 'bits'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_folders_are_refused_with_one_line(tmp_path: Path, case: str) -> None:
    change, text = BAD[case]
    folder = write_checkpoint(tmp_path / "m")
    inspect(folder)
    change(folder)
    with pytest.raises(ModelError, match=text) as raised:
        inspect(folder)
    assert "\n" not in str(raised.value) and str(folder) in str(raised.value) and ";" in str(raised.value)


def test_experts_are_called_as_they_run(tmp_path: Path) -> None:
    block = "model.layers.0.block_sparse_moe"
    parts = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}
    tensors = {f"{block}.experts.1.{part}.weight": ("F32", [64, 64]) for part in parts}
    found = inspect(write_checkpoint(tmp_path / "m", {**float_tensors(), **tensors}))
    experts = [name for name in found.linears if "experts" in name]
    assert experts == [f"model.layers.0.mlp.experts.1.{part}" for part in parts.values()]
    check(found, Settings(bits=4, group_size=64, skip_layers=(experts[0],)))


def test_a_path_that_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        inspect(tmp_path / "absent")


def test_real_checkpoint(qprof_data: Path) -> None:
    found = inspect(qprof_data / "llama_stories260K" / "hf")
    assert (found.parameters, found.dtype, found.tied_embeddings) == (260_032, "float32", True)
    assert found.linears["model.layers.4.mlp.down_proj"] == (172, 64)
    assert len(found.linears) == 5 * 7


def test_what_the_library_alone_refuses_is_told_as_well(tmp_path: Path) -> None:
    """Half a character is a name to Python's reader of JSON, and none to that of safetensors."""
    folder = write_checkpoint(tmp_path / "m", quantization_config={"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"})
    state = "model.layers.0.mlp.down_proj.weight.quant_state.bitsandbytes__nf4"
    header = json.dumps({state: {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}, "__metadata__": {"\ud800": ""}})
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header.encode() + b"{}")
    with pytest.raises(
        ModelError, match=r"model\.safetensors: cannot be read: .*; copy or download it again"
    ) as caught:
        inspect(folder)
    assert "\n" not in str(caught.value)
