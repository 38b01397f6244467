"""A byte-level tokenizer with chosen words, and a language model whose logits a test writes down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bound_models import DescribedModel
from qprof.record.model import Loaded

#: Id of the token that begins a sequence, and of the one that ends it, where a tokenizer has them.
BOS, EOS = 0, 1


def byte_tokenizer(words: Sequence[str], *, bos: bool = False, special: bool = True) -> Any:
    """GPT-2's way to tokenize: bytes, and each of `words` merged from left to right ("Ġdog" is " dog").

    `bos`: a text begins with "<s>" unless told otherwise. `special`: there are "<s>" and "</s>" at all.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"<s>": BOS, "</s>": EOS}
    for letter in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary[letter] = len(vocabulary)
    merges = []
    for word in words:
        for end in range(2, len(word) + 1):
            if word[:end] not in vocabulary:
                vocabulary[word[:end]] = len(vocabulary)
                merges.append((word[: end - 1], word[end - 1]))
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    if bos:
        backend.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", BOS)]
        )
    names = {"bos_token": "<s>", "eos_token": "</s>"} if special else {}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


class TableModel(DescribedModel):
    """A `LanguageModel` that gives `logits(prefix)` as the logits behind a prefix; it counts its passes."""

    def __init__(
        self,
        tokenizer: Any,
        logits: Callable[[tuple[int, ...]], NDArray[np.float32]],
        *,
        max_tokens: int | None = None,
        dtype: str = "float32",
    ) -> None:
        super().__init__(Loaded([], [], []))
        self.tokenizer, self.max_tokens, self.dtype = tokenizer, max_tokens, dtype
        self.vocabulary = len(tokenizer)
        self.passes: list[tuple[int, int]] = []
        self._logits = logits

    def target_logits(self, tokens: NDArray[np.int64], starts: Sequence[int], ends: Sequence[int] | None = None) -> Any:
        import torch

        assert tokens.dtype == np.int64
        ends = [tokens.shape[1]] * len(starts) if ends is None else ends
        assert all(1 <= start < end <= tokens.shape[1] for start, end in zip(starts, ends, strict=True))
        self.passes.append((tokens.shape[0], tokens.shape[1]))
        rows = [
            self._logits(tuple(row[:position].tolist()))
            for row, start, end in zip(tokens, starts, ends, strict=True)
            for position in range(start, end)
        ]
        return torch.from_numpy(np.stack(rows)).to(getattr(torch, self.dtype))
