"""A language model run one token at a time, as it generates, and what it keeps between tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import ModelError
from qprof.runtimes.tool_output import first_line
from qprof.runtimes.torch_lm.model import CausalLM

#: How transformers' models hand on what they keep: keys and values, or the state of a model without them.
_STATES = ("past_key_values", "cache_params", "state")
#: Caches hold lists of layers that hold tensors; nothing lies deeper than this.
_DEEPEST = 8


class Stepwise:
    """A loaded model's tokens one by one, each from what the model kept of those before; satisfies
    `qprof.record.model.Stepwise`. The model's own place in a prompt is left as it is."""

    def __init__(self, model: CausalLM) -> None:
        self._model = model

    def logits(self, tokens: NDArray[np.int64], start: int) -> NDArray[np.float32]:
        """See `qprof.record.model.Stepwise`. Raises `ModelError`, also where the model keeps nothing to go on from."""
        import torch

        ids = torch.from_numpy(np.ascontiguousarray(tokens[None])).to(self._model.device)
        rows = []
        with torch.inference_mode():
            state = self._run(ids[:, : start - 1], {})[1] if start > 1 else {}
            for position in range(start - 1, len(tokens) - 1):
                found, state = self._run(ids[:, position : position + 1], state)
                rows.append(found.logits[0, -1].float().cpu().numpy())
        return np.stack(rows)

    def state_bytes(self) -> dict[str, int]:
        """Bytes of all tensors that the model keeps behind a prompt, and behind the last token generated after it."""
        import torch

        options, found = self._model.options, {}
        token = torch.zeros((options.batch, 1), dtype=torch.int64, device=self._model.device)
        with torch.inference_mode():
            prompt = token.expand(options.batch, options.prompt_tokens).contiguous()
            state = self._run(prompt, {})[1]
            found["prompt"] = tensor_bytes(state)
            for _ in range(options.generated_tokens):
                state = self._run(token, state)[1]
            found["generated"] = tensor_bytes(state)
        return found

    def _run(self, ids: Any, state: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        try:
            found = self._model.module(input_ids=ids, use_cache=True, **state)
        except (RuntimeError, ValueError, IndexError, TypeError, AttributeError, KeyError) as error:
            raise ModelError(f"{self._model.path}: one token at a time fails: {first_line(error)}") from error
        kept = {name: getattr(found, name) for name in _STATES if getattr(found, name, None) is not None}
        if not kept:
            raise ModelError(f"{self._model.path}: it keeps nothing between tokens that is known here")
        return found, kept


def tensor_bytes(holder: Any) -> int:
    """Bytes of the storages of all tensors that an object holds, in its attributes, lists and mappings, each storage
    once: what is allocated, also where a cache has not filled it yet."""
    storages = {}
    for tensor in _tensors(holder, set(), 0):
        storage = tensor.untyped_storage()
        storages[storage.data_ptr(), str(tensor.device)] = storage.nbytes()
    return sum(storages.values())


def _tensors(value: Any, seen: set[int], depth: int) -> Iterator[Any]:
    import torch

    if depth > _DEEPEST or id(value) in seen or isinstance(value, str | bytes | int | float | type | torch.nn.Module):
        return
    seen.add(id(value))
    if isinstance(value, torch.Tensor):
        yield value
        return
    if isinstance(value, Mapping):
        inner = list(value.values())
    elif isinstance(value, list | tuple | set):
        inner = list(value)
    else:
        inner = list(getattr(value, "__dict__", {}).values())
    for one in inner:
        yield from _tensors(one, seen, depth + 1)
