"""What a language model carries from one decoded token to the next, and how it is put back behind its prompt.

Most architectures of transformers hand a cache of keys and values from call to call, others a cache of another name or
a list of states; some keep tensors in their modules, and a few keep nothing, so that every token runs the whole text.
A cache of keys and values of all tokens is put back by cutting off what came behind the prompt. Nothing can be cut off
one that holds a window of the last tokens, or a state that sums up all of them: it is copied behind the prompt, and a
copy of the copy goes back. Neither is part of an inference.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from qprof.errors import ModelError
from qprof.runtimes.torch_lm.observe import is_quantized_linear

#: What transformers calls it: an argument of `forward`, and a field of what `forward` returns.
_NAMES = ("past_key_values", "cache_params", "state", "past_buckets_states", "mems")


class DecodingState:
    """A module that decodes, and its state. `name`: what its `forward` calls that, "" where it has none.

    `take_in` runs a prompt, and `step` the token behind it, each giving what `forward` returned; `save` remembers how
    it stands then, and `restore` goes back there, as often as one likes.
    """

    def __init__(self, module: Any, run: Callable[..., Any]) -> None:
        """`run(tokens, **arguments)`: calls the module's `forward` so that it keeps its state."""
        self._module, self._run = module, run
        parameters = inspect.signature(module.forward).parameters
        self.name = next((name for name in _NAMES if name in parameters), "")
        self.in_prompt = True  # whether what runs, or has run last, is a prompt
        self._fills_cache = False
        self._value: Any = None
        self._text: Any = None
        self._constants = {key: id(tensor) for key, tensor in self._plain_tensors()}
        self._saved: tuple[Any, Any, list[tuple[Any, str, Any]]] | None = None

    def take_in(self, prompt: Any) -> Any:
        """Run a prompt, int64[rows, tokens]; what stood before is forgotten."""
        self.in_prompt = True
        while True:
            self._begin(prompt)
            found = self._run(prompt, **self._arguments())
            if self._update(found):
                return found

    def step(self, tokens: Any) -> Any:
        """Run the next token of each row, int64[rows, 1], or where nothing is carried over all of the text up to it."""
        import torch

        self.in_prompt = False
        if not self.name:
            self._text = tokens = torch.cat([self._text, tokens], dim=1)
        if self.name == "state" and tokens.shape[0] > 1:
            # RWKV's (transformers 5.23): it adds the state of every row to every other row.
            raise ModelError(
                f"{type(self._module).__name__} mixes the rows of a batch when it decodes (a fault of transformers); "
                "decode one row: batch = 1"
            )
        found = self._run(tokens, **self._arguments())
        self._update(found)
        return found

    def _begin(self, prompt: Any) -> None:
        self._value, self._text, self._saved = None, prompt, None
        if self._fills_cache:
            from transformers import DynamicCache

            self._value = DynamicCache(config=self._module.config)

    def _arguments(self) -> dict[str, Any]:
        return {} if self._value is None else {self.name: self._value}

    def _update(self, found: Any) -> bool:
        """Take in what `forward` returned. False where a prompt has left nothing to go on from: it is to run again, now
        with a cache to fill, or as the first of whole texts."""
        if not self.name:
            return True
        value = getattr(found, self.name, None)
        if value is not None:
            self._value = value
            return True
        if self._value is not None and not (self._fills_cache and self._value.get_seq_length() == 0):
            return True
        # RecurrentGemma hands no cache back and fills one that it is given; what does neither keeps none.
        if self._fills_cache or self.name != "past_key_values":
            self.name = ""
        self._fills_cache = bool(self.name)
        return False

    def save(self) -> None:
        """Remember the state as it is, to go back to."""
        held = [(module, name, tensor.clone()) for module, name, tensor in self._held()]
        self._saved = (None if is_croppable(self._value) else copy.deepcopy(self._value), self._text, held)

    def restore(self, tokens: int) -> None:
        """Go back to what was saved, `tokens` tokens ago."""
        if self._saved is None:
            raise RuntimeError("no state was saved to go back to")
        value, self._text, held = self._saved
        if value is not None:
            self._value = copy.deepcopy(value)
        elif self._value is not None and tokens:
            self._value.crop(-tokens)  # a negative count: tokens to take away
        for module, name, tensor in held:
            setattr(module, name, tensor.clone())

    def _held(self) -> Iterator[tuple[Any, str, Any]]:
        """Tensors that modules have put into their attributes since they were loaded. What quantized linears keep
        there is made of their weights."""
        for (module, name), tensor in self._plain_tensors():
            if self._constants.get((module, name)) != id(tensor) and not is_quantized_linear(module):
                yield module, name, tensor

    def _plain_tensors(self) -> Iterator[tuple[tuple[Any, str], Any]]:
        import torch

        for module in self._module.modules():
            for name, value in vars(module).items():
                if isinstance(value, torch.Tensor):
                    yield (module, name), value


def is_croppable(cache: Any) -> bool:
    """Whether cutting tokens off a cache leaves it as it was before them: whether it holds keys and values of all."""
    if cache is None:
        return True
    from transformers import cache_utils

    layers = getattr(cache, "layers", None)
    whole = (cache_utils.DynamicLayer, getattr(cache_utils, "DummyLayer", cache_utils.DynamicLayer))
    return type(cache) is cache_utils.DynamicCache and all(type(layer) in whole for layer in layers or [None])
