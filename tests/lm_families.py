"""Language models of many families, tiny and with random weights, in Hugging Face's layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lastword_models import byte_tokenizer

VOCABULARY = 320

#: What most configurations call their sizes, and what GPT-2's descendants do.
_LLAMA = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "tie_word_embeddings": False,
}
_GPT = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 128}
_PLAIN = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 128}
_RECURRENT = {"hidden_size": 64, "num_hidden_layers": 2}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
_DEEPSEEK = {
    **_LLAMA,
    "num_key_value_heads": 4,
    "moe_intermediate_size": 64,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "kv_lora_rank": 32,
    "qk_rope_head_dim": 16,
    "qk_nope_head_dim": 32,
    "v_head_dim": 32,
    "first_k_dense_replace": 1,
}

#: Shorter than the prompt of the tests, so that a cache of the last tokens alone has dropped some.
WINDOW = 8


@dataclass(frozen=True)
class Family:
    """How to make one. `rows`: that it decodes at once; `no_gptq`: what gptqmodel says of it, "" where
    it quantizes it; `experts`: whether it has some; `in_ci`: whether it is of the few that always run: one of each kind
    that once failed."""

    config: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    no_gptq: str = ""
    rows: int = 2
    experts: bool = False
    in_ci: bool = False


_UNKNOWN = "Unsupport model_type"

FAMILIES: Mapping[str, Family] = {
    "gpt2": Family("GPT2Config", _GPT, in_ci=True),
    "gpt_neo": Family(
        "GPTNeoConfig",
        {
            **{"hidden_size": 64, "num_layers": 2, "num_heads": 4, "max_position_embeddings": 128},
            **{"attention_types": [[["global", "local"], 1]], "window_size": WINDOW},
        },
    ),
    "gptj": Family("GPTJConfig", {**_GPT, "rotary_dim": 8}),
    "codegen": Family("CodeGenConfig", {**_GPT, "n_ctx": 128, "rotary_dim": 8}),
    "gpt_bigcode": Family("GPTBigCodeConfig", {**_GPT, "multi_query": True}),
    "gpt_neox": Family("GPTNeoXConfig", {**_PLAIN, "intermediate_size": 128}),
    "opt": Family("OPTConfig", {**_PLAIN, "word_embed_proj_dim": 64, "ffn_dim": 128}),
    "opt_projected": Family(
        "OPTConfig", {**_PLAIN, "word_embed_proj_dim": 32, "ffn_dim": 128, "do_layer_norm_before": False}
    ),
    "bloom": Family("BloomConfig", {"hidden_size": 64, "n_layer": 2, "n_head": 4}, in_ci=True),
    "falcon_multi_query": Family("FalconConfig", {**_PLAIN, "multi_query": True, "parallel_attn": True}),
    "falcon_new": Family("FalconConfig", {**_PLAIN, "num_kv_heads": 2, "new_decoder_architecture": True}),
    "falcon_alibi": Family("FalconConfig", {**_PLAIN, "alibi": True, "multi_query": False, "parallel_attn": False}),
    "mpt": Family("MptConfig", {"d_model": 64, "n_layers": 2, "n_heads": 4, "max_seq_len": 128, "expansion_ratio": 2}),
    "llama": Family("LlamaConfig", {**_LLAMA, "tie_word_embeddings": True}),
    "mistral": Family("MistralConfig", {**_LLAMA, "sliding_window": None}),
    "mistral_window": Family("MistralConfig", {**_LLAMA, "sliding_window": WINDOW}, in_ci=True),
    "qwen2": Family("Qwen2Config", _LLAMA),
    "qwen3": Family("Qwen3Config", {**_LLAMA, "head_dim": 16}),
    "gemma": Family("GemmaConfig", {**_LLAMA, "head_dim": 16}),
    "gemma2": Family("Gemma2Config", {**_LLAMA, "head_dim": 16, "sliding_window": 64}),
    "gemma2_window": Family("Gemma2Config", {**_LLAMA, "head_dim": 16, "sliding_window": WINDOW}, in_ci=True),
    "gemma3": Family("Gemma3TextConfig", {**_LLAMA, "head_dim": 16, "sliding_window": 64}),
    "gemma3_window": Family(
        "Gemma3TextConfig",
        {
            **_LLAMA,
            **{"head_dim": 16, "sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]},
        },
    ),
    "phi": Family("PhiConfig", {**_LLAMA, "num_key_value_heads": 4}),
    "phi3": Family("Phi3Config", {**_LLAMA, "pad_token_id": 0, "sliding_window": None}, in_ci=True),
    "smollm3": Family("SmolLM3Config", {**_LLAMA, "no_rope_layers": [1, 0], "pad_token_id": 0}),
    "stablelm": Family("StableLmConfig", _LLAMA),
    "glm": Family("GlmConfig", {**_LLAMA, "head_dim": 16, "pad_token_id": 0}),
    "glm4": Family("Glm4Config", {**_LLAMA, "head_dim": 16, "pad_token_id": 0}),
    "olmo": Family("OlmoConfig", {**_LLAMA, "pad_token_id": 0}),
    "olmo2": Family("Olmo2Config", {**_LLAMA, "pad_token_id": 0}),
    "cohere": Family("CohereConfig", _LLAMA),
    "granite": Family("GraniteConfig", _LLAMA),
    "starcoder2": Family("Starcoder2Config", _LLAMA),
    "nemotron": Family("NemotronConfig", {**_LLAMA, "head_dim": 16}),
    "mixtral": Family("MixtralConfig", {**_LLAMA, "num_local_experts": 4, "num_experts_per_tok": 2}, experts=True),
    "qwen2_moe": Family("Qwen2MoeConfig", {**_LLAMA, **_EXPERTS, "shared_expert_intermediate_size": 64}, experts=True),
    "qwen3_moe": Family("Qwen3MoeConfig", {**_LLAMA, **_EXPERTS, "head_dim": 16}, experts=True),
    "olmoe": Family("OlmoeConfig", {**_LLAMA, "num_experts": 4, "num_experts_per_tok": 2}, experts=True, in_ci=True),
    "deepseek_v2": Family(
        "DeepseekV2Config", {**_DEEPSEEK, "topk_method": "greedy", "q_lora_rank": None}, experts=True
    ),
    "deepseek_v3": Family("DeepseekV3Config", {**_DEEPSEEK, "q_lora_rank": 32}, experts=True),
    "gpt_oss": Family(
        "GptOssConfig",
        {**_LLAMA, "head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": WINDOW},
        experts=True,
    ),
    "mamba": Family("MambaConfig", {**_RECURRENT, "state_size": 8}, no_gptq="in_features of", in_ci=True),
    "mamba2": Family(
        "Mamba2Config",
        {**_RECURRENT, "state_size": 8, "num_heads": 4, "head_dim": 32, "expand": 2, "n_groups": 1},
        no_gptq=_UNKNOWN,
    ),
    "rwkv": Family("RwkvConfig", {**_RECURRENT, "context_length": 128}, no_gptq=_UNKNOWN, rows=1),
    "recurrent_gemma": Family(
        "RecurrentGemmaConfig",
        {
            **{"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "lru_width": 64},
            **{"intermediate_size": 128, "attention_window_size": WINDOW},
        },
        no_gptq="missing 1 required positional argument",
        in_ci=True,
    ),
    "lfm2": Family("Lfm2Config", {**_LLAMA, "layer_types": ["conv", "full_attention"]}, in_ci=True),
    "qwen3_next": Family(
        "Qwen3NextConfig",
        {
            **_LLAMA,
            **_EXPERTS,
            **{"head_dim": 16, "shared_expert_intermediate_size": 64},
            **{"layer_types": ["linear_attention", "full_attention"]},
            **{"linear_num_key_heads": 2, "linear_num_value_heads": 4},
            **{"linear_key_head_dim": 16, "linear_value_head_dim": 16},
        },
        experts=True,
    ),
    "bert_decoder": Family("BertConfig", {**_PLAIN, "intermediate_size": 128, "is_decoder": True}, no_gptq=_UNKNOWN),
    # It keeps nothing from token to token: every one runs the whole text.
    "openai_gpt": Family("OpenAIGPTConfig", _GPT, no_gptq=_UNKNOWN),
}


def save_family(folder: Path, name: str, **changed: Any) -> Path:
    """Write a model of that family, its weights random and large enough for outputs to differ, with a tokenizer."""
    import torch
    import transformers

    family = FAMILIES[name]
    torch.manual_seed(0)
    settings = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 1, **family.settings, **changed}
    model = transformers.AutoModelForCausalLM.from_config(getattr(transformers, family.config)(**settings))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() >= 2:
                parameter.mul_(3.0)
    model.save_pretrained(str(folder))
    byte_tokenizer(["Ġdog", "Ġcat"]).save_pretrained(str(folder))
    return folder
