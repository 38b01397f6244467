"""Does a language model say the same one token at a time as in whole sequences, by which it is scored?"""

from __future__ import annotations

from collections.abc import Iterator

from qprof.record.decoding import DecodeCheck
from qprof.record.manifest import VariantEntry

#: How far the logits of the two ways may be apart (`DecodeCheck.logits_error`) by rounding: ten times what was seen on
#: three models of 3 to 5 layers and on GPTQ's two kernels (float32 1.2e-6, float16 0.0016, bfloat16 0.010), and room
#: for the depth of others, with whose square root rounding grows.
_ROUNDING = {"float32": 5e-5, "float16": 0.02, "bfloat16": 0.1}


def decodes_otherwise(entry: VariantEntry) -> str | None:
    """Why what a variant generates is not what it was scored on; `None` where it is, or was not checked."""
    found = entry.decoding
    if found is None:
        return None
    if found.logits_error is None:
        return (
            f"decoded one token at a time it gives numbers that are not finite ({found.tokens} targets of {found.rows} "
            "scored rows): its scores are not those of what it generates"
        )
    limit = _ROUNDING.get(found.dtype)
    if limit is None or found.logits_error <= limit:
        return None
    return (
        "decoded one token at a time it says something else than in whole sequences, by which it is scored: "
        f"{_told(found)}; rounding in {found.dtype} leaves {limit:g} at most. Its kernel for one row, or its "
        "cache, computes otherwise"
    )


def decode_says(entry: VariantEntry) -> str | None:
    """The check in a sentence, `None` where there was none."""
    return None if entry.decoding is None else _told(entry.decoding)


def _told(found: DecodeCheck) -> str:
    if found.logits_error is None or found.mean_nats is None or found.most_nats is None:
        return "log-likelihoods that are not finite"
    return (
        f"log-likelihoods of {found.tokens} targets of {found.rows} rows differ by {found.mean_nats:+.2g} nats in the "
        f"mean and {found.most_nats:.2g} at most, logits by {found.logits_error:.2g} of their length"
    )


def otherwise(entries: list[VariantEntry]) -> Iterator[tuple[str, str]]:
    """The variants that decode otherwise, with why."""
    for entry in entries:
        says = decodes_otherwise(entry)
        if says is not None:
            yield entry.name, says
