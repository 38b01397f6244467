"""Attention heads that start off looking back at what followed a word before (induction heads)."""

from __future__ import annotations

import math
from typing import Any

#: Dimensions in which what a token is gets compared: of the sixteen pairs that a rotary embedding turns in a head of
#: 32, those that hardly turn over the length of a passage.
_CONTENT = 20
_SLOW_PAIRS = range(6, 16)
_FAST_PAIRS = range(5)


def ready_to_look_back(model: Any, seed: int) -> None:
    """Start the first two layers off as induction heads (Olsson et al., arXiv 2209.11895): heads of the first look one
    to four tokens back and note what stood there; heads of the second look for places where the like stood one token
    further back, and copy what came next.

    To find that out from nothing takes a small model most of its training; it is free to unlearn it.
    """
    import torch

    draw = torch.Generator().manual_seed(seed)
    hidden, heads = model.config.hidden_size, model.config.num_attention_heads
    width = hidden // heads

    def directions(count: int) -> Any:
        return torch.linalg.qr(torch.randn(hidden, count, generator=draw))[0]

    basis = directions(hidden)
    common, content = basis[:, 0], basis[:, 1 : 1 + _CONTENT].T
    notes = [directions(_CONTENT) for _ in range(heads)]
    slow = [*_SLOW_PAIRS, *(pair + width // 2 for pair in _SLOW_PAIRS)]
    first, second = (model.model.layers[number].self_attn for number in (0, 1))
    with torch.no_grad():
        # All tokens share one direction, which is all that the queries and keys of the first layer look at.
        embedding = model.model.embed_tokens.weight
        embedding.copy_(torch.randn(embedding.shape, generator=draw))
        embedding -= torch.outer(embedding @ common, common)
        embedding += 0.6 * math.sqrt(hidden) * common
        embedding *= 0.05
        seen = 0.6 * math.sqrt(hidden / 1.36)  # the length of that direction behind a norm
        for projection in (first.q_proj, first.k_proj, first.v_proj, first.o_proj, second.q_proj, second.k_proj):
            projection.weight.normal_(0.0, 0.01, generator=draw)
        for head in range(heads):
            rows = slice(head * width, (head + 1) * width)
            query, key = _look_back(head + 1, width)
            first.q_proj.weight[rows] += torch.outer(query, common) / seen
            first.k_proj.weight[rows] += torch.outer(key, common) / seen
            first.v_proj.weight[rows][:_CONTENT] = content
            first.o_proj.weight[:, rows][:, :_CONTENT] = 0.06 * notes[head]
            second.q_proj.weight[rows][slow] = 1.6 * (content if head == 0 else notes[head - 1].T)
            second.k_proj.weight[rows][slow] = 1.6 * notes[head].T
        copied = directions(hidden)
        second.v_proj.weight.copy_(copied)
        second.o_proj.weight.copy_(0.15 * copied.T)
        for number, layer in enumerate(model.model.layers):
            layer.mlp.down_proj.weight *= 0.3
            if number > 1:
                layer.self_attn.o_proj.weight *= 0.3


def _look_back(offset: int, width: int) -> tuple[Any, Any]:
    """A query and a key whose product, once rotary embedding has turned them, is highest `offset` tokens back."""
    import torch

    query, key = torch.zeros(width), torch.zeros(width)
    for pair in _FAST_PAIRS:
        angle = offset * 10000.0 ** (-2 * pair / width)
        query[pair] = 6.0
        key[pair], key[pair + width // 2] = 6.0 * math.cos(angle), 6.0 * math.sin(angle)
    return query, key
