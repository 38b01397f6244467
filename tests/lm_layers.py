"""Small language models for the tests of layer timing: a Llama, and one whose linears are packed by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from qprof.runtimes.torch_lm.model import CausalLM
from qprof.runtimes.torch_lm.sections import TorchLMOptions

OPTIONS = TorchLMOptions(batch=1, prompt_tokens=6, generated_tokens=3)
SHIFTS = torch.arange(0, 32, 8, dtype=torch.int32)


class PackedLinear(torch.nn.Module):
    """8-bit weights, four to an int32 along the inputs, one scale per output; unpacked in every forward."""

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        self.bits, self.group_size, self.desc_act = 8, -1, False
        self.in_features, self.out_features = linear.in_features, linear.out_features
        scales = linear.weight.detach().abs().amax(1) / 127
        codes = (linear.weight.detach() / scales[:, None]).round().to(torch.int32).t() + 128
        words = (codes.reshape(-1, 4, self.out_features) << SHIFTS[:, None]).sum(1)
        self.register_buffer("qweight", words.to(torch.int32))
        self.register_buffer("scales", scales)
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach())

    def dequantize_weight(self) -> torch.Tensor:
        codes = (self.qweight[:, None] >> SHIFTS[:, None]) & 255
        return (codes.reshape(self.in_features, -1) - 128).to(self.scales.dtype) * self.scales

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = torch.matmul(x, self.dequantize_weight())
        return out if self.bias is None else out.add_(self.bias)


def llama(**changed: Any) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=50, num_key_value_heads=2, max_position_embeddings=64, **sizes, **changed)
    return LlamaForCausalLM(config).eval()


def packed_llama(pack: Callable[[Any], Any] = PackedLinear) -> Any:
    """The same with the linears of its layers packed."""
    model = llama()
    for layer in model.model.layers:
        for parent in (layer.self_attn, layer.mlp):
            for name, child in list(parent.named_children()):
                if isinstance(child, torch.nn.Linear):
                    setattr(parent, name, pack(child))
    return model


def loaded(module: Any) -> CausalLM:
    return CausalLM(module, None, OPTIONS)


def prompt(seed: int = 0) -> list[Any]:
    return [np.random.default_rng(seed).integers(0, 50, (1, 6))]
