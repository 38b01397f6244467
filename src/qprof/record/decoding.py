"""What is known of a language model one token at a time."""

from __future__ import annotations

from msgspec import Struct


class Kept(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Bytes of what a model keeps between tokens (keys and values, or a state): behind a prompt, and behind the last
    token generated after it; of the run's own prompts, and measured on the tensors."""

    prompt_bytes: int
    generated_bytes: int


class DecodeCheck(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The log-likelihoods of `tokens` targets of some scored rows, decoded one by one, less those of the same targets
    in whole sequences: their mean and the largest of all (nats; `None` where one is not finite). `logits_error`: the
    length of the difference of all logits there over that of the logits, less their mean. `dtype`: of the
    computation."""

    rows: int
    tokens: int
    mean_nats: float | None
    most_nats: float | None
    logits_error: float | None
    dtype: str
    seconds: float
