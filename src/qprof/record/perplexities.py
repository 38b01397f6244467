"""Figures of which the lower is the better, and what those of rolling text are means over."""

from __future__ import annotations

from collections.abc import Mapping

#: Figure of a rolling score -> the score by sample that holds what its log-likelihood is divided by.
ROLLING: Mapping[str, str] = {
    "word_perplexity": "words",
    "bits_per_byte": "bytes",
    "byte_perplexity": "bytes",
    "token_perplexity": "tokens",
}

LOWER_IS_BETTER = frozenset({"perplexity", *ROLLING})
