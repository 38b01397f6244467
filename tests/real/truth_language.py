"""Last-word accuracy and latency of a checkpoint, by torch and transformers: nothing of qprof takes part in it.

GPTQ layers are unpacked here, by their definition, into a plain model for the accuracy; for the latency they are run by
GPTQModel, as whoever deploys them would.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

PROMPT_TOKENS = 64


def share(folder: Path, texts: str, dtype: str = "float32", counts: str = "right") -> float:
    """Share of the texts whose last word is what the model would say, token by token, given the rest; or of those whose
    last word has no finite likelihood, where `counts` is "not finite"."""
    import torch
    from tokenizers import Tokenizer

    model = _plain_model(folder).to(getattr(torch, dtype))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    rows = [json.loads(line)["text"] for line in Path(texts).read_text().splitlines() if line]
    counted = 0
    for text in rows:
        context, _, word = text.rstrip().rpartition(" ")
        before = tokenizer.encode(context, add_special_tokens=False).ids
        whole = tokenizer.encode(f"{context} {word}", add_special_tokens=False).ids
        with torch.inference_mode():
            logits = model(torch.tensor([whole])).logits[0]
        given, word_ids = logits[len(before) - 1 : -1], whole[len(before) :]
        if counts == "not finite":
            likely = torch.log_softmax(given.float(), -1)[torch.arange(len(word_ids)), word_ids]
            counted += not bool(torch.isfinite(likely).all())
        else:
            counted += given.argmax(-1).tolist() == word_ids
    return counted / len(rows)


def forward(folder: Path, spec: dict[str, Any]) -> Callable[[], Any]:
    """One pass over a prompt of `PROMPT_TOKENS` tokens ("tokens" for another number), in bfloat16 unless `spec` says
    otherwise ("dtype", and for the linear layers "integers")."""
    import torch

    torch.set_num_threads(spec.get("threads", 1))
    model = _deployed(folder, spec.get("kernel", "torch"), getattr(torch, spec.get("dtype", "bfloat16")))
    if spec.get("integers"):
        _integers(model)
    tokens = torch.from_numpy(np.random.default_rng(4).integers(10, 1000, (1, spec.get("tokens", PROMPT_TOKENS))))

    def call() -> None:
        with torch.inference_mode():
            model(input_ids=tokens, use_cache=True)

    return call


def _integers(model: Any) -> None:
    """Its linears multiply int8 numbers, into which each makes its activations, by torchao."""
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    quantize_(model, Int8DynamicActivationInt8WeightConfig())


def _deployed(folder: Path, kernel: str, dtype: Any) -> Any:
    if not (folder / "quantize_config.json").exists():
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    if kernel == "dequantized":
        return _plain_model(folder).to(dtype)
    os.environ |= {"GPTQMODEL_CPU_WORKERS": "2", "TORCHDYNAMO_DISABLE": "1", "HF_HUB_OFFLINE": "1"}
    os.environ.setdefault("HF_HOME", str(Path.home() / ".cache" / "huggingface"))
    from gptqmodel import BACKEND, GPTQModel

    backend = {"torch": BACKEND.GPTQ_TORCH, "torch-aten": BACKEND.GPTQ_TORCH_ATEN}[kernel]
    return GPTQModel.load(str(folder), device="cpu", backend=backend, dtype=dtype).model.eval()


def _plain_model(folder: Path) -> Any:
    from safetensors.torch import load_file
    from transformers import LlamaConfig, LlamaForCausalLM

    settings = json.loads((folder / "config.json").read_text())
    quantization = settings.pop("quantization_config", None)
    tensors = {key: value.float() for key, value in load_file(folder / "model.safetensors").items() if "." in key}
    if quantization:
        packed = load_file(folder / "model.safetensors")
        names = [key.removesuffix(".qweight") for key in packed if key.endswith(".qweight")]
        tensors = {k: v for k, v in tensors.items() if k.rpartition(".")[0] not in names}
        for name in names:
            tensors[f"{name}.weight"] = _unpacked(packed, name, quantization["bits"])
    model = LlamaForCausalLM(LlamaConfig(**{k: v for k, v in settings.items() if k != "architectures"}))
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    absent = [key for key in missing if key != "lm_head.weight" or not settings.get("tie_word_embeddings")]
    if absent or unexpected:
        raise ValueError(f"{folder}: {absent} missing, {unexpected} unknown")
    model.tie_weights()
    return model.float().eval()


def _unpacked(packed: dict[str, Any], name: str, bits: int) -> Any:
    """Weights [out, in] = (steps - (zeros + 1)) * scales."""
    import torch

    words = packed[f"{name}.qweight"].numpy().view(np.uint32)
    shifts = (np.arange(32 // bits) * bits).astype(np.uint32)
    mask = np.uint32(2**bits - 1)
    steps = ((words[:, None, :] >> shifts[None, :, None]) & mask).reshape(-1, words.shape[1])
    zero_words = packed[f"{name}.qzeros"].numpy().view(np.uint32)
    zeros = ((zero_words[:, :, None] >> shifts) & mask).reshape(zero_words.shape[0], -1) + 1
    groups = packed[f"{name}.g_idx"].numpy()
    scales = packed[f"{name}.scales"].float().numpy()
    real = (steps.astype(np.float32) - zeros.astype(np.float32)[groups]) * scales[groups]
    return torch.from_numpy(real.T.copy())
