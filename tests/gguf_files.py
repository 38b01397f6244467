"""GGUF files of tiny Llamas: blocks of random bytes, and what they stand for by a decoder of our own.

The blocks: https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h (block_q8_0, block_q4_K, block_q6_K).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

HIDDEN, INNER, HEADS, KV_HEADS, LAYERS, VOCABULARY = 256, 256, 4, 2, 2, 320
#: GGUF's name of a part of a layer -> Hugging Face's, and (out, in).
_PARTS = {
    "attn_q": ("self_attn.q_proj", (HIDDEN, HIDDEN)),
    "attn_k": ("self_attn.k_proj", (HIDDEN * KV_HEADS // HEADS, HIDDEN)),
    "attn_v": ("self_attn.v_proj", (HIDDEN * KV_HEADS // HEADS, HIDDEN)),
    "attn_output": ("self_attn.o_proj", (HIDDEN, HIDDEN)),
    "ffn_gate": ("mlp.gate_proj", (INNER, HIDDEN)),
    "ffn_up": ("mlp.up_proj", (INNER, HIDDEN)),
    "ffn_down": ("mlp.down_proj", (HIDDEN, INNER)),
}
#: As llama.cpp's Q4_K_M mixes them.
Q4_K_M = {"attn_v": "Q6_K", "ffn_down": "Q6_K"}
_BYTES = {"Q8_0": (32, 34), "Q4_K": (256, 144), "Q6_K": (256, 210)}


def halves(blocks: NDArray[np.uint8], place: int) -> Floats:
    """The float16 numbers at a place of blocks uint8[n, bytes]: float32[n, 1]."""
    return np.ascontiguousarray(blocks[:, place : place + 2]).view(np.float16).astype(np.float32)


def decoded_q8_0(blocks: NDArray[np.uint8]) -> Floats:
    return halves(blocks, 0) * np.ascontiguousarray(blocks[:, 2:]).view(np.int8)


def decoded_q4_k(blocks: NDArray[np.uint8]) -> Floats:
    scale, least, packed, quarters = halves(blocks, 0), halves(blocks, 2), blocks[:, 4:16], blocks[:, 16:]
    found = []
    for part in range(8):
        if part < 4:
            one, other = packed[:, part] & 63, packed[:, part + 4] & 63
        else:
            one = (packed[:, part + 4] & 15) | ((packed[:, part - 4] >> 6) << 4)
            other = (packed[:, part + 4] >> 4) | ((packed[:, part] >> 6) << 4)
        nibbles = quarters[:, 32 * (part // 2) : 32 * (part // 2) + 32] >> (4 * (part % 2)) & 15
        found.append(scale * one[:, None] * nibbles - least * other[:, None])
    return np.concatenate(found, axis=1).astype(np.float32)


def decoded_q6_k(blocks: NDArray[np.uint8]) -> Floats:
    low, high, scale = blocks[:, :128], blocks[:, 128:192], halves(blocks, 208)
    steps = np.ascontiguousarray(blocks[:, 192:208]).view(np.int8)
    found = []
    for half in range(2):
        for quarter in range(4):
            begin = 64 * half + 32 * (quarter % 2)
            nibbles = low[:, begin : begin + 32] >> (4 * (quarter // 2)) & 15
            top = high[:, 32 * half : 32 * half + 32] >> (2 * quarter) & 3
            whole = (nibbles | top << 4).astype(np.int64) - 32
            step = np.repeat(steps[:, 8 * half + 2 * quarter :][:, :2], 16, axis=1)
            found.append(scale * step * whole)
    return np.concatenate(found, axis=1).astype(np.float32)


DECODED: Mapping[str, Callable[[NDArray[np.uint8]], Floats]] = {
    "Q8_0": decoded_q8_0,
    "Q4_K": decoded_q4_k,
    "Q6_K": decoded_q6_k,
}


def random_blocks(kind: str, shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Blocks for (out, in) numbers: all bytes are drawn, but for the scales, which are small."""
    elements, size = _BYTES[kind]
    blocks = rng.integers(0, 256, (shape[0] * shape[1] // elements, size), np.uint8)
    for place in {"Q8_0": (0,), "Q4_K": (0, 2), "Q6_K": (208,)}[kind]:
        drawn = rng.uniform(1e-4, 2e-4, len(blocks)).astype(np.float16)
        blocks[:, place : place + 2] = drawn.view(np.uint8).reshape(-1, 2)
    return blocks


def as_rotated(rows: Floats, heads: int) -> Floats:
    """llama.cpp rotates neighbours, Hugging Face halves: q and k are stored with their rows in another order."""
    out, columns = rows.shape
    return rows.reshape(heads, out // heads // 2, 2, columns).swapaxes(1, 2).reshape(out, columns)


def add_tokenizer(out: Any, tokenizer: Any) -> None:
    """The tokens of a byte-level tokenizer as llama.cpp stores them, filled up to the vocabulary."""
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    unused = VOCABULARY - len(tokens)
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("gpt-2")
    out.add_token_list([*tokens, *(f"<unused{number}>" for number in range(unused))])
    out.add_token_types([3, 3, *[1] * (len(tokens) - 2), *[5] * unused])  # control, normal, unused
    out.add_token_merges([" ".join(pair) for pair in model["merges"]])
    out.add_bos_token_id(0)
    out.add_eos_token_id(1)
    out.add_add_bos_token(False)


def write_gguf(
    file: Path, kind: str, mixed: Mapping[str, str] | None = None, output: bool = False, tokenizer: Any = None
) -> dict[str, Floats]:
    """A Llama whose linears are of `kind`, or of what `mixed` says; returns Hugging Face's name -> float32[out, in].
    `output`: whether it has an output of its own, and not its embedding's; `tokenizer`: put into the file."""
    import gguf

    rng, weights = np.random.default_rng(0), dict[str, Floats]()
    out = gguf.GGUFWriter(str(file), "llama")
    out.add_name("tiny")
    for add, value in (
        (out.add_block_count, LAYERS),
        (out.add_context_length, 256),
        (out.add_embedding_length, HIDDEN),
        (out.add_feed_forward_length, INNER),
        (out.add_head_count, HEADS),
        (out.add_head_count_kv, KV_HEADS),
        (out.add_vocab_size, VOCABULARY),
        (out.add_file_type, 15 if mixed else 7),
    ):
        add(value)
    out.add_layer_norm_rms_eps(1e-5)
    if tokenizer is not None:
        add_tokenizer(out, tokenizer)

    def add_linear(name: str, full: str, kind: str, shape: tuple[int, int], heads: int = 0) -> None:
        blocks = random_blocks(kind, shape, rng)
        out.add_tensor(name, blocks.reshape(shape[0], -1), raw_dtype=gguf.GGMLQuantizationType[kind])
        found = DECODED[kind](blocks).reshape(shape)
        weights[full] = as_rotated(found, heads) if heads else found

    def add_plain(name: str, full: str, array: Any) -> None:
        weights[full] = array.astype(np.float32)
        out.add_tensor(name, weights[full])

    add_plain("token_embd.weight", "model.embed_tokens.weight", rng.normal(0, 0.05, (VOCABULARY, HIDDEN)))
    add_plain("output_norm.weight", "model.norm.weight", rng.uniform(0.5, 1.5, HIDDEN))
    if output:
        add_linear("output.weight", "lm_head.weight", kind, (VOCABULARY, HIDDEN))
    for layer in range(LAYERS):
        theirs, ours = f"blk.{layer}.", f"model.layers.{layer}."
        for norm, full in (("attn_norm", "input_layernorm"), ("ffn_norm", "post_attention_layernorm")):
            add_plain(f"{theirs}{norm}.weight", f"{ours}{full}.weight", rng.uniform(0.5, 1.5, HIDDEN))
        for part, (full, shape) in _PARTS.items():
            heads = {"attn_q": HEADS, "attn_k": KV_HEADS}.get(part, 0)
            of_kind = (mixed or {}).get(part, kind)
            add_linear(f"{theirs}{part}.weight", f"{ours}{full}.weight", of_kind, shape, heads)
    for write in (out.write_header_to_file, out.write_kv_data_to_file, out.write_tensors_to_file, out.close):
        write()
    return weights
