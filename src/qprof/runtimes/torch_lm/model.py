"""A causal language model in its two phases: a prompt taken in at once, then one token after the other."""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import ModelError
from qprof.record.model import Loaded
from qprof.record.phases import Phase
from qprof.record.tensors import TensorSpec
from qprof.runtimes.torch_lm import forms
from qprof.runtimes.torch_lm.sections import TorchLMOptions
from qprof.runtimes.torch_lm.state import DecodingState

#: What layers of libraries raise where a checkpoint has them as they cannot run: torchao's look at what they are given
#: by assertions, and at settings out of the file as attributes.
_OF_LAYERS = (RuntimeError, ValueError, LookupError, TypeError, AssertionError, AttributeError, ArithmeticError)

#: Bytes of weights, of a model that is worth copying.
_COPIED_BYTES = 100_000_000

PREFILL = "prefill"
DECODE = "decode"


class CausalLM:
    """A torch module in Hugging Face's layout and its tokenizer; satisfies `qprof.record.model.LanguageModel`.

    "prefill" runs a prompt of `options.prompt_tokens` tokens per row and picks the next token: its time is the time to
    first token, without tokenizing. "decode" puts one more token behind it, with the keys and values of all before in
    the cache; after `options.generated_tokens` it begins again behind the same prompt, so that the context of a decoded
    token is prompt_tokens .. prompt_tokens + generated_tokens - 1 long. Decoding is greedy. Only the logits of the last
    position are computed. On an accelerator an inference ends with a synchronization.
    """

    def __init__(
        self,
        module: Any,
        tokenizer: Any,
        options: TorchLMOptions,
        *,
        path: Path = Path(),
        facts: dict[str, Any] | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        import torch

        self.module, self.tokenizer, self.options, self.path = module, tokenizer, options, path
        self.device = next(module.parameters()).device
        self.vocabulary = int(module.config.get_text_config().vocab_size)
        limit = getattr(module.config.get_text_config(), "max_position_embeddings", None)
        self.max_tokens = None if limit is None else int(limit)
        self._check_lengths()
        torch.set_num_threads(options.threads)
        self._keeps = "logits_to_keep" in inspect.signature(module.forward).parameters
        self._synchronize: Callable[[], object] = _synchronizer(self.device)
        self._prompt = torch.zeros((options.batch, options.prompt_tokens), dtype=torch.int64, device=self.device)
        self._prefilled = False
        self._state = DecodingState(module, lambda ids, **more: self._forward(ids, use_cache=True, keep=1, **more))
        self._logits: Any = None
        self._first: Any = None
        self._next: Any = None
        self._generated = 0
        self.loaded = self._describe(facts or {}, notes)
        self.run_once: Callable[[], None] = self._no_phase
        self.enter(PREFILL)

    @classmethod
    def load(cls, path: Path, options: TorchLMOptions) -> CausalLM:
        """Load a checkpoint folder. Raises `ModelError`."""
        from qprof.runtimes.torch_lm.load import load_module

        found = load_module(path, device=options.device, dtype=options.dtype, kernel=options.kernel)
        return cls(found.module, found.tokenizer, options, path=path, facts=found.facts, notes=found.notes)

    def copied(self) -> CausalLM | None:
        """The model with all its weights once more; `None` of one that is large, or not on the CPU. Raises
        `ModelError`, where a module cannot be copied."""
        if self.device.type != "cpu" or forms.footprint_bytes(self.module) > _COPIED_BYTES:
            return None
        try:
            module = copy.deepcopy(self.module)
        except Exception as error:  # whatever a library's tensors and layers raise that are not made to be copied
            raise ModelError(f"{self.path}: copying it fails: {' '.join(str(error).split())[:300]}") from error
        facts, notes = self.loaded.facts, self.loaded.notes
        return CausalLM(module, self.tokenizer, self.options, path=self.path, facts=facts, notes=notes)

    def _check_lengths(self) -> None:
        wanted = self.options.prompt_tokens + self.options.generated_tokens
        if self.max_tokens is not None and wanted > self.max_tokens:
            raise ModelError(
                f"{self.path}: {wanted} tokens (task.prompt_tokens + task.generated_tokens) are more than the "
                f"{self.max_tokens} positions of the model; ask for fewer"
            )

    def _describe(self, facts: dict[str, Any], notes: Sequence[str]) -> Loaded:
        batch, prompt = self.options.batch, self.options.prompt_tokens
        return Loaded(
            inputs=[TensorSpec("input_ids", (batch, prompt), "int64")],
            outputs=[TensorSpec("logits", (batch, self.vocabulary), "float32")],
            op_types=sorted({type(module).__name__ for module in self.module.modules()}),
            notes=list(notes),
            facts=facts,
            phases=(
                Phase(PREFILL, tokens=batch * prompt),
                Phase(DECODE, tokens=batch, steps=self.options.generated_tokens),
            ),
            structure="modules",
        )

    # -- record.Model -------------------------------------------------------------------------------------------------

    def enter(self, phase: str) -> None:
        """Make `run_once` a "prefill" or a "decode" of one token, the first behind its prompt."""
        import torch

        runs = {PREFILL: self._prefill, DECODE: self._decode}
        if phase not in runs:
            raise ModelError(f"{self.path}: has no phase {phase!r}; its phases are {PREFILL!r} and {DECODE!r}")
        self.phase, self._prefilled = phase, False
        self.run_once = torch.inference_mode()(runs[phase])

    def set_inputs(self, arrays: Sequence[NDArray[Any]]) -> None:
        """Take a prompt, int64[batch, prompt_tokens]; for "decode", see that the cache stands right behind it, or
        behind it and less than `generated_tokens` tokens that were decoded since."""
        import torch

        (ids,) = arrays
        prompt = torch.from_numpy(np.ascontiguousarray(ids, np.int64)).to(self.device)
        if prompt.shape != self._prompt.shape or not torch.equal(prompt, self._prompt):
            self._prompt, self._prefilled = prompt, False
        if self.phase == DECODE:
            self._stand_behind_prompt()

    def _stand_behind_prompt(self) -> None:
        import torch

        if not self._prefilled:
            with self._plain_errors(PREFILL):
                torch.inference_mode()(self._prefill)()
                torch.inference_mode()(self._save)()
        elif self._generated >= self.options.generated_tokens:
            self.rewind()

    def rewind(self) -> None:
        """Where a prompt was decoded behind, stand right behind it again."""
        import torch

        if self.phase == DECODE and self._prefilled:
            torch.inference_mode()(self._restore)(self._generated)
            self._next, self._generated = self._first, 0

    def _save(self) -> None:
        self._state.save()

    def _restore(self, tokens: int) -> None:
        self._state.restore(tokens)

    def invoke(self) -> None:
        """Run one inference of the present phase. Raises `ModelError`."""
        with self._plain_errors(self.phase):
            self.run_once()

    @contextlib.contextmanager
    def _plain_errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except _OF_LAYERS as error:
            raise ModelError(f"{self.path}: {what} fails: {' '.join(str(error).split())[:300]}") from error

    def outputs(self) -> list[NDArray[Any]]:
        """[logits of the last position, float32[batch, vocabulary]]."""
        return [self._logits.float().cpu().numpy()]

    def memory_bytes(self) -> dict[str, int]:
        """ "footprint": bytes of all weights and buffers; on CUDA "device_peak", torch's own count."""
        import torch

        known = {"footprint": forms.footprint_bytes(self.module)}
        if self.device.type == "cuda":
            known["device_peak"] = int(torch.cuda.max_memory_allocated(self.device))
        return known

    def _no_phase(self) -> None:
        raise ModelError(f"{self.path}: no phase was entered")

    def _prefill(self) -> None:
        self._logits = self._state.take_in(self._prompt).logits[:, -1]
        self._next = self._first = self._logits.argmax(-1, keepdim=True)
        self._generated, self._prefilled = 0, True
        self._synchronize()

    def _decode(self) -> None:
        self._logits = self._state.step(self._next).logits[:, -1]
        self._next = self._logits.argmax(-1, keepdim=True)
        self._generated += 1
        self._synchronize()

    def _forward(self, tokens: Any, *, use_cache: bool, keep: int, **more: Any) -> Any:
        if self._keeps:
            more["logits_to_keep"] = keep
        return self.module(input_ids=tokens, use_cache=use_cache, **more)

    # -- record.LanguageModel -----------------------------------------------------------------------------------------

    def target_logits(self, tokens: NDArray[np.int64], starts: Sequence[int], ends: Sequence[int] | None = None) -> Any:
        """Logits that predict the ends of sequences; see `qprof.record.model.LanguageModel`. Raises `ModelError`."""
        import torch

        length = tokens.shape[1]
        first = min(starts)
        ends = [length] * len(starts) if ends is None else ends
        if not all(1 <= start < end <= length for start, end in zip(starts, ends, strict=True)):
            raise ModelError(f"targets start at {sorted(set(starts))} in sequences of {length} tokens; from 1 on")
        # The last token predicts nothing that is asked for.
        ids = torch.from_numpy(np.ascontiguousarray(tokens[:, :-1])).to(self.device)
        with torch.inference_mode(), self._plain_errors("scoring"):
            logits = self._forward(ids, use_cache=False, keep=length - first).logits[:, first - length :]
            self._prefilled = False  # some architectures keep their state in the modules, which this has run as well
            spans = zip(starts, ends, strict=True)
            rows = [logits[row, start - first : end - first] for row, (start, end) in enumerate(spans)]
            return torch.cat(rows).cpu()


def _synchronizer(device: Any) -> Callable[[], object]:
    if device.type != "cuda":
        return lambda: None
    import torch

    return lambda: torch.cuda.synchronize(device)
